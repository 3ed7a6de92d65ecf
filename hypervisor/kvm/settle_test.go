package kvm_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"riparo/hypervisor"
	"riparo/hypervisor/kvm"
	"riparo/hypervisor/kvm/fleece"
	"riparo/hypervisor/kvm/kvmtest"
	"riparo/hypervisor/kvm/qga"
	"riparo/hypervisor/kvm/qmp"
	"riparo/replication"
)

// TestWhatADeadProgramLeftInAGuestIsEnded kills the capturing program at the instant, while
// the guest is frozen, and with a window that has no room. The next look at the site ends
// all of it; a guest that a person paused stays so.
func TestWhatADeadProgramLeftInAGuestIsEnded(t *testing.T) {
	s := newSite(t, kvm.Options{})
	ref := s.mixedSource("web01")
	r := s.replica(ref)
	s.start(ref, hypervisor.StartOptions{})
	s.awaitCount(ref, 2)
	r.take(replication.CrashConsistent)

	s.dieAtTheInstant(r, true)
	s.awaitPower(ref, hypervisor.Suspended)
	s.settle()
	if power := s.power(ref); power != hypervisor.Running {
		t.Errorf("a guest that stood because of a dead program's window is %s", power)
	}
	s.expectNoWindow(ref)
	s.awaitCount(ref, s.counter(ref)+1)

	// The next point ends it too, if it comes first.
	s.dieAtTheInstant(r, true)
	s.awaitPower(ref, hypervisor.Suspended)
	r.take(replication.CrashConsistent)
	s.awaitCount(ref, s.counter(ref)+1)

	s.dieAtTheInstant(r, false)
	s.monitor(ref, "stop", nil)
	s.settle()
	if power := s.power(ref); power != hypervisor.Suspended {
		t.Errorf("a guest that a person paused is %s", power)
	}
	s.expectNoWindow(ref)
	s.monitor(ref, "cont", nil)
	s.awaitCount(ref, s.counter(ref)+1)

	s.freezeAndDie(ref)
	s.settle()
	if s.frozen(ref) {
		t.Error("a guest that a dead program froze is frozen still")
	}
	s.awaitCount(ref, s.counter(ref)+1)

	p := r.take(replication.AppConsistent)
	if p.modes["vda"] != hypervisor.Delta || p.modes["vdb"] != hypervisor.Delta {
		t.Errorf("after all this: %v, %v: want deltas", p.modes, p.reasons)
	}
	if _, err := s.Stop(t.Context(), ref, bootLimit); err != nil {
		t.Fatal(err)
	}
	r.take(replication.CrashConsistent)
	r.sameAs(ref)
}

