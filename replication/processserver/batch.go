package processserver

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"riparo/replication"
)

// shipment is a batch on its way, with what it holds until it is acknowledged.
// One without changes only tells of progress.
type shipment struct {
	batch   replication.Batch
	loads   []*load
	offset  int64 // everything below is in this batch or an earlier one
	read    int64 // from the source for this batch, bytes
	data    int   // bytes of data in the batch
	outcome chan error
	once    sync.Once // gives its buffers back
}

// build makes batches of the loads, in order, and starts their writes.
func (c *carrier) build(ctx context.Context) error {
	s := newShipment()
	for {
		l, err := c.nextLoad(ctx)
		if err != nil {
			return err
		}
		if l == nil {
			break
		}
		changes, data := c.changesOf(l)
		if !s.takes(changes, data) {
			if err := c.ship(ctx, s); err != nil {
				return err
			}
			s = newShipment()
		}
		s.add(l, changes, data)
		if data == 0 && l.buffer != nil {
			c.free <- l.buffer
		}
		if len(s.batch.Changes) == 0 {
			if err := c.ship(ctx, s); err != nil {
				return err
			}
			s = newShipment()
		}
	}
	if len(s.batch.Changes) > 0 {
		if err := c.ship(ctx, s); err != nil {
			return err
		}
	}
	close(c.batches)
	return nil
}

// nextLoad gives the next load when it was read; nil after the last one.
func (c *carrier) nextLoad(ctx context.Context) (*load, error) {
	select {
	case l, open := <-c.loads:
		if !open {
			return nil, nil
		}
		select {
		case err := <-l.ready:
			return l, err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// changesOf turns the pieces of a load into changes and counts their data.
func (c *carrier) changesOf(l *load) (changes []replication.Change, data int) {
	at := 0
	for _, piece := range l.pieces {
		first := len(changes)
		if piece.Zero {
			changes = append(changes, replication.Change{Extent: piece.Extent})
		} else {
			changes = split(changes, piece.Offset, l.buffer[at:at+int(piece.Length)])
			at += int(piece.Length)
		}
		kept := changes[:first]
		for _, change := range changes[first:] {
			if change.Zero() && c.fresh {
				continue
			}
			data += len(change.Data)
			kept = append(kept, change)
		}
		changes = kept
	}
	return changes, data
}

func newShipment() *shipment { return &shipment{outcome: make(chan error, 1)} }

// takes reports whether a load's changes still fit. A load is never spread over
// two batches, so that its buffer has one owner.
func (s *shipment) takes(changes []replication.Change, data int) bool {
	return len(s.batch.Changes)+len(changes) <= replication.MaxBatchChanges &&
		s.data+data <= replication.MaxBatchBytes &&
		(data == 0 || len(s.loads) < batchLoads)
}

func (s *shipment) add(l *load, changes []replication.Change, data int) {
	for _, change := range changes {
		// Zeroes that touch become one change: the sink keeps one record for them.
		if n := len(s.batch.Changes); n > 0 && change.Zero() {
			if last := &s.batch.Changes[n-1]; last.Zero() && last.End() == change.Offset {
				last.Length += change.Length
				continue
			}
		}
		s.batch.Changes = append(s.batch.Changes, change)
	}
	s.offset = l.end()
	s.read += int64(l.used)
	s.data += data
	if data > 0 {
		s.loads = append(s.loads, l)
	}
}

// ship gives a batch its sequence and starts its write, after the limit allows it.
func (c *carrier) ship(ctx context.Context, s *shipment) error {
	if err := c.wait(ctx, s.data); err != nil {
		return err
	}
	select {
	case c.batches <- s:
	case <-ctx.Done():
		return ctx.Err()
	}
	if len(s.batch.Changes) == 0 {
		s.outcome <- nil
		return nil
	}
	s.batch.Disk, s.batch.Epoch, s.batch.Sequence = c.disk, c.options.Epoch, c.next
	c.next++
	s.batch.Taken = func() { c.giveBack(s) }
	c.group.Go(func() error { s.outcome <- c.sink.Write(ctx, s.batch); return nil })
	return nil
}

// giveBack makes the buffers of a shipment free for reads.
func (c *carrier) giveBack(s *shipment) {
	s.once.Do(func() {
		for _, l := range s.loads {
			c.free <- l.buffer
		}
	})
}

// wait lets n bytes pass the limit, in portions that its burst allows.
func (c *carrier) wait(ctx context.Context, n int) error {
	for limit := c.options.Limit; limit != nil && n > 0; {
		portion := min(n, max(limit.Burst(), 1))
		if limit.Limit() == rate.Inf {
			portion = n
		}
		if !limit.AllowN(time.Now(), portion) {
			if c.options.Waiting != nil {
				c.options.Waiting()
			}
			if err := limit.WaitN(ctx, portion); err != nil {
				return err
			}
		}
		n -= portion
	}
	return nil
}
