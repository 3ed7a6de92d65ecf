package nbd

import (
	"context"
	"fmt"
	"io"
	"iter"

	"riparo/replication"
)

// Status is what a metadata context says of an extent. See [StateZero] and
// [StateDirty] for the flags.
type Status struct {
	replication.Extent
	Flags uint32
}

// Map yields what a context says of an extent, from its beginning to its end
// without gaps; neighbors with equal flags are one. It asks for more as it goes
// on and holds one answer of the server at a time.
func (c *Client) Map(ctx context.Context, name string, e replication.Extent) iter.Seq2[Status, error] {
	return func(yield func(Status, error) bool) {
		if e.Length == 0 {
			return
		}
		if err := e.Within(c.info.size); err != nil {
			yield(Status{}, fmt.Errorf("map %s: %w", c.address, err))
			return
		}
		// Questions begin and end where the server's blocks do.
		align := int64(c.info.minBlock)
		ask := replication.Extent{Offset: e.Offset / align * align}
		ask.Length = min((e.End()+align-1)/align*align, c.info.size) - ask.Offset
		var run Status
		for ask.Length > 0 {
			list, err := c.status(ctx, name, ask)
			if err != nil {
				yield(Status{}, err)
				return
			}
			for _, d := range list {
				s := Status{replication.Extent{Offset: ask.Offset, Length: min(int64(d.length), ask.Length)}, d.flags}
				ask.Offset, ask.Length = ask.Offset+s.Length, ask.Length-s.Length
				switch s.Extent = s.Intersect(e); {
				case s.Length == 0:
				case run.Length > 0 && run.Flags == s.Flags && run.End() == s.Offset:
					run.Length += s.Length
				default:
					if run.Length > 0 && !yield(run, nil) {
						return
					}
					run = s
				}
				if ask.Length == 0 {
					break // A server may tell more than it was asked for.
				}
			}
		}
		yield(run, nil)
	}
}

// status asks for the beginning of an extent. The answer may cover less.
func (c *Client) status(ctx context.Context, name string, e replication.Extent) ([]descriptor, error) {
	conn, err := c.mapper(ctx, name)
	if err != nil {
		return nil, err
	}
	length := min(e.Length, maxStatusLength)
	r := &request{command: cmdBlockStatus, offset: e.Offset, length: uint32(length)}
	if err := conn.do(ctx, r); err != nil {
		return nil, fmt.Errorf("%s: %w", c.address, err)
	}
	return aligned(r.status[conn.info.contexts[name]], name, c.info.minBlock), nil
}

// mapper is the connection to ask about one context.
//
// A server answers for all contexts of a connection at once, and QEMU goes through
// the whole extent for each of them: asking an idle disk for its dirty blocks
// would cost a walk over its allocation too. So where several contexts were agreed
// on and the server allows more connections, each gets one of its own.
func (c *Client) mapper(ctx context.Context, name string) (*connection, error) {
	if !c.Has(name) {
		return nil, fmt.Errorf("%s: %w: %s", c.address, ErrNoContext, name)
	}
	if len(c.info.contexts) == 1 || !c.info.multiConn() {
		return c.pick()
	}
	c.mu.Lock()
	own := c.mappers[name]
	c.mu.Unlock()
	if own != nil && own.alive() {
		return own, nil
	}
	own, err := c.connect(ctx, []string{name})
	if err != nil {
		if ctx.Err() != nil {
			return nil, err
		}
		return c.pick() // The server has no room for more; one connection does too.
	}
	c.mu.Lock()
	spare := own
	switch other := c.mappers[name]; {
	case c.closed:
	case other != nil && other.alive():
		own = other // Somebody was faster.
	default:
		c.mappers[name], spare = own, other
	}
	c.mu.Unlock()
	if spare != nil {
		spare.close()
	}
	return own, nil
}

// Regions yields the whole disk with what base:allocation calls zero marked so.
// Without that context the disk is one region.
func (c *Client) Regions(ctx context.Context) iter.Seq2[replication.Region, error] {
	return func(yield func(replication.Region, error) bool) {
		whole := replication.Extent{Length: c.info.size}
		if whole.Length == 0 {
			return
		}
		if !c.Has(AllocationContext) {
			yield(replication.Region{Extent: whole}, nil)
			return
		}
		join := joiner{yield: yield}
		for s, err := range c.Map(ctx, AllocationContext, whole) {
			if err != nil {
				join.fail(err)
				return
			}
			if !join.add(region(s)) {
				return
			}
		}
		join.end()
	}
}