// TestAnOpenCaptureIsNotSettled: it is this program's own.
func TestAnOpenCaptureIsNotSettled(t *testing.T) {
	needQEMU(t)
	h := &idleSite{dir: t.TempDir()}
	h.open(t)
	ref := h.source(t, "web01").Ref()
	if err := h.site.Start(t.Context(), ref, hypervisor.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	c, err := h.site.BeginPoint(t.Context(), hypervisor.PointRequest{Ref: ref, Point: "1", Disks: []string{"vda", "vdb"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.site.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Disks()[1].ReadAt(make([]byte, 4096), 0); err != nil {
		t.Errorf("a capture cannot be read after somebody looked for leftovers: %v", err)
	}
	if err := c.Commit(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestAFreezeIsNotedUntilItIsKnownToHaveEnded: a QEMU and an agent that do not answer say
// nothing about a freeze.
func TestAFreezeIsNotedUntilItIsKnownToHaveEnded(t *testing.T) {
	needQEMU(t)
	h := &idleSite{dir: t.TempDir()}
	h.open(t)
	ref := h.source(t, "web01").Ref()
	if err := h.site.Start(t.Context(), ref, hypervisor.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(h.dir, "run", string(ref))
	noted := func(when string, want bool) {
		t.Helper()
		if _, err := os.Stat(filepath.Join(folder, "frozen")); (err == nil) != want {
			t.Errorf("%s: is a freeze noted? %v, want %t", when, err, want)
		}
	}
	if err := os.WriteFile(filepath.Join(folder, "frozen"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	h.open(t) // nobody listens inside
	if err := h.site.Settle(t.Context()); err == nil || replication.AsProblem(err).Code != "kvm.frozen" {
		t.Errorf("settle while the agent does not answer: %v", err)
	}
	noted("the agent does not answer", true)
	c, err := h.site.BeginPoint(t.Context(), hypervisor.PointRequest{Ref: ref, Point: "1", Disks: []string{"vda", "vdb"}})
	if err != nil {
		t.Fatalf("a point without the agent: %v", err)
	}
	if err := c.Commit(t.Context()); err != nil {
		t.Error(err)
	}
	noted("a point was taken without the agent", true)
	held, err := qmp.Dial(t.Context(), filepath.Join(folder, "status.qmp"))
	if err != nil {
		t.Fatal(err)
	}
	err = h.site.Settle(t.Context())
	held.Close()
	if err == nil {
		t.Error("settle while QEMU does not answer said that all is well")
	}
	noted("QEMU does not answer", true)
	if _, err := h.site.Stop(t.Context(), ref, 0); err != nil {
		t.Fatal(err)
	}
	if err := h.site.Settle(t.Context()); err != nil {
		t.Error(err)
	}
	noted("its guest has ended", false)
}

func (s *site) settle() {
	s.t.Helper()
	if err := s.Settle(s.t.Context()); err != nil {
		s.t.Fatalf("settle: %v", err)
	}
}

// dieAtTheInstant captures as another program that is killed then.
func (s *site) dieAtTheInstant(r *replica, full bool) {
	s.t.Helper()
	folder := filepath.Join(s.folder, "run", string(r.ref))
	m := fleece.Machine{
		Name: string(r.ref), Scratch: fleece.Folder(filepath.Join(folder, "scratch")), Socket: filepath.Join(folder, "nbd.sock"),
		Connect: func(ctx context.Context) (fleece.Monitor, func(), error) {
			conn, err := qmp.Dial(ctx, filepath.Join(folder, "control.qmp"))
			if err != nil {
				return nil, nil, err
			}
			return &kvmtest.Dying{Monitor: conn, Full: full}, func() { conn.Close() }, nil
		},
	}
	for _, key := range []string{"vda", "vdb"} {
		m.Disks = append(m.Disks, fleece.Disk{Key: key, Device: "/machine/peripheral/dev-" + key + "/virtio-backend", Node: "disk-" + key})
	}
	if _, err := fleece.Begin(s.t.Context(), m, r.request(replication.CrashConsistent)); !errors.Is(err, kvmtest.ErrDied) {
		s.t.Fatalf("the capture that dies: %v", err)
	}
}

// monitor gives a command to a machine's QEMU, as a person may.
func (s *site) monitor(ref hypervisor.Ref, command string, result any) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	conn, err := qmp.Dial(ctx, filepath.Join(s.folder, "run", string(ref), "control.qmp"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.Execute(ctx, command, nil, result); err != nil {
		s.t.Fatal(err)
	}
}

// expectNoWindow looks for what captures put into a machine, bitmaps not included.
func (s *site) expectNoWindow(ref hypervisor.Ref) {
	s.t.Helper()
	for _, command := range []string{"query-jobs", "query-block-exports", "query-blockstats"} {
		var reply json.RawMessage
		s.monitor(ref, command, &reply)
		if strings.Contains(string(reply), "riparo-") {
			s.t.Errorf("%s still names something of ours: %s", command, reply)
		}
	}
	if left, err := filepath.Glob(filepath.Join(s.folder, "run", string(ref), "scratch", "*")); err != nil || len(left) > 0 {
		s.t.Errorf("scratch files are left: %v, %v", left, err)
	}
}

// freezeAndDie freezes a guest as another program that is killed then.
func (s *site) freezeAndDie(ref hypervisor.Ref) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.folder, "run", string(ref), "frozen"), nil, 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.agent(ref, func(ctx context.Context, agent *qga.Conn) error {
		_, err := qga.Freeze(ctx, agent)
		return err
	})
	if !s.frozen(ref) {
		s.t.Fatal("the guest does not freeze")
	}
}

func (s *site) frozen(ref hypervisor.Ref) (frozen bool) {
	s.t.Helper()
	s.agent(ref, func(ctx context.Context, agent *qga.Conn) (err error) {
		frozen, err = qga.Frozen(ctx, agent)
		return err
	})
	return frozen
}

func (s *site) agent(ref hypervisor.Ref, talk func(context.Context, *qga.Conn) error) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	agent, err := qga.Dial(ctx, filepath.Join(s.folder, "run", string(ref), "agent.sock"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer agent.Close()
	if err := talk(ctx, agent); err != nil {
		s.t.Fatal(err)
	}
}

// TestACaptureThatCouldNotBeEndedIsSettled: nobody watches over its window any more, and the
// next point may be far.
func TestACaptureThatCouldNotBeEndedIsSettled(t *testing.T) {
	needQEMU(t)
	for name, end := range map[string]func(hypervisor.Capture, context.Context) error{"commit": hypervisor.Capture.Commit, "rollback": hypervisor.Capture.Rollback} {
		t.Run(name, func(t *testing.T) {
			h := &idleSite{dir: t.TempDir()}
			h.open(t)
			ref := h.source(t, "web01").Ref()
			if err := h.site.Start(t.Context(), ref, hypervisor.StartOptions{}); err != nil {
				t.Fatal(err)
			}
			begin := func(point replication.PointID, since map[string]replication.PointID) hypervisor.Capture {
				t.Helper()
				c, err := h.site.BeginPoint(t.Context(), hypervisor.PointRequest{Ref: ref, Point: point, Disks: []string{"vda", "vdb"}, Since: since})
				if err != nil {
					t.Fatal(err)
				}
				return c
			}
			c := begin("1", nil)
			if err := c.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
			since := map[string]replication.PointID{"vda": "1", "vdb": "1"}
			c = begin("2", since)
			folder := filepath.Join(h.dir, "run", string(ref))
			held, err := qmp.Dial(t.Context(), filepath.Join(folder, "control.qmp")) // QEMU talks to one at a time
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			err = end(c, ctx)
			cancel()
			held.Close()
			if err == nil {
				t.Fatal("it ended while QEMU did not listen")
			}
			if left, err := filepath.Glob(filepath.Join(folder, "scratch", "*")); err != nil || len(left) == 0 {
				t.Fatalf("nothing is left of it: %v, %v", left, err)
			}
			if err := h.site.Settle(t.Context()); err != nil {
				t.Fatal(err)
			}
			if left, err := filepath.Glob(filepath.Join(folder, "scratch", "*")); err != nil || len(left) > 0 {
				t.Errorf("scratch files are left: %v, %v", left, err)
			}
			if name == "commit" { // its blocks are at the vault
				since = map[string]replication.PointID{"vda": "2", "vdb": "2"}
			}
			c = begin("3", since)
			for _, d := range c.Disks() {
				if d.Mode() != hypervisor.Delta {
					t.Errorf("the point after it: disk %s is %s (%s), want a delta", d.Key(), d.Mode(), d.Reason())
				}
			}
			if err := c.Commit(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}
