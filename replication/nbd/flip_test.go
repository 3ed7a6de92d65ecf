package nbd

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"riparo/replication"
	"riparo/replication/proof"
)

// TestNoBitFlipOfAnOverlayIsSilent changes one bit of what an overlay says of itself,
// its header and the states of its blocks, and opens it again: it is refused, or shows
// the same disk. RIPARO_FLIPS sets how often.
func TestNoBitFlipOfAnOverlayIsSilent(t *testing.T) {
	want := proof.Times(t, "RIPARO_FLIPS", 2000)
	const size = 40 * overlayBlock
	path := filepath.Join(t.TempDir(), "overlay")
	flips, refused := 0, 0
	for seed := uint64(1); flips < want; seed++ {
		os.Remove(path)
		random := rand.New(rand.NewPCG(seed, 5))
		base := newMemoryDisk(size).scatter(seed, 2)
		disk := newMemoryDisk(size).scatter(seed, 2)
		o, err := OpenOverlay(path, base, "point-1")
		if err != nil {
			t.Fatal(err)
		}
		for range 12 {
			e := replication.Extent{Offset: random.Int64N(size - overlayBlock), Length: 1 + random.Int64N(overlayBlock)}
			b := make([]byte, e.Length)
			if random.IntN(3) == 0 {
				disk.Zero(e)
				err = o.Zero(e)
			} else {
				fill(b, random)
				disk.WriteAt(b, e.Offset)
				_, err = o.WriteAt(b, e.Offset)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := o.Sync(); err != nil {
			t.Fatal(err)
		}
		o.Close()
		l, err := newLayout(size, "point-1")
		if err != nil {
			t.Fatal(err)
		}
		for range 250 {
			// One half in the first sector of states, which all blocks of this disk lie in.
			bit := random.Int64N(8 * l.data)
			if random.IntN(2) == 0 {
				bit = 8*overlayHeader + random.Int64N(8*sectorSize)
			}
			flipFile(t, path, bit)
			if o, err := OpenOverlay(path, base, "point-1"); err != nil {
				if p := replication.AsProblem(err); p.Code == "internal" || p.Action == "" {
					t.Fatalf("seed %d, bit %d: %v, which is no problem that a person can solve", seed, bit, err)
				}
				refused++
			} else {
				same := sameAs(o, disk)
				o.Close()
				if !same {
					t.Fatalf("seed %d, bit %d of byte %d: SILENT: another disk is shown", seed, bit%8, bit/8)
				}
			}
			flipFile(t, path, bit)
			flips++
		}
		if o, err = OpenOverlay(path, base, "point-1"); err != nil || !sameAs(o, disk) {
			t.Fatalf("seed %d: without a flip: %v", seed, err)
		}
		o.Close()
	}
	if refused < flips/2 {
		t.Errorf("%d of %d flips were refused, want half of them or more", refused, flips)
	}
	t.Logf("overlay: %d bit flips, 0 silent: %d refused to open, %d change nothing", flips, refused, flips-refused)
}

// sameAs reports whether an overlay shows a disk.
func sameAs(o *Overlay, want *memoryDisk) bool {
	a, b := make([]byte, o.Size()), make([]byte, want.Size())
	_, err := o.ReadAt(a, 0)
	_, err2 := want.ReadAt(b, 0)
	return err == nil && err2 == nil && string(a) == string(b)
}

func flipFile(t *testing.T, path string, bit int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], bit/8); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1 << (bit % 8)
	if _, err := f.WriteAt(b[:], bit/8); err != nil {
		t.Fatal(err)
	}
}
