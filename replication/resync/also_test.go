package resync

import (
	"context"
	"errors"
	"iter"
	"math/rand/v2"
	"slices"
	"testing"

	"riparo/replication"
)

// scattered gives regions of a disk of so many blocks, in order and apart, and which
// blocks they hold: 1 of data, 2 of zeroes.
func scattered(random *rand.Rand, blocks int) (list []replication.Region, held []int) {
	held = make([]int, blocks)
	for at := random.IntN(5); at < blocks; {
		n := min(1+random.IntN(5), blocks-at)
		zero := random.IntN(4) == 0
		list = append(list, replication.Region{Extent: replication.Extent{Offset: int64(at) * 512, Length: int64(n) * 512}, Zero: zero})
		for i := range n {
			held[at+i] = 1
			if zero {
				held[at+i] = 2
			}
		}
		at += n + random.IntN(4) // touching ones too
	}
	return list, held
}

func TestAlsoListsWhatEitherHasOnce(t *testing.T) {
	for seed := range uint64(500) {
		random := rand.New(rand.NewPCG(seed, 4))
		blocks := 1 + random.IntN(60)
		of, held := scattered(random, blocks)
		others, more := scattered(random, blocks+10) // what was cut off of the disk is not read
		source := Also(&image{bytes: make([]byte, blocks*512), regions: of}, others)
		got := make([]int, blocks)
		end := int64(0)
		for r, err := range source.Regions(t.Context()) {
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if r.Offset < end || r.Within(source.Size()) != nil {
				t.Fatalf("seed %d: %s comes after %d, in a disk of %d bytes", seed, r.Extent, end, source.Size())
			}
			end = r.End()
			for at := r.Offset; at < r.End(); at += 512 {
				got[at/512] = 1
				if r.Zero {
					got[at/512] = 2
				}
			}
		}
		for i := range held {
			if held[i] == 0 && more[i] != 0 {
				held[i] = 1 // what the head has is read, though it is zero there
			}
		}
		if !slices.Equal(got, held) {
			t.Fatalf("seed %d: got %v, want %v", seed, got, held)
		}
	}
}

func TestAlsoEndsWithItsSourceAndItsReader(t *testing.T) {
	region := func(block int64) replication.Region {
		return replication.Region{Extent: replication.Extent{Offset: block * 512, Length: 512}}
	}
	source := Also(&image{bytes: make([]byte, 8*512), regions: []replication.Region{region(1), region(3), region(5)}}, []replication.Region{region(0), region(2), region(4), region(7)})
	for most := 1; most <= 7; most++ {
		n := 0
		for range source.Regions(t.Context()) {
			if n++; n == most {
				break
			}
		}
		if n != most {
			t.Errorf("got %d regions, want %d", n, most)
		}
	}
	broken := errors.New("broken")
	for _, err := range Also(failing{source, broken}, []replication.Region{region(7)}).Regions(t.Context()) {
		if !errors.Is(err, broken) {
			t.Errorf("got %v, want %v and nothing behind it", err, broken)
		}
	}
}

// failing is a source that cannot list its regions.
type failing struct {
	replication.Source
	err error
}

func (f failing) Regions(context.Context) iter.Seq2[replication.Region, error] {
	return func(yield func(replication.Region, error) bool) { yield(replication.Region{}, f.err) }
}
