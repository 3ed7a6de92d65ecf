//go:build unix

package kvm_test

import (
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"riparo/hypervisor"
	"riparo/hypervisor/kvm/qmp"
)

// TestALookAmongManyStillSeesTheMachineRun looks at a machine from many sides at once,
// while others come to its status monitor and die in the queue, as a daemon does that
// is killed again and again. QEMU serves one and lets hardly another wait: a look that
// finds the queue full comes again, and does not say that nothing can be seen.
func TestALookAmongManyStillSeesTheMachineRun(t *testing.T) {
	needQEMU(t)
	h := &idleSite{dir: t.TempDir()}
	h.open(t)
	m := h.source(t, "web01")
	if err := h.site.Start(t.Context(), m.Ref(), hypervisor.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for n := range 30 {
				if n%4 == 3 {
					if c, err := net.Dial("unix", filepath.Join(h.dir, "run", "web01", "status.qmp")); err == nil {
						c.Close()
					}
				}
				seen, err := h.site.Machine(t.Context(), m.Ref())
				if err != nil || seen.Power != hypervisor.Running {
					t.Errorf("look %d: the machine is %s, %v; want running", n, seen.Power, err)
					return
				}
			}
		})
	}
	all.Wait()
}

// TestAMachineThatCannotBeSeenIsAskedBeforeThePlugIsPulled lets somebody else hold the
// monitor for looking while a machine is stopped with grace.
func TestAMachineThatCannotBeSeenIsAskedBeforeThePlugIsPulled(t *testing.T) {
	needQEMU(t)
	h := &idleSite{dir: t.TempDir()}
	h.open(t)
	m := h.source(t, "web01")
	if err := h.site.Start(t.Context(), m.Ref(), hypervisor.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	hold := func(monitor string) *qmp.Conn {
		conn, err := qmp.Dial(t.Context(), filepath.Join(h.dir, "run", "web01", monitor+".qmp"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	hold("status")
	events := hold("events")
	if seen, err := h.site.Machine(t.Context(), m.Ref()); err != nil || seen.Power != hypervisor.PowerUnknown {
		t.Fatalf("with its monitor held the machine is %s, %v; want unknown", seen.Power, err)
	}
	outcome, err := h.site.Stop(t.Context(), m.Ref(), 100*time.Millisecond)
	if err != nil || outcome != hypervisor.PoweredOff { // its guest is deaf
		t.Errorf("stop: %s, %v; want powered off", outcome, err)
	}
	asked := false
	for event := range events.Events() {
		asked = asked || event.Name == "POWERDOWN"
	}
	if !asked {
		t.Error("the power button was not pressed before the plug was pulled")
	}
}
