package recovery

import (
	"context"
	"errors"
	"fmt"
	"time"

	"riparo/appliance/jobs"
	"riparo/hypervisor"
	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/store"
)

// failoverJob brings a machine up at its target. Planned: the source is shut down
// and its last changes are sent first, or the failover does not happen. Unplanned:
// the source is not touched, unless it is asked to do the same and may fail at it.
func (r *Recovery) failoverJob(verb lifecycle.Verb) jobs.Definition {
	title := "Planned failover"
	if verb == lifecycle.UnplannedFailover {
		title = "Unplanned failover"
	}
	untouched := func(w *jobs.Work) bool {
		return verb == lifecycle.UnplannedFailover && w.Param(ParamSyncFirst) != "true"
	}
	return jobs.Definition{
		Kind:   string(verb),
		Title:  title,
		Urgent: true,
		Steps: []jobs.StepDef{
			{Name: "stop replication", Run: r.beginFailover},
			{Name: "shut down the source", Run: r.tolerant(verb, r.shutDownSource), Skip: untouched},
			{Name: "send the last changes", Run: r.tolerant(verb, r.sendLastChanges), Skip: untouched},
			{Name: "choose the recovery point", Run: r.choosePoint},
			{Name: "take ownership", Run: r.takeOwnership},
			{Name: "fence the source", Run: r.tolerant(verb, r.fenceSource), Skip: untouched},
			{Name: "create the replica machine", Run: r.createReplica},
			{Name: "start the replica machine", Run: r.startReplica},
			{Name: "see it boot", Run: r.observeReplica},
			{Name: "wait for commit", Run: r.failedOver, Final: true},
		},
		OnCancel: r.undoFailover,
	}
}

// tolerant makes a step on the source of an unplanned failover never fail: the
// source may be dead, which is why one fails over.
func (r *Recovery) tolerant(verb lifecycle.Verb, step func(context.Context, *jobs.Work) error) func(context.Context, *jobs.Work) error {
	if verb == lifecycle.PlannedFailover {
		return step
	}
	return func(ctx context.Context, w *jobs.Work) error {
		bounded, cancel := context.WithTimeout(ctx, sourceLimit)
		defer cancel()
		if err := step(bounded, w); err != nil {
			if ctx.Err() != nil {
				return err
			}
			w.Evidence("went on without", err.Error())
		}
		return nil
	}
}

func (r *Recovery) beginFailover(ctx context.Context, w *jobs.Work) error {
	if err := r.lastChangesCanBeSent(w); err != nil {
		return err
	}
	release, err := r.replication.Hold(ctx, machineOf(w))
	if err != nil {
		return err
	}
	defer release()
	kind := lifecycle.Planned
	if w.Job().Kind == string(lifecycle.UnplannedFailover) {
		kind = lifecycle.Unplanned
	}
	_, err = r.change(w, func(m *store.Machine) error {
		if m.State == lifecycle.FailingOver {
			return nil
		}
		m.Failover = &store.Failover{Kind: kind, Started: r.now()}
		return step(m, lifecycle.FailoverStarted, r.now())
	})
	return err
}

// lastChangesCanBeSent refuses a planned failover that would find out only with the source
// off that its last changes cannot be read. An unplanned one is not held up by it: whoever
// asks for that wants the replica, with what the vault has.
func (r *Recovery) lastChangesCanBeSent(w *jobs.Work) error {
	m, err := r.machine(w)
	if err != nil || m.State == lifecycle.FailingOver { // it was asked before
		return err
	}
	planned := w.Job().Kind == string(lifecycle.PlannedFailover)
	if !planned && w.Param(ParamSyncFirst) != "true" {
		return nil
	}
	why := r.sites.ReadsStopped(m.Source.Site)
	if why == nil {
		return nil
	}
	if !planned {
		w.Evidence("last changes", "they will not be sent: "+replication.AsProblem(why).Cause)
		return nil
	}
	refused := *replication.AsProblem(why)
	refused.Action = "use an unplanned failover, which starts from a recovery point that there is; or run Riparo on that host"
	return &refused
}

func (r *Recovery) shutDownSource(ctx context.Context, w *jobs.Work) error {
	m, err := r.machine(w)
	if err != nil {
		return err
	}
	if err := r.shutDown(ctx, w, m.Source, "source"); err != nil {
		return err
	}
	// Fenced at once: nobody starts it while its last changes wait to be sent.
	if err := r.fence(ctx, w, m.Source, "failing over to "+m.Target.Site); err != nil {
		return err
	}
	_, err = r.change(w, func(m *store.Machine) error { m.Failover.SourceStopped = true; return nil })
	return err
}

