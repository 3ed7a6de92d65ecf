package sim

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"

	"riparo/replication"
)

// conn is one connection from a process server to the target. It is a Sink, and the
// Hasher of a comparison. Its methods are called by goroutines; what they ask for
// waits until the world collects it.
type conn struct {
	w    *world
	host *host

	session uint64
	life    uint64 // of the target; the world sets it with the answer to hello
	calls   map[uint64]*call
	last    uint64
	failed  outcome // the first answer that was no success; the connection is over

	mu     sync.Mutex // guards below
	asked  []*call
	closed bool
}

// call is a frame that waits for its answer.
type call struct {
	frame  frame
	answer chan frame
}

var errConnection = errors.New("the connection is gone")

// do sends a frame and waits for the answer.
func (c *conn) do(ctx context.Context, f frame) (frame, error) {
	k := &call{frame: f, answer: make(chan frame, 1)}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return frame{}, errConnection
	}
	c.asked = append(c.asked, k)
	c.mu.Unlock()
	select {
	case a := <-k.answer:
		switch a.outcome {
		case done:
			return a, nil
		case stale:
			return a, replication.ErrStaleEpoch
		}
		return a, errConnection
	case <-ctx.Done():
		return frame{}, ctx.Err()
	}
}

func (c *conn) Prepare(ctx context.Context, d replication.Disk, epoch replication.Epoch) (replication.DiskState, error) {
	a, err := c.do(ctx, frame{verb: prepare, disk: d, epoch: epoch})
	return a.state, err
}

func (c *conn) Write(ctx context.Context, b replication.Batch) error {
	_, err := c.do(ctx, frame{verb: write, batch: b})
	return err
}

func (c *conn) Mark(ctx context.Context, m replication.Mark) error {
	_, err := c.do(ctx, frame{verb: mark, mark: m})
	return err
}

func (c *conn) Hashes(ctx context.Context, id replication.DiskID, e replication.Extent, chunk int64) ([]replication.Sum, error) {
	a, err := c.do(ctx, frame{verb: hashes, disk: replication.Disk{ID: id}, ask: e, chunk: chunk})
	return a.sums, err
}

var _ replication.Sink = (*conn)(nil)

// rank orders what several goroutines asked for between two looks of the world.
func (f *frame) rank() (int, int64, int64) {
	switch f.verb {
	case write:
		return int(f.verb), int64(f.batch.Sequence), 0
	case hashes:
		return int(f.verb), f.ask.Offset, f.chunk
	}
	return int(f.verb), 0, 0
}

// collect sends what was asked for, and reports whether there was anything.
func (c *conn) collect() bool {
	c.mu.Lock()
	asked := c.asked
	c.asked = nil
	over := c.closed
	c.mu.Unlock()
	if over {
		return c.giveUp(asked)
	}
	slices.SortFunc(asked, func(a, b *call) int {
		av, a1, a2 := a.frame.rank()
		bv, b1, b2 := b.frame.rank()
		return cmp.Or(cmp.Compare(av, bv), cmp.Compare(a1, b1), cmp.Compare(a2, b2))
	})
	for _, k := range asked {
		c.last++
		k.frame.call, k.frame.host, k.frame.session = c.last, byte(c.host.number), c.session
		c.calls[k.frame.call] = k
		c.transmit(k)
	}
	return len(asked) > 0
}

// giveUp tells whoever still waits on a connection that is over, and reports whether
// there was anybody. A transfer whose source broke has writes under way; those that
// waited for ever would keep it from coming to the read that failed.
func (c *conn) giveUp(asked []*call) bool {
	waiting := len(asked) + len(c.calls)
	for _, k := range asked {
		k.answer <- frame{outcome: reset}
	}
	for _, k := range c.calls {
		k.answer <- frame{outcome: reset}
	}
	clear(c.calls)
	return waiting > 0
}

// sendAgain: an answer takes about 10 ms.
const sendAgain = 60

// transmit sends a call now and again until it is answered.
func (c *conn) transmit(k *call) {
	if c.over() || c.calls[k.frame.call] != k {
		return
	}
	k.frame.life = c.life
	c.w.note("host %d sends %d of session %d: verb %d", c.host.number, k.frame.call, c.session, k.frame.verb)
	c.w.send(0, k.frame.bytes(), c.w.target.receive)
	c.w.after(sendAgain+c.w.random.Int64N(20), "an answer is late", func() { c.transmit(k) })
}

// receive takes an answer.
func (c *conn) receive(f *frame) {
	k := c.calls[f.call]
	if c.over() || k == nil {
		return
	}
	delete(c.calls, f.call)
	c.w.note("host %d is answered %d of session %d: %d", c.host.number, f.call, c.session, f.outcome)
	if k.frame.verb == hello {
		c.life = f.life
	}
	if f.outcome != done {
		// Whatever its goroutines still ask for while they find out is not heard.
		c.failed = f.outcome
		c.shut()
		c.giveUp(nil)
	}
	k.answer <- *f
}

func (c *conn) over() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// shut ends the connection.
func (c *conn) shut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
}
