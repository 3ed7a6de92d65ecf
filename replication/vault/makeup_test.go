package vault

import (
	"errors"
	"math/rand/v2"
	"testing"

	"riparo/replication"
	"riparo/replication/vfs"
)

// TestAPointTellsWhatItIsMadeOf compares the make-up of every point with a model that
// knows what every cell of the disk held before and after it.
func TestAPointTellsWhatItIsMadeOf(t *testing.T) {
	const cell, cells = 4096, 256
	const zero, text, noise = 0, 1, 2
	total := Makeup{}
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		v := open(t, vfs.NewSim(seed), "v", Options{manual: true, memoryEntries: 32, segmentBytes: 256 << 10})
		s := newSender(t, v, "d", cells*cell)
		var now [cells]int
		for point := range 12 {
			was := now
			touched := map[int]bool{}
			for range 1 + r.IntN(8) {
				at, n, kind := r.IntN(cells), 1+r.IntN(24), r.IntN(3)
				n = min(n, cells-at)
				c := replication.Change{Extent: replication.Extent{Offset: int64(at) * cell, Length: int64(n) * cell}}
				switch kind {
				case text:
					c = change(c.Offset, c.Length, byte(r.IntN(250)))
				case noise:
					c.Data = make([]byte, c.Length)
					fillNoise(c.Data, r.Uint64())
				}
				s.write(c)
				for i := at; i < at+n; i++ {
					now[i], touched[i] = kind, true
				}
			}
			id := s.mark()
			if r.IntN(3) == 0 {
				if err := v.disks["d"].maintain(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			var want Makeup
			for i := range touched {
				want.Changed += cell
				if now[i] == noise {
					want.Noise += cell
				}
				switch {
				case point == 0:
				case now[i] == noise && was[i] == text:
					want.Turned += cell
				case now[i] == noise && was[i] == zero:
					want.Fresh += cell
				case now[i] == zero && was[i] == text:
					want.Vanished += cell
				}
			}
			got, err := v.Makeup(t.Context(), "d", id)
			if err != nil || got != want {
				t.Fatalf("seed %d, point %d: %+v, %v; want %+v", seed, point, got, err, want)
			}
			total.Turned += got.Turned
			total.Fresh += got.Fresh
			total.Vanished += got.Vanished
		}
	}
	if total.Turned == 0 || total.Fresh == 0 || total.Vanished == 0 {
		t.Errorf("in all %+v: there was nothing to compare", total)
	}
	v := open(t, vfs.NewSim(1), "v", Options{})
	newSender(t, v, "d", 4096)
	if _, err := v.Makeup(t.Context(), "d", "none"); !errors.Is(err, replication.ErrUnknownPoint) {
		t.Errorf("%v, want an unknown point", err)
	}
}
