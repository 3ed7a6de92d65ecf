package nbd

import (
	"context"
	"iter"
	"slices"
	"sync"

	"riparo/replication"
)

// RegionMapper is the source of an export that can be written, and tells what its
// regions are now. The server asks it each time; of an export without a writer it
// remembers the holes, and without a RegionMapper it tells nothing of one with.
type RegionMapper interface {
	// RegionsIn yields the regions of an extent, ascending, without gaps and
	// overlap.
	RegionsIn(ctx context.Context, e replication.Extent) iter.Seq2[replication.Region, error]
}

const (
	// maxHoles bounds the memory for the holes of one export: 4 MiB. Of a disk
	// with more of them the smallest are forgotten, which costs a client reads of
	// zeroes and nothing else.
	maxHoles = 256 << 10
	// minHole: shorter holes are not worth a line in a client's map.
	minHole = 4096
)

// holes remembers where a source that does not change is zero. It walks over the
// source's regions once, when it is first asked; then each question is a search.
type holes struct {
	source replication.Source
	limit  int

	building chan struct{} // holds a token while somebody walks
	mu       sync.Mutex    // guards what follows
	built    bool
	list     []replication.Extent // ascending
}

func newHoles(source replication.Source) *holes {
	return &holes{source: source, limit: maxHoles, building: make(chan struct{}, 1)}
}

// ready reports whether the walk is done, so that asking costs nothing.
func (h *holes) ready() ([]replication.Extent, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.list, h.built
}

// get gives the holes, after walking over the source if nobody has done so. An
// error is not remembered: the next question tries again.
func (h *holes) get(ctx context.Context) ([]replication.Extent, error) {
	if list, ok := h.ready(); ok {
		return list, nil
	}
	select {
	case h.building <- struct{}{}:
		defer func() { <-h.building }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if list, ok := h.ready(); ok {
		return list, nil
	}
	list, err := collectHoles(ctx, h.source, h.limit)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.list, h.built = list, true
	return list, nil
}

// collectHoles takes the zero regions of a source. What a source does not speak
// of, as a delta does not of what is unchanged, is no hole.
func collectHoles(ctx context.Context, source replication.Source, limit int) ([]replication.Extent, error) {
	var list []replication.Extent
	smallest := int64(minHole)
	whole := replication.Extent{Length: source.Size()}
	for r, err := range source.Regions(ctx) {
		if err != nil {
			return nil, err
		}
		e := r.Intersect(whole)
		if !r.Zero || e.Length == 0 {
			continue
		}
		if n := len(list); n > 0 && list[n-1].End() == e.Offset {
			list[n-1].Length += e.Length
			continue
		}
		// The last hole may have grown only until now.
		if n := len(list); n > 0 && list[n-1].Length < smallest {
			list = list[:n-1]
		}
		for len(list) >= limit {
			smallest += smallest / 4
			list = slices.DeleteFunc(list, func(e replication.Extent) bool { return e.Length < smallest })
		}
		list = append(list, e)
	}
	if n := len(list); n > 0 && list[n-1].Length < smallest && list[n-1].End() != source.Size() {
		list = list[:n-1]
	}
	return slices.Clip(list), nil
}

// within yields the regions of an extent from a list of holes.
func within(list []replication.Extent, e replication.Extent) iter.Seq[replication.Region] {
	return func(yield func(replication.Region) bool) {
		i, _ := slices.BinarySearchFunc(list, e.Offset, func(h replication.Extent, off int64) int {
			if h.End() <= off {
				return -1
			}
			return 1
		})
		for e.Length > 0 {
			r := replication.Region{Extent: e}
			if i < len(list) {
				if hole := list[i].Intersect(e); hole.Length > 0 && hole.Offset == e.Offset {
					r = replication.Region{Extent: hole, Zero: true}
					i++
				} else if hole.Length > 0 {
					r.Length = hole.Offset - e.Offset
				}
			}
			if !yield(r) {
				return
			}
			e.Offset, e.Length = r.End(), e.Length-r.Length
		}
	}
}
