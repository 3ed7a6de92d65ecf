package image

import (
	"context"
	"iter"

	"riparo/replication"
)

// Delta is source limited to the extents that changed, which are ascending and do
// not overlap. Larger holes of source inside of them are marked Zero.
func Delta(source replication.Source, changed []replication.Extent) replication.Source {
	return delta{source, changed}
}

type delta struct {
	replication.Source
	changed []replication.Extent
}

// partial is a source that can tell of the regions of a part without a walk over
// the whole.
type partial interface {
	RegionsIn(ctx context.Context, e replication.Extent) iter.Seq2[replication.Region, error]
}

func (d delta) Regions(ctx context.Context) iter.Seq2[replication.Region, error] {
	if p, ok := d.Source.(partial); ok {
		return d.ask(ctx, p)
	}
	return d.filter(ctx)
}

// askFrom is the length of a change, bytes, from which on it is asked whether it became a
// hole: to read less is as soon done, and who reads it looks for zeroes.
const askFrom = 64 << 10

// ask costs as much as there are changes, whatever the size of the disk.
func (d delta) ask(ctx context.Context, p partial) iter.Seq2[replication.Region, error] {
	return func(yield func(replication.Region, error) bool) {
		for _, e := range d.changed {
			if e = e.Intersect(replication.Extent{Length: d.Size()}); e.Length == 0 {
				continue
			}
			if e.Length < askFrom {
				if !yield(replication.Region{Extent: e}, nil) {
					return
				}
				continue
			}
			for r, err := range p.RegionsIn(ctx, e) {
				if !yield(r, err) || err != nil {
					return
				}
			}
		}
	}
}

// filter walks over all regions of the source. Between them nothing is known, and
// a change there is data.
func (d delta) filter(ctx context.Context) iter.Seq2[replication.Region, error] {
	return func(yield func(replication.Region, error) bool) {
		changed := d.changed
		// emit hands on the changes before end; inside of a region they are zero if
		// the region is.
		emit := func(end int64, zero bool) bool {
			for len(changed) > 0 && changed[0].Offset < end {
				r := replication.Region{Extent: changed[0].Intersect(replication.Extent{Length: end}), Zero: zero}
				if changed[0].End() <= end {
					changed = changed[1:]
				} else {
					changed = append([]replication.Extent{{Offset: end, Length: changed[0].End() - end}}, changed[1:]...)
				}
				if !yield(r, nil) {
					return false
				}
			}
			return true
		}
		for r, err := range d.Source.Regions(ctx) {
			if err != nil {
				yield(replication.Region{}, err)
				return
			}
			if len(changed) == 0 {
				return
			}
			if !emit(r.Offset, false) || !emit(r.End(), r.Zero) {
				return
			}
		}
		emit(d.Size(), false)
	}
}
