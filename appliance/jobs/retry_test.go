package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"riparo/appliance/jobs"
	"riparo/replication"
	"riparo/store"
	"riparo/store/storetest"
)

// trouble is a problem with a remedy.
func trouble(remedy replication.Remedy) error {
	return &replication.Problem{Code: "site.away", Cause: "the site cannot be reached", Effect: "nothing is sent",
		Action: "check the network", Remedy: remedy}
}

func TestWhatMayPassIsTriedAgainByTheSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := storetest.Open(t)
		began := time.Now()
		var tries []int
		e, _ := start(t, st, jobs.Options{}, jobs.Definition{Kind: "walk", Steps: steps("one two", func(ctx context.Context, w *jobs.Work) error {
			if w.Step() == "one" {
				return nil
			}
			tries = append(tries, int(time.Since(began)/time.Minute))
			if len(tries) < 10 {
				return fmt.Errorf("send: %w", trouble(replication.Retry))
			}
			return nil
		})})
		id := ask(t, e, jobs.Spec{Kind: "walk", Name: "web01"})
		time.Sleep(30 * time.Second)
		j := wantState(t, st, id, store.WaitingToRetry)
		if j.Attempt != 1 || !j.NextTry.Equal(began.Add(time.Minute)) || j.Steps[1].State != store.WaitingToRetry ||
			j.Error.Code != "site.away" || j.Error.Cause != "send: the site cannot be reached" || j.Error.Action != "check the network" {
			t.Errorf("while it waits: %+v, %+v", j, j.Error)
		}
		time.Sleep(4 * time.Hour)
		j = wantState(t, st, id, store.Succeeded)
		// 1, 2, 4, 8, 10, then every 30 minutes.
		if got, want := fmt.Sprint(tries), "[0 1 3 7 15 25 55 85 115 145]"; got != want {
			t.Errorf("tried at minutes %s, want %s", got, want)
		}
		if j.Attempt != 0 || j.Error != nil || !j.NextTry.IsZero() {
			t.Errorf("at the end: %+v", j)
		}
		if got := codes(t, st); got != "started retrying succeeded" {
			t.Errorf("events: %s", got)
		}
	})
}

func TestTheUnitOfTheScheduleCanBeShorter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := storetest.Open(t)
		began := time.Now()
		var last time.Duration
		n := 0
		e, _ := start(t, st, jobs.Options{RetryUnit: time.Second}, jobs.Definition{Kind: "walk", Attempts: 6,
			Steps: steps("one", func(ctx context.Context, w *jobs.Work) error {
				n, last = n+1, time.Since(began)
				return errors.New("a plain error may pass")
			})})
		id := ask(t, e, jobs.Spec{Kind: "walk"})
		time.Sleep(time.Hour)
		j := wantState(t, st, id, store.Failed)
		if n != 6 || last != 25*time.Second || j.Error.Cause != "a plain error may pass" || j.Steps[0].State != store.Failed {
			t.Errorf("%d tries, the last after %s, want 6 and 25s; %+v", n, last, j)
		}
	})
}

func TestARestartedDaemonKeepsTheTimeOfTheNextTry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := storetest.Open(t)
		began := time.Now()
		var tries []int
		d := jobs.Definition{Kind: "walk", Steps: steps("one", func(ctx context.Context, w *jobs.Work) error {
			tries = append(tries, int(time.Since(began)/time.Minute))
			if len(tries) < 6 {
				return trouble(replication.Retry)
			}
			return nil
		})}
		e, stop := start(t, st, jobs.Options{}, d)
		id := ask(t, e, jobs.Spec{Kind: "walk"})
		for range 40 {
			time.Sleep(47 * time.Second) // never the moment of a try
			stop()
			_, stop = start(t, st, jobs.Options{}, d)
		}
		wantState(t, st, id, store.Succeeded)
		if got, want := fmt.Sprint(tries), "[0 1 3 7 15 25]"; got != want {
			t.Errorf("tried at minutes %s, want %s", got, want)
		}
	})
}

func TestAClockSetBackDoesNotStretchAWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := storetest.Open(t)
		id := store.NewID(time.Now())
		// As a clock that was a year ahead left it.
		err := store.Put(st, store.Jobs, store.Job{ID: id, Kind: "walk", State: store.WaitingToRetry, NextTry: time.Now().AddDate(1, 0, 0),
			Attempt: 7, Steps: []store.Step{{Name: "one", State: store.WaitingToRetry}}})
		if err != nil {
			t.Fatal(err)
		}
		start(t, st, jobs.Options{}, jobs.Definition{Kind: "walk", Steps: steps("one", func(context.Context, *jobs.Work) error { return nil })})
		time.Sleep(29 * time.Minute)
		wantState(t, st, id, store.WaitingToRetry)
		time.Sleep(2 * time.Minute)
		wantState(t, st, id, store.Succeeded)
	})
}

func TestWhatOnlyAPersonCanMendStopsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := storetest.Open(t)
		mended, ends := false, 0
		var runs []string
		e, _ := start(t, st, jobs.Options{}, jobs.Definition{Kind: "walk", Title: "Walk",
			Steps: steps("one two three", func(ctx context.Context, w *jobs.Work) error {
				runs = append(runs, w.Step())
				w.Set("saw", w.Get("saw")+w.Step()+" ")
				if w.Step() == "two" && !mended {
					w.Evidence("answer", "401")
					w.OnDone(func(*store.Tx) error { t.Error("OnDone of a step that failed"); return nil })
					return trouble(replication.Stop)
				}
				return nil
			}),
			OnFail: func(ctx context.Context, w *jobs.Work, cause error) error {
				if w.Step() != "two" || cause.Error() != trouble(replication.Stop).Error() {
					t.Errorf("OnFail at %s with %v", w.Step(), cause)
				}
				w.OnDone(func(tx *store.Tx) error { return tx.SetSetting("health", "critical") })
				return errors.New("could not be told")
			},
			OnEnd: func(tx *store.Tx, j store.Job) error {
				ends++
				return tx.SetSetting("end", j.State)
			}})
		id := ask(t, e, jobs.Spec{Kind: "walk", Machine: "m-1", Name: "web01"})
		j := wantState(t, st, id, store.Failed)
		if stateOf(j) != "succeeded, failed, not started" || j.Error.Code != "site.away" || j.Error.Level != store.SeverityCritical ||
			!strings.Contains(j.Error.Cause, "and then: could not be told") || j.Data["saw"] != "one two " || j.Steps[1].Evidence[0].Value != "401" {
			t.Errorf("got %s, %+v, %v", stateOf(j), j.Error, j.Data)
		}
		events, _ := store.List(st, store.Events)
		last := events[len(events)-1]
		if last.Code != jobs.EventFailed || last.Severity != store.SeverityCritical || last.Machine != "m-1" || last.Args["step"] != "two" ||
			last.Action != "check the network" || !strings.HasPrefix(last.Text, "web01: Walk failed at “two”: the site cannot be reached") {
			t.Errorf("event: %+v", last)
		}
		var health, end string
		err := st.View(func(tx *store.Tx) error {
			_, err1 := tx.Setting("health", &health)
			_, err2 := tx.Setting("end", &end)
			return errors.Join(err1, err2)
		})
		if err != nil || health != "critical" || end != "failed" {
			t.Errorf("settings %q, %q, %v", health, end, err)
		}

		// Restarted, it goes on at the failed step.
		mended = true
		if err := e.Restart(id); err != nil {
			t.Fatal(err)
		}
		j = wantState(t, st, id, store.Succeeded)
		if got := strings.Join(runs, " "); got != "one two two three" || j.Error != nil || ends != 2 {
			t.Errorf("ran %s, ended %d times, %+v", got, ends, j.Error)
		}
		if got := codes(t, st); got != "started failed succeeded" {
			t.Errorf("events: %s", got)
		}
		if err := e.Restart(id); !errors.Is(err, jobs.ErrEnded) {
			t.Errorf("restart of a job that succeeded: %v", err)
		}
	})
}

func TestAFailedJobDoesNotRestartBesideAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := storetest.Open(t)
		e, _ := start(t, st, jobs.Options{},
			jobs.Definition{Kind: "fail", Steps: steps("one", func(context.Context, *jobs.Work) error { return trouble(replication.Stop) })},
			jobs.Definition{Kind: "wait", Steps: steps("one", func(ctx context.Context, w *jobs.Work) error { return sleep(ctx, time.Hour) })})
		id := ask(t, e, jobs.Spec{Kind: "fail", Machine: "m-1"})
		wantState(t, st, id, store.Failed)
		ask(t, e, jobs.Spec{Kind: "wait", Machine: "m-1"})
		for name, err := range map[string]error{"restart": e.Restart(id), "cancel": e.Cancel(id)} {
			if !errors.Is(err, jobs.ErrBusy) {
				t.Errorf("%s: got %v, want ErrBusy", name, err)
			}
		}
		wantState(t, st, id, store.Failed)
		time.Sleep(2 * time.Hour)
		if err := e.Restart(id); err != nil {
			t.Error(err)
		}
		wantState(t, st, id, store.Failed)
	})
}

func TestRestartOfAWaitingJobTriesNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := storetest.Open(t)
		tries := 0
		e, _ := start(t, st, jobs.Options{}, jobs.Definition{Kind: "walk", Steps: steps("one", func(context.Context, *jobs.Work) error {
			if tries++; tries < 3 {
				return trouble(replication.Retry)
			}
			return nil
		})})
		id := ask(t, e, jobs.Spec{Kind: "walk"})
		for want := 1; want < 3; want++ {
			if j := wantState(t, st, id, store.WaitingToRetry); j.Attempt != want || tries != want {
				t.Errorf("attempt %d, %d tries; want %d", j.Attempt, tries, want)
			}
			if err := e.Restart(id); err != nil {
				t.Fatal(err)
			}
		}
		wantState(t, st, id, store.Succeeded)
	})
}

func TestResyncIsTheDefinitionsMatter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := storetest.Open(t)
		began := time.Now()
		var log []string
		note := func(what string) { log = append(log, fmt.Sprintf("%s@%d", what, time.Since(began)/time.Minute)) }
		fails, broken := 3, false
		d := jobs.Definition{Kind: "copy", Steps: steps("send", func(context.Context, *jobs.Work) error {
			note("send")
			if fails--; fails >= 0 {
				return trouble(replication.Resync)
			}
			return nil
		}), OnResync: func(ctx context.Context, w *jobs.Work, cause error) error {
			note("resync")
			w.OnDone(func(*store.Tx) error { t.Error("OnDone of a resync"); return nil })
			if broken {
				return errors.New("the vault is gone")
			}
			return nil
		}}
		without := d
		without.Kind, without.OnResync = "plain", nil
		e, _ := start(t, st, jobs.Options{}, d, without)
		id := ask(t, e, jobs.Spec{Kind: "copy"})
		time.Sleep(time.Hour)
		wantState(t, st, id, store.Succeeded)
		// Once at once, then by the schedule.
		if got, want := strings.Join(log, " "), "send@0 resync@0 send@0 resync@0 send@2 resync@2 send@6"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		fails, broken = 1, true
		j := wantState(t, st, ask(t, e, jobs.Spec{Kind: "copy"}), store.Failed)
		if j.Error.Code != "site.away" || !strings.Contains(j.Error.Cause, "the vault is gone") {
			t.Errorf("got %+v", j.Error)
		}
		fails = 1
		wantState(t, st, ask(t, e, jobs.Spec{Kind: "plain"}), store.Failed)
	})
}

