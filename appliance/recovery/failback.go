package recovery

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"riparo/appliance/jobs"
	"riparo/hypervisor"
	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/store"
)

// failbackJob returns a machine to its source. The replica works until its last
// changes are taken; those are a delta.
func (r *Recovery) failbackJob() jobs.Definition {
	return jobs.Definition{
		Kind:   string(lifecycle.Failback),
		Title:  "Failback",
		Urgent: true,
		Steps: []jobs.StepDef{
			{Name: "prepare the original machine", Run: r.prepareOriginal},
			{Name: "bring the original disks up to date", Run: r.restoreOriginal},
			{Name: "shut down the replica", Run: r.shutDownReplica},
			{Name: "send the last changes", Run: r.sendLastReplicaChanges},
			{Name: "apply the last changes", Run: r.applyLastChanges},
			{Name: "take ownership", Run: r.takeOwnership},
			{Name: "start the original machine", Run: r.startOriginal},
			{Name: "see it boot", Run: r.observeOriginal},
			{Name: "protect forward again", Run: r.failedBack, Final: true},
			{Name: "remove the replica machine", Run: r.removeOldReplica},
		},
		OnCancel: r.undoFailback,
	}
}

// prepareOriginal sees the original stopped and fenced, and makes it again when it
// is gone.
func (r *Recovery) prepareOriginal(ctx context.Context, w *jobs.Work) error {
	m, err := r.machine(w)
	if err != nil {
		return err
	}
	if err := r.canComeBack(ctx, m); err != nil {
		return err
	}
	// A cycle under way is canceled: the replica is going to be stopped.
	release, err := r.replication.Hold(ctx, m.ID)
	if err != nil {
		return err
	}
	err = r.move(w, lifecycle.ProtectedReverse, lifecycle.FailbackStarted, nil)
	release()
	if err != nil {
		return err
	}
	source, err := r.sites.Provider(m.Source.Site)
	if err != nil {
		return err
	}
	_, err = source.Machine(ctx, hypervisor.Ref(m.Source.Ref))
	if errors.Is(err, hypervisor.ErrNoMachine) {
		return r.makeOriginal(ctx, w, m, source)
	}
	if err != nil {
		return fmt.Errorf("look at the original of %s: %w", m.Name, err)
	}
	return r.stopAndFence(ctx, w, m.Source, "failback from "+m.Target.Site+" is under way")
}

// canComeBack refuses a failback that would find out later, the replica off perhaps, that
// its site or that of the original cannot open the disks of a stopped machine. Of a replica
// that is gone nothing is read.
func (r *Recovery) canComeBack(ctx context.Context, m store.Machine) error {
	if m.State != lifecycle.ProtectedReverse { // it was asked before
		return nil
	}
	if err := r.sites.ReadsStopped(m.Source.Site); err != nil {
		return err
	}
	err := r.sites.ReadsStopped(m.Target.Site)
	if err != nil {
		if _, seen := r.power(ctx, m.Target); errors.Is(seen, hypervisor.ErrNoMachine) {
			return nil
		}
	}
	return err
}

func (r *Recovery) makeOriginal(ctx context.Context, w *jobs.Work, m store.Machine, source hypervisor.Provider) error {
	spec := hypervisor.Spec{Name: m.Name, Owner: string(m.ID) + "/original", CPUs: m.Shape.CPUs, MemoryMiB: m.Shape.MemoryMiB,
		Hardware: m.Shape.Hardware, NICs: m.Shape.NICs}
	if len(m.Shape.NICs) > 0 {
		spec.Network = m.Shape.NICs[0].Network
	}
	for _, d := range m.Disks {
		if !d.Excluded {
			spec.Disks = append(spec.Disks, hypervisor.DiskSpec{Key: d.Key, Size: d.Size, Boot: d.Boot})
		}
	}
	made, err := source.Create(ctx, spec)
	if err != nil {
		return fmt.Errorf("create %s at site %s: %w", spec.Name, m.Source.Site, err)
	}
	w.Evidence("made again", string(made.Ref))
	m, err = r.change(w, func(m *store.Machine) error { m.Source.Ref = string(made.Ref); return nil })
	if err != nil {
		return err
	}
	return r.fence(ctx, w, m.Source, "failback from "+m.Target.Site+" is under way")
}

