package jobs_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"riparo/appliance/jobs"
	"riparo/replication"
	"riparo/store"
	"riparo/store/storetest"
)

// journal is what steps did, in order.
type journal struct{ lines []string }

func (j *journal) add(words ...string) { j.lines = append(j.lines, strings.Join(words, " ")) }
func (j *journal) String() string      { return strings.Join(j.lines, ", ") }

// slow is a definition of three steps of a minute each that can be undone.
func slow(j *journal) jobs.Definition {
	d := jobs.Definition{Kind: "slow", Title: "Slow",
		OnCancel: func(ctx context.Context, w *jobs.Work) error {
			j.add("cancel")
			w.OnDone(func(tx *store.Tx) error { return tx.SetSetting("canceled", w.Job().ID) })
			return nil
		},
		OnFail: func(ctx context.Context, w *jobs.Work, cause error) error { j.add("fail"); return nil },
		OnEnd:  func(tx *store.Tx, job store.Job) error { j.add("end", string(job.State)); return nil }}
	for _, name := range []string{"one", "two", "three"} {
		d.Steps = append(d.Steps, jobs.StepDef{Name: name,
			Run: func(ctx context.Context, w *jobs.Work) error {
				j.add("run", name)
				w.Set(name, "made")
				if err := sleep(ctx, time.Minute); err != nil {
					if !errors.Is(context.Cause(ctx), jobs.ErrCanceled) {
						j.add("shutdown", name)
					}
					return err
				}
				return nil
			},
			Undo: func(ctx context.Context, w *jobs.Work) error {
				j.add("undo", name, w.Get(name))
				if ctx.Err() != nil {
					j.add("but its context has ended")
				}
				return nil
			}})
	}
	return d
}

func TestACanceledJobIsTakenBackFromTheLastStepToTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := storetest.Open(t)
		var did journal
		e, _ := start(t, st, jobs.Options{}, slow(&did))
		id := ask(t, e, jobs.Spec{Kind: "slow", Machine: "m-1"})
		time.Sleep(90 * time.Second)
		if err := e.Cancel(id); err != nil {
			t.Fatal(err)
		}
		j := wantState(t, st, id, store.Canceled)
		if got, want := did.String(), "run one, run two, undo two made, undo one made, cancel, end canceled"; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		if got := stateOf(j); got != "canceled, canceled, not started" || j.Error != nil {
			t.Errorf("steps are %s, %+v", got, j.Error)
		}
		if got := codes(t, st); got != "started canceled" {
			t.Errorf("events: %s", got)
		}
		settings, _ := store.List(st, store.Settings)
		if len(settings) != 1 || string(settings[0].Value) != `"`+id+`"` {
			t.Errorf("OnDone of OnCancel: %v", settings)
		}
		for name, err := range map[string]error{"cancel": e.Cancel(id), "restart": e.Restart(id), "answer": e.Answer(id, "yes")} {
			p, ok := errors.AsType[*replication.Problem](err)
			if !errors.Is(err, jobs.ErrEnded) || !ok || p.Code != "job.ended" || !strings.Contains(p.Cause, "canceled") {
				t.Errorf("%s of a canceled job: %v", name, err)
			}
		}
		if err := e.Cancel("nobody"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("cancel of no job: %v", err)
		}
		ask(t, e, jobs.Spec{Kind: "slow", Machine: "m-1"}) // the machine is free again
	})
}

