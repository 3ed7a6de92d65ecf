package fleece

import (
	"context"
	"iter"

	"riparo/hypervisor"
	"riparo/replication"
	"riparo/replication/nbd"
)

// depthContext tells in which file of a chain a place is allocated: 1 and 2 are the
// two scratch files, deeper is the disk itself, 0 nowhere.
const depthContext = "qemu:allocation-depth"

const (
	// span is how much of the disk is asked about at once. Dirty blocks closer
	// together than this share their questions.
	span = 64 << 20
	// maxGroup bounds the dirty extents that are held for one span.
	maxGroup = 1024
)

// regions yields what there is to read, zero regions marked where that is certain.
//
// What base:allocation says of a place is not part of the instant: QEMU asks first
// the scratch files and then the disk, and between the two the guest may change the
// disk. (A snapshot-access node does not help: in QEMU 7.2 it tells of the disk as it
// is now.) It is certain all the same if the scratch files still held nothing of that
// place when asked afterwards: then the guest had not changed it until then. What they
// hold is read as data.
func (d *CapturedDisk) regions(ctx context.Context) iter.Seq2[replication.Region, error] {
	if d.witness == nil {
		return d.quietRegions(ctx)
	}
	return func(yield func(replication.Region, error) bool) {
		for group, err := range d.groups(ctx) {
			if err != nil {
				yield(replication.Region{}, err)
				return
			}
			zero, err := d.certainlyZero(ctx, replication.Extent{Offset: group[0].Offset, Length: group[len(group)-1].End() - group[0].Offset})
			if err != nil {
				yield(replication.Region{}, err)
				return
			}
			for _, e := range group {
				for _, r := range split(e, zero) {
					if !yield(r, nil) {
						return
					}
				}
			}
		}
	}
}

// quietRegions are the regions of a disk that nobody writes to.
func (d *CapturedDisk) quietRegions(ctx context.Context) iter.Seq2[replication.Region, error] {
	if d.plan.mode != hypervisor.Delta {
		return d.client.Regions(ctx)
	}
	delta, err := d.client.Delta(d.plan.base)
	if err != nil {
		return func(yield func(replication.Region, error) bool) { yield(replication.Region{}, err) }
	}
	return delta.Regions(ctx)
}

// groups yields the extents to read, those that are near each other together.
func (d *CapturedDisk) groups(ctx context.Context) iter.Seq2[[]replication.Extent, error] {
	return func(yield func([]replication.Extent, error) bool) {
		var group []replication.Extent
		for e, err := range d.extents(ctx) {
			if err != nil {
				yield(nil, err)
				return
			}
			// A long extent is taken in pieces.
			for e.Length > 0 {
				piece := replication.Extent{Offset: e.Offset, Length: min(e.Length, span)}
				if len(group) > 0 && (piece.End()-group[0].Offset > span || len(group) == maxGroup) {
					if !yield(group, nil) {
						return
					}
					group = group[:0]
				}
				group = append(group, piece)
				e.Offset, e.Length = piece.End(), e.Length-piece.Length
			}
		}
		if len(group) > 0 {
			yield(group, nil)
		}
	}
}

// extents yields the whole disk, or what the bitmap of the last point marks.
func (d *CapturedDisk) extents(ctx context.Context) iter.Seq2[replication.Extent, error] {
	whole := replication.Extent{Length: d.size}
	return func(yield func(replication.Extent, error) bool) {
		if d.plan.mode != hypervisor.Delta {
			yield(whole, nil)
			return
		}
		for s, err := range d.client.Map(ctx, nbd.DirtyBitmapPrefix+d.plan.base, whole) {
			if err != nil {
				yield(replication.Extent{}, err)
				return
			}
			if s.Flags&nbd.StateDirty != 0 && !yield(s.Extent, nil) {
				return
			}
		}
	}
}

// certainlyZero are the parts of an extent that were zero at the instant, as far as
// that can be told without reading them.
func (d *CapturedDisk) certainlyZero(ctx context.Context, e replication.Extent) ([]replication.Extent, error) {
	var zero []replication.Extent
	for s, err := range d.client.Map(ctx, nbd.AllocationContext, e) {
		if err != nil {
			return nil, err
		}
		if s.Flags&nbd.StateZero != 0 {
			zero = append(zero, s.Extent)
		}
	}
	if len(zero) == 0 {
		return nil, nil
	}
	kept, err := d.kept(ctx, e)
	if err != nil {
		return nil, err
	}
	return subtract(zero, kept), d.confirm()
}

// kept are the parts of an extent that the scratch files hold.
func (d *CapturedDisk) kept(ctx context.Context, e replication.Extent) ([]replication.Extent, error) {
	var kept []replication.Extent
	if e.Length == 0 {
		return nil, nil
	}
	for s, err := range d.client.Map(ctx, depthContext, e) {
		if err != nil {
			return nil, err
		}
		if s.Flags == 1 || s.Flags == 2 {
			kept = append(kept, s.Extent.Intersect(e))
		}
	}
	return kept, nil
}

// split cuts an extent into regions. zero is sorted.
func split(e replication.Extent, zero []replication.Extent) []replication.Region {
	var regions []replication.Region
	at := e.Offset
	add := func(to int64, zero bool) {
		if to > at {
			regions = append(regions, replication.Region{Extent: replication.Extent{Offset: at, Length: to - at}, Zero: zero})
			at = to
		}
	}
	for _, z := range zero {
		if part := z.Intersect(e); part.Length > 0 {
			add(part.Offset, false)
			add(part.End(), true)
		}
	}
	add(e.End(), false)
	return regions
}

// subtract gives what is in the first list and not in the second. Both are sorted
// and without overlap, and so is the result.
func subtract(from, minus []replication.Extent) []replication.Extent {
	var rest []replication.Extent
	for _, e := range from {
		at := e.Offset
		for _, m := range minus {
			part := m.Intersect(e)
			if part.Length == 0 {
				if m.Offset >= e.End() {
					break
				}
				continue
			}
			if part.Offset > at {
				rest = append(rest, replication.Extent{Offset: at, Length: part.Offset - at})
			}
			at = part.End()
		}
		if at < e.End() {
			rest = append(rest, replication.Extent{Offset: at, Length: e.End() - at})
		}
	}
	return rest
}
