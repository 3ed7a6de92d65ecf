package protection

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"riparo/appliance/discovery"
	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/replication/resync"
	"riparo/replication/vault"
	"riparo/store"
)

// Vault is what protection needs of the place where points are kept.
type Vault interface {
	replication.Sink
	resync.Hasher
	Points(id replication.DiskID) ([]replication.RecoveryPoint, error)
	Drop(ctx context.Context, id replication.DiskID, points []replication.PointID) error
	Lock(ctx context.Context, id replication.DiskID, points []replication.PointID, until time.Time) error
	Erase(ctx context.Context, id replication.DiskID) error
	State(id replication.DiskID) (replication.DiskState, error)
	Held() []replication.Disk
	Info(id replication.DiskID) (vault.DiskInfo, error)
	// Changed is what a disk has of later layers than those of a point.
	Changed(ctx context.Context, id replication.DiskID, from, to replication.PointID) ([]replication.Region, error)
	// Found is the damage of a disk that is known, and HealFound mends it.
	Found(ctx context.Context, id replication.DiskID) ([]vault.Damage, error)
	HealFound(ctx context.Context, id replication.DiskID, source replication.Source) (healed, left []vault.Damage, err error)
	ScrubState() vault.ScrubState
	// Pin keeps points, against the one who calls Drop too.
	Pin(ctx context.Context, id replication.DiskID, points ...replication.PointID) error
	Unpin(ctx context.Context, id replication.DiskID, points ...replication.PointID) error
	TrustedTime() time.Time
	Pressure() vault.Pressure
	Makeup(ctx context.Context, id replication.DiskID, at replication.PointID) (vault.Makeup, error)
}

// Config is what a Protector is made of.
type Config struct {
	Store *store.Store
	Sites *discovery.Sites
	Vault Vault
	Log   *slog.Logger
	Now   func() time.Time // nil: time.Now
	// RetryUnit is the minute of the retry schedule 1, 2, 4, 8, 10, 30; 0 is a
	// real minute.
	RetryUnit time.Duration
	// Seeds is the folder where images are put that disks are filled from.
	Seeds string
	// KeepBytes is how much a transfer passes before it keeps how far it came; 0 is
	// 256 MiB.
	KeepBytes int64
	// Parallel is how many machines replicate at once, not counting those that have left
	// their places as the rate of their policy makes them wait; 0 is parallelCycles.
	Parallel int
	// Changed is told what changed: "machine/ID", and "kept/ID" of what has no record. It
	// must not block.
	Changed func(what string)
	// Broken is told when the storage under the vault failed for good: nothing more is
	// taken until the vault was opened again. It must not block.
	Broken func()
}

// parallelCycles: two cores keep about this many transfers busy, and more only
// lengthens each machine's frozen instant.
const parallelCycles = 4

// limitedCycles are how many more there may be that the rate of their policies makes wait,
// which may last hours: they cost a few MiB each. Those that only send take next to no
// processor. Those that compare disks read at full speed where they find nothing to send, so
// of them only as many leave their places as there are places.
const limitedCycles = 16

// Protector runs the replication cycles of all protected machines.
type Protector struct {
	store     *store.Store
	machines  *store.Mirror[store.Machine, store.Machine] // for what looks at all of them
	policies  *store.Mirror[store.Policy, store.Policy]
	sites     *discovery.Sites
	sink      Vault
	log       *slog.Logger
	now       func() time.Time
	retryUnit time.Duration
	keepBytes int64
	seeds     string
	changed   func(string)
	broken    func()
	level     vault.Level   // of the room in the vault; used by watch only
	slots     chan struct{} // one per cycle under way that has not left its place
	limited   chan struct{} // one per cycle that has, as its policy's rate makes it wait
	comparing chan struct{} // one per cycle among these that compares, or will

	mu      sync.Mutex // guards workers
	workers map[replication.MachineID]*worker
	meter   meter
	wake    chan struct{}
}

// New makes a Protector; Run makes it work.
func New(c Config) *Protector {
	p := &Protector{store: c.Store, sites: c.Sites, sink: c.Vault, log: c.Log, now: c.Now, retryUnit: c.RetryUnit, keepBytes: c.KeepBytes, seeds: c.Seeds, changed: c.Changed, broken: c.Broken,
		machines: store.NewMirror(c.Store, store.Machines, store.Whole), policies: store.NewMirror(c.Store, store.Policies, store.Whole), workers: map[replication.MachineID]*worker{}, wake: make(chan struct{}, 1)}
	if p.now == nil {
		p.now = time.Now
	}
	if p.keepBytes == 0 {
		p.keepBytes = keepBytes
	}
	if p.retryUnit == 0 {
		p.retryUnit = time.Minute
	}
	if p.changed == nil {
		p.changed = func(string) {}
	}
	if p.broken == nil {
		p.broken = func() {}
	}
	if c.Parallel == 0 {
		c.Parallel = parallelCycles
	}
	p.slots, p.limited, p.comparing = make(chan struct{}, c.Parallel), make(chan struct{}, limitedCycles), make(chan struct{}, c.Parallel)
	return p
}

