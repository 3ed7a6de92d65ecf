package recovery

import (
	"context"

	"riparo/appliance/jobs"
	"riparo/hypervisor"
	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/store"
)

// changePointJob replaces the replica by one of another recovery point, as long as
// the failover is not committed.
func (r *Recovery) changePointJob() jobs.Definition {
	return jobs.Definition{
		Kind:   string(lifecycle.ChangePoint),
		Title:  "Change of the recovery point",
		Urgent: true,
		Steps: []jobs.StepDef{
			{Name: "choose the recovery point", Run: r.chooseOther},
			{Name: "remove the replica machine", Run: r.removeReplica},
			{Name: "create the replica machine", Run: r.createReplica},
			{Name: "start the replica machine", Run: r.startReplica},
			{Name: "see it boot", Run: r.observeReplica},
			{Name: "wait for commit", Run: r.pointChanged, Final: true},
		},
		OnCancel: r.backToCommitPending,
	}
}

func (r *Recovery) chooseOther(_ context.Context, w *jobs.Work) error {
	m, err := r.machine(w)
	if err != nil {
		return err
	}
	// Looked up before anything is touched: a wrong name changes nothing.
	if _, err := r.replication.Choose(m, replication.PointID(w.Param(ParamPoint))); err != nil {
		return err
	}
	return r.move(w, lifecycle.CommitPending, lifecycle.ChangePointStarted, nil)
}

func (r *Recovery) removeReplica(ctx context.Context, w *jobs.Work) error {
	m, err := r.machine(w)
	if err != nil {
		return err
	}
	if err := r.dismantle(ctx, m, hypervisor.Ref(m.Target.Ref), forReplica); err != nil {
		return err
	}
	if _, err := r.change(w, func(m *store.Machine) error { m.Target.Ref = ""; return nil }); err != nil {
		return err
	}
	// The record names the new point only now: until here the old one was running.
	return r.choosePoint(ctx, w)
}

func (r *Recovery) pointChanged(_ context.Context, w *jobs.Work) error {
	return r.move(w, lifecycle.ChangingPoint, lifecycle.ChangePointDone, nil)
}

// backToCommitPending leaves the choice open: another point can be tried. Commit
// refuses until a replica runs.
func (r *Recovery) backToCommitPending(_ context.Context, w *jobs.Work) error {
	return r.move(w, lifecycle.ChangingPoint, lifecycle.ChangePointAborted, nil)
}
