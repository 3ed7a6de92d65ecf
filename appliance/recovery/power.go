package recovery

import (
	"context"
	"errors"
	"fmt"
	"time"

	"riparo/appliance/jobs"
	"riparo/hypervisor"
	"riparo/replication"
	"riparo/store"
)

const (
	// stopGrace is how long a guest may take to shut down before its plug is pulled.
	// Guests flush and stop services in well under two minutes, or not at all.
	stopGrace = 2 * time.Minute
	// downLimit is how long a guest that was asked to shut down, and whose plug is not
	// pulled after all, is watched for its end.
	downLimit = 2 * stopGrace
)

// A job that shuts a machine down keeps two facts for its undo, each under a name that
// begins with the role of the machine: whether it ran, and whether its end was seen.
const (
	ran     = " ran"
	stopped = " stopped"
	asked   = "asked"
)

// shutDown shuts a machine down for a job.
func (r *Recovery) shutDown(ctx context.Context, w *jobs.Work, place store.Place, role string) error {
	provider, err := r.sites.Provider(place.Site)
	if err != nil {
		return err
	}
	if w.Get(role+ran) == "" {
		power, err := r.power(ctx, place)
		if err != nil {
			return err
		}
		w.Set(role+ran, fmt.Sprint(power != hypervisor.Stopped))
	}
	// Kept before the stop: the undo must know, wherever this is cut off.
	before := w.Get(role + stopped)
	w.Set(role+stopped, asked)
	if err := w.Save(ctx); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil { // nobody was asked: the undo need not wait for an end
		w.Set(role+stopped, before)
		return err
	}
	outcome, err := provider.Stop(ctx, hypervisor.Ref(place.Ref), stopGrace)
	if err != nil {
		return fmt.Errorf("shut down %s at site %s: %w", place.Ref, place.Site, err)
	}
	w.Evidence(role, string(outcome))
	w.Set(role+stopped, "true")
	return w.Save(ctx)
}

// turnOn takes back what shutDown did: a machine that ran before runs again. One that is
// gone needs nothing.
func (r *Recovery) turnOn(ctx context.Context, w *jobs.Work, place store.Place, role string) error {
	var err error
	switch {
	case w.Get(role+stopped) == "":
		return nil
	case w.Get(role+ran) == "false":
		err = r.unfence(ctx, place)
	default:
		if w.Get(role+stopped) == asked {
			err = r.seeDown(ctx, place)
		}
		if err == nil {
			// Without a point to track since: its disks may be younger than the newest one.
			// What its tracking remembers is still good, and otherwise the next cycle
			// compares.
			err = r.startAgain(ctx, place, "")
		}
	}
	if errors.Is(err, hypervisor.ErrNoMachine) {
		w.Evidence(role, "the machine is gone")
		return nil
	}
	return err
}

// seeDown waits until a guest that was asked to shut down has done so: one that is on its
// way runs still, and would end after it was told to start. Whoever does not heed it
// within downLimit runs on.
func (r *Recovery) seeDown(ctx context.Context, place store.Place) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for limit := r.now().Add(downLimit); r.now().Before(limit); {
		power, err := r.power(ctx, place)
		if err != nil || power == hypervisor.Stopped {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
	return nil
}

func (r *Recovery) power(ctx context.Context, place store.Place) (hypervisor.Power, error) {
	provider, err := r.sites.Provider(place.Site)
	if err != nil {
		return "", err
	}
	seen, err := provider.Machine(ctx, hypervisor.Ref(place.Ref))
	if err != nil {
		return "", fmt.Errorf("look at %s at site %s: %w", place.Ref, place.Site, err)
	}
	return seen.Power, nil
}

// stillStopped looks once more at a machine whose last changes are about to be
// taken: somebody may have started it since it was shut down, while the job waited.
func (r *Recovery) stillStopped(ctx context.Context, w *jobs.Work, place store.Place, role string) error {
	power, err := r.power(ctx, place)
	if err != nil || power == hypervisor.Stopped {
		return err
	}
	return r.shutDown(ctx, w, place, role)
}

// startAgain lets a machine start and starts it.
func (r *Recovery) startAgain(ctx context.Context, place store.Place, since replication.PointID) error {
	if err := r.unfence(ctx, place); err != nil && !errors.Is(err, hypervisor.ErrNoMachine) {
		return fmt.Errorf("let %s start again: %w", place.Ref, err)
	}
	provider, err := r.sites.Provider(place.Site)
	if err != nil {
		return err
	}
	if err := provider.Start(ctx, hypervisor.Ref(place.Ref), hypervisor.StartOptions{TrackSince: since}); err != nil {
		return fmt.Errorf("start %s at site %s again: %w", place.Ref, place.Site, err)
	}
	return nil
}
