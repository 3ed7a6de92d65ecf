package processserver

import (
	"context"
	"fmt"

	"riparo/replication"
)

// load is a run of pieces of the disk that one goroutine reads into one buffer.
// Small extents share a load, so that many small changes do not cost a buffer each.
type load struct {
	pieces []replication.Region
	buffer []byte // nil when every piece is known to be zero
	used   int    // bytes of buffer that the pieces need
	ready  chan error
}

// end is the offset after the last piece.
func (l *load) end() int64 { return l.pieces[len(l.pieces)-1].End() }

// plan cuts the regions of the source into loads and starts their reads, as far
// ahead as buffers allow.
func (c *carrier) plan(ctx context.Context) error {
	var l *load
	start := func() error {
		if l == nil {
			return nil
		}
		started := l
		l = nil
		select {
		case c.loads <- started:
		case <-ctx.Done():
			return ctx.Err()
		}
		c.group.Go(func() error { started.ready <- c.read(ctx, started); return nil })
		return nil
	}
	end := int64(0)
	for region, err := range c.source.Regions(ctx) {
		if err != nil {
			c.cutOff = fmt.Errorf("list the regions of the source: %w", err)
			break // what came before it is carried
		}
		if err := region.Within(c.size); err != nil {
			return fmt.Errorf("list the regions of the source: %w", err)
		}
		if region.Offset < end {
			return fmt.Errorf("list the regions of the source: %s comes after offset %d was passed", region.Extent, end)
		}
		end = region.End()
		for region.Length > 0 {
			piece := c.cut(region)
			region.Offset, region.Length = piece.End(), region.Length-piece.Length
			if l != nil && !l.takes(piece, c.options.LoadBytes) {
				if err := start(); err != nil {
					return err
				}
			}
			if l == nil {
				l = &load{ready: make(chan error, 1)}
			}
			if !piece.Zero && l.buffer == nil {
				var err error
				if l.buffer, err = c.buffer(ctx); err != nil {
					return err
				}
			}
			l.add(piece)
		}
	}
	if err := start(); err != nil {
		return err
	}
	close(c.loads)
	return nil
}

// cut is the first piece of a region. A piece of data ends at a multiple of
// the load's length on the disk, so that equal content is cut equally every time; what is
// known to be zero is one piece whatever its length.
func (c *carrier) cut(r replication.Region) replication.Region {
	if load := c.options.LoadBytes; !r.Zero {
		r.Length = min(r.Length, load-r.Offset%load)
	}
	return r
}

// maxPieces of a load: half a batch of changes leaves ample room for the changes
// that long zeroes cut its data into, so that a load always fits into one batch.
const maxPieces = replication.MaxBatchChanges / 2

func (l *load) takes(piece replication.Region, limit int64) bool {
	return len(l.pieces) < maxPieces && (piece.Zero || int64(l.used)+piece.Length <= limit)
}

func (l *load) add(piece replication.Region) {
	l.pieces = append(l.pieces, piece)
	if !piece.Zero {
		l.used += int(piece.Length)
	}
}

// buffer gives a free buffer, makes one while there may be more, or waits.
func (c *carrier) buffer(ctx context.Context) ([]byte, error) {
	select {
	case b := <-c.free:
		return b, nil
	default:
	}
	if c.made < buffers {
		c.made++
		return c.memory.Take(), nil
	}
	select {
	case b := <-c.free:
		return b, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// read fills the buffer of a load, piece after piece.
func (c *carrier) read(ctx context.Context, l *load) error {
	at := 0
	for _, piece := range l.pieces {
		if piece.Zero {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := replication.ReadFull(c.source, l.buffer[at:at+int(piece.Length)], piece.Offset); err != nil {
			return err
		}
		at += int(piece.Length)
	}
	return nil
}