func (r *Recovery) sendLastChanges(ctx context.Context, w *jobs.Work) error {
	m, err := r.machine(w)
	if err != nil {
		return err
	}
	if !m.Failover.SourceStopped {
		return errors.New("the source was not seen stopped, so its latest changes are not a safe last point")
	}
	release, err := r.replication.Hold(ctx, m.ID)
	if err != nil {
		return err
	}
	defer release()
	if err := r.stillStopped(ctx, w, m.Source, "source"); err != nil {
		return err
	}
	point, facts, err := r.replication.TakePoint(ctx, m.ID, w.Progress)
	if err != nil {
		return fmt.Errorf("send the last changes of %s: %w", m.Name, err)
	}
	w.Set("last point", string(point.ID))
	for _, f := range facts {
		w.Evidence(f.Name, f.Value)
	}
	return nil
}

func (r *Recovery) choosePoint(_ context.Context, w *jobs.Work) error {
	m, err := r.machine(w)
	if err != nil {
		return err
	}
	wanted := w.Param(ParamPoint)
	if last := w.Get("last point"); wanted == "" && last != "" {
		wanted = last // the one that was just sent, not merely the newest
	}
	point, err := r.replication.Choose(m, replication.PointID(wanted))
	if err != nil {
		return err
	}
	w.Evidence("recovery point", fmt.Sprintf("%s, %s-consistent", point.ID, point.Consistency))
	_, err = r.change(w, func(m *store.Machine) error {
		m.Failover.Point, m.Failover.PointTime, m.Failover.Consistency = point.ID, point.Time, point.Consistency
		return nil
	})
	return err
}

func (r *Recovery) fenceSource(ctx context.Context, w *jobs.Work) error {
	m, err := r.machine(w)
	if err != nil {
		return err
	}
	return r.fence(ctx, w, m.Source, "failed over to "+m.Target.Site)
}

func (r *Recovery) createReplica(ctx context.Context, w *jobs.Work) error {
	m, err := r.machine(w)
	if err != nil {
		return err
	}
	point, err := r.replication.Choose(m, m.Failover.Point)
	if err != nil {
		return err
	}
	made, err := r.build(ctx, w, m, point, forReplica, m.Network)
	if err != nil {
		return err
	}
	_, err = r.change(w, func(m *store.Machine) error { m.Target.Ref = string(made.Ref); return nil })
	return err
}

func (r *Recovery) startReplica(ctx context.Context, w *jobs.Work) error {
	m, err := r.machine(w)
	if err != nil {
		return err
	}
	target, err := r.sites.Provider(m.Target.Site)
	if err != nil {
		return err
	}
	// Writes are remembered from the first instruction on, so that reverse
	// replication sends only them.
	if err := target.Start(ctx, hypervisor.Ref(m.Target.Ref), hypervisor.StartOptions{TrackSince: m.Failover.Point}); err != nil {
		return fmt.Errorf("start the replica of %s: %w", m.Name, err)
	}
	return nil
}

func (r *Recovery) observeReplica(ctx context.Context, w *jobs.Work) error {
	m, err := r.machine(w)
	if err != nil {
		return err
	}
	return r.observe(ctx, w, m, m.Target.Site, hypervisor.Ref(m.Target.Ref))
}

func (r *Recovery) failedOver(_ context.Context, w *jobs.Work) error {
	return r.move(w, lifecycle.FailingOver, lifecycle.FailedOver, nil)
}

// sourceLimit bounds what an unplanned failover asks of a source that may be dead:
// the grace of its shutdown and some minutes for its last changes.
const sourceLimit = stopGrace + 5*time.Minute

// undoTries is how often the undo of a planned failover tries to start the source again
// before it goes on without: a site that is lost must not keep the machine from being
// failed over.
const undoTries = 3

// undoFailover removes the replica and lets the source go on where it was: it runs
// again if the failover had stopped it, and replication goes on. The replica stays as
// long as there is hope that the source starts.
func (r *Recovery) undoFailover(ctx context.Context, w *jobs.Work) error {
	m, err := r.machine(w)
	if err != nil {
		return err
	}
	if m.State != lifecycle.FailingOver {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, sourceLimit)
	defer cancel()
	hopeless := w.Job().Attempt >= undoTries
	if w.Get("source"+stopped) != "" {
		_, err := r.power(ctx, m.Source)
		lost := err != nil && !errors.Is(err, hypervisor.ErrNoMachine)
		if hopeless = hopeless || lost && m.Failover.Kind == lifecycle.Unplanned; lost && !hopeless {
			return err
		}
	}
	if err := r.dismantle(ctx, m, hypervisor.Ref(m.Target.Ref), forReplica); err != nil {
		return err
	}
	// Production first, the label last: whatever fails is tried again.
	var told []store.Event
	if err := r.turnOn(ctx, w, m.Source, "source"); err != nil {
		if !hopeless {
			return err
		}
		w.Evidence("source", "not started again: "+err.Error())
		told = append(told, store.Event{Severity: store.SeverityCritical, Code: "source.down", Text: fmt.Sprintf("the failover was undone, and %s could not be started again at %s: %v", m.Name, m.Source.Site, err),
			Action: "start it there, or fail over again"})
	}
	err = r.move(w, lifecycle.FailingOver, lifecycle.FailoverAborted, func(m *store.Machine) {
		m.Target.Ref, m.Failover = "", nil
	}, told...)
	r.replication.Nudge(m.ID)
	return err
}
