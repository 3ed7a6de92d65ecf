package recovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
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

	unserved []string // exports that Republish could not serve; KeepPublished has them then
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
		_, err := r.publisher.Publish(ctx, e.Name, e.Disk, e.Point)
		if err == nil {
			continue
		}
		// One damaged point must not keep the appliance from starting.
		r.log.Error("a recovery point is not served again", "export", e.Name, "error", err)
		r.unserved = append(r.unserved, e.Name)
		if err := r.store.Update(func(tx *store.Tx) error {
			return r.told(tx, e, store.Event{Severity: store.SeverityCritical, Code: "export.unserved", Args: map[string]string{"cause": err.Error()},
				Text:   fmt.Sprintf("a replica reads a recovery point of disk %s that cannot be served: %v", e.Disk, err),
				Action: "nothing: it is tried again by itself, and the replica waits for half an hour; after that, turn it off and on again once it is served"})
		}); err != nil {
			return fmt.Errorf("tell that a recovery point is not served: %w", err)
		}
	}
	return nil
}

// republishEvery is how often that is tried again which could not be served at the start.
const republishEvery = 15 * time.Second

// KeepPublished tries again what Republish could not serve, until all of it is, or ctx ends.
func (r *Recovery) KeepPublished(ctx context.Context) error {
	tick := time.NewTicker(republishEvery)
	defer tick.Stop()
	for len(r.unserved) > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		r.unserved = slices.DeleteFunc(r.unserved, func(name string) bool { return r.servedAgain(ctx, name) })
	}
	return nil
}

// servedAgain serves an export unless it was withdrawn meanwhile.
func (r *Recovery) servedAgain(ctx context.Context, name string) (done bool) {
	var e store.Export
	err := r.store.View(func(tx *store.Tx) (err error) {
		e, err = tx.Exports().Get(name)
		return err
	})
	if err == nil {
		_, err = r.publisher.Publish(ctx, e.Name, e.Disk, e.Point)
	}
	if err == nil {
		err = r.store.Update(func(tx *store.Tx) error {
			if _, err := tx.Exports().Get(name); err != nil {
				return err
			}
			return r.told(tx, e, store.Event{Severity: store.SeverityInfo, Code: "export.served",
				Text: fmt.Sprintf("the recovery point of disk %s that a replica reads is served again", e.Disk)})
		})
		if errors.Is(err, store.ErrNotFound) { // withdrawn since
			return r.publisher.Withdraw(name) == nil
		}
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		r.log.Debug("a recovery point is not served again yet", "export", name, "error", err)
		return false
	}
	return true
}

// told keeps an event of an export with its machine.
func (r *Recovery) told(tx *store.Tx, e store.Export, event store.Event) error {
	event.Machine, _, _ = strings.Cut(e.Owner, "/")
	if m, err := tx.Machines().Get(event.Machine); err == nil {
		event.Name = m.Name
	}
	if event.Args == nil {
		event.Args = map[string]string{}
	}
	event.Args["disk"] = string(e.Disk)
	return tx.AddEvent(event)
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