func TestAJobCanBeCanceledWhereverItWaits(t *testing.T) {
	for _, c := range []struct {
		name string
		step jobs.StepDef
		wait store.JobState
	}{
		{"to retry", jobs.StepDef{Run: func(context.Context, *jobs.Work) error { return trouble(replication.Retry) }}, store.WaitingToRetry},
		{"for an answer", jobs.StepDef{Run: func(_ context.Context, w *jobs.Work) error { _, err := w.Ask("?"); return err }}, store.WaitingForInput},
		{"after it failed", jobs.StepDef{Run: func(context.Context, *jobs.Work) error { return trouble(replication.Stop) }}, store.Failed},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := storetest.Open(t)
				undone := 0
				c.step.Name = "one"
				c.step.Undo = func(context.Context, *jobs.Work) error { undone++; return nil }
				d := jobs.Definition{Kind: "walk", Steps: []jobs.StepDef{c.step}}
				e, stop := start(t, st, jobs.Options{}, d)
				id := ask(t, e, jobs.Spec{Kind: "walk", Machine: "m-1"})
				wantState(t, st, id, c.wait)
				if err := e.Cancel(id); err != nil {
					t.Fatal(err)
				}
				if j := wantState(t, st, id, store.Canceled); undone != 1 || j.Error != nil || j.Question != "" || !j.NextTry.IsZero() {
					t.Errorf("undone %d times, %+v", undone, j)
				}

				// The same while no engine runs: the next one does it.
				id = ask(t, e, jobs.Spec{Kind: "walk", Machine: "m-1"})
				wantState(t, st, id, c.wait)
				stop()
				if err := e.Cancel(id); err != nil {
					t.Fatal(err)
				}
				start(t, st, jobs.Options{}, d)
				if wantState(t, st, id, store.Canceled); undone != 2 {
					t.Errorf("undone %d times", undone)
				}
			})
		})
	}
}

func TestACancelThatComesTooLateDoesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := storetest.Open(t)
		var e *jobs.Engine
		d := jobs.Definition{Kind: "walk", Steps: []jobs.StepDef{{Name: "one",
			// The step does not care, and is done.
			Run:  func(ctx context.Context, w *jobs.Work) error { return e.Cancel(w.Job().ID) },
			Undo: func(context.Context, *jobs.Work) error { t.Error("undone"); return nil }}}}
		e, _ = start(t, st, jobs.Options{}, d)
		id := ask(t, e, jobs.Spec{Kind: "walk"})
		if j := wantState(t, st, id, store.Succeeded); j.CancelAsk {
			t.Error("the record says that it is being canceled")
		}
	})
}

func TestAFinalStepCannotBeCanceled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := storetest.Open(t)
		e, _ := start(t, st, jobs.Options{}, jobs.Definition{Kind: "erase", Steps: []jobs.StepDef{
			{Name: "look", Run: func(ctx context.Context, w *jobs.Work) error { return sleep(ctx, time.Minute) }},
			{Name: "erase", Final: true, Run: func(ctx context.Context, w *jobs.Work) error { return sleep(ctx, time.Minute) }},
			{Name: "tell", Run: func(ctx context.Context, w *jobs.Work) error { return sleep(ctx, time.Minute) }},
		}})
		early, late := ask(t, e, jobs.Spec{Kind: "erase"}), ask(t, e, jobs.Spec{Kind: "erase"})
		time.Sleep(30 * time.Second)
		if err := e.Cancel(early); err != nil {
			t.Errorf("before the final step: %v", err)
		}
		for range 2 { // in the final step and after it
			time.Sleep(time.Minute)
			err := e.Cancel(late)
			p, ok := errors.AsType[*replication.Problem](err)
			if !ok || p.Code != "job.final" || !strings.Contains(p.Cause, "erase") || p.Action == "" {
				t.Errorf("got %v, want the problem job.final", err)
			}
		}
		time.Sleep(time.Hour)
		wantState(t, st, early, store.Canceled)
		wantState(t, st, late, store.Succeeded)
	})
}

func TestTakingBackObeysRemediesToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := storetest.Open(t)
		var did journal
		var undo []error // one after the other
		d := slow(&did)
		d.Steps[1].Undo = func(ctx context.Context, w *jobs.Work) error {
			did.add("undo two")
			if len(undo) == 0 {
				return nil
			}
			err := undo[0]
			undo = undo[1:]
			return err
		}
		e, _ := start(t, st, jobs.Options{}, d)

		undo = []error{trouble(replication.Retry), trouble(replication.Retry)}
		id := ask(t, e, jobs.Spec{Kind: "slow", Machine: "m-1"})
		time.Sleep(90 * time.Second)
		if err := e.Cancel(id); err != nil {
			t.Fatal(err)
		}
		if j := wantState(t, st, id, store.WaitingToRetry); !j.CancelAsk || j.Attempt != 1 || j.Steps[1].State != store.InProgress {
			t.Errorf("while the undo waits: %+v", j)
		}
		if err := e.Cancel(id); err != nil { // impatient; it changes nothing
			t.Fatal(err)
		}
		wantState(t, st, id, store.WaitingToRetry)
		time.Sleep(time.Hour)
		wantState(t, st, id, store.Canceled)
		if got, want := did.String(), "run one, run two, undo two, undo two, undo two, undo one made, cancel, end canceled"; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}

		// What only a person can mend fails the job; restarted, it goes on with
		// taking back.
		did.lines, undo = nil, []error{trouble(replication.Stop)}
		id = ask(t, e, jobs.Spec{Kind: "slow", Machine: "m-1"})
		time.Sleep(90 * time.Second)
		if err := e.Cancel(id); err != nil {
			t.Fatal(err)
		}
		if j := wantState(t, st, id, store.Failed); !j.CancelAsk || j.Error.Code != "site.away" {
			t.Errorf("after the undo failed: %+v", j)
		}
		if err := e.Restart(id); err != nil {
			t.Fatal(err)
		}
		wantState(t, st, id, store.Canceled)
		if got, want := did.String(), "run one, run two, undo two, end failed, undo two, undo one made, cancel, end canceled"; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	})
}

// An undo may ask a person too.
func TestAnUndoCanAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := storetest.Open(t)
		answer := ""
		e, _ := start(t, st, jobs.Options{}, jobs.Definition{Kind: "walk", Steps: []jobs.StepDef{{Name: "one",
			Run: func(ctx context.Context, w *jobs.Work) error { return sleep(ctx, time.Hour) },
			Undo: func(ctx context.Context, w *jobs.Work) (err error) {
				answer, err = w.Ask("Remove the disk?")
				return err
			}}}})
		id := ask(t, e, jobs.Spec{Kind: "walk"})
		synctest.Wait()
		if err := e.Cancel(id); err != nil {
			t.Fatal(err)
		}
		if j := wantState(t, st, id, store.WaitingForInput); j.Question != "Remove the disk?" {
			t.Errorf("got %+v", j)
		}
		if err := e.Answer(id, "yes"); err != nil {
			t.Fatal(err)
		}
		if wantState(t, st, id, store.Canceled); answer != "yes" {
			t.Errorf("answer %q", answer)
		}
	})
}

func TestAShutdownIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := storetest.Open(t)
		var did journal
		d := slow(&did)
		e, stop := start(t, st, jobs.Options{}, d)
		id := ask(t, e, jobs.Spec{Kind: "slow"})
		time.Sleep(90 * time.Second)
		stop()
		j := wantState(t, st, id, store.InProgress)
		if stateOf(j) != "succeeded, in progress, not started" || j.Attempt != 0 || j.Error != nil || j.Data["two"] != "made" {
			t.Errorf("after the shutdown: %s, %+v", stateOf(j), j)
		}
		began := j.Steps[1].Started
		start(t, st, jobs.Options{}, d)
		time.Sleep(time.Hour)
		j = wantState(t, st, id, store.Succeeded)
		if got, want := did.String(), "run one, run two, shutdown two, run two, run three, end succeeded"; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		if !j.Steps[1].Started.Equal(began) {
			t.Errorf("step two began at %s, then at %s", began, j.Steps[1].Started)
		}
		if got := codes(t, st); got != "started succeeded" {
			t.Errorf("events: %s", got)
		}
	})
}

