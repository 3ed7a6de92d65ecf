package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"riparo/appliance/jobs"
	"riparo/replication"
	"riparo/store"
	"riparo/store/storetest"
)

// start makes an engine and runs it until stop is called, or the test ends.
func start(t *testing.T, st *store.Store, o jobs.Options, definitions ...jobs.Definition) (e *jobs.Engine, stop func()) {
	t.Helper()
	e, err := jobs.New(st, o, definitions...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return e, stop
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

// wantState waits until nothing moves and checks a job.
func wantState(t *testing.T, st *store.Store, id string, want store.JobState) store.Job {
	t.Helper()
	synctest.Wait()
	j := job(t, st, id)
	if j.State != want {
		t.Fatalf("the job is %s (%+v), want %s", j.State, j.Error, want)
	}
	return j
}

// codes are the codes of all events, oldest first.
func codes(t *testing.T, st *store.Store) string {
	t.Helper()
	events, err := store.List(st, store.Events)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range events {
		list = append(list, strings.TrimPrefix(e.Code, "job."))
		if e.Text == "" || e.Job == "" || e.Args["title"] == "" || strings.Contains(e.Text, "%!") {
			t.Errorf("event %+v does not say enough", e)
		}
	}
	return strings.Join(list, " ")
}

func steps(names string, run func(ctx context.Context, w *jobs.Work) error) []jobs.StepDef {
	var list []jobs.StepDef
	for name := range strings.FieldsSeq(names) {
		list = append(list, jobs.StepDef{Name: name, Run: run})
	}
	return list
}

func stateOf(j store.Job) string {
	var list []string
	for _, s := range j.Steps {
		list = append(list, string(s.State))
	}
	return strings.Join(list, ", ")
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

func TestAJobDoesItsStepsInOrderAndKeepsWhatTheySaw(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := storetest.Open(t)
		e, _ := start(t, st, jobs.Options{}, jobs.Definition{Kind: "walk", Title: "Walk", Steps: []jobs.StepDef{
			{Name: "one", Run: func(ctx context.Context, w *jobs.Work) error {
				w.Set("ref", "vm-1:"+w.Param("size"))
				w.Evidence("console", "…")
				w.Evidence("console", "login:")
				return nil
			}},
			{Name: "none", Skip: func(w *jobs.Work) bool { return w.Get("ref") != "" }, Run: func(context.Context, *jobs.Work) error { panic("not skipped") }},
			{Name: "two", Run: func(ctx context.Context, w *jobs.Work) error {
				w.Evidence("ref", w.Get("ref"))
				w.Evidence("step", w.Step())
				w.OnDone(func(tx *store.Tx) error { return tx.SetSetting("two", w.Job().ID) })
				return sleep(ctx, time.Minute)
			}},
		}})
		id := ask(t, e, jobs.Spec{Kind: "walk", Machine: "m-1", Name: "web01", Actor: "anna", Params: map[string]string{"size": "8"},
			With: func(tx *store.Tx, job string) error { return tx.SetSetting("with", job) }})
		time.Sleep(2 * time.Minute)
		j := wantState(t, st, id, store.Succeeded)
		if got := stateOf(j); got != "succeeded, skipped, succeeded" {
			t.Errorf("steps are %s", got)
		}
		want := [][]store.Fact{{{Name: "console", Value: "login:"}}, nil, {{Name: "ref", Value: "vm-1:8"}, {Name: "step", Value: "two"}}}
		for i, s := range j.Steps {
			if !slices.Equal(s.Evidence, want[i]) {
				t.Errorf("evidence of %s: %v, want %v", s.Name, s.Evidence, want[i])
			}
		}
		if took := j.Steps[2].Ended.Sub(j.Steps[2].Started); took != time.Minute {
			t.Errorf("step two took %s by its record, want 1m", took)
		}
		if j.Ended.Sub(j.Created) != time.Minute || j.Data["ref"] != "vm-1:8" || j.Actor != "anna" {
			t.Errorf("got %+v", j)
		}
		for _, name := range []string{"with", "two"} {
			var kept string
			if err := st.View(func(tx *store.Tx) error { _, err := tx.Setting(name, &kept); return err }); err != nil || kept != id {
				t.Errorf("setting %s: %q, %v", name, kept, err)
			}
		}
		if got := codes(t, st); got != "started succeeded" {
			t.Errorf("events: %s", got)
		}
		if _, live := e.Live(id); live {
			t.Error("an ended job is live")
		}
	})
}

func TestAMachineHasOneUnfinishedJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := storetest.Open(t)
		e, _ := start(t, st, jobs.Options{MaxParallel: 9}, jobs.Definition{Kind: "wait", Title: "Waiting",
			Steps: steps("wait", func(ctx context.Context, w *jobs.Work) error { return sleep(ctx, time.Hour) })})
		first := ask(t, e, jobs.Spec{Kind: "wait", Machine: "m-1", Name: "web01"})
		ask(t, e, jobs.Spec{Kind: "wait", Machine: "m-2"})
		ask(t, e, jobs.Spec{Kind: "wait"})
		ask(t, e, jobs.Spec{Kind: "wait"})
		with := false
		_, err := e.Start(t.Context(), jobs.Spec{Kind: "wait", Machine: "m-1", Name: "web01",
			With: func(*store.Tx, string) error { with = true; return nil }})
		p, ok := errors.AsType[*replication.Problem](err)
		if !errors.Is(err, jobs.ErrBusy) || !ok || !strings.Contains(p.Cause, first) || !strings.Contains(p.Cause, "Waiting") || p.Action == "" || with {
			t.Errorf("second job of m-1: got %v (with ran: %t); want ErrBusy that names the first", err, with)
		}
		time.Sleep(2 * time.Hour)
		ask(t, e, jobs.Spec{Kind: "wait", Machine: "m-1"})
		time.Sleep(2 * time.Hour)
	})
}

