package kvm_test

import (
	"testing"

	"riparo/hypervisor"
	"riparo/hypervisor/kvm"
	"riparo/replication"
)

// TestEveryPointBootsAndHoldsItsInstant takes points of machines that write, boots
// them, and ends with the last delta of a machine that was shut down.
func TestEveryPointBootsAndHoldsItsInstant(t *testing.T) {
	for _, format := range []string{"raw", "qcow2"} {
		t.Run(format, func(t *testing.T) {
			s := newSite(t, kvm.Options{})
			ref := s.source("web01", format)
			r := s.replica(ref)
			s.start(ref, hypervisor.StartOptions{})
			n := s.awaitCount(ref, 3)
			for i := range 6 {
				want := replication.CrashConsistent
				if i%2 == 1 {
					want = replication.AppConsistent
				}
				p := r.take(want)
				t.Logf("point %d: %s, read %d KiB, frozen %s, %v %v", i, p.instant.Consistency, p.read>>10, p.instant.Frozen, p.instant.Evidence, p.instant.Warnings)
				if p.instant.Consistency != want {
					t.Errorf("point %s is %s-consistent, want %s: %v", p.id, p.instant.Consistency, want, p.instant.Warnings)
				}
				mode := hypervisor.Delta
				if i == 0 {
					mode = hypervisor.Full
				}
				if p.modes["vda"] != mode || p.modes["vdb"] != mode {
					t.Errorf("point %s: modes %v, want %s: %v", p.id, p.modes, mode, p.reasons)
				}
				if power := s.power(ref); power != hypervisor.Running {
					t.Fatalf("the machine is %s after point %s", power, p.id)
				}
				// Each boot takes some seconds; of qcow2 two are enough.
				if format == "raw" || i == 2 || i == 5 {
					r.judge(p)
				}
				n = s.awaitCount(ref, n+2)
			}
			if outcome, err := s.Stop(t.Context(), ref, bootLimit); err != nil || outcome != hypervisor.ShutDown {
				t.Fatalf("stop: %s, %v", outcome, err)
			}
			p := r.take(replication.CrashConsistent)
			if p.instant.Consistency != replication.Clean || p.modes["vda"] != hypervisor.Delta || p.modes["vdb"] != hypervisor.Delta {
				t.Errorf("last point of the stopped machine: %s, %v, %v", p.instant.Consistency, p.modes, p.reasons)
			}
			r.sameAs(ref)
		})
	}
}
