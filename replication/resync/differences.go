package resync

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"riparo/replication"
	"riparo/replication/vfs"
)

const (
	// coarse is the first grain: 32 bytes of checksum stand for 64 KiB.
	coarse = 64 << 10
	// fine is the second, inside a chunk that differs: the block of most guests.
	fine = 4 << 10
	// windowBytes is compared as one job.
	windowBytes = 1 << 20
	// zeroWindowBytes is the same for what the source knows to be zero; it needs
	// no buffer, only 32 KiB of checksums.
	zeroWindowBytes = 64 << 20
	// windowsInFlight keeps both ends and all cores at work: some read while others
	// hash. Reads are ahead of the disk's order by as much.
	windowsInFlight = 8
	// keptBytes is how much of what differs is kept until it is read for being sent.
	keptBytes = 8 << 20

	// MaxMemory is the most data, in bytes, that a comparison holds at any time.
	MaxMemory = windowsInFlight*windowBytes + keptBytes
)

// Hasher tells checksums of the newest content it holds of a disk, unmarked data
// included. A vault is one.
type Hasher interface {
	// Hashes gives the sum of every chunk bytes of the extent, counted from its
	// offset; the last chunk may be shorter. See [replication.SumOf].
	Hashes(ctx context.Context, disk replication.DiskID, extent replication.Extent, chunk int64) ([]replication.Sum, error)
}

// judging is a holder that compares by itself: it is handed the content, where a
// holder behind a network is asked for checksums. A vault is one.
type judging interface {
	Judge(ctx context.Context, disk replication.DiskID) (replication.Judge, error)
}

// Options of a comparison. A nil pointer stands for the zero value.
type Options struct {
	// Limit, if set, is waited for before the source is read, by the byte, so that a
	// comparison leaves something of its disk to the machine that works on it. Its
	// burst may be any size above zero.
	Limit *rate.Limiter
	// Progress, if set, is told after each window, in order, by the goroutine that
	// ranges over the regions.
	Progress func(Progress)
}

// Progress is how far a comparison is.
type Progress struct {
	Offset    int64 // everything below was compared, bytes
	Read      int64 // from the source for comparing, bytes
	Different int64 // length of the regions that differ, bytes
	// Reread of them had to be read a second time for being sent, bytes.
	Reread int64
}

// Differences gives source as a delta against what holder has of disk. Regions of
// the result compares as it goes; what it has read of a region that differs is kept
// for ReadAt, up to a bound, and the rest is read from the source a second time.
//
// holder must know the disk with the source's size.
func Differences(source replication.Source, holder Hasher, disk replication.DiskID, o *Options) *Comparison {
	if o == nil {
		o = &Options{}
	}
	return &Comparison{source: source, holder: holder, disk: disk, options: *o}
}

// Comparison is a [replication.Source] that yields only what differs.
type Comparison struct {
	source  replication.Source
	holder  Hasher
	disk    replication.DiskID
	options Options
	memory  *vfs.Pieces       // of the buffers
	buffers chan []byte       // of windowBytes, free to be used again
	judge   replication.Judge // nil: the holder is asked for checksums

	kept kept

	mu       sync.Mutex // guards all below
	progress Progress
}

// Size of the disk in bytes.
func (c *Comparison) Size() int64 { return c.source.Size() }

// ReadAt gives a region that differs from memory, once, and else reads the source.
func (c *Comparison) ReadAt(b []byte, offset int64) (int, error) {
	if c.kept.take(b, offset) {
		return len(b), nil
	}
	n, err := c.source.ReadAt(b, offset)
	c.mu.Lock()
	c.progress.Reread += int64(n)
	c.mu.Unlock()
	return n, err
}

var _ replication.Source = (*Comparison)(nil)

// Progress is how far the comparison is; its figures remain after the last region.
func (c *Comparison) Progress() Progress {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.progress
}