// restoreOriginal makes the original disks equal to the newest point, by
// comparing. The replica works on meanwhile.
func (r *Recovery) restoreOriginal(ctx context.Context, w *jobs.Work) error {
	m, err := r.machine(w)
	if err != nil {
		return err
	}
	point, err := r.replication.Choose(m, "")
	if err != nil {
		return err
	}
	if err := r.restoreDisks(ctx, w, m, point, ""); err != nil {
		return err
	}
	w.Set("restored point", string(point.ID))
	return nil
}

// replicaGone is kept by a failback whose replica does not exist any more.
const replicaGone = "replica gone"

func (r *Recovery) shutDownReplica(ctx context.Context, w *jobs.Work) error {
	m, err := r.machine(w)
	if err != nil {
		return err
	}
	err = r.shutDown(ctx, w, m.Target, "replica")
	if errors.Is(err, hypervisor.ErrNoMachine) {
		// What it wrote since the newest point is lost with it, and cannot be waited for.
		w.Evidence("replica", "the machine is gone: its newest recovery point is what comes back")
		w.Set(replicaGone, "true")
		_, err := r.change(w, func(*store.Machine) error { return nil }, store.Event{Severity: store.SeverityWarning, Code: "replica.gone",
			Text: fmt.Sprintf("the replica of %s is gone: its newest recovery point is brought back, and what it wrote since is lost", m.Name)})
		return err
	}
	if err != nil {
		return err
	}
	return r.fence(ctx, w, m.Target, "failback to "+m.Source.Site+" is under way")
}

func (r *Recovery) sendLastReplicaChanges(ctx context.Context, w *jobs.Work) error {
	id := machineOf(w)
	release, err := r.replication.Hold(ctx, id)
	if err != nil {
		return err
	}
	defer release()
	m, err := r.machine(w)
	if err != nil {
		return err
	}
	if w.Get(replicaGone) != "" {
		w.Set("last point", w.Get("restored point"))
		return nil
	}
	if err := r.stillStopped(ctx, w, m.Target, "replica"); err != nil {
		return err
	}
	point, facts, err := r.replication.TakePoint(ctx, id, w.Progress)
	if err != nil {
		return fmt.Errorf("send the last changes of the replica: %w", err)
	}
	for _, f := range facts {
		w.Evidence(f.Name, f.Value)
	}
	w.Set("last point", string(point.ID))
	return nil
}

// applyLastChanges brings the original from the point that it was restored to to the last
// one. An original that may have been written to since is compared as a whole.
func (r *Recovery) applyLastChanges(ctx context.Context, w *jobs.Work) error {
	m, err := r.machine(w)
	if err != nil {
		return err
	}
	point, err := r.replication.Choose(m, replication.PointID(w.Get("last point")))
	if err != nil {
		return err
	}
	if err := r.stopAndFence(ctx, w, m.Source, "failback from "+m.Target.Site+" is under way"); err != nil {
		return err
	}
	since := replication.PointID(w.Get("restored point"))
	same, err := r.untouched(ctx, w, m)
	if err != nil {
		return err
	}
	if !same {
		since = ""
	}
	if !same && w.Get(originalStamp) != "" {
		w.Evidence("original", "it ran or was written to meanwhile, and is compared as a whole")
		if _, err := r.change(w, func(*store.Machine) error { return nil }, store.Event{Severity: store.SeverityWarning, Code: "original.ran",
			Text:   fmt.Sprintf("the original of %s at %s ran or was written to while the failback was under way; its disks are compared once more, and what was written there is lost", m.Name, m.Source.Site),
			Action: "see who started it there"}); err != nil {
			return err
		}
	}
	return r.restoreDisks(ctx, w, m, point, since)
}

func (r *Recovery) startOriginal(ctx context.Context, w *jobs.Work) error {
	m, err := r.machine(w)
	if err != nil {
		return err
	}
	if err := r.fence(ctx, w, m.Target, "failed back to "+m.Source.Site); err != nil {
		return err
	}
	// The original's disks are the last point: forward replication goes on from it. If
	// they may have been written to since, it compares.
	since := replication.PointID(w.Get("last point"))
	same, err := r.untouched(ctx, w, m)
	if err != nil {
		return err
	}
	if !same {
		since = ""
	}
	w.Set("original started", "true")
	if err := w.Save(ctx); err != nil {
		return err
	}
	return r.startAgain(ctx, m.Source, since)
}

func (r *Recovery) observeOriginal(ctx context.Context, w *jobs.Work) error {
	m, err := r.machine(w)
	if err != nil {
		return err
	}
	return r.observe(ctx, w, m, m.Source.Site, hypervisor.Ref(m.Source.Ref))
}