// reviewEvery is how often machines are looked for that need a worker, and
// figures are sampled, when nothing nudges.
const reviewEvery = time.Second

// Run protects machines until ctx ends. Cycles under way are rolled back.
func (p *Protector) Run(ctx context.Context) error {
	if err := p.forgetErased(); err != nil {
		p.log.Warn("what an erase that was cut off has left was not looked for; the next start does", "error", err)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return p.watch(ctx) })
	group.Go(func() error {
		tick := time.NewTicker(reviewEvery)
		defer tick.Stop()
		for {
			ids, err := p.protected()
			if err != nil {
				return err
			}
			for _, id := range ids {
				w := p.worker(id)
				if w.start() {
					group.Go(func() error { return w.run(ctx) })
				}
			}
			p.forget(ids)
			p.meter.sample(p)
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-tick.C:
			case <-p.wake:
			}
		}
	})
	return group.Wait()
}

// Nudge makes the Protector look at its machines again: one was added or its
// record changed.
func (p *Protector) Nudge(id replication.MachineID) {
	select {
	case p.wake <- struct{}{}:
	default:
	}
	p.worker(id).nudge()
}

// Hold keeps cycles away from a machine until release is called. A cycle under
// way is canceled and rolled back first.
func (p *Protector) Hold(ctx context.Context, id replication.MachineID) (release func(), err error) {
	return p.worker(id).hold(ctx)
}

// Take takes one recovery point of a machine that the caller holds. While the machine is
// paused, the error says that a job waits for that to end: [jobs.Waiting].
func (p *Protector) Take(ctx context.Context, id replication.MachineID, o CycleOptions) (out Outcome, err error) {
	err = p.transferring(ctx, id, func(ctx context.Context) (err error) {
		out, err = p.worker(id).take(ctx, o)
		return err
	})
	return out, err
}

func (p *Protector) worker(id replication.MachineID) *worker {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.workers[id]
	if w == nil {
		w = newWorker(p, id)
		p.workers[id] = w
	}
	return w
}

// forget ends the workers of machines that are protected no more.
func (p *Protector) forget(keep []replication.MachineID) {
	known := make(map[replication.MachineID]bool, len(keep))
	for _, id := range keep {
		known[id] = true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, w := range p.workers {
		if !known[id] && w.retire() {
			delete(p.workers, id)
		}
	}
}

func (p *Protector) protected() ([]replication.MachineID, error) {
	machines, err := p.machines.All()
	if err != nil {
		return nil, fmt.Errorf("read protected machines: %w", err)
	}
	ids := make([]replication.MachineID, 0, len(machines))
	for _, m := range machines {
		ids = append(ids, m.ID)
	}
	return ids, nil
}

// machine reads a machine and its policy.
func (p *Protector) machine(id replication.MachineID) (m store.Machine, policy replication.Policy, err error) {
	err = p.store.View(func(tx *store.Tx) error {
		if m, err = tx.Machines().Get(string(id)); err != nil {
			return fmt.Errorf("machine %s: %w", id, err)
		}
		kept, err := tx.Policies().Get(m.Policy)
		if err != nil {
			return fmt.Errorf("policy %q of machine %s: %w", m.Policy, m.Name, err)
		}
		policy = kept.Policy
		return nil
	})
	return m, policy, err
}

// Change reads a machine, lets change alter it, and keeps it together with the
// events, in one transaction.
func (p *Protector) Change(id replication.MachineID, change func(*store.Machine) error, events ...store.Event) (store.Machine, error) {
	return p.changeAndTell(id, func(m *store.Machine) ([]store.Event, error) { return events, change(m) })
}

// changeAndTell is Change whose events depend on what is changed.
func (p *Protector) changeAndTell(id replication.MachineID, change func(*store.Machine) ([]store.Event, error)) (store.Machine, error) {
	var m store.Machine
	err := p.store.Update(func(tx *store.Tx) (err error) {
		if m, err = tx.Machines().Get(string(id)); err != nil {
			return fmt.Errorf("machine %s: %w", id, err)
		}
		events, err := change(&m)
		if err != nil {
			return err
		}
		for _, e := range events {
			if err := p.putEvent(tx, m, e); err != nil {
				return err
			}
		}
		return tx.Machines().Put(m)
	})
	if err == nil {
		p.changed("machine/" + string(id))
	}
	return m, err
}

// Step moves a machine's state by an event of the lifecycle.
func (p *Protector) Step(id replication.MachineID, e lifecycle.Event) (store.Machine, error) {
	return p.Change(id, func(m *store.Machine) error { return step(m, e, p.now()) })
}

func step(m *store.Machine, e lifecycle.Event, now time.Time) error {
	next, err := lifecycle.Next(m.State, e)
	if err != nil {
		return fmt.Errorf("machine %s: %w", m.Name, err)
	}
	if next != m.State {
		m.State, m.Since = next, now
	}
	return nil
}

func (p *Protector) putEvent(tx *store.Tx, m store.Machine, e store.Event) error {
	e.Time, e.Machine, e.Name = p.now(), string(m.ID), m.Name
	return tx.AddEvent(e)
}
