package kvm_test

import (
	"fmt"
	"testing"

	"riparo/hypervisor"
	"riparo/hypervisor/kvm"
	"riparo/hypervisor/kvm/guest"
	"riparo/replication"
)

// TestEveryPointBootsAndHoldsItsInstant takes points of a machine that writes to a raw
// and a qcow2 disk, boots each of them, and ends with the last delta of the machine
// after it was shut down: then the copy is the disk, byte for byte.
func TestEveryPointBootsAndHoldsItsInstant(t *testing.T) {
	s := newSite(t, kvm.Options{})
	ref := s.mixedSource("web01")
	r := s.replica(ref)
	s.start(ref, hypervisor.StartOptions{})
	s.start(ref, hypervisor.StartOptions{}) // harmless
	n := s.awaitCount(ref, 3)
	for i := range 6 {
		want, mode := replication.CrashConsistent, hypervisor.Delta
		if i%2 == 1 {
			want = replication.AppConsistent
		}
		if i == 0 {
			mode = hypervisor.Full
		}
		p := r.take(want)
		t.Logf("point %d: %s, read %d KiB, frozen %s, %v %v", i, p.instant.Consistency, p.read>>10, p.instant.Frozen, p.instant.Evidence, p.instant.Warnings)
		if p.instant.Consistency != want {
			t.Errorf("point %s is %s-consistent, want %s: %v", p.id, p.instant.Consistency, want, p.instant.Warnings)
		}
		if p.modes["vda"] != mode || p.modes["vdb"] != mode {
			t.Errorf("point %s: modes %v, want %s: %v", p.id, p.modes, mode, p.reasons)
		}
		if power := s.power(ref); power != hypervisor.Running {
			t.Fatalf("the machine is %s after point %s", power, p.id)
		}
		r.judge(p)
		n = s.awaitCount(ref, n+2)
	}
	if outcome, err := s.Stop(t.Context(), ref, bootLimit); err != nil || outcome != hypervisor.ShutDown {
		t.Fatalf("stop: %s, %v", outcome, err)
	}
	if said, ok := guest.Said(s.console(ref), "BYE"); !ok || said != fmt.Sprint(s.counter(ref)) {
		t.Errorf("the guest did not end in order: it said goodbye at %q", said)
	}
	p := r.take(replication.CrashConsistent)
	if p.instant.Consistency != replication.Clean || p.modes["vda"] != hypervisor.Delta || p.modes["vdb"] != hypervisor.Delta {
		t.Errorf("last point of the stopped machine: %s, %v, %v", p.instant.Consistency, p.modes, p.reasons)
	}
	r.sameAs(ref)
}