// However many ask at once, one gets it.
func TestOneOfManyGetsTheMachine(t *testing.T) {
	st := storetest.Open(t)
	release := make(chan struct{})
	e, _ := start(t, st, jobs.Options{}, jobs.Definition{Kind: "wait",
		Steps: steps("wait", func(ctx context.Context, w *jobs.Work) error {
			select {
			case <-release:
			case <-ctx.Done():
			}
			return nil
		})})
	var won, busy atomic.Int32
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			switch _, err := e.Start(t.Context(), jobs.Spec{Kind: "wait", Machine: "m-1"}); {
			case err == nil:
				won.Add(1)
			case errors.Is(err, jobs.ErrBusy):
				busy.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	all.Wait()
	close(release)
	if won.Load() != 1 || busy.Load() != 19 {
		t.Errorf("%d started, %d busy; want 1 and 19", won.Load(), busy.Load())
	}
}

func TestWhatCannotStartIsRefusedAndLeavesNothing(t *testing.T) {
	st := storetest.Open(t)
	noop := func(context.Context, *jobs.Work) error { return nil }
	boom := errors.New("boom")
	e, err := jobs.New(st, jobs.Options{}, jobs.Definition{Kind: "walk", Steps: steps("one", noop)})
	if err != nil {
		t.Fatal(err)
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, try := range map[string]func() error{
		"unknown kind": func() error { _, err := e.Start(t.Context(), jobs.Spec{Kind: "dance"}); return err },
		"With refuses": func() error {
			_, err := e.Start(t.Context(), jobs.Spec{Kind: "walk", With: func(tx *store.Tx, _ string) error {
				return errors.Join(tx.SetSetting("left", 1), boom)
			}})
			if !errors.Is(err, boom) {
				t.Errorf("got %v, want boom", err)
			}
			return err
		},
		"too many parameters": func() error {
			_, err := e.Start(t.Context(), jobs.Spec{Kind: "walk", Params: map[string]string{"x": strings.Repeat("x", 1<<20)}})
			return err
		},
		"canceled": func() error { _, err := e.Start(canceled, jobs.Spec{Kind: "walk"}); return err },
	} {
		if try() == nil {
			t.Errorf("%s: started", name)
		}
	}
	all, err1 := store.List(st, store.Jobs)
	settings, err2 := store.List(st, store.Settings)
	if len(all)+len(settings) != 0 || err1 != nil || err2 != nil || codes(t, st) != "" {
		t.Errorf("left: %v, %v, %v, %v", all, settings, err1, err2)
	}
	for name, d := range map[string][]jobs.Definition{
		"no kind":    {{Steps: steps("one", noop)}},
		"no steps":   {{Kind: "walk"}},
		"same steps": {{Kind: "walk", Steps: steps("one one", noop)}},
		"no run":     {{Kind: "walk", Steps: steps("one", nil)}},
		"twice":      {{Kind: "walk", Steps: steps("one", noop)}, {Kind: "walk", Steps: steps("one", noop)}},
	} {
		if _, err := jobs.New(st, jobs.Options{}, d...); err == nil {
			t.Errorf("definition with %s was taken", name)
		}
	}
}

func TestOnlySoManyWorkAtTheSameTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := storetest.Open(t)
		var now, most atomic.Int32
		work := func(ctx context.Context, w *jobs.Work) error {
			most.Store(max(most.Load(), now.Add(1)))
			defer now.Add(-1)
			return sleep(ctx, time.Minute)
		}
		e, _ := start(t, st, jobs.Options{MaxParallel: 3},
			jobs.Definition{Kind: "copy", Steps: steps("one two", work)},
			jobs.Definition{Kind: "failover", Urgent: true, Steps: steps("one", func(ctx context.Context, w *jobs.Work) error { return sleep(ctx, time.Second) })},
			jobs.Definition{Kind: "ask", Steps: steps("one", func(ctx context.Context, w *jobs.Work) error { _, err := w.Ask("?"); return err })})
		// Those that wait for a person take no room.
		for range 5 {
			ask(t, e, jobs.Spec{Kind: "ask"})
		}
		synctest.Wait()
		var copies []string
		for i := range 12 {
			copies = append(copies, ask(t, e, jobs.Spec{Kind: "copy", Machine: replication.MachineID(fmt.Sprint("m-", i))}))
		}
		synctest.Wait()
		if most.Load() != 3 {
			t.Errorf("%d work, want 3", most.Load())
		}
		waiting := 0
		for _, id := range copies {
			if job(t, st, id).State == store.NotStarted {
				waiting++
			}
		}
		if waiting != 9 {
			t.Errorf("%d wait for their turn, want 9", waiting)
		}
		urgent := ask(t, e, jobs.Spec{Kind: "failover", Machine: "m-99"})
		time.Sleep(2 * time.Second)
		wantState(t, st, urgent, store.Succeeded)
		// Who waits for its turn is canceled at once, without one.
		if err := e.Cancel(copies[11]); err != nil {
			t.Fatal(err)
		}
		wantState(t, st, copies[11], store.Canceled)
		time.Sleep(time.Hour)
		for _, id := range copies[:11] {
			wantState(t, st, id, store.Succeeded)
		}
		if most.Load() != 3 {
			t.Errorf("at most %d worked at the same time, want 3", most.Load())
		}
	})
}

