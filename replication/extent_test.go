package replication

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestExtentsShareWhatBothHave(t *testing.T) {
	for _, c := range []struct {
		a, b, want Extent
	}{
		{Extent{0, 10}, Extent{5, 10}, Extent{5, 5}},
		{Extent{0, 10}, Extent{10, 5}, Extent{10, 0}},
		{Extent{0, 10}, Extent{20, 5}, Extent{20, 0}},
		{Extent{0, 100}, Extent{20, 5}, Extent{20, 5}},
		{Extent{7, 3}, Extent{7, 3}, Extent{7, 3}},
	} {
		for _, got := range []Extent{c.a.Intersect(c.b), c.b.Intersect(c.a)} {
			if got.Length != c.want.Length || got.Length > 0 && got != c.want {
				t.Errorf("%s and %s share %s, want %s", c.a, c.b, got, c.want)
			}
		}
		if got := c.a.Overlaps(c.b); got != (c.want.Length > 0) {
			t.Errorf("%s overlaps %s: %v", c.a, c.b, got)
		}
	}
}

func TestAnExtentLiesWithinItsDiskWhateverTheNumbers(t *testing.T) {
	for _, c := range []struct {
		e    Extent
		size int64
		ok   bool
	}{
		{Extent{0, 1}, 1, true},
		{Extent{0, 2}, 1, false},
		{Extent{1, 1}, 1, false},
		{Extent{1, 1}, 2, true},
		{Extent{0, 0}, 10, false},
		{Extent{-1, 1}, 10, false},
		{Extent{5, -1}, 10, false},
		{Extent{1, math.MaxInt64}, math.MaxInt64, false},
		{Extent{math.MaxInt64, math.MaxInt64}, math.MaxInt64, false},
		{Extent{math.MaxInt64, 1}, 10, false},
		{Extent{0, math.MaxInt64}, math.MaxInt64, true},
		{Extent{0, 1}, 0, false},
	} {
		if got := c.e.Within(c.size) == nil; got != c.ok {
			t.Errorf("%s within a disk of %d bytes: %v, want %v", c.e, c.size, got, c.ok)
		}
	}
}

func TestUnionIsSortedAndCoversTheSame(t *testing.T) {
	const size = 200
	r := rand.New(rand.NewPCG(1, 1))
	for round := range 500 {
		var list []Extent
		var covered [size]bool
		for range r.IntN(20) {
			offset := r.Int64N(size)
			e := Extent{offset, r.Int64N(size - offset)}
			list = append(list, e)
			for i := e.Offset; i < e.End(); i++ {
				covered[i] = true
			}
		}
		union := Union(slices.Clone(list))
		var got [size]bool
		end := int64(-1)
		for _, e := range union {
			if e.Offset <= end || e.Length <= 0 {
				t.Fatalf("round %d: %v gives %v: not sorted, or not joined", round, list, union)
			}
			end = e.End()
			for i := e.Offset; i < e.End(); i++ {
				got[i] = true
			}
		}
		if got != covered {
			t.Fatalf("round %d: %v gives %v: it covers something else", round, list, union)
		}
		n := int64(0)
		for _, c := range covered {
			if c {
				n++
			}
		}
		if TotalLength(union) != n {
			t.Fatalf("round %d: total length %d, want %d", round, TotalLength(union), n)
		}
	}
}
