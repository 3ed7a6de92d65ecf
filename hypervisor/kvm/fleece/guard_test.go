package fleece_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"riparo/hypervisor"
	"riparo/hypervisor/kvm/fleece"
	"riparo/replication"
)

// dimFolder is a scratch folder that cannot be looked at now and then, as over SSH when
// too many sessions are open.
type dimFolder struct {
	fleece.Folder
	fails, looks atomic.Int64 // looks that fail from now on, and how many there were
}

var errDim = errors.New("open failed: too many sessions")

func (f *dimFolder) Usage(ctx context.Context, names []string) (used, free int64, err error) {
	f.looks.Add(1)
	if f.fails.Add(-1) >= 0 {
		return 0, 0, errDim
	}
	return f.Folder.Usage(ctx, names)
}

// await waits until the guard has looked so often from now on.
func (f *dimFolder) await(t *testing.T, looks int64) {
	t.Helper()
	limit := time.Now().Add(30 * time.Second)
	for until := f.looks.Load() + looks; f.looks.Load() < until; time.Sleep(10 * time.Millisecond) { // a guard has no other sign
		if time.Now().After(limit) {
			t.Fatal("nobody looks at the scratch folder any more")
		}
	}
}

// TestALookThatFailsDoesNotEndACapture: only when nobody could look for longer than the
// guard has patience is the capture given up, and then it is not said that there is no room.
func TestALookThatFailsDoesNotEndACapture(t *testing.T) {
	if testing.Short() {
		t.Skip("runs QEMU: left out of the short run")
	}
	dimmed := func(t *testing.T) (*world, *dimFolder, *fleece.Capture) {
		w := newWorld(t, 1)
		dim := &dimFolder{Folder: fleece.Folder(w.scratch)}
		w.limit, w.dim = 1<<30, dim
		c, err := w.capture("0001")
		if err != nil {
			t.Fatal(err)
		}
		return w, dim, c
	}
	t.Run("for a while", func(t *testing.T) {
		fleece.SetGuardPatience(t, time.Minute)
		w, dim, c := dimmed(t)
		dim.fails.Store(3)
		dim.await(t, 5)
		if err := w.read(c); err != nil {
			t.Fatalf("after three looks that failed: %v", err)
		}
		w.verify("a point whose folder was not seen for a while")
		if err := c.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("for too long", func(t *testing.T) {
		fleece.SetGuardPatience(t, 300*time.Millisecond)
		w, dim, c := dimmed(t)
		if err := w.read(c); err != nil {
			t.Fatal(err)
		}
		if err := c.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, d := range w.disks {
			d.since = "0001"
			w.put(d, 1, 0, 64<<10)
		}
		c, err := w.capture("0002")
		if err != nil {
			t.Fatal(err)
		}
		dim.fails.Store(1 << 40)
		for limit := time.Now().Add(20 * time.Second); err == nil && time.Now().Before(limit); {
			err = w.read(c)
		}
		problem := replication.AsProblem(err)
		if err == nil || problem.Code != "kvm.scratch-unseen" || problem.Remedy != replication.Retry || !errors.Is(err, errDim) {
			t.Fatalf("reading an instant that nobody could watch over: %v", err)
		}
		dim.fails.Store(0)
		if err := c.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
		if c, err = w.capture("0003"); err != nil {
			t.Fatal(err)
		}
		for _, d := range c.Disks() {
			if d.Mode() != hypervisor.Delta {
				t.Errorf("after a capture that was given up disk %s is %s (%s)", d.Key(), d.Mode(), d.Reason())
			}
		}
		if err := w.read(c); err != nil {
			t.Fatal(err)
		}
		w.verify("the point after it")
		if err := c.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.expectNoFailedWrite()
	})
}
