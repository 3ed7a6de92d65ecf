package resync

import (
	"context"
	"iter"

	"riparo/replication"
)

// Also lists more than a source: besides its regions, what of others lies outside of
// them. A delta says what was written since a point; a head that has more than that
// point, because a later transfer was cut off, may have blocks that the source has lost
// again without a word. Whatever the head has touched since, be it zero there or not, is
// read from the source too, which has to give any place of the disk. others are in order
// and apart. What it costs is what both have changed.
func Also(source replication.Source, others []replication.Region) replication.Source {
	return &also{source, others}
}

type also struct {
	replication.Source
	others []replication.Region
}

// Regions implements replication.Source.
func (a *also) Regions(ctx context.Context) iter.Seq2[replication.Region, error] {
	return func(yield func(replication.Region, error) bool) {
		at, others := int64(0), a.others // everything below at is listed, or in neither
		// upTo lists what of the others lies before end.
		upTo := func(end int64) bool {
			for len(others) > 0 && others[0].Offset < end {
				e := others[0].Intersect(replication.Extent{Offset: at, Length: end - at})
				if e.Length > 0 && !yield(replication.Region{Extent: e}, ctx.Err()) {
					return false
				}
				if others[0].End() > end {
					break // the rest of it comes behind
				}
				others = others[1:]
			}
			return true
		}
		for region, err := range a.Source.Regions(ctx) {
			if err != nil {
				yield(region, err)
				return
			}
			if !upTo(region.Offset) || !yield(region, nil) {
				return
			}
			at = max(at, region.End())
		}
		upTo(a.Size())
	}
}
