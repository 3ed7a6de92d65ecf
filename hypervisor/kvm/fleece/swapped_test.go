package fleece_test

import (
	"testing"

	"riparo/hypervisor"
	"riparo/hypervisor/kvm/fleece"
	"riparo/replication"
)

// TestImagesThatExchangePlacesAreReadInFull: an image keeps its bitmaps when it becomes
// another disk of the machine, and what they tell of is not what that disk's vault lacks.
func TestImagesThatExchangePlacesAreReadInFull(t *testing.T) {
	if testing.Short() {
		t.Skip("runs QEMU: left out of the short run")
	}
	const size = 2 << 20
	w := emptyWorld(t, 1)
	for range 2 {
		w.add("qcow2", size).content = make([]byte, size)
	}
	w.start()
	a, b := w.disks[0], w.disks[1]
	take := func(when string, mode hypervisor.CaptureMode) {
		t.Helper()
		point := replication.PointID(when)
		c, err := w.capture(point)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range c.Disks() {
			if d.Mode() != mode {
				t.Errorf("%s: disk %s is %s (%s), want %s", when, d.Key(), d.Mode(), d.Reason(), mode)
			}
		}
		if err := w.read(c); err != nil {
			t.Fatal(err)
		}
		w.verify(when)
		if err := c.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		a.since, b.since = point, point
	}
	w.put(a, 0x11, 0, size)
	w.put(b, 0x22, 0, size)
	take("1-first", hypervisor.Full)
	w.put(a, 0x12, 0, 64<<10)
	take("2-changes", hypervisor.Delta)

	w.end(false)
	a.path, b.path = b.path, a.path
	a.content, b.content = b.content, a.content
	w.start()
	w.put(a, 0x33, 64<<10, 64<<10)
	w.put(b, 0x44, 512<<10, 64<<10)
	take("3-exchanged", hypervisor.Unknown)
	w.put(b, 0x45, 0, 64<<10)
	take("4-after", hypervisor.Delta)

	// An image that comes back has a bitmap of this disk, of a point that is no longer the last.
	w.end(false)
	a.path, b.path = b.path, a.path
	a.content, b.content = b.content, a.content
	w.start()
	w.put(a, 0x55, 64<<10, 64<<10)
	take("5-back", hypervisor.Unknown)

	if err := fleece.Forget(t.Context(), w.machine()); err != nil {
		t.Fatal(err)
	}
	w.expectNothingLeft()
	w.expectNoFailedWrite()
}