func TestProgressIsSeenAtOnceAndSavedTwiceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := storetest.Open(t)
		const blocks = 10_000 // one a millisecond
		e, _ := start(t, st, jobs.Options{}, jobs.Definition{Kind: "copy", Steps: steps("copy", func(ctx context.Context, w *jobs.Work) error {
			w.Set("half", "done") // not saved before the step returns
			for i := range int64(blocks) {
				w.Progress(i+1, blocks)
				w.Evidence("blocks", fmt.Sprint(i+1))
				if err := sleep(ctx, time.Millisecond); err != nil {
					return err
				}
			}
			return nil
		})})
		nudge, changed, cancel := st.Subscribe()
		defer cancel()
		id := ask(t, e, jobs.Spec{Kind: "copy"})
		seen := map[int64]bool{}
		for range blocks / 10 {
			time.Sleep(10 * time.Millisecond)
			synctest.Wait()
			live, ok := e.Live(id)
			stored := job(t, st, id)
			if !ok {
				break
			}
			done := live.Steps[0].Done
			if at := time.Since(live.Created).Milliseconds(); done < at || done > at+1 {
				t.Fatalf("after %d ms Live says %d", at, done)
			}
			if len(live.Steps[0].Evidence) != 1 || live.Steps[0].Evidence[0].Value != fmt.Sprint(done) {
				t.Fatalf("evidence of %d: %v", done, live.Steps[0].Evidence)
			}
			if done-stored.Steps[0].Done > 501 {
				t.Fatalf("Live says %d and the store %d, half a second ago", done, stored.Steps[0].Done)
			}
			if stored.State == store.InProgress && stored.Data["half"] != "" {
				t.Fatal("what was Set was saved with the progress")
			}
			seen[stored.Steps[0].Done] = true
		}
		if n := len(seen); n < 15 || n > 22 {
			t.Errorf("%d saves in 10 s, want about 20", n)
		}
		select {
		case <-nudge:
		default:
			t.Error("nobody was nudged")
		}
		if got := changed(); !slices.Contains(got, "job/"+id) {
			t.Errorf("changed: %v", got)
		}
		time.Sleep(time.Second)
		j := wantState(t, st, id, store.Succeeded)
		if s := j.Steps[0]; s.Done != blocks || s.Total != blocks || s.Evidence[0].Value != fmt.Sprint(blocks) || j.Data["half"] != "done" {
			t.Errorf("at the end: %+v, %v", s, j.Data)
		}
	})
}