// Regions compares and yields the regions that differ, in ascending order. It
// leaves no goroutine behind when the loop over it is left early.
func (c *Comparison) Regions(ctx context.Context) iter.Seq2[replication.Region, error] {
	return func(yield func(replication.Region, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		if err := c.findJudge(ctx); err != nil {
			yield(replication.Region{}, fmt.Errorf("compare disk %s: %w", c.disk, err))
			return
		}
		c.memory, c.buffers = vfs.NewPieces(windowBytes), make(chan []byte, windowsInFlight+keptBytes/windowBytes)
		c.kept.release = c.release
		g, ctx := errgroup.WithContext(ctx)
		windows := make(chan *window, windowsInFlight-1) // and one in settle's hand
		g.Go(func() error { return c.cut(ctx, g, windows) })
		goOn, err := c.settle(ctx, windows, yield)
		if !goOn {
			cancel()
		}
		// What a worker returned is the cause; settle may only have seen the end of
		// the context.
		if cause := g.Wait(); cause != nil {
			err = cause
		} else if !c.kept.holdsBuffers() {
			c.memory.Free() // what failed, or was not read yet, holds on to some
		}
		if c.judge != nil {
			err = errors.Join(err, c.judge.Close())
		}
		if goOn && err != nil {
			yield(replication.Region{}, fmt.Errorf("compare disk %s: %w", c.disk, err))
		}
	}
}

// findJudge asks the holder for a judge, if it is one that has them.
func (c *Comparison) findJudge(ctx context.Context) (err error) {
	if h, ok := c.holder.(judging); ok {
		c.judge, err = h.Judge(ctx, c.disk)
	}
	return err
}

// settle takes the compared windows in order and yields what differs. It reports
// false when the caller wants no more.
func (c *Comparison) settle(ctx context.Context, windows <-chan *window, yield func(replication.Region, error) bool) (goOn bool, err error) {
	for {
		var w *window
		select {
		case w = <-windows:
		case <-ctx.Done():
			return true, ctx.Err()
		}
		if w == nil {
			return true, nil
		}
		select {
		case <-w.compared:
		case <-ctx.Done():
			return true, ctx.Err()
		}
		for _, r := range w.different {
			if !yield(r, nil) {
				return false, nil
			}
		}
		c.mu.Lock()
		c.progress.Offset = w.End()
		c.progress.Read += w.read
		for _, r := range w.different {
			c.progress.Different += r.Length
		}
		now := c.progress
		c.mu.Unlock()
		if c.options.Progress != nil {
			c.options.Progress(now)
		}
	}
}

// cut divides the regions of the source into windows and starts their comparison.
// It closes windows when it has come to the end, and only then.
func (c *Comparison) cut(ctx context.Context, g *errgroup.Group, windows chan<- *window) error {
	var w *window
	start := func() error {
		started := w
		w = nil
		if started == nil {
			return nil
		}
		select {
		case windows <- started:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := c.wait(ctx, started.toRead()); err != nil {
			return err
		}
		g.Go(func() error { return started.compare(ctx, c) })
		return nil
	}
	end := int64(0)
	for region, err := range c.source.Regions(ctx) {
		if err != nil {
			return fmt.Errorf("list the regions of the source: %w", err)
		}
		if err := region.Within(c.source.Size()); err != nil {
			return fmt.Errorf("list the regions of the source: %w", err)
		}
		if region.Offset < end {
			return fmt.Errorf("list the regions of the source: %s comes after offset %d was passed", region.Extent, end)
		}
		end = region.End()
		for region.Length > 0 {
			if w != nil && w.End() != region.Offset {
				if err := start(); err != nil {
					return err
				}
			}
			if w == nil {
				w = newWindow(region.Offset)
			}
			part := firstPart(region)
			w.add(part)
			region.Offset, region.Length = part.End(), region.Length-part.Length
			if w.End()%windowBytes == 0 {
				if err := start(); err != nil {
					return err
				}
			}
		}
	}
	if err := start(); err != nil {
		return err
	}
	close(windows)
	return nil
}

// wait lets n bytes pass the limit, in portions that its burst allows.
func (c *Comparison) wait(ctx context.Context, n int64) error {
	for limit := c.options.Limit; limit != nil && limit.Limit() != rate.Inf && n > 0; {
		portion := min(n, int64(max(limit.Burst(), 1)))
		if err := limit.WaitN(ctx, int(portion)); err != nil {
			return err
		}
		n -= portion
	}
	return nil
}

// firstPart is what of a region belongs into its first window. Windows end at
// multiples of windowBytes on the disk, so that chunks lie on the disk's grid; long
// zeroes that begin on it make a long window of their own.
func firstPart(r replication.Region) replication.Region {
	inWindow := r.Offset % windowBytes
	if r.Zero && inWindow == 0 && r.Length >= windowBytes {
		r.Length = min(r.Length-r.Length%windowBytes, zeroWindowBytes)
	} else {
		r.Length = min(r.Length, windowBytes-inWindow)
	}
	return r
}
