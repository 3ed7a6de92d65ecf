package replication

import (
	"fmt"
	"slices"
)

// Extent is a range of bytes of a disk.
type Extent struct {
	Offset int64
	Length int64
}

// End is the offset of the first byte after the extent.
func (e Extent) End() int64 { return e.Offset + e.Length }

// Overlaps reports whether the two extents share a byte.
func (e Extent) Overlaps(o Extent) bool { return e.Offset < o.End() && o.Offset < e.End() }

// Intersect is the part that both extents share; its Length is 0 if there is none.
func (e Extent) Intersect(o Extent) Extent {
	start, end := max(e.Offset, o.Offset), min(e.End(), o.End())
	if end <= start {
		return Extent{Offset: start}
	}
	return Extent{Offset: start, Length: end - start}
}

// Within reports an error unless the extent has a length and lies inside a disk
// of size bytes. It does not overflow, whatever the numbers.
func (e Extent) Within(size int64) error {
	if e.Offset < 0 || e.Length <= 0 || e.Offset > size || e.Length > size-e.Offset {
		return fmt.Errorf("extent %s lies outside the disk of %d bytes", e, size)
	}
	return nil
}

func (e Extent) String() string { return fmt.Sprintf("[%d+%d]", e.Offset, e.Length) }

// Union sorts extents and joins those that touch or overlap. It reuses the slice.
func Union(extents []Extent) []Extent {
	slices.SortFunc(extents, func(a, b Extent) int {
		switch {
		case a.Offset < b.Offset:
			return -1
		case a.Offset > b.Offset:
			return 1
		}
		return 0
	})
	out := extents[:0]
	for _, e := range extents {
		if e.Length <= 0 {
			continue
		}
		if n := len(out); n > 0 && e.Offset <= out[n-1].End() {
			out[n-1].Length = max(out[n-1].End(), e.End()) - out[n-1].Offset
			continue
		}
		out = append(out, e)
	}
	return out
}

// TotalLength is the sum of the lengths, in bytes.
func TotalLength(extents []Extent) int64 {
	var n int64
	for _, e := range extents {
		n += e.Length
	}
	return n
}

// Region is an extent together with what is known about its content before it is
// read: Zero means that every byte of it is zero.
type Region struct {
	Extent
	Zero bool
}