// Cancel and the shutdown at once, at every moment of the job: it ends canceled,
// everything that ran is undone, and nothing is undone that did not run.
func TestACancelSurvivesAShutdown(t *testing.T) {
	for at := time.Duration(0); at < 3*time.Minute; at += 10 * time.Second {
		synctest.Test(t, func(t *testing.T) {
			st := storetest.Open(t)
			var did journal
			d := slow(&did)
			e, stop := start(t, st, jobs.Options{}, d)
			id := ask(t, e, jobs.Spec{Kind: "slow"})
			time.Sleep(at)
			go stop()
			if err := e.Cancel(id); err != nil {
				t.Fatal(err)
			}
			stop()
			start(t, st, jobs.Options{}, d)
			time.Sleep(time.Hour)
			wantState(t, st, id, store.Canceled)
			ran, undone := map[string]bool{}, map[string]bool{}
			for _, line := range did.lines {
				if name, ok := strings.CutPrefix(line, "run "); ok {
					ran[name] = true
				}
				if rest, ok := strings.CutPrefix(line, "undo "); ok {
					undone[strings.Fields(rest)[0]] = true
				}
			}
			for _, name := range []string{"one", "two", "three"} {
				if ran[name] && !undone[name] {
					t.Errorf("canceled after %s: %s ran and was not undone: %s", at, name, &did)
				}
			}
		})
	}
}

func TestAnAnswerLetsTheJobGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := storetest.Open(t)
		d := jobs.Definition{Kind: "failback", Title: "Failback", Steps: steps("sync complete", func(ctx context.Context, w *jobs.Work) error {
			if w.Step() == "sync" {
				return nil
			}
			first, err := w.Ask("Complete the failback now?")
			if err != nil {
				return err
			}
			second, err := w.Ask("Really?")
			if err != nil {
				return err
			}
			w.Evidence("answers", first+"/"+second)
			return nil
		})}
		e, stop := start(t, st, jobs.Options{}, d)
		id := ask(t, e, jobs.Spec{Kind: "failback", Name: "web01"})
		time.Sleep(24 * time.Hour)
		if j := wantState(t, st, id, store.WaitingForInput); j.Question != "Complete the failback now?" || stateOf(j) != "succeeded, waiting for input" {
			t.Errorf("got %+v", j)
		}
		// A restart does not forget the question, nor the answer given meanwhile.
		stop()
		if err := e.Answer(id, "yes"); err != nil {
			t.Fatal(err)
		}
		e, _ = start(t, st, jobs.Options{}, d)
		if j := wantState(t, st, id, store.WaitingForInput); j.Question != "Really?" {
			t.Errorf("got %+v", j)
		}
		if err := e.Answer(id, strings.Repeat("x", 5000)); err == nil {
			t.Error("an answer of 5000 bytes was taken")
		}
		if err := e.Answer(id, ""); err != nil { // empty is an answer too
			t.Fatal(err)
		}
		j := wantState(t, st, id, store.Succeeded)
		if got := j.Steps[1].Evidence[0].Value; got != "yes/" || j.Question != "" {
			t.Errorf("answers %q, question %q", got, j.Question)
		}
		if got := codes(t, st); got != "started waiting waiting succeeded" {
			t.Errorf("events: %s", got)
		}
		if err := e.Answer(id, "no"); !errors.Is(err, jobs.ErrEnded) {
			t.Errorf("an answer afterwards: %v", err)
		}
	})
}

