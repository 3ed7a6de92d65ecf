package image

import (
	"bytes"
	"context"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"riparo/replication"
	"riparo/replication/vfs"
)

const (
	// copyPiece is read and written at a time: a disk wrote a fifth faster than with half
	// of it. It is less than a large page, so that a vault whose data does not compress
	// reads it into one, with what belongs to it there.
	copyPiece = 2<<20 - 128<<10
	// copiers work side by side: one reads while another writes, and a source
	// behind a network is asked for more than one piece at a time. With copyPiece
	// they bound the memory to 8 MiB.
	copiers = 4
	// sparseBlock of zeroes within data is left out of the file.
	sparseBlock = 64 << 10
)

var zeroes [sparseBlock]byte

// writeRaw copies source into an empty file, leaving out what is zero.
func writeRaw(ctx context.Context, f *os.File, source replication.Source, o ExportOptions) error {
	if err := f.Truncate(source.Size()); err != nil {
		return &writeError{err}
	}
	w := vfs.NewWriter(f)
	defer w.Close() // it only closes a second handle
	var done atomic.Int64
	memory := vfs.NewPieces(copyPiece)
	buffers := sync.Pool{New: func() any { b := memory.Take(); return &b }}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(copiers)
	err := func() error {
		for r, err := range source.Regions(ctx) {
			if err != nil {
				return err
			}
			if r.Zero {
				done.Add(r.Length)
			}
			for at := r.Offset; !r.Zero && at < r.End(); at = (at/copyPiece + 1) * copyPiece {
				if err := ctx.Err(); err != nil {
					return err
				}
				piece := replication.Extent{Offset: at, Length: min(copyPiece-at%copyPiece, r.End()-at)}
				group.Go(func() error {
					b := buffers.Get().(*[]byte)
					defer buffers.Put(b)
					defer done.Add(piece.Length)
					return copyExtent(w, source, piece, (*b)[:piece.Length])
				})
				o.Progress(done.Load(), source.Size())
			}
		}
		return nil
	}()
	// What a copier reports is the cause; that Regions was canceled follows from it.
	if failed := group.Wait(); failed != nil {
		return failed
	}
	memory.Free() // what failed may hold on to some
	return err
}

func copyExtent(w io.WriterAt, source replication.Source, e replication.Extent, b []byte) error {
	if err := replication.ReadFull(source, b, e.Offset); err != nil {
		return err
	}
	for at := 0; at < len(b); {
		end := at
		for end < len(b) && !zeroBlock(b, end) {
			end = min(end+sparseBlock, len(b))
		}
		if end > at {
			if _, err := w.WriteAt(b[at:end], e.Offset+int64(at)); err != nil {
				return &writeError{err}
			}
		}
		for at = end; at < len(b) && zeroBlock(b, at); {
			at = min(at+sparseBlock, len(b))
		}
	}
	return nil
}

func zeroBlock(b []byte, at int) bool {
	block := b[at:min(at+sparseBlock, len(b))]
	return bytes.Equal(block, zeroes[:len(block)])
}

// writeVHD writes a fixed VHD.
func writeVHD(ctx context.Context, f *os.File, source replication.Source, o ExportOptions) error {
	if err := writeRaw(ctx, f, source, o); err != nil {
		return err
	}
	size := paddedSize(source.Size())
	if _, err := f.WriteAt(vhdFooter(size, time.Now()), size); err != nil {
		return &writeError{err}
	}
	return nil
}
