package vault

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"

	"riparo/replication"
	"riparo/replication/vfs"
)

// patchwork makes a disk whose blocks lie in several segments and in parts: large runs,
// newer pieces inside of them, zeroes, and what was never written.
func patchwork(t *testing.T, v *Vault) *sender {
	s := newSender(t, v, "d", 12<<20+1000)
	for i := range int64(9) {
		s.write(noise(i<<20, 1<<20, uint64(i)))
	}
	s.mark()
	r := rand.New(rand.NewPCG(3, 4))
	for i := range 40 {
		at, length := r.Int64N(9<<20), 1+r.Int64N(100<<10)
		if i%4 == 0 {
			s.write(replication.Change{Extent: replication.Extent{Offset: at, Length: length}})
		} else {
			s.write(noise(at, length, uint64(100+i)))
		}
	}
	s.write(change(10<<20, 1<<20, 7))
	s.mark()
	return s
}

func TestLargeReadsOfAViewSideBySide(t *testing.T) {
	o := compactOptions()
	o.segmentBytes = 4 << 20
	v := open(t, vfs.OS(), t.TempDir(), o)
	s := patchwork(t, v)
	for _, p := range s.points {
		w, err := v.View(t.Context(), "d", p.id)
		if err != nil {
			t.Fatal(err)
		}
		var readers sync.WaitGroup
		for i := range uint64(4 * maxRuns) {
			readers.Go(func() {
				r := rand.New(rand.NewPCG(i, 1))
				for range 20 {
					at := r.Int64N(w.Size())
					got := make([]byte, min(w.Size()-at, 1+r.Int64N(5<<20)))
					fillNoise(got[:min(len(got), 512)], i)
					if err := replication.ReadFull(w, got, at); err != nil || !bytes.Equal(got, p.content[at:][:len(got)]) {
						t.Errorf("%d bytes at %d: %v, or not what was written", len(got), at, err)
						return
					}
				}
			})
		}
		readers.Wait()
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if runMemory.taken > 0 || len(runMemory.free) > maxRuns {
		t.Errorf("%d pieces of memory are not given back, %d are", runMemory.taken, len(runMemory.free))
	}
}

// TestABadSectorHidesNothingAroundIt reads a run with a sector in it that is gone.
func TestABadSectorHidesNothingAroundIt(t *testing.T) {
	disk := vfs.NewSim(1)
	o := compactOptions()
	o.segmentBytes = 16 << 20
	v := open(t, disk, "/vault", o)
	s := newSender(t, v, "d", 4<<20)
	s.write(noise(0, 1<<20, 1))
	s.mark()
	w, err := v.View(t.Context(), "d", "")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	list, err := w.resolve(0, 1<<20)
	if err != nil || len(list) != 16 {
		t.Fatalf("%d blocks, %v; want 16", len(list), err)
	}
	const gone = 9
	e := list[gone]
	if err := disk.LoseSector(filepath.Join(v.disks["d"].folder, segmentName(e.segment)), int64(e.position)+blockBytes/2); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 1<<20)
	n, err := w.ReadAt(got, 0)
	if p, ok := errors.AsType[*replication.Problem](err); !ok || p.Code != CodeDamaged || n != gone*blockBytes || !bytes.Equal(got[:n], s.head[:n]) {
		t.Fatalf("read %d bytes, %v; want the %d before the block that is gone, and %s", n, err, gone*blockBytes, CodeDamaged)
	}
	after := int64(gone+1) * blockBytes
	if err := replication.ReadFull(w, got[after:], after); err != nil || !bytes.Equal(got[after:], s.head[after:1<<20]) {
		t.Fatalf("what follows it: %v, or not what was written", err)
	}
}
