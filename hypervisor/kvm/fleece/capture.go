package fleece

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"riparo/hypervisor"
	"riparo/replication"
)

// Capture is an open instant of a machine. It is a [hypervisor.Capture].
type Capture struct {
	machine *Machine
	point   replication.PointID
	instant hypervisor.Instant
	disks   []*CapturedDisk
	// stood says that the guest stood after an I/O error before the capture began, which
	// is then not its doing.
	stood bool

	guard      sync.WaitGroup // the goroutine that watches the scratch folder
	stopGuard  context.CancelFunc
	gaveUp     atomic.Pointer[gaveUp]
	superseded atomic.Bool

	mu    sync.Mutex // held while the capture is ended; guards ended
	ended outcome
}

// gaveUp is why the guard gave a capture up.
type gaveUp struct{ err error }

type outcome int

const (
	open outcome = iota
	committed
	rolledBack
)

// Instant is what really happened.
func (c *Capture) Instant() hypervisor.Instant { return c.instant }

// Disks are the captured disks, in the order in which they were asked for.
func (c *Capture) Disks() []hypervisor.CapturedDisk {
	disks := make([]hypervisor.CapturedDisk, len(c.disks))
	for i, d := range c.disks {
		disks[i] = d
	}
	return disks
}

// Supersede says that a newer capture of the machine is about to begin: from now on
// this one touches nothing any more.
func (c *Capture) Supersede() {
	c.superseded.Store(true)
	c.release()
}

// Commit closes the view and drops the bitmaps of the last point. When QEMU has
// ended meanwhile there is nothing left to do: the next capture finds out what its
// bitmaps are worth.
func (c *Capture) Commit(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.ended == committed:
		return nil
	case c.ended == rolledBack:
		return fmt.Errorf("%s: commit point %s: it was rolled back", c.machine.Name, c.point)
	case c.superseded.Load():
		return c.machine.supersededProblem(c.point)
	}
	c.release()
	err := c.finish(ctx, func(d *CapturedDisk) []args {
		if d.plan.mode != hypervisor.Delta {
			return nil
		}
		return []args{action("block-dirty-bitmap-remove", args{"node": d.node, "name": d.plan.base})}
	})
	if err != nil {
		return fmt.Errorf("commit point %s: %w", c.point, err)
	}
	c.ended = committed
	return nil
}

// Rollback closes the view and puts what changed since the instant back into the
// bitmaps of the last point. After Commit it does nothing.
func (c *Capture) Rollback(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended != open || c.superseded.Load() {
		return nil
	}
	c.release()
	if err := c.finish(ctx, (*CapturedDisk).takeBack); err != nil {
		return fmt.Errorf("roll back point %s: %w", c.point, err)
	}
	c.ended = rolledBack
	return nil
}

// finish removes the view and runs the actions for every disk whose new bitmap is
// still there, as one transaction.
func (c *Capture) finish(ctx context.Context, actionsFor func(*CapturedDisk) []args) error {
	monitor, disconnect, err := c.machine.Connect(ctx)
	if errors.Is(err, hypervisor.ErrNoMachine) || errors.Is(err, ErrEnded) {
		return nil
	}
	if err != nil {
		return err
	}
	defer disconnect()
	if err := removeViews(ctx, monitor, c.machine, false); err != nil {
		return err
	}
	g, err := readGraph(ctx, monitor)
	if err != nil {
		return err
	}
	var actions []args
	for _, d := range c.disks {
		if b, ok := g.nodes[d.node].bitmap(Bitmap(c.point, d.key)); !ok || b.Inconsistent {
			continue // QEMU was restarted since the instant
		}
		if d.plan.mode == hypervisor.Delta {
			if _, ok := g.nodes[d.node].bitmap(d.plan.base); !ok {
				continue // it was done already, and the answer was lost
			}
		}
		actions = append(actions, actionsFor(d)...)
	}
	return transaction(ctx, monitor, actions)
}

// release ends everything of the capture on this side.
func (c *Capture) release() {
	if c.stopGuard != nil {
		c.stopGuard()
		c.guard.Wait()
	}
	for _, d := range c.disks {
		d.close()
	}
}

// guardInterval is how often the scratch folder is looked at: at 1 GiB/s of
// overwriting a tenth of that may be taken between two looks.
const guardInterval = 100 * time.Millisecond

// guardPatience is how long the guard goes on while it cannot look: over SSH one look may
// fail because too many sessions are open.
var guardPatience = 5 * time.Second

// startGuard watches the scratch folder until the capture ends. It gives the
// capture up before production runs out of room: QEMU itself does so only when a
// write failed, and then the file system is full for everybody.
func (c *Capture) startGuard(ctx context.Context) {
	ctx, c.stopGuard = context.WithCancel(context.WithoutCancel(ctx))
	if c.machine.Reserve <= 0 && c.machine.Limit <= 0 {
		return
	}
	c.guard.Go(func() {
		tick := time.NewTicker(guardInterval)
		defer tick.Stop()
		seen := time.Now()
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			err := c.machine.roomFor(ctx, 0)
			if err == nil {
				seen = time.Now()
				c.gaveUp.Store(nil) // it could not even do that
				continue
			}
			if ctx.Err() != nil {
				return
			}
			if _, full := errors.AsType[fullError](err); !full && time.Since(seen) < guardPatience {
				continue
			}
			c.gaveUp.Store(&gaveUp{err})
			if err := c.giveUp(ctx); err == nil || ctx.Err() != nil {
				return
			}
		}
	})
}

// giveUp takes the filters away. The bitmaps stay for Rollback.
func (c *Capture) giveUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, endLimit)
	defer cancel()
	monitor, disconnect, err := c.machine.Connect(ctx)
	if err != nil {
		return err
	}
	defer disconnect()
	return removeViews(ctx, monitor, c.machine, false)
}

// roomFor reports why the scratch folder cannot take more bytes.
func (m *Machine) roomFor(ctx context.Context, more int64) error {
	if m.Reserve <= 0 && m.Limit <= 0 {
		return nil
	}
	used, free, err := m.Scratch.Usage(ctx, m.scratchFiles())
	switch {
	case err != nil:
		return err
	case m.Reserve > 0 && free-more < m.Reserve:
		return fullError(fmt.Sprintf("%d MiB are free and %d MiB must stay free", free>>20, m.Reserve>>20))
	case m.Limit > 0 && used+more > m.Limit:
		return fullError(fmt.Sprintf("%d MiB of the allowed %d MiB are in use", used>>20, m.Limit>>20))
	}
	return nil
}

// fullError says that the scratch folder was looked at and is too full.
type fullError string

func (e fullError) Error() string { return string(e) }
