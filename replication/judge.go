package replication

import (
	"context"
	"io"
)

// Judge compares content with what a holder has of a disk, on the holder's side: what
// it finds out by itself need not be told in checksums. It may be asked by several
// goroutines, and compares with what the holder had when the judge was called.
type Judge interface {
	// Differ gives what of an extent is not the holder's, in ascending order, without
	// overlap, to 4 KiB or finer. content is that of the extent; nil stands for zeroes.
	// What the holder cannot read differs.
	Differ(ctx context.Context, extent Extent, content []byte) ([]Extent, error)
	io.Closer
}
