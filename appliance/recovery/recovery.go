package recovery

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"riparo/appliance/discovery"
	"riparo/appliance/jobs"
	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/replication/vault"
	"riparo/store"
)

// Replication is what recovery needs of the replication of a machine.
type Replication interface {
	// Hold keeps replication cycles away from the machine until release.
	Hold(ctx context.Context, id replication.MachineID) (release func(), err error)
	// TakePoint takes one point of a machine that is held.
	TakePoint(ctx context.Context, id replication.MachineID, progress func(done, total int64)) (replication.RecoveryPoint, []store.Fact, error)
	// Choose finds a recovery point; "" is the newest, "app" the newest
	// application-consistent one.
	Choose(m store.Machine, wanted replication.PointID) (replication.RecoveryPoint, error)
	// Change alters the record of a machine.
	Change(id replication.MachineID, change func(*store.Machine) error, events ...store.Event) (store.Machine, error)
	// Nudge tells that the machine's record changed.
	Nudge(id replication.MachineID)
}

// Publisher serves recovery points as NBD disks.
type Publisher interface {
	Publish(ctx context.Context, name string, disk replication.DiskID, point replication.PointID) (uri string, err error)
	Withdraw(name string) error
}

// Config is what a Recovery is made of.
type Config struct {
	Store       *store.Store
	Sites       *discovery.Sites
	Replication Replication
	Vault       *vault.Vault
	Publisher   Publisher
	Log         *slog.Logger
	Now         func() time.Time // nil: time.Now
}

// Recovery does the jobs of failover and failback.
type Recovery struct {
	store       *store.Store
	sites       *discovery.Sites
	replication Replication
	vault       *vault.Vault
	publisher   Publisher
	log         *slog.Logger
	now         func() time.Time
}

// New makes a Recovery.
func New(c Config) *Recovery {
	r := &Recovery{store: c.Store, sites: c.Sites, replication: c.Replication, vault: c.Vault, publisher: c.Publisher, log: c.Log, now: c.Now}
	if r.now == nil {
		r.now = time.Now
	}
	return r
}

// Jobs are the definitions of the jobs that this package does.
func (r *Recovery) Jobs() []jobs.Definition {
	return []jobs.Definition{
		r.testJob(), r.cleanupJob(),
		r.failoverJob(lifecycle.PlannedFailover), r.failoverJob(lifecycle.UnplannedFailover),
		r.changePointJob(), r.commitJob(), r.reverseJob(), r.failbackJob(),
	}
}

// Parameters of the jobs, as kept in store.Job.Params.
const (
	ParamPoint     = "point"
	ParamNetwork   = "network"
	ParamSyncFirst = "sync first"
	ParamNotes     = "notes"
)

// Republish serves again every point that a machine may be reading from. It is
// called once, before the target listens.
func (r *Recovery) Republish(ctx context.Context) error {
	var exports []store.Export
	err := r.store.View(func(tx *store.Tx) error {
		for e, err := range tx.Exports().All() {
			if err != nil {
				return err
			}
			exports = append(exports, e)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read published points: %w", err)
	}
	for _, e := range exports {
		if _, err := r.publisher.Publish(ctx, e.Name, e.Disk, e.Point); err != nil {
			// One damaged point must not keep the appliance from starting.
			r.log.Error("a recovery point is not served again", "export", e.Name, "error", err)
		}
	}
	return nil
}

func machineOf(w *jobs.Work) replication.MachineID { return replication.MachineID(w.Job().Machine) }

// machine reads the record of the job's machine.
func (r *Recovery) machine(w *jobs.Work) (store.Machine, error) {
	var m store.Machine
	err := r.store.View(func(tx *store.Tx) (err error) {
		m, err = tx.Machines().Get(w.Job().Machine)
		return err
	})
	if err != nil {
		return m, fmt.Errorf("machine %s: %w", w.Job().Machine, err)
	}
	return m, nil
}

// change alters the record of the job's machine.
func (r *Recovery) change(w *jobs.Work, change func(*store.Machine) error, events ...store.Event) (store.Machine, error) {
	return r.replication.Change(machineOf(w), change, events...)
}

// move changes the machine's state by an event if it is in the state from; when a
// run of the step before a crash has done so already, it does nothing.
func (r *Recovery) move(w *jobs.Work, from lifecycle.State, e lifecycle.Event, also func(*store.Machine), events ...store.Event) error {
	if m, err := r.machine(w); err != nil || m.State != from {
		return err // and what happened was told then
	}
	_, err := r.change(w, func(m *store.Machine) error {
		if m.State != from {
			return nil
		}
		if err := step(m, e, r.now()); err != nil {
			return err
		}
		if also != nil {
			also(m)
		}
		return nil
	}, events...)
	return err
}

func step(m *store.Machine, e lifecycle.Event, now time.Time) error {
	next, err := lifecycle.Next(m.State, e)
	if err != nil {
		return fmt.Errorf("machine %s: %w", m.Name, err)
	}
	m.State, m.Since = next, now
	return nil
}