// region takes only "zero" from base:allocation: holes that are not zero differ
// from data for an allocator, not for a reader.
func region(s Status) replication.Region {
	return replication.Region{Extent: s.Extent, Zero: s.Flags&StateZero != 0}
}

// joiner hands on regions, neighbors of one kind as one.
type joiner struct {
	yield func(replication.Region, error) bool
	run   replication.Region
}

func (j *joiner) add(r replication.Region) bool {
	if j.run.Length > 0 && j.run.Zero == r.Zero && j.run.End() == r.Offset {
		j.run.Length += r.Length
		return true
	}
	before := j.run
	j.run = r
	return before.Length == 0 || j.yield(before, nil)
}

func (j *joiner) end() bool { return j.run.Length == 0 || j.yield(j.run, nil) }

func (j *joiner) fail(err error) { j.yield(replication.Region{}, err) }

// Delta is the part of the export that a dirty bitmap marks, as a source. Its
// regions are the dirty extents, with what base:allocation calls zero marked so.
// The source does not own the client.
type Delta struct {
	client  *Client
	context string
}

var (
	_ replication.Source = (*Client)(nil)
	_ replication.Source = Delta{}
	_ io.ReaderAt        = Delta{}
)

// Delta gives the changes that the context DirtyBitmapPrefix+bitmap records. The
// context must have been asked for in Options.
func (c *Client) Delta(bitmap string) (Delta, error) {
	name := DirtyBitmapPrefix + bitmap
	if !c.Has(name) {
		return Delta{}, fmt.Errorf("%s: %w: %s", c.address, ErrNoContext, name)
	}
	return Delta{c, name}, nil
}

// Size of the disk in bytes.
func (d Delta) Size() int64 { return d.client.Size() }

// ReadAt reads the disk; also where nothing changed.
func (d Delta) ReadAt(p []byte, off int64) (int, error) { return d.client.ReadAt(p, off) }

// Regions yields what the bitmap marks.
func (d Delta) Regions(ctx context.Context) iter.Seq2[replication.Region, error] {
	return func(yield func(replication.Region, error) bool) {
		join := joiner{yield: yield}
		near := allocation{client: d.client}
		for s, err := range d.client.Map(ctx, d.context, replication.Extent{Length: d.Size()}) {
			if err != nil {
				join.fail(err)
				return
			}
			for dirty := s.Extent; s.Flags&StateDirty != 0 && dirty.Length > 0; {
				known, err := near.at(ctx, dirty)
				if err != nil {
					join.fail(err)
					return
				}
				r := region(known)
				r.Extent = r.Intersect(dirty)
				if !join.add(r) {
					return
				}
				dirty.Offset, dirty.Length = r.End(), dirty.Length-r.Length
			}
		}
		join.end()
	}
}

// lookAhead is how much of the disk beyond a dirty extent is asked about with it:
// many small ones then need few questions, and an idle disk is not walked over.
const lookAhead = 64 << 20

// allocation remembers what base:allocation says of the neighborhood.
type allocation struct {
	client *Client
	known  []Status // ascending, without gaps
}

// at gives what is known of the beginning of an extent. The answer holds e.Offset.
func (a *allocation) at(ctx context.Context, e replication.Extent) (Status, error) {
	if !a.client.Has(AllocationContext) {
		return Status{Extent: e}, nil
	}
	for len(a.known) > 0 && a.known[0].End() <= e.Offset {
		a.known = a.known[1:]
	}
	if len(a.known) > 0 && a.known[0].Offset <= e.Offset {
		return a.known[0], nil
	}
	align := int64(a.client.info.minBlock)
	ask := replication.Extent{Offset: e.Offset / align * align}
	ask.Length = min(max((e.End()+align-1)/align*align-ask.Offset, lookAhead), a.client.info.size-ask.Offset)
	list, err := a.client.status(ctx, AllocationContext, ask)
	if err != nil {
		return Status{}, err
	}
	a.known = a.known[:0]
	for _, d := range list {
		s := Status{replication.Extent{Offset: ask.Offset, Length: min(int64(d.length), ask.Length)}, d.flags}
		if ask.Offset, ask.Length = s.End(), ask.Length-s.Length; s.End() > e.Offset {
			a.known = append(a.known, s)
		}
		if ask.Length == 0 {
			break
		}
	}
	if len(a.known) == 0 {
		return Status{}, protocolErrorf("the status of %s ends before %d", ask, e.Offset)
	}
	return a.known[0], nil
}