func TestAJobKeepsNoMoreThanItMay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := storetest.Open(t)
		e, _ := start(t, st, jobs.Options{},
			jobs.Definition{Kind: "talk", Steps: steps("talk", func(ctx context.Context, w *jobs.Work) error {
				for i := range 200 {
					w.Evidence(fmt.Sprint("fact ", i), strings.Repeat("é", 5000)+"\xff")
				}
				w.Evidence("fact 1", "changed")
				return nil
			})},
			jobs.Definition{Kind: "many", Steps: steps("talk", func(ctx context.Context, w *jobs.Work) error {
				for i := range 200 {
					w.Evidence(fmt.Sprint("fact ", i), "seen")
				}
				return nil
			})},
			jobs.Definition{Kind: "cry", Steps: steps("cry", func(ctx context.Context, w *jobs.Work) error {
				return &replication.Problem{Code: "x", Cause: strings.Repeat("\x00", 1<<20), Remedy: replication.Stop}
			})},
			jobs.Definition{Kind: "hoard", Steps: steps("hoard", func(ctx context.Context, w *jobs.Work) error {
				w.Set("all", strings.Repeat("x", 1<<20))
				return nil
			})})
		j := wantState(t, st, ask(t, e, jobs.Spec{Kind: "talk"}), store.Succeeded)
		facts := j.Steps[0].Evidence
		total := 0
		for _, f := range facts {
			total += len(f.Name) + len(f.Value)
		}
		if len(facts) < 10 || total > 64<<10 || len(facts[0].Value) > 4200 || !strings.HasSuffix(facts[0].Value, "é…") || facts[1].Value != "changed" {
			t.Errorf("%d facts, the first of %d bytes, the second %.20q", len(facts), len(facts[0].Value), facts[1].Value)
		}
		j = wantState(t, st, ask(t, e, jobs.Spec{Kind: "many"}), store.Succeeded)
		if n := len(j.Steps[0].Evidence); n != 64 {
			t.Errorf("%d facts, want 64", n)
		}
		j = wantState(t, st, ask(t, e, jobs.Spec{Kind: "cry"}), store.Failed)
		if n := len(j.Error.Cause); n > 4200 {
			t.Errorf("a cause of %d bytes", n)
		}
		j = wantState(t, st, ask(t, e, jobs.Spec{Kind: "hoard"}), store.Failed)
		if j.Error.Code != "job.data" || j.Data["all"] != "" {
			t.Errorf("got %+v", j.Error)
		}
	})
}

// TestTheNewestJobIsTheOneThatBeganLast: the clock may have been ahead when others began.
func TestTheNewestJobIsTheOneThatBeganLast(t *testing.T) {
	st := storetest.Open(t)
	const ahead = "20991231T235959.999Z-0001234"
	if err := store.Put(st, store.Jobs, store.Job{ID: ahead, Kind: "once", Machine: "m-1", State: store.Succeeded}); err != nil {
		t.Fatal(err)
	}
	e, err := jobs.New(st, jobs.Options{}, jobs.Definition{Kind: "once", Title: "Once", Steps: []jobs.StepDef{{Name: "one", Run: func(context.Context, *jobs.Work) error { return nil }}}})
	if err != nil {
		t.Fatal(err)
	}
	last := ahead
	for range 3 {
		id := ask(t, e, jobs.Spec{Kind: "once", Machine: "m-1", Name: "WEB01"})
		if id <= last {
			t.Errorf("the job %s began after %s", id, last)
		}
		last = id
		j := job(t, st, id)
		j.State = store.Succeeded
		if err := store.Put(st, store.Jobs, j); err != nil {
			t.Fatal(err)
		}
	}
	if id := ask(t, e, jobs.Spec{Kind: "once", Machine: "m-2", Name: "WEB02"}); id >= ahead {
		t.Errorf("a job of another machine is %s", id)
	}
}
