package backup

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"riparo/appliance/jobs"
	"riparo/store"
	"riparo/store/storetest"
)

// TestARestoreEndsWhatWasUnderWayThen: jobs wait for a person, who can restart or cancel
// each of them. Tokens are as they were then, and the event says how many are good.
func TestARestoreEndsWhatWasUnderWayThen(t *testing.T) {
	data, st := lived(t)
	steps := func(states ...store.JobState) (list []store.Step) {
		for i, s := range states {
			list = append(list, store.Step{Name: []string{"first", "second", "third"}[i], State: s})
		}
		return list
	}
	wave := func(id string, state store.JobState, states ...store.JobState) store.Job {
		return store.Job{ID: id, Kind: "wave", Machine: "m-" + id, State: state, Steps: steps(states...), Attempt: 3, NextTry: noon, Created: noon}
	}
	asks := wave("asks", store.WaitingForInput, store.Succeeded, store.WaitingForInput, store.NotStarted)
	asks.Question = "go on?"
	back := wave("back", store.InProgress, store.Canceled, store.InProgress, store.NotStarted)
	back.CancelAsk = true
	if err := st.Update(func(tx *store.Tx) error {
		for _, j := range []store.Job{wave("new", store.NotStarted, store.NotStarted, store.NotStarted, store.NotStarted), asks, back,
			wave("works", store.InProgress, store.Succeeded, store.InProgress, store.NotStarted), wave("waits", store.WaitingToRetry, store.WaitingToRetry, store.NotStarted, store.NotStarted),
			{ID: "saves", Kind: JobKind, State: store.InProgress, Steps: []store.Step{{Name: "write the backup", State: store.InProgress}, {Name: "remove old backups", State: store.NotStarted}}}} {
			if err := tx.Jobs().Put(j); err != nil {
				return err
			}
		}
		return errors.Join(tx.Tokens().Put(store.Token{ID: "t-1", Name: "ci", Role: store.Administrator, Hash: []byte("hash"), Created: noon}),
			tx.Tokens().Put(store.Token{ID: "t-2", Name: "old", Role: store.Viewer, Hash: []byte("hash"), Created: noon, Expires: noon.AddDate(-1, 0, 0)}),
			tx.Tokens().Put(store.Token{ID: "t-3", Name: "wall", Role: store.Viewer, Hash: []byte("hash"), Created: noon, Expires: noon.AddDate(50, 0, 0)}))
	}); err != nil {
		t.Fatal(err)
	}
	into := filepath.Join(t.TempDir(), "new")
	got, err := Stage(t.Context(), into, bytes.NewReader(written(t, source(data, st))), passphrase, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got.Interrupted != 5 || got.Tokens != 2 || got.Jobs != 7 {
		t.Errorf("restored %+v; want 5 of 7 jobs interrupted, and 2 good tokens", got)
	}
	if _, err := Apply(into); err != nil {
		t.Fatal(err)
	}
	restored := storetest.Reopen(t, filepath.Join(into, "state.db"))
	job := func(id string) store.Job {
		j, err := store.Get(restored, store.Jobs, id)
		if err != nil {
			t.Fatal(err)
		}
		return j
	}
	for _, id := range []string{"new", "asks", "back", "works", "waits"} {
		if j := job(id); j.State != store.Failed || j.Error == nil || j.Error.Code != "job.restored" || j.Error.Action == "" || j.Question != "" || j.Ended.IsZero() {
			t.Errorf("the job %s came back as %+v; want it failed, by the restore", id, j)
		}
	}
	if j := job("works"); j.Steps[0].State != store.Succeeded || j.Steps[1].State != store.Failed || j.Steps[2].State != store.NotStarted {
		t.Errorf("its steps came back as %+v", j.Steps)
	}
	if j := job("saves"); j.State != store.Canceled || j.Error != nil {
		t.Errorf("the job that wrote a backup came back as %+v; want it canceled", j)
	}
	was, err := store.List(st, store.Tokens)
	if now, errNow := store.List(restored, store.Tokens); err != nil || errNow != nil || !reflect.DeepEqual(now, was) {
		t.Errorf("tokens %+v (%v), want %+v (%v)", now, errNow, was, err)
	}
	if page, err := store.List(restored, store.Events); err != nil || page[len(page)-1].Args["jobs"] != "5" || page[len(page)-1].Args["tokens"] != "2" || page[len(page)-1].Action == "" {
		t.Errorf("the event says %+v, %v", page, err)
	}

	// Nothing goes on by itself, and everything can be let go on or taken back.
	ran, undone := make(chan string, 100), make(chan string, 100)
	step := func(name string) jobs.StepDef {
		return jobs.StepDef{Name: name, Run: func(_ context.Context, w *jobs.Work) error { ran <- w.Job().ID + " " + name; return nil },
			Undo: func(_ context.Context, w *jobs.Work) error { undone <- w.Job().ID + " " + name; return nil }}
	}
	engine, err := jobs.New(restored, jobs.Options{}, jobs.Definition{Kind: "wave", Steps: []jobs.StepDef{step("first"), step("second"), step("third")}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- engine.Run(ctx) }()
	comes := func(id string, want store.JobState) {
		t.Helper()
		nudge, _, stop := restored.Subscribe()
		defer stop()
		for limit := time.After(10 * time.Second); job(id).State != want; {
			select {
			case <-nudge:
			case <-limit:
				t.Fatalf("the job %s is %+v, want it %s", id, job(id), want)
			}
		}
	}
	for _, id := range []string{"new", "asks", "works"} {
		if err := engine.Restart(id); err != nil {
			t.Fatal(err)
		}
		comes(id, store.Succeeded)
	}
	if err := engine.Cancel("waits"); err != nil {
		t.Fatal(err)
	}
	comes("waits", store.Canceled)
	if err := engine.Restart("back"); err != nil { // it goes on taking back
		t.Fatal(err)
	}
	comes("back", store.Canceled)
	end()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if len(ran) != 3+2+2 || len(undone) != 2 {
		t.Errorf("%d steps ran and %d were undone, want 7 and 2: only of those that somebody restarted or canceled", len(ran), len(undone))
	}
}
