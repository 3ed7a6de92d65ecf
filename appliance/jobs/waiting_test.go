package jobs_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"riparo/appliance/jobs"
	"riparo/replication"
	"riparo/store"
	"riparo/store/storetest"
)

// TestAJobThatWaitsForSomethingIsNoFailure: nobody is warned, nobody's place is taken, and
// whoever ends what it waits for lets it go on at once.
func TestAJobThatWaitsForSomethingIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := storetest.Open(t)
		began := time.Now()
		closed := true
		var tries []int
		waits := func(context.Context, *jobs.Work) error {
			tries = append(tries, int(time.Since(began)/time.Minute))
			if closed {
				return fmt.Errorf("send: %w", &jobs.Waiting{Why: trouble(replication.Retry).(*replication.Problem), Still: func(*store.Tx) bool { return closed }})
			}
			return nil
		}
		e, _ := start(t, st, jobs.Options{MaxParallel: 1}, jobs.Definition{Kind: "walk", Steps: steps("one", waits)},
			jobs.Definition{Kind: "run", Steps: steps("one", func(context.Context, *jobs.Work) error { return nil })})
		id := ask(t, e, jobs.Spec{Kind: "walk"})
		time.Sleep(50 * time.Minute)
		j := wantState(t, st, id, store.WaitingToRetry)
		if got := fmt.Sprint(tries); got != "[0 30]" || j.Attempt != 0 || j.Error == nil || j.Error.Code != "site.away" {
			t.Errorf("tried at minutes %s; %+v, %+v", got, j, j.Error)
		}
		other := ask(t, e, jobs.Spec{Kind: "run"})
		wantState(t, st, other, store.Succeeded)
		closed = false
		if err := e.Restart(id); err != nil {
			t.Fatal(err)
		}
		if j := wantState(t, st, id, store.Succeeded); j.Error != nil {
			t.Errorf("at the end: %+v", j.Error)
		}
		if got := codes(t, st); got != "started started succeeded succeeded" {
			t.Errorf("events: %s", got)
		}
	})
}

// TestWhatAJobWaitsForMayEndBeforeThatIsSaved: then it does not wait.
func TestWhatAJobWaitsForMayEndBeforeThatIsSaved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := storetest.Open(t)
		tries := 0
		e, _ := start(t, st, jobs.Options{}, jobs.Definition{Kind: "walk", Steps: steps("one", func(context.Context, *jobs.Work) error {
			if tries++; tries == 1 {
				return &jobs.Waiting{Why: trouble(replication.Retry).(*replication.Problem), Still: func(*store.Tx) bool { return false }}
			}
			return nil
		})})
		wantState(t, st, ask(t, e, jobs.Spec{Kind: "walk"}), store.Succeeded)
	})
}

// TestAJobGoesOnWithoutTheReasonOfItsWait: what it waited for is over while it works, and a
// cancel ends it while it waits.
func TestAJobGoesOnWithoutTheReasonOfItsWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := storetest.Open(t)
		closed := true
		e, _ := start(t, st, jobs.Options{}, jobs.Definition{Kind: "walk", Steps: steps("one", func(ctx context.Context, _ *jobs.Work) error {
			if closed {
				return &jobs.Waiting{Why: trouble(replication.Retry).(*replication.Problem), Still: func(*store.Tx) bool { return closed }}
			}
			return sleep(ctx, time.Hour)
		})})
		id, other := ask(t, e, jobs.Spec{Kind: "walk"}), ask(t, e, jobs.Spec{Kind: "walk"})
		wantState(t, st, id, store.WaitingToRetry)
		if err := e.Cancel(other); err != nil {
			t.Fatal(err)
		}
		wantState(t, st, other, store.Canceled)
		closed = false
		if err := e.Restart(id); err != nil {
			t.Fatal(err)
		}
		if j := wantState(t, st, id, store.InProgress); j.Error != nil {
			t.Errorf("while it works: %+v", j.Error)
		}
	})
}
