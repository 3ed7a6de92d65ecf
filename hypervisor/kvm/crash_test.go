package kvm_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"riparo/hypervisor"
	"riparo/hypervisor/kvm"
	"riparo/replication"
)

// TestCrashesAndFullFoldersLoseNothing takes points of a guest on a raw and a qcow2
// disk across a crash of this side in the middle of a capture, a capture that ran out
// of room, and a kill of QEMU; the points on the way are booted.
func TestCrashesAndFullFoldersLoseNothing(t *testing.T) {
	s := newSite(t, kvm.Options{})
	ref := s.mixedSource("db01", "pause=20")
	r := s.replica(ref)
	s.start(ref, hypervisor.StartOptions{})
	s.awaitCount(ref, 3)
	r.take(replication.CrashConsistent)

	// This side dies with a capture open and half read; the guest goes on writing.
	s.awaitCount(ref, s.counter(ref)+2)
	left, err := s.BeginPoint(t.Context(), r.request(replication.CrashConsistent))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bringForward(t.Context(), left.Disks()[0], r.file("vda")); err != nil {
		t.Fatal(err)
	}
	// What is left of it in this process ends with the test.
	t.Cleanup(func() { left.Rollback(context.Background()) })
	s.reopen(kvm.Options{})
	s.awaitCount(ref, s.counter(ref)+2)
	p := r.take(replication.CrashConsistent)
	if p.modes["vda"] != hypervisor.Delta || p.modes["vdb"] != hypervisor.Delta {
		t.Errorf("after a crash of this side: %v, %v: want deltas", p.modes, p.reasons)
	}
	r.judge(p)

	// The scratch folder may take hardly more than what is allocated beforehand.
	s.reopen(kvm.Options{ScratchLimit: 130 << 20})
	full, err := s.BeginPoint(t.Context(), r.request(replication.CrashConsistent))
	if err != nil {
		t.Fatal(err)
	}
	began := s.counter(ref)
	var broken error
	for deadline := time.Now().Add(bootLimit); broken == nil && time.Now().Before(deadline); {
		buffer := make([]byte, 1<<20)
		for _, d := range full.Disks() {
			for at := int64(0); at < d.Size() && broken == nil; at += int64(len(buffer)) {
				_, broken = d.ReadAt(buffer, at)
			}
		}
	}
	problem := replication.AsProblem(broken)
	if problem == nil || problem.Code != "kvm.scratch-full" || problem.Remedy != replication.Retry || problem.Action == "" {
		t.Errorf("reading a capture without room for old content: %v", broken)
	}
	if power := s.power(ref); power != hypervisor.Running {
		t.Errorf("the machine is %s after its scratch folder was full", power)
	}
	s.awaitCount(ref, began+3)
	if err := full.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.reopen(kvm.Options{})
	p = r.take(replication.CrashConsistent)
	if p.modes["vda"] != hypervisor.Delta || p.modes["vdb"] != hypervisor.Delta {
		t.Errorf("after a capture that was given up: %v, %v: want deltas", p.modes, p.reasons)
	}

	// QEMU is killed: its memory is gone, and so is what qcow2 had not been told.
	text, err := os.ReadFile(filepath.Join(s.folder, "run", string(ref), "pid"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	process, err := os.FindProcess(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s.awaitPower(ref, hypervisor.Stopped)
	s.start(ref, hypervisor.StartOptions{})
	s.awaitCount(ref, 0)
	p = r.take(replication.CrashConsistent)
	for _, key := range []string{"vda", "vdb"} {
		if p.modes[key] != hypervisor.Unknown || p.reasons[key] == "" {
			t.Errorf("after QEMU was killed disk %s is %s (%q): want unknown with a reason", key, p.modes[key], p.reasons[key])
		}
	}
	r.judge(p)
	s.awaitCount(ref, s.counter(ref)+1)
	p = r.take(replication.CrashConsistent)
	if p.modes["vda"] != hypervisor.Delta || p.modes["vdb"] != hypervisor.Delta {
		t.Errorf("after the resynchronization: %v, %v: want deltas", p.modes, p.reasons)
	}

	if err := s.Fence(t.Context(), ref, "another copy owns it"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Stop(t.Context(), ref, 0); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context(), ref, hypervisor.StartOptions{}); !errors.Is(err, hypervisor.ErrFenced) {
		t.Errorf("start of a fenced machine: %v", err)
	}
}
