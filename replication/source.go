package replication

import (
	"context"
	"io"
	"iter"
)

// Source is one disk frozen at one instant. All reads give the bytes of that
// instant, whatever its machine writes meanwhile. ReadAt may be called from
// several goroutines; it never reads past Size.
type Source interface {
	io.ReaderAt

	// Size of the disk in bytes.
	Size() int64

	// Regions yields the regions of the disk that matter, in ascending order and
	// without overlap: for a full read the whole disk with its holes marked Zero,
	// for a delta only what may have changed. It ends after the first error.
	Regions(ctx context.Context) iter.Seq2[Region, error]
}
