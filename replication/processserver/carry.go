package processserver

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"riparo/replication"
	"riparo/replication/vfs"
)

const (
	// readsInFlight: six reads of 512 KiB keep a disk or an NBD link busy while
	// earlier ones are searched for zeroes; more only costs memory.
	readsInFlight = 6
	// writesInFlight: the sink compresses some on all cores and makes others durable
	// meanwhile, and one fsync serves those that wait.
	writesInFlight = 16
	// loadBytes is how much one read job fetches, if the options say nothing else. A
	// change may be twice as long.
	loadBytes = 512 << 10
	// batchLoads is how many buffers one batch may hold on to. Batches of 512 KiB, an
	// eighth of what a sink has to take, keep all cores at work with little memory; a
	// sink that appends joins those that wait.
	batchLoads = 1
	// buffers is their number in all: those being read, and those of batches that the
	// sink has not taken yet. A sink that takes its batches early, as a vault does once
	// it has compressed them, has all its writes in flight with these few, and they stay
	// in the caches of the processor.
	buffers = readsInFlight + 2

	// MaxMemory is the most data, in bytes, that one Carry holds at any time.
	MaxMemory = buffers * loadBytes
)

// Options of one Carry. The zero value carries as fast as possible.
type Options struct {
	// Epoch is the ownership that every batch carries.
	Epoch replication.Epoch
	// Limit, if set, is waited for before data goes to the sink, by the byte. One
	// limiter may serve many carries. Its burst may be any size above zero.
	Limit *rate.Limiter
	// Waiting, if set, is told each time that the limit makes the transfer wait, before it
	// does. It comes from one goroutine at a time and must not block: the transfer stands
	// still for it.
	Waiting func()
	// LoadBytes is how much one read fetches, and a batch carries: 0 stands for 512 KiB,
	// which is also the most. Less costs speed, and loses less when a slow link breaks.
	LoadBytes int64
	// Progress, if set, is told after each acknowledged batch, in order and never
	// by two goroutines at once. It should return soon: the walk waits for it.
	Progress func(Progress)
}

// Progress is how far a Carry is.
type Progress struct {
	// Offset: all that matters of the disk below it is durable at the sink, bytes.
	Offset int64
	Read   int64 // from the source until now, bytes
	Sent   int64 // to the sink and acknowledged, bytes of data
	// Sequence is the last one that was acknowledged.
	Sequence replication.Sequence
}

// Result is what a Carry did. It is also true, as far as it goes, beside an error.
type Result struct {
	Read    int64 // from the source, bytes
	Changed int64 // length of all changes that were acknowledged, zero or not, bytes
	Sent    int64 // data among them, bytes
	Zeroes  int64 // zero changes among them, bytes
	Batches int   // acknowledged
	// Sequence is the last acknowledged one; a Mark goes on with Sequence+1.
	Sequence replication.Sequence
}

// Carry brings the regions of source to sink. state is what Prepare told of the
// disk; numbering goes on from it. When Carry returns nil, everything the source
// yielded is durable and only the mark is missing.
//
// A disk of which the sink holds nothing yet (sequence 0) is all zero there, so
// nothing is sent for what is zero in the source.
//
// The first error ends everything; Carry returns it after the reads and writes
// under way have returned. If it is the source's list of regions that fails, what it
// listed before is still carried: whoever goes on later goes on behind it. A source whose ReadAt blocks for ever blocks Carry.
func Carry(ctx context.Context, sink replication.Sink, state replication.DiskState, source replication.Source, o Options) (Result, error) {
	if source.Size() != state.Disk.Size {
		return Result{Sequence: state.Sequence}, fmt.Errorf("carry disk %s: the source has %d bytes, the sink was prepared for %d", state.Disk.ID, source.Size(), state.Disk.Size)
	}
	if o.LoadBytes <= 0 || o.LoadBytes > loadBytes {
		o.LoadBytes = loadBytes
	}
	c := carrier{
		sink: sink, source: source, options: o,
		disk: state.Disk.ID, size: state.Disk.Size,
		next: state.Sequence + 1, fresh: state.Sequence == 0,
		result: Result{Sequence: state.Sequence},
		memory: vfs.NewPieces(int(o.LoadBytes)),
		free:   make(chan []byte, buffers),
		// One more is in the hands of the loop that receives.
		loads:   make(chan *load, readsInFlight-1),
		batches: make(chan *shipment, writesInFlight-1),
	}
	g, ctx := errgroup.WithContext(ctx)
	c.group = g
	g.Go(func() error { return c.plan(ctx) })
	g.Go(func() error { return c.build(ctx) })
	g.Go(func() error { return c.settle(ctx) })
	err := g.Wait()
	if err == nil {
		c.memory.Free() // what failed may hold on to some
		err = c.cutOff
	}
	if err != nil {
		return c.result, fmt.Errorf("carry disk %s: %w", state.Disk.ID, err)
	}
	return c.result, nil
}

// carrier is one Carry under way. Its three loops hand on through two channels
// whose order is the order of the disk. Each loop closes the channel it feeds when
// it has come to its end; one that fails leaves it open, and the others see the
// end of their context.
type carrier struct {
	sink    replication.Sink
	source  replication.Source
	options Options
	disk    replication.DiskID
	size    int64
	fresh   bool // the sink's disk is still all zero
	group   *errgroup.Group

	next    replication.Sequence // used by build only
	result  Result               // written by settle only, until all loops have ended
	made    int                  // buffers made so far; used by plan only
	cutOff  error                // that ended the regions of the source; written by plan only
	memory  *vfs.Pieces          // of the buffers
	free    chan []byte          // buffers to be used again
	loads   chan *load           // plan → build
	batches chan *shipment       // build → settle
}

// settle waits for the writes in the order of their sequences, gives buffers
// back and tells of progress.
func (c *carrier) settle(ctx context.Context) error {
	for {
		select {
		case s, open := <-c.batches:
			if !open {
				return nil
			}
			if err := c.acknowledged(ctx, s); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (c *carrier) acknowledged(ctx context.Context, s *shipment) error {
	select {
	case err := <-s.outcome:
		if err != nil {
			return err
		}
	case <-ctx.Done():
		return ctx.Err()
	}
	c.giveBack(s)
	r := &c.result
	if len(s.batch.Changes) > 0 {
		r.Batches++
		r.Sequence = s.batch.Sequence
	}
	for _, change := range s.batch.Changes {
		r.Changed += change.Length
	}
	r.Read += s.read
	r.Sent += int64(s.data)
	r.Zeroes = r.Changed - r.Sent
	if c.options.Progress != nil {
		c.options.Progress(Progress{Offset: s.offset, Read: r.Read, Sent: r.Sent, Sequence: r.Sequence})
	}
	return nil
}
