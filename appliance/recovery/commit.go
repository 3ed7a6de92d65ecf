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

// commitJob makes a failover final: the recovery point cannot be changed any more,
// and the replica's disks become independent of the vault while it runs.
func (r *Recovery) commitJob() jobs.Definition {
	return jobs.Definition{
		Kind:  string(lifecycle.Commit),
		Title: "Commit",
		Steps: []jobs.StepDef{
			{Name: "make the replica independent", Run: r.flatten},
			{Name: "commit", Run: r.committed, Final: true},
		},
	}
}

func (r *Recovery) flatten(ctx context.Context, w *jobs.Work) error {
	m, err := r.machine(w)
	if err != nil {
		return err
	}
	if err := r.replicaRuns(ctx, m); err != nil {
		return err
	}
	booter, err := r.sites.OverlayBooter(m.Target.Site)
	if err != nil {
		return err
	}
	if err := booter.Flatten(ctx, hypervisor.Ref(m.Target.Ref), w.Progress); err != nil {
		return fmt.Errorf("make the disks of %s independent: %w", m.Target.Ref, err)
	}
	w.Evidence("disks", "no disk reads from the vault any more")
	return r.withdraw(m, forReplica)
}

// replicaRuns refuses to go on with a replica that is not there or does not run, as
// after a change of the recovery point that was canceled half way.
func (r *Recovery) replicaRuns(ctx context.Context, m store.Machine) error {
	provider, err := r.sites.Provider(m.Target.Site)
	if err != nil {
		return err
	}
	seen, err := provider.Machine(ctx, hypervisor.Ref(m.Target.Ref))
	switch {
	case err != nil && !errors.Is(err, hypervisor.ErrNoMachine):
		return err
	case err == nil && m.Target.Ref != "" && seen.Power == hypervisor.Running:
		return nil
	case err == nil && seen.Power == hypervisor.PowerUnknown: // which is no reason to give it up
		return &replication.Problem{Code: "replica.unclear", Cause: fmt.Sprintf("whether the replica of %s runs cannot be seen just now", m.Name),
			Effect: "nothing was changed", Action: "it is looked at again by itself", Remedy: replication.Retry}
	case err == nil && m.Target.Ref != "": // what it wrote is there still
		return replication.Stopf("replica.stopped", "start it at its site, then commit; or change the recovery point, which makes it anew without what it wrote since", "the replica of %s is stopped", m.Name)
	}
	return replication.Stopf("replica.down", "change the recovery point, which makes the replica anew, then commit", "the replica of %s does not run", m.Name)
}

func (r *Recovery) committed(_ context.Context, w *jobs.Work) error {
	return r.move(w, lifecycle.CommitPending, lifecycle.CommitDone, func(m *store.Machine) {
		m.Failover.Committed, m.Failover.Independent = r.now(), true
	})
}

// reverseJob turns replication round: from the replica to the vault, as a delta
// since the point that was failed over to.
func (r *Recovery) reverseJob() jobs.Definition {
	return jobs.Definition{
		Kind:  string(lifecycle.ReverseReplicate),
		Title: "Reverse replication",
		Steps: []jobs.StepDef{
			{Name: "shut down and fence the source", Run: r.retireSource},
			{Name: "return the vault to the recovery point", Run: r.rewind},
			{Name: "send the replica's changes", Run: r.sendReplicaChanges},
			{Name: "finish", Run: r.reversed, Final: true},
		},
		OnCancel: r.undoReverse,
	}
}

// retireSource sees the source stopped and fenced. What was written there since
// the failover is given up; the person who asked for this was told so.
func (r *Recovery) retireSource(ctx context.Context, w *jobs.Work) error {
	m, err := r.machine(w)
	if err != nil {
		return err
	}
	if err := r.move(w, lifecycle.Committed, lifecycle.ReverseStarted, nil); err != nil {
		return err
	}
	return r.stopAndFence(ctx, w, m.Source, "replaced by its replica at "+m.Target.Site)
}

func (r *Recovery) rewind(ctx context.Context, w *jobs.Work) error {
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
	point, err := r.replication.Choose(m, m.Failover.Point)
	if err != nil {
		return err
	}
	held, err := r.heldLater(m, point)
	if err != nil {
		return err
	}
	if !held {
		for _, disk := range point.Disks {
			if err := r.vault.Rewind(ctx, disk, point.ID, m.Epoch); err != nil {
				return fmt.Errorf("return disk %s to point %s: %w", disk, point.ID, err)
			}
		}
	}
	w.Evidence("recovery point", string(point.ID))
	if held {
		w.Evidence("later points", "some are locked or pinned, or the last clean one is among them: they stay, and the replica is compared with the newest")
	}
	_, err = r.change(w, func(m *store.Machine) error {
		m.Direction = lifecycle.Reverse
		if held { // what came later stays, and the replica is compared with it
			m.Compare = true
		} else {
			m.LastPoint = &point
		}
		for i := range m.Disks {
			d := &m.Disks[i]
			// What was brought is gone from the vault, or not of the replica.
			d.Brought = nil
			if !d.Excluded && !contains(point.Disks, d.ID) { // it came after the point
				d.Excluded, d.Removed = true, true
			}
		}
		return nil
	})
	return err
}

// heldLater reports whether a point that came after this one may not go: it is locked or
// pinned, or it is or may turn out to be the last clean one.
func (r *Recovery) heldLater(m store.Machine, point replication.RecoveryPoint) (bool, error) {
	held := func(p replication.RecoveryPoint) bool {
		return p.Locked || p.Pinned || m.CleanPoint == p.ID || m.Alarm != nil && m.Alarm.LastClean == p.ID
	}
	for _, disk := range point.Disks {
		points, err := r.vault.Points(disk)
		if err != nil {
			return false, fmt.Errorf("points of disk %s: %w", disk, err)
		}
		later := points[slices.IndexFunc(points, func(p replication.RecoveryPoint) bool { return p.ID == point.ID })+1:]
		if slices.ContainsFunc(later, held) {
			return true, nil
		}
	}
	return false, nil
}

func (r *Recovery) sendReplicaChanges(ctx context.Context, w *jobs.Work) error {
	id := machineOf(w)
	release, err := r.replication.Hold(ctx, id)
	if err != nil {
		return err
	}
	defer release()
	_, facts, err := r.replication.TakePoint(ctx, id, w.Progress)
	if err != nil {
		return fmt.Errorf("send the changes of the replica: %w", err)
	}
	for _, f := range facts {
		w.Evidence(f.Name, f.Value)
	}
	return nil
}

func (r *Recovery) reversed(_ context.Context, w *jobs.Work) error {
	if err := r.move(w, lifecycle.Reversing, lifecycle.ReverseDone, nil); err != nil {
		return err
	}
	r.replication.Nudge(machineOf(w))
	return nil
}

// undoReverse leaves the replica committed and unprotected, as it was. The vault
// stays at the recovery point, if it returned there.
func (r *Recovery) undoReverse(_ context.Context, w *jobs.Work) error {
	return r.move(w, lifecycle.Reversing, lifecycle.ReverseAborted, func(m *store.Machine) { m.Direction = lifecycle.Forward })
}