// A mistake in one step must not end the daemon.
func TestAPanicFailsTheJobAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := storetest.Open(t)
		ok := func(context.Context, *jobs.Work) error { return nil }
		e, _ := start(t, st, jobs.Options{},
			jobs.Definition{Kind: "run", Steps: steps("one", func(context.Context, *jobs.Work) error { panic("oh") })},
			jobs.Definition{Kind: "skip", Steps: []jobs.StepDef{{Name: "one", Run: ok, Skip: func(*jobs.Work) bool { panic("oh") }}}},
			jobs.Definition{Kind: "done", Steps: steps("one", func(_ context.Context, w *jobs.Work) error {
				w.OnDone(func(*store.Tx) error { panic("oh") })
				return nil
			})},
			jobs.Definition{Kind: "end", Steps: steps("one", ok), OnEnd: func(*store.Tx, store.Job) error { panic("oh") }})
		for _, kind := range []string{"run", "skip", "done", "end"} {
			j := wantState(t, st, ask(t, e, jobs.Spec{Kind: kind}), store.Failed)
			if j.Error.Code != "job.panic" || !strings.Contains(j.Error.Cause, "oh") {
				t.Errorf("%s: %+v", kind, j.Error)
			}
		}
	})
}

func TestWhatOnDoneRefusesFailsTheStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := storetest.Open(t)
		refuse := true
		e, _ := start(t, st, jobs.Options{}, jobs.Definition{Kind: "walk", Steps: steps("one", func(_ context.Context, w *jobs.Work) error {
			w.OnDone(func(tx *store.Tx) error { return tx.SetSetting("half", 1) })
			w.OnDone(func(tx *store.Tx) error {
				if refuse {
					return trouble(replication.Stop)
				}
				return nil
			})
			return nil
		})})
		id := ask(t, e, jobs.Spec{Kind: "walk"})
		j := wantState(t, st, id, store.Failed)
		if settings, _ := store.List(st, store.Settings); len(settings) != 0 || j.Error.Code != "site.away" {
			t.Errorf("left %v, %+v", settings, j.Error)
		}
		refuse = false
		if err := e.Restart(id); err != nil {
			t.Fatal(err)
		}
		wantState(t, st, id, store.Succeeded)
	})
}

func TestAFullStoreHoldsAJobUpAndDoesNotFailIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, err := store.Open(filepath.Join(t.TempDir(), "state.db"), store.Options{NoSync: true, MaxBytes: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := errors.Join(st.Check(), st.Close()); err != nil {
				t.Error(err)
			}
		})
		runs := 0
		e, _ := start(t, st, jobs.Options{}, jobs.Definition{Kind: "walk", Steps: steps("one two", func(ctx context.Context, w *jobs.Work) error {
			runs++
			w.Set("big", strings.Repeat("x", 60_000))
			return sleep(ctx, time.Minute)
		})})
		id := ask(t, e, jobs.Spec{Kind: "walk"})
		synctest.Wait()
		n := 0
		for ; err == nil; n++ {
			err = store.Put(st, store.Sites, store.Site{Name: fmt.Sprint(n), Address: strings.Repeat("x", 20_000)})
		}
		if p := replication.AsProblem(err); p.Code != "store.full" {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if j := wantState(t, st, id, store.InProgress); runs != 1 {
			t.Errorf("while the store is full: %s after %d runs", stateOf(j), runs)
		}
		err = st.Update(func(tx *store.Tx) error {
			for i := range n {
				if err := tx.Sites().Delete(fmt.Sprint(i)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		wantState(t, st, id, store.Succeeded)
		if runs != 2 {
			t.Errorf("the two steps ran %d times", runs)
		}
	})
}

func TestAStoreThatIsGoneEndsTheEngine(t *testing.T) {
	st := storetest.Open(t)
	began := make(chan struct{})
	e, err := jobs.New(st, jobs.Options{}, jobs.Definition{Kind: "walk", Steps: steps("one", func(ctx context.Context, w *jobs.Work) error {
		close(began)
		<-ctx.Done()
		return nil
	})}, jobs.Definition{Kind: "quick", Steps: steps("one", func(context.Context, *jobs.Work) error { <-began; return st.Close() })})
	if err != nil {
		t.Fatal(err)
	}
	ask(t, e, jobs.Spec{Kind: "walk"})
	ask(t, e, jobs.Spec{Kind: "quick"})
	if err := e.Run(t.Context()); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Run: got %v, want ErrClosed", err)
	}
}
