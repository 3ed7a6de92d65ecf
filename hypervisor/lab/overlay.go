package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"riparo/replication"
)

// overlay is the map of a disk that was made on a recovery point: one bit for each
// block that the disk's own file holds; all others are read from the backing. A
// bit is set after its block was written: a process that ends in between shows
// the backing's block, and the record does the write again.
type overlay struct {
	file    *os.File
	own     []byte // bit n%8 of byte n/8: block n is in the disk's file
	size    int64  // of the disk, bytes
	backing *backing
}

func overlayBytes(size int64) int64 {
	blocks := (size + BlockSize - 1) / BlockSize
	return (blocks + 7) / 8
}

// layOver makes an empty disk an overlay on what uri shows.
func (d *disk) layOver(ctx context.Context, dir, uri string) error {
	file, err := os.OpenFile(overlayFile(dir, d.key), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("disk %s: create the overlay: %w", d.key, err)
	}
	n := overlayBytes(d.size)
	d.overlay = &overlay{file: file, own: make([]byte, n), size: d.size, backing: newBacking(uri, d.size)}
	if err := file.Truncate(n); err != nil {
		return fmt.Errorf("disk %s: create the overlay: %w", d.key, err)
	}
	// What the backing knows to be zero needs no reading later. All else counts as
	// content, which is there since the disk was made.
	for region, err := range d.overlay.backing.regions(ctx) {
		if err != nil {
			return fmt.Errorf("disk %s: %w", d.key, err)
		}
		if region.Zero {
			continue
		}
		if err := d.changes.copied(region.Extent); err != nil {
			return fmt.Errorf("disk %s: %w", d.key, err)
		}
	}
	return nil
}

func openOverlay(path string, size int64, uri string) (*overlay, error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("open the overlay: %w", err)
	}
	o := &overlay{file: file, own: make([]byte, overlayBytes(size)), size: size, backing: newBacking(uri, size)}
	if _, err := io.ReadFull(io.NewSectionReader(file, 0, int64(len(o.own))), o.own); err != nil {
		return nil, errors.Join(fmt.Errorf("read the overlay: %w", err), file.Close())
	}
	return o, nil
}

func (o *overlay) owns(number int64) bool { return o.own[number/8]&(1<<(number%8)) != 0 }

// take notes that blocks from before to are in the disk's file.
func (o *overlay) take(from, to int64) error {
	for number := from; number < to; number++ {
		o.own[number/8] |= 1 << (number % 8)
	}
	if first, last := from/8, (to-1)/8; from < to {
		if _, err := o.file.WriteAt(o.own[first:last+1], first); err != nil {
			return fmt.Errorf("write the overlay: %w", err)
		}
	}
	return nil
}

// runs splits a range of bytes into those that the file holds and those that the
// backing shows.
func (o *overlay) runs(offset, length int64, visit func(replication.Extent, bool) error) error {
	end := offset + length
	for offset < end {
		number := offset / BlockSize
		own := o.owns(number)
		next := number + 1
		for next*BlockSize < end && o.owns(next) == own {
			next++
		}
		to := min(next*BlockSize, end)
		if err := visit(replication.Extent{Offset: offset, Length: to - offset}, own); err != nil {
			return err
		}
		offset = to
	}
	return nil
}

func (o *overlay) read(ctx context.Context, file *os.File, p []byte, offset int64) error {
	return o.runs(offset, int64(len(p)), func(e replication.Extent, own bool) error {
		part := p[e.Offset-offset : e.End()-offset]
		if own {
			_, err := file.ReadAt(part, e.Offset)
			return err
		}
		return o.backing.read(ctx, part, e.Offset)
	})
}

func (o *overlay) write(ctx context.Context, file *os.File, p []byte, offset int64) error {
	e := replication.Extent{Offset: offset, Length: int64(len(p))}
	if err := o.complete(ctx, file, e); err != nil {
		return err
	}
	if _, err := file.WriteAt(p, offset); err != nil {
		return err
	}
	return o.take(o.blocks(e))
}

func (o *overlay) zero(ctx context.Context, file *os.File, e replication.Extent) error {
	if err := o.complete(ctx, file, e); err != nil {
		return err
	}
	if err := punch(file, e); err != nil {
		return err
	}
	return o.take(o.blocks(e))
}

// blocks are the blocks that an extent touches, up to the second number.
func (o *overlay) blocks(e replication.Extent) (from, to int64) {
	return e.Offset / BlockSize, (e.End() + BlockSize - 1) / BlockSize
}

// complete copies the first and last block of an extent into the file if the
// extent covers them in part.
func (o *overlay) complete(ctx context.Context, file *os.File, e replication.Extent) error {
	from, to := o.blocks(e)
	for _, number := range []int64{from, to - 1} {
		whole := replication.Extent{Offset: number * BlockSize, Length: min(BlockSize, o.size-number*BlockSize)}
		if o.owns(number) || e.Intersect(whole) == whole {
			continue
		}
		block := make([]byte, whole.Length)
		if err := o.backing.read(ctx, block, whole.Offset); err != nil {
			return err
		}
		if _, err := file.WriteAt(block, whole.Offset); err != nil {
			return err
		}
		if err := o.take(number, number+1); err != nil {
			return err
		}
	}
	return nil
}

func (o *overlay) close() error { return errors.Join(o.file.Close(), o.backing.close()) }
