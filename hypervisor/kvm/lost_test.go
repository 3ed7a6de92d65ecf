package kvm_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"riparo/hypervisor"
	"riparo/replication"
)

// TestAMachineWhoseSocketsAreGoneIsNotCalledStopped: its QEMU lives, and whoever took it
// for off could start a second copy beside it.
func TestAMachineWhoseSocketsAreGoneIsNotCalledStopped(t *testing.T) {
	needQEMU(t)
	h := &idleSite{dir: t.TempDir()}
	h.open(t)
	ref := h.source(t, "web01").Ref()
	if err := h.site.Start(t.Context(), ref, hypervisor.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, socket := range []string{"control.qmp", "status.qmp", "events.qmp"} {
		if err := os.Remove(filepath.Join(h.dir, "run", string(ref), socket)); err != nil {
			t.Fatal(err)
		}
	}

	seen, err := h.site.Machine(t.Context(), ref)
	if err != nil || seen.Power != hypervisor.PowerUnknown || !strings.Contains(strings.Join(seen.Obstacles, " "), "sockets to it are gone") {
		t.Errorf("a machine that runs without its sockets is %s, obstacles %q, %v: want unknown, and what to do", seen.Power, seen.Obstacles, err)
	}
	lost := func(what string, err error) {
		t.Helper()
		if p := replication.AsProblem(err); err == nil || p.Code != "kvm.lost" || p.Action == "" {
			t.Errorf("%s: %v, want kvm.lost", what, err)
		}
	}
	lost("start", h.site.Start(t.Context(), ref, hypervisor.StartOptions{}))
	outcome, err := h.site.Stop(t.Context(), ref, time.Minute)
	lost("stop with grace: "+string(outcome), err)
	_, err = h.site.BeginPoint(t.Context(), hypervisor.PointRequest{Ref: ref, Point: "1", Disks: []string{"vda"}})
	lost("capture", err)
	if disk, err := h.site.OpenDisk(t.Context(), ref, "vda", hypervisor.ReadOnly); err == nil {
		disk.Close()
		t.Error("its disk was opened beside it")
	}

	// Pulling the plug works still, and is seen to work.
	if outcome, err := h.site.Stop(t.Context(), ref, 0); err != nil || outcome != hypervisor.PoweredOff {
		t.Errorf("pull the plug: %s, %v", outcome, err)
	}
	if seen, err := h.site.Machine(t.Context(), ref); err != nil || seen.Power != hypervisor.Stopped || len(seen.Obstacles) > 0 {
		t.Errorf("after its end: %s, obstacles %q, %v", seen.Power, seen.Obstacles, err)
	}
	if err := h.site.Start(t.Context(), ref, hypervisor.StartOptions{}); err != nil {
		t.Errorf("start after its end: %v", err)
	}
}
