package providertest

import (
	"context"
	"crypto/rand"
	"slices"
	"testing"
	"time"

	"riparo/hypervisor"
	"riparo/replication"
)

// callLimit is how long one call of a provider may take: longer than a slow guest
// needs, short enough to tell a hang.
const callLimit = 2 * time.Minute

// suite is one run against one provider, with one machine.
type suite struct {
	h       Harness
	p       hypervisor.Provider
	machine Machine
	ref     hypervisor.Ref
	keys    []string // of the machine's first disks
	points  int
	prefix  string // of the names of points: unique to this run
}

// Run holds a provider to its contract.
func Run(t *testing.T, h Harness) {
	s := &suite{h: h, p: h.Open(t), prefix: "t" + rand.Text()[:6]}
	t.Cleanup(func() {
		if err := s.p.Close(); err != nil {
			t.Errorf("close the provider: %v", err)
		}
	})
	s.machine = h.Source(t, s.p)
	s.ref = s.machine.Ref()
	for _, d := range s.report(t).Disks {
		s.keys = append(s.keys, d.Key)
	}
	if len(s.keys) < 2 {
		t.Fatalf("the source machine has disks %v: the suite needs two", s.keys)
	}
	before := s.discover(t)

	// In this order a guest boots few times. A test leaves the source running where
	// the next ones need it so.
	t.Run("provider", func(t *testing.T) {
		t.Run("it says what it is", s.describes)
		t.Run("discovery reports the machine as it is", s.discovers)
		t.Run("an unknown machine is ErrNoMachine", s.unknownMachine)
		t.Run("a call that was canceled fails", s.canceled)
		t.Run("networks have names of their own", s.networks)
	})
	t.Run("create", func(t *testing.T) {
		t.Run("an interrupted create is repeated", s.createTwice)
		t.Run("a created machine is as specified", s.createAsSpecified)
		t.Run("what cannot be made is refused", s.createRefuses)
		t.Run("a machine that Riparo did not make stays", s.removeRefuses)
	})
	t.Run("watch", func(t *testing.T) { s.watch(t) })
	t.Run("open disk", func(t *testing.T) {
		t.Run("what was written is read again", s.opensDisk)
		t.Run("for reading it takes no writes", s.opensReadOnly)
		t.Run("a stamp tells that disks were written", s.stamps)
	})
	t.Run("power", func(t *testing.T) { t.Run("starting twice is harmless", s.startTwice) })
	t.Run("console", func(t *testing.T) { s.console(t) })
	t.Run("open disk of a running machine is refused", s.refusesRunning)
	t.Run("capture", s.captures)
	t.Run("overlay", func(t *testing.T) { s.overlays(t) })
	t.Run("concurrency", s.concurrently)
	t.Run("fencing a running machine does not stop it", s.fenceRunning)
	t.Run("shutdown", func(t *testing.T) {
		c := newCopies(t)
		if _, ok := s.p.(hypervisor.ChangeReader); ok {
			s.running(t)
			s.cycle(t, c)
		}
		t.Run("a guest that is asked ends by itself", s.shutsDown)
		stamp := s.stampOfSource(t)
		t.Run("stopping a stopped machine is harmless", s.stopTwice)
		t.Run("a stopped machine is captured clean", func(t *testing.T) { s.captureStopped(t, c) })
		t.Run("a fenced machine does not start", s.fenced)
		t.Run("captures go on after a restart", func(t *testing.T) { s.captureRestarted(t, c) })
		t.Run("without grace the plug is pulled", s.pullsPlug)
		if after := s.stampOfSource(t); after == stamp && after != "" {
			t.Errorf("the machine was started, wrote, and was stopped, and its stamp is %q as before", after)
		}
		t.Run("captures go on after a power cut", func(t *testing.T) { s.captureRestarted(t, c) })
		t.Run("forgetting leaves no memory", s.forget)
	})
	t.Run("nothing is left behind", func(t *testing.T) {
		if after := s.discover(t); !slices.Equal(after, before) {
			t.Errorf("there are machines %v: there were %v", after, before)
		}
	})
}

// context bounds the calls of one test.
func (s *suite) context(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), callLimit)
	t.Cleanup(cancel)
	return ctx
}

// cleanContext is for what a test takes down when it is over.
func cleanContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), callLimit)
}

func (s *suite) report(t *testing.T) hypervisor.Machine {
	t.Helper()
	m, err := s.p.Machine(s.context(t), s.ref)
	if err != nil {
		t.Fatalf("report the source machine: %v", err)
	}
	return m
}

// discover lists the references of all machines.
func (s *suite) discover(t *testing.T) []hypervisor.Ref {
	t.Helper()
	machines, err := s.p.Discover(s.context(t))
	if err != nil {
		t.Fatalf("discover: %v", err)
	}
	var refs []hypervisor.Ref
	for _, m := range machines {
		refs = append(refs, m.Ref)
	}
	slices.Sort(refs)
	return refs
}

// running makes sure that the source runs and writes.
func (s *suite) running(t *testing.T) {
	t.Helper()
	if s.report(t).Power == hypervisor.Running {
		return
	}
	if err := s.p.Start(s.context(t), s.ref, hypervisor.StartOptions{}); err != nil {
		t.Fatalf("start the source: %v", err)
	}
	s.up(t, s.ref)
}

func (s *suite) up(t *testing.T, ref hypervisor.Ref) {
	t.Helper()
	if s.h.Up != nil {
		s.h.Up(t, s.p, ref)
	}
}

// point is a name that was not used before.
func (s *suite) point() replication.PointID {
	s.points++
	return replication.PointID(s.prefix + "." + string(rune('a'+s.points/26)) + string(rune('a'+s.points%26)))
}

// offered gives a capability of the provider, or skips the test.
func offered[C any](t *testing.T, p hypervisor.Provider, name string) C {
	t.Helper()
	c, ok := p.(C)
	if !ok {
		t.Skipf("not offered: this provider is no %s", name)
	}
	return c
}

// arranged gives what a machine offers to tests, or skips the test.
func arranged[C any](t *testing.T, m Machine, what string) C {
	t.Helper()
	c, ok := m.(C)
	if !ok {
		t.Skipf("not arranged: this harness cannot %s", what)
	}
	return c
}
