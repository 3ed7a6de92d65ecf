package recovery

import (
	"context"
	"fmt"

	"riparo/appliance/jobs"
	"riparo/hypervisor"
	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/store"
)

// testJob starts a machine from a recovery point beside the running source, in an
// isolated network unless another was named. Replication goes on meanwhile.
func (r *Recovery) testJob() jobs.Definition {
	return jobs.Definition{
		Kind:   string(lifecycle.TestFailover),
		Title:  "Test failover",
		Urgent: true,
		Steps: []jobs.StepDef{
			{Name: "choose the recovery point", Run: r.beginTest},
			{Name: "create the test machine", Run: r.createTest},
			{Name: "start the test machine", Run: r.startTest},
			{Name: "see it boot", Run: r.observeTest},
		},
		OnFail:   r.testFailed,
		OnCancel: func(ctx context.Context, w *jobs.Work) error { return r.testFailed(ctx, w, jobs.ErrCanceled) },
	}
}

func (r *Recovery) beginTest(_ context.Context, w *jobs.Work) error {
	m, err := r.machine(w)
	if err != nil {
		return err
	}
	wanted := replication.PointID(w.Param(ParamPoint))
	if m.Test != nil && m.Test.Job == w.Job().ID {
		wanted = m.Test.Point // a run of this step before a crash has chosen it
	}
	point, err := r.replication.Choose(m, wanted)
	if err != nil {
		return err
	}
	w.Set("point", string(point.ID))
	w.Evidence("recovery point", fmt.Sprintf("%s, %s-consistent", point.ID, point.Consistency))
	w.Evidence("age", r.now().Sub(point.Time).Round(1e9).String())
	_, err = r.change(w, func(m *store.Machine) error {
		if m.Test != nil && m.Test.Job == w.Job().ID {
			return nil
		}
		next, err := lifecycle.NextDrill(m.Drill, lifecycle.DrillAsked)
		if err != nil {
			return err
		}
		m.Drill = next
		m.Test = &store.TestFailover{Point: point.ID, Network: w.Param(ParamNetwork), Started: r.now(), Job: w.Job().ID}
		return nil
	})
	return err
}

// tested reads the machine, whose test failover must still be this job's: a failed
// job can be restarted long after its test was cleaned up.
func (r *Recovery) tested(w *jobs.Work) (store.Machine, error) {
	m, err := r.machine(w)
	if err == nil && (m.Test == nil || m.Test.Job != w.Job().ID) {
		err = replication.Stopf("drill.gone", "start a new test failover", "the test failover of %s was cleaned up", m.Name)
	}
	return m, err
}

func (r *Recovery) createTest(ctx context.Context, w *jobs.Work) error {
	m, err := r.tested(w)
	if err != nil {
		return err
	}
	point, err := r.replication.Choose(m, replication.PointID(w.Get("point")))
	if err != nil {
		return err
	}
	made, err := r.build(ctx, w, m, point, forTest, w.Param(ParamNetwork))
	if err != nil {
		return err
	}
	_, err = r.change(w, func(m *store.Machine) error { m.Test.Ref = string(made.Ref); return nil })
	return err
}

func (r *Recovery) startTest(ctx context.Context, w *jobs.Work) error {
	m, err := r.tested(w)
	if err != nil {
		return err
	}
	target, err := r.sites.Provider(m.Target.Site)
	if err != nil {
		return err
	}
	if err := target.Start(ctx, hypervisor.Ref(m.Test.Ref), hypervisor.StartOptions{}); err != nil {
		return fmt.Errorf("start the test machine of %s: %w", m.Name, err)
	}
	w.Evidence("started after", r.now().Sub(m.Test.Started).String())
	return nil
}

func (r *Recovery) observeTest(ctx context.Context, w *jobs.Work) error {
	m, err := r.tested(w)
	if err != nil {
		return err
	}
	if err := r.observe(ctx, w, m, m.Target.Site, hypervisor.Ref(m.Test.Ref)); err != nil {
		return err
	}
	_, err = r.change(w, func(m *store.Machine) error {
		if m.Drill == lifecycle.DrillRunning {
			return nil // a run of this step before a crash has said so already
		}
		return moveDrill(m, lifecycle.DrillBooted)
	})
	return err
}

// testFailed leaves the test machine for a look; its cleanup is due. A restart of
// the job may still bring it up.
func (r *Recovery) testFailed(_ context.Context, w *jobs.Work, _ error) error {
	_, err := r.change(w, func(m *store.Machine) error {
		if m.Test == nil || m.Test.Job != w.Job().ID {
			return nil
		}
		return moveDrill(m, lifecycle.DrillFailed)
	})
	return err
}

func moveDrill(m *store.Machine, e lifecycle.DrillEvent) error {
	next, err := lifecycle.NextDrill(m.Drill, e)
	if err != nil {
		return fmt.Errorf("machine %s: %w", m.Name, err)
	}
	m.Drill = next
	return nil
}

// cleanupJob removes what a test failover made, and only that, and keeps its
// result with the notes.
func (r *Recovery) cleanupJob() jobs.Definition {
	return jobs.Definition{
		Kind:  string(lifecycle.CleanupTest),
		Title: "Cleanup of a test failover",
		Steps: []jobs.StepDef{
			{Name: "remove the test machine", Run: r.removeTest},
			{Name: "keep the result", Run: r.keepResult, Final: true},
		},
	}
}

func (r *Recovery) removeTest(ctx context.Context, w *jobs.Work) error {
	m, err := r.machine(w)
	if err != nil {
		return err
	}
	if m.Test == nil {
		return nil
	}
	if m.Drill != lifecycle.DrillCleanup {
		m, err = r.change(w, func(m *store.Machine) error {
			m.Test.Passed = m.Drill == lifecycle.DrillRunning
			return moveDrill(m, lifecycle.CleanupStarted)
		})
		if err != nil {
			return err
		}
	}
	if err := r.dismantle(ctx, m, hypervisor.Ref(m.Test.Ref), forTest); err != nil {
		return err
	}
	w.Evidence("removed", m.Test.Ref)
	return nil
}

func (r *Recovery) keepResult(_ context.Context, w *jobs.Work) error {
	m, err := r.machine(w)
	if err != nil || m.Test == nil {
		return err // a run of this step before a crash has kept it
	}
	_, err = r.change(w, func(m *store.Machine) error {
		m.LastDrill = &store.DrillResult{Started: m.Test.Started, Finished: r.now(), Point: m.Test.Point, Passed: m.Test.Passed, Notes: w.Param(ParamNotes)}
		m.Test = nil
		return moveDrill(m, lifecycle.CleanupDone)
	}, store.Event{Severity: "info", Code: "drill.finished", Text: "the test failover was cleaned up"})
	return err
}
