package fleece_test

import (
	"fmt"
	"testing"
	"time"

	"riparo/hypervisor"
)

// TestACycleCostsWhatChangedAndNotTheDisk takes a delta of 100 scattered blocks of
// 64 KiB from disks of several sizes.
func TestACycleCostsWhatChangedAndNotTheDisk(t *testing.T) {
	if testing.Short() {
		t.Skip("runs QEMU: left out of the short run")
	}
	const blocks, block = 100, 64 << 10
	for _, format := range []string{"raw", "qcow2"} {
		for _, gib := range []int64{1, 16, 64} {
			w := emptyWorld(t, 1)
			d := w.add(format, gib<<30)
			w.start()
			c, err := w.capture("1")
			if err != nil {
				t.Fatal(err)
			}
			// The first one reads next to nothing: the disk is empty.
			if _, read, err := cycle(t, c); err != nil || read > block {
				t.Fatalf("first cycle of an empty disk of %d GiB: %d bytes, %v", gib, read, err)
			}
			d.since = "1"
			for i := range int64(blocks) {
				w.io(d, fmt.Sprintf("write -P 7 %d %d", i*(gib<<30)/blocks/block*block, block))
			}
			began := time.Now()
			if c, err = w.capture("2"); err != nil {
				t.Fatal(err)
			}
			regions, read, err := cycle(t, c)
			took := time.Since(began)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%-5s %2d GiB: %d regions, %d KiB, %s", format, gib, regions, read>>10, took.Round(time.Millisecond))
			if c.Disks()[0].Mode() != hypervisor.Delta || read > 8<<20 {
				t.Errorf("%s of %d GiB: %s of %d bytes, want a delta below 8 MiB", format, gib, c.Disks()[0].Mode(), read)
			}
			// Twice the goal, for machines that do other things as well.
			if took > 2*time.Second {
				t.Errorf("%s of %d GiB: the cycle took %s", format, gib, took)
			}
			w.end(true)
		}
	}
}

// cycle reads a capture and commits it.
func cycle(t *testing.T, c hypervisor.Capture) (regions int, read int64, err error) {
	t.Helper()
	buffer := make([]byte, 1<<20)
	for _, d := range c.Disks() {
		for region, err := range d.Regions(t.Context()) {
			if err != nil {
				return regions, read, err
			}
			regions++
			if region.Zero {
				continue
			}
			for at := region.Offset; at < region.End(); at += int64(len(buffer)) {
				n, err := d.ReadAt(buffer[:min(int64(len(buffer)), region.End()-at)], at)
				if err != nil {
					return regions, read, err
				}
				read += int64(n)
			}
		}
	}
	return regions, read, c.Commit(t.Context())
}