func (r *Recovery) failedBack(ctx context.Context, w *jobs.Work) error {
	m, err := r.machine(w)
	if err != nil {
		return err
	}
	w.Set("old replica", m.Target.Ref)
	if err := w.Save(ctx); err != nil {
		return err
	}
	if err := r.move(w, lifecycle.FailingBack, lifecycle.FailbackDone, func(m *store.Machine) {
		m.Direction, m.Failover = lifecycle.Forward, nil
	}); err != nil {
		return err
	}
	r.replication.Nudge(machineOf(w))
	return nil
}

func (r *Recovery) removeOldReplica(ctx context.Context, w *jobs.Work) error {
	m, err := r.machine(w)
	if err != nil {
		return err
	}
	if m.Target.Ref == "" || m.Target.Ref != w.Get("old replica") || m.Failover != nil {
		return nil // it is gone, or what stands there now belongs to a later failover
	}
	if err := r.dismantle(ctx, m, hypervisor.Ref(m.Target.Ref), forReplica); err != nil {
		return err
	}
	w.Evidence("removed", m.Target.Ref)
	_, err = r.change(w, func(m *store.Machine) error { m.Target.Ref = ""; return nil })
	return err
}

// undoFailback lets the replica work on: the original is stopped and fenced again,
// and the replica starts if it had been shut down. The order is what keeps two
// copies from running: whatever fails here ends the undo, and it is tried again
// from the beginning. A replica that cannot be started, as when its site is lost, does not
// keep the undo from its end, unless the original runs: the only copy that does is not
// stopped. When that replica is gone there is nothing to go back to, and the failback is
// done.
func (r *Recovery) undoFailback(ctx context.Context, w *jobs.Work) error {
	m, err := r.machine(w)
	if err != nil {
		return err
	}
	if m.State != lifecycle.FailingBack {
		return nil // the failback is done; only the old replica was not removed
	}
	ctx, cancel := context.WithTimeout(ctx, sourceLimit)
	defer cancel()
	started := w.Get("original started") == "true"
	originalRuns := started
	if started {
		if power, err := r.power(ctx, m.Source); err == nil && power == hypervisor.Stopped {
			originalRuns = false
		}
	}
	hopeless := w.Job().Attempt >= undoTries && !originalRuns
	if originalRuns || w.Get("replica"+stopped) != "" {
		_, err := r.power(ctx, m.Target)
		gone := errors.Is(err, hypervisor.ErrNoMachine)
		if gone && originalRuns {
			w.Evidence("replica", "it is gone; the original goes on")
			return r.failedBack(ctx, w)
		}
		if err != nil && !gone && !hopeless {
			return err
		}
	}
	if started {
		if err := r.stopAndFence(ctx, w, m.Source, "failback was undone"); err != nil {
			return err
		}
		if err := r.own(ctx, w, m, "epoch of undo"); err != nil {
			return err
		}
		w.Set("original started", "false")
		if err := w.Save(ctx); err != nil {
			return err
		}
	}
	var told []store.Event
	if err := r.turnOn(ctx, w, m.Target, "replica"); err != nil {
		if !hopeless {
			return err
		}
		w.Evidence("replica", "not started again: "+err.Error())
		told = append(told, store.Event{Severity: store.SeverityCritical, Code: "replica.not-started", Text: fmt.Sprintf("the failback was undone, and the replica of %s could not be started again at %s: %v", m.Name, m.Target.Site, err),
			Action: "when its site is back, fail back again, which needs no replica that runs; or lift its fence and start it there"})
	}
	if err := r.move(w, lifecycle.FailingBack, lifecycle.FailbackAborted, nil, told...); err != nil {
		return err
	}
	r.replication.Nudge(m.ID)
	return nil
}

// stopAndFence sees a machine stopped and keeps it from starting. A machine that
// is gone needs neither.
func (r *Recovery) stopAndFence(ctx context.Context, w *jobs.Work, place store.Place, reason string) error {
	provider, err := r.sites.Provider(place.Site)
	if err != nil {
		return err
	}
	outcome, err := provider.Stop(ctx, hypervisor.Ref(place.Ref), stopGrace)
	if errors.Is(err, hypervisor.ErrNoMachine) {
		w.Evidence("source", "the machine is gone")
		return nil
	}
	if err != nil {
		return fmt.Errorf("shut down %s at site %s: %w", place.Ref, place.Site, err)
	}
	w.Evidence("source", string(outcome))
	return r.fence(ctx, w, place, reason)
}

func contains(disks []replication.DiskID, id replication.DiskID) bool {
	return slices.Contains(disks, id)
}
