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
			{Name: "wait for commit", Run: r.pointChanged},
		},
		OnCancel: r.backToCommitPending,
	}
}

func (r *Recovery) chooseOther(ctx context.Context, w *jobs.Work) error {
	m, err := r.machine(w)
	if err != nil {
		return err
	}
	// Looked up before anything is touched: a wrong name changes nothing.
	if _, err := r.replication.Choose(m, replication.PointID(w.Param(ParamPoint))); err != nil {
		return err
	}
	if err := r.move(w, lifecycle.CommitPending, lifecycle.ChangePointStarted, nil); err != nil {
		return err
	}
	return r.choosePoint(ctx, w)
}

func (r *Recovery) removeReplica(ctx context.Context, w *jobs.Work) error {
	m, err := r.machine(w)
	if err != nil {
		return err
	}
	return r.dismantle(ctx, m, hypervisor.Ref(m.Target.Ref), forReplica)
}

func (r *Recovery) pointChanged(_ context.Context, w *jobs.Work) error {
	return r.move(w, lifecycle.ChangingPoint, lifecycle.ChangePointDone, nil)
}

// backToCommitPending leaves the choice open: another point can be tried.
func (r *Recovery) backToCommitPending(_ context.Context, w *jobs.Work) error {
	_, err := r.change(w, func(m *store.Machine) error {
		if m.State != lifecycle.ChangingPoint {
			return nil
		}
		return step(m, lifecycle.ChangePointAborted, r.now())
	}, store.Event{Severity: "critical", Code: "point.unchanged", Text: "the replica did not start from the chosen recovery point", Action: "change to another recovery point"})
	return err
}
