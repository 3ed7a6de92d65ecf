package jobs_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"riparo/appliance/jobs"
	"riparo/store"
	"riparo/store/storetest"
)

// start makes an engine and runs it until the test ends.
func start(t *testing.T, st *store.Store, o jobs.Options, definitions ...jobs.Definition) *jobs.Engine {
	t.Helper()
	e, err := jobs.New(st, o, definitions...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return e
}

func ask(t *testing.T, e *jobs.Engine, spec jobs.Spec) string {
	t.Helper()
	id, err := e.Start(t.Context(), spec)
	if err != nil {
		t.Fatalf("start %s: %v", spec.Kind, err)
	}
	return id
}

func job(t *testing.T, st *store.Store, id string) store.Job {
	t.Helper()
	j, err := store.Get(st, store.Jobs, id)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func TestAJobDoesItsStepsInOrderAndKeepsWhatTheySaw(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := storetest.Open(t)
		e := start(t, st, jobs.Options{}, jobs.Definition{Kind: "walk", Steps: []jobs.StepDef{
			{Name: "one", Run: func(ctx context.Context, w *jobs.Work) error {
				w.Set("ref", "vm-1:"+w.Param("size"))
				w.Evidence("console", "login:")
				return nil
			}},
			{Name: "two", Run: func(ctx context.Context, w *jobs.Work) error {
				time.Sleep(time.Minute)
				w.Evidence("ref", w.Get("ref"))
				return nil
			}},
		}})
		id := ask(t, e, jobs.Spec{Kind: "walk", Machine: "m-1", Params: map[string]string{"size": "8"}})
		time.Sleep(2 * time.Minute)
		j := job(t, st, id)
		if j.State != store.Succeeded || j.Steps[1].Evidence[0].Value != "vm-1:8" || j.Steps[0].Evidence[0].Value != "login:" {
			t.Errorf("got %+v", j)
		}
		if took := j.Steps[1].Ended.Sub(j.Steps[1].Started); took != time.Minute {
			t.Errorf("step two took %s by its record, want 1m", took)
		}
	})
}

func TestAMachineHasOneUnfinishedJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := storetest.Open(t)
		e := start(t, st, jobs.Options{}, jobs.Definition{Kind: "wait", Title: "Waiting", Steps: []jobs.StepDef{
			{Name: "wait", Run: func(ctx context.Context, w *jobs.Work) error { time.Sleep(time.Hour); return nil }},
		}})
		ask(t, e, jobs.Spec{Kind: "wait", Machine: "m-1", Name: "web01"})
		ask(t, e, jobs.Spec{Kind: "wait", Machine: "m-2"})
		ask(t, e, jobs.Spec{Kind: "wait"})
		ask(t, e, jobs.Spec{Kind: "wait"})
		if _, err := e.Start(t.Context(), jobs.Spec{Kind: "wait", Machine: "m-1", Name: "web01"}); !errors.Is(err, jobs.ErrBusy) {
			t.Errorf("second job of m-1: got %v, want ErrBusy", err)
		}
		time.Sleep(2 * time.Hour)
		ask(t, e, jobs.Spec{Kind: "wait", Machine: "m-1"})
		time.Sleep(2 * time.Hour)
	})
}
