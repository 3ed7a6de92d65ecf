package resync

import (
	"context"
	"iter"

	"riparo/replication"
)

// Resumed goes on with a disk that was compared up to an offset when it was frozen at an
// earlier instant. changes is the disk as it is frozen now, its regions what was written
// since that instant. Of these, the ones below the offset are what is left of it to look
// at; from the offset on it is all of the disk. ReadAt reads changes, whose ReadAt has to
// give any place of the disk.
func Resumed(changes replication.Source, from int64) replication.Source {
	return &resumed{Source: changes, from: min(from, changes.Size())}
}

type resumed struct {
	replication.Source
	from int64
}

// Regions implements replication.Source.
func (r *resumed) Regions(ctx context.Context) iter.Seq2[replication.Region, error] {
	return func(yield func(replication.Region, error) bool) {
		for region, err := range r.Source.Regions(ctx) {
			if err != nil {
				yield(region, err)
				return
			}
			if region.Offset >= r.from {
				break
			}
			region.Length = min(region.Length, r.from-region.Offset)
			if !yield(region, nil) {
				return
			}
		}
		if rest := r.Size() - r.from; rest > 0 {
			yield(replication.Region{Extent: replication.Extent{Offset: r.from, Length: rest}}, ctx.Err())
		}
	}
}
