package lab_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"riparo/hypervisor"
	"riparo/hypervisor/lab"
)

func TestTheWorkloadKeepsToItsChurn(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := openWorld(t, dir)
		s := site(t, w, "primary")
		spec := small(91)
		spec.Churn = 512 << 10
		ref := startWeb01(t, s, spec)
		r, err := w.Record("WEB01")
		if err != nil {
			t.Fatal(err)
		}
		before := r.Entries()
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		if err := s.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if n, want := r.Entries()-before, 4*(512<<10)/lab.BlockSize; n < want*9/10 || n > want*11/10 {
			t.Errorf("in 4 s the workload did %d things: want about %d", n, want)
		}
		mustBeInstant(t, w, s, ref)
	})
}

func TestTheWorkloadRestsWhenItsRecordIsFull(t *testing.T) {
	w := openWorld(t, t.TempDir())
	s := site(t, w, "primary")
	ref := startWeb01(t, s, small(92))
	step(t, s, ref, 10)
	r, err := w.Record("WEB01")
	if err != nil {
		t.Fatal(err)
	}
	r.Pretend(lab.MaxEntries - 1000)
	// At most the partner of a first write is still done.
	if did, err := s.Step(t.Context(), ref, 100); err != nil || did > 1 {
		t.Errorf("with a full record the workload did %d things: %v", did, err)
	}
	mustServe(t, s, ref, fmt.Sprintf("record full after %d entries: the workload rests", lab.MaxEntries-(16<<10)))
	// Boots and clean marks have room left.
	if outcome, err := s.Stop(t.Context(), ref, time.Second); err != nil || outcome != hypervisor.ShutDown {
		t.Errorf("stopping the machine: %q, %v", outcome, err)
	}
	start(t, s, ref, "")
	mustServe(t, s, ref)
	mustBeInstant(t, w, s, ref)
}