// A new version meets jobs that an older one began.
func TestJobsOfAnotherVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := storetest.Open(t)
		var did journal
		note := func(ctx context.Context, w *jobs.Work) error { did.add(w.Step()); return nil }
		hang := func(ctx context.Context, w *jobs.Work) error { return sleep(ctx, time.Hour) }
		e, stop := start(t, st, jobs.Options{MaxParallel: 2},
			jobs.Definition{Kind: "walk", Steps: steps("one two", hang)}, jobs.Definition{Kind: "gone", Steps: steps("one", hang)})
		begun, gone := ask(t, e, jobs.Spec{Kind: "walk"}), ask(t, e, jobs.Spec{Kind: "gone"})
		synctest.Wait()
		fresh := ask(t, e, jobs.Spec{Kind: "walk"})
		stop()
		undo := steps("zero one two", note)
		undo[1].Undo = func(ctx context.Context, w *jobs.Work) error { did.add("undo", w.Step()); return nil }
		e, _ = start(t, st, jobs.Options{}, jobs.Definition{Kind: "walk", Steps: undo})
		if j := wantState(t, st, fresh, store.Succeeded); did.String() != "zero, one, two" || len(j.Steps) != 3 {
			t.Errorf("a job that had not begun did %s", &did)
		}
		if j := wantState(t, st, begun, store.Failed); j.Error.Code != "job.steps" || j.Error.Action == "" {
			t.Errorf("a job that had begun: %+v", j.Error)
		}
		if j := wantState(t, st, gone, store.Failed); j.Error.Code != "job.unknown" || j.Error.Action == "" {
			t.Errorf("a job of an unknown kind: %+v", j.Error)
		}
		did.lines = nil
		if err := e.Cancel(begun); err != nil {
			t.Fatal(err)
		}
		if wantState(t, st, begun, store.Canceled); did.String() != "undo one" {
			t.Errorf("taking back did %s", &did)
		}
	})
}

// Cancel is durable before the engine hears of it. A step that ends in between
// must not make the job wait, or fail, over it.
func TestACancelThatWasNotHeardYetIsObeyed(t *testing.T) {
	for name, end := range map[string]func(w *jobs.Work) error{
		"a retry":    func(*jobs.Work) error { return trouble(replication.Retry) },
		"a failure":  func(*jobs.Work) error { return trouble(replication.Stop) },
		"a question": func(w *jobs.Work) error { _, err := w.Ask("?"); return err },
		"success":    func(*jobs.Work) error { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := storetest.Open(t)
				undone := 0
				e, _ := start(t, st, jobs.Options{}, jobs.Definition{Kind: "walk", Steps: []jobs.StepDef{
					{Name: "one",
						Run: func(_ context.Context, w *jobs.Work) error {
							// What Cancel does first.
							_, err := store.Change(st, store.Jobs, w.Job().ID, func(j *store.Job) error { j.CancelAsk = true; return nil })
							return errors.Join(err, end(w))
						},
						Undo: func(context.Context, *jobs.Work) error { undone++; return nil }},
					{Name: "two", Run: func(context.Context, *jobs.Work) error { t.Error("step two ran"); return nil }},
				}})
				id := ask(t, e, jobs.Spec{Kind: "walk"})
				if wantState(t, st, id, store.Canceled); undone != 1 {
					t.Errorf("undone %d times", undone)
				}
			})
		})
	}
}

// Whoever restarts a job the moment it failed meets a goroutine that is about to
// leave: the restart is not lost.
func TestARestartAtTheMomentOfTheFailureIsNotLost(t *testing.T) {
	st := storetest.Open(t)
	const restarts = 300
	runs := 0
	e, _ := start(t, st, jobs.Options{}, jobs.Definition{Kind: "walk", Steps: steps("one", func(context.Context, *jobs.Work) error {
		if runs++; runs <= restarts {
			return trouble(replication.Stop)
		}
		return nil
	})})
	nudge, _, cancel := st.Subscribe()
	defer cancel()
	id := ask(t, e, jobs.Spec{Kind: "walk", Machine: "m-1"})
	patience := time.After(time.Minute)
	for job(t, st, id).State != store.Succeeded {
		err := e.Restart(id)
		if err != nil && !errors.Is(err, jobs.ErrEnded) { // it is under way
			t.Fatal(err)
		}
		if err == nil {
			continue
		}
		select {
		case <-nudge:
		case <-patience:
			t.Fatalf("the job stands still as %s after %d runs", job(t, st, id).State, runs)
		}
	}
	if runs != restarts+1 {
		t.Errorf("%d runs, want %d", runs, restarts+1)
	}
}
