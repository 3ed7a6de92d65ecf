package image

import (
	"context"
	"io"
	"iter"

	"riparo/replication"
)

// paddedSize is a size in whole sectors, at least one: formats with a header have
// no word for an empty disk, or none that is read alike by all.
func paddedSize(size int64) int64 {
	return max((size+vhdSector-1)/vhdSector*vhdSector, vhdSector)
}

// padded is a source with zeroes behind its end up to its padded size.
type padded struct{ source replication.Source }

func (p padded) Size() int64 { return paddedSize(p.source.Size()) }

func (p padded) ReadAt(b []byte, off int64) (int, error) {
	n := 0
	if rest := p.source.Size() - off; rest > 0 {
		part := b[:min(int64(len(b)), rest)]
		if err := replication.ReadFull(p.source, part, off); err != nil {
			return 0, err
		}
		n = len(part)
	}
	zero := b[n:min(int64(len(b)), max(p.Size()-off, 0))]
	clear(zero)
	if n += len(zero); n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (p padded) Regions(ctx context.Context) iter.Seq2[replication.Region, error] {
	return func(yield func(replication.Region, error) bool) {
		for r, err := range p.source.Regions(ctx) {
			if !yield(r, err) || err != nil {
				return
			}
		}
		end := replication.Extent{Offset: p.source.Size(), Length: p.Size() - p.source.Size()}
		if end.Length > 0 {
			yield(replication.Region{Extent: end, Zero: true}, nil)
		}
	}
}
