package providertest

import (
	"bytes"
	"errors"
	"testing"

	"riparo/hypervisor"
)

func (s *suite) startTwice(t *testing.T) {
	s.running(t)
	m := s.report(t)
	if err := s.p.Start(s.context(t), s.ref, hypervisor.StartOptions{}); err != nil {
		t.Fatalf("starting a running machine: %v", err)
	}
	if again := s.report(t); again.Power != hypervisor.Running || again.BootID != m.BootID || !again.Started.Equal(m.Started) {
		t.Errorf("starting it again changed the machine from %+v to %+v", m, again)
	}
}

func (s *suite) shutsDown(t *testing.T) {
	s.running(t)
	s.machine.Write(t, s.ref)
	want := hypervisor.ShutDown
	if s.h.Deaf {
		want = hypervisor.PoweredOff
	}
	outcome, err := s.p.Stop(s.context(t), s.ref, s.h.grace())
	if err != nil || outcome != want {
		t.Fatalf("stopping the machine with a grace of %s: %q, %v: want %q", s.h.grace(), outcome, err, want)
	}
	if m := s.report(t); m.Power != hypervisor.Stopped {
		t.Errorf("after it was stopped the machine is %s", m.Power)
	}
}

func (s *suite) stopTwice(t *testing.T) {
	if outcome, err := s.p.Stop(s.context(t), s.ref, s.h.grace()); err != nil || outcome != hypervisor.AlreadyStopped {
		t.Errorf("stopping a stopped machine: %q, %v: want %q", outcome, err, hypervisor.AlreadyStopped)
	}
}

func (s *suite) pullsPlug(t *testing.T) {
	s.running(t)
	s.machine.Write(t, s.ref)
	outcome, err := s.p.Stop(s.context(t), s.ref, 0)
	if err != nil || outcome != hypervisor.PoweredOff {
		t.Fatalf("stopping the machine without grace: %q, %v: want %q", outcome, err, hypervisor.PoweredOff)
	}
	if m := s.report(t); m.Power != hypervisor.Stopped {
		t.Errorf("after its plug was pulled the machine is %s", m.Power)
	}
}

func (s *suite) fenced(t *testing.T) {
	fencer := offered[hypervisor.Fencer](t, s.p, "Fencer")
	for range 2 {
		if err := fencer.Fence(s.context(t), s.ref, "the suite owns it"); err != nil {
			t.Fatal(err)
		}
	}
	if !s.report(t).Fenced {
		t.Error("the machine is not reported as fenced")
	}
	if err := s.p.Start(s.context(t), s.ref, hypervisor.StartOptions{}); !errors.Is(err, hypervisor.ErrFenced) {
		t.Errorf("starting a fenced machine: %v: want ErrFenced", err)
	}
	if m := s.report(t); m.Power != hypervisor.Stopped {
		t.Errorf("the fenced machine is %s", m.Power)
	}
	if s.h.Reopen != nil {
		s.p = s.h.Reopen(t, s.p)
		fencer = s.p.(hypervisor.Fencer)
		if !s.report(t).Fenced {
			t.Error("the fence did not outlive a crash of the appliance")
		}
	}
	for range 2 {
		if err := fencer.Unfence(s.context(t), s.ref); err != nil {
			t.Fatal(err)
		}
	}
	if s.report(t).Fenced {
		t.Error("the machine is reported as fenced after the fence was lifted")
	}
}

func (s *suite) fenceRunning(t *testing.T) {
	fencer := offered[hypervisor.Fencer](t, s.p, "Fencer")
	s.running(t)
	if err := fencer.Fence(s.context(t), s.ref, "the suite owns it"); err != nil {
		t.Fatal(err)
	}
	if m := s.report(t); m.Power != hypervisor.Running || !m.Fenced {
		t.Errorf("after the fence the machine is %s, fenced %t: want running and fenced", m.Power, m.Fenced)
	}
	s.machine.Write(t, s.ref)
	if err := fencer.Unfence(s.context(t), s.ref); err != nil {
		t.Fatal(err)
	}
}

func (s *suite) console(t *testing.T) {
	reader := offered[hypervisor.ConsoleReader](t, s.p, "ConsoleReader")
	s.running(t)
	var whole []byte
	waitFor(t, "the guest to say something on its console", func() bool {
		var err error
		if whole, err = reader.Console(s.context(t), s.ref, 1<<20); err != nil {
			t.Fatal(err)
		}
		return len(whole) > 8
	})
	end, err := reader.Console(s.context(t), s.ref, 8)
	if err != nil || len(end) != 8 {
		t.Errorf("the last 8 bytes of the console: %q, %v", end, err)
	}
	later, err := reader.Console(s.context(t), s.ref, 1<<20)
	if err != nil || len(later) < len(whole) {
		t.Errorf("a console of %d bytes became one of %d: %v", len(whole), len(later), err)
	} else if !bytes.HasPrefix(later, whole) && len(later) < 1<<20 {
		t.Error("what the console said first is not there any more")
	}
	m := s.create(t, s.spec("riparo-suite-silent", "m-suite/console"))
	if said, err := reader.Console(s.context(t), m.Ref, 100); err != nil || len(said) > 0 {
		t.Errorf("the console of a machine that was never started: %q, %v: want nothing", said, err)
	}
}
