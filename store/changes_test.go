package store_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"riparo/store"
	"riparo/store/storetest"
)

func nudged(nudge <-chan struct{}) bool {
	select {
	case <-nudge:
		return true
	default:
		return false
	}
}

func TestSubscribersLearnWhatChangedOnce(t *testing.T) {
	st := storetest.Open(t)
	nudge, changed, cancel := st.Subscribe()
	defer cancel()
	if nudged(nudge) || len(changed()) != 0 {
		t.Error("a nudge before anything happened")
	}
	for range 3 {
		update(t, st, func(tx *store.Tx) error {
			return errors.Join(
				tx.Sites().Put(store.Site{Name: "rome"}),
				tx.Jobs().Put(store.Job{ID: "j-1", State: store.InProgress}),
				tx.AddEvent(store.Event{Code: "x"}),
				tx.SetSetting("id", 1),
				tx.Sessions().Put(store.Session{ID: "s"}), // nobody's business
			)
		})
	}
	st.Touch("job/live")
	if !nudged(nudge) || nudged(nudge) {
		t.Error("want one nudge")
	}
	if got, want := changed(), []string{"event", "job/j-1", "job/live", "setting/id", "site/rome"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := changed(); len(got) != 0 {
		t.Errorf("taken twice: %v", got)
	}
	if err := store.Delete(st, store.Sites, "rome"); err != nil {
		t.Fatal(err)
	}
	if got := changed(); !nudged(nudge) || !slices.Equal(got, []string{"site/rome"}) {
		t.Errorf("after Delete: got %v", got)
	}
}

func TestWhatDidNotHappenIsNotTold(t *testing.T) {
	st := storetest.Open(t)
	nudge, changed, cancel := st.Subscribe()
	st.Update(func(tx *store.Tx) error {
		tx.Sites().Put(store.Site{Name: "rome"})
		return errors.New("no")
	})
	if err := store.Delete(st, store.Sites, "oslo"); err != nil {
		t.Fatal(err)
	}
	if nudged(nudge) || len(changed()) != 0 {
		t.Error("a change that did not happen was told")
	}
	cancel()
	cancel() // twice is harmless
	if err := store.Put(st, store.Sites, store.Site{Name: "rome"}); err != nil {
		t.Fatal(err)
	}
	if nudged(nudge) {
		t.Error("told after cancel")
	}
}

// A subscriber that never looks costs a bounded set, and nobody waits for it.
func TestASubscriberThatSleepsHoldsNobodyUp(t *testing.T) {
	st := storetest.Open(t)
	nudge, changed, cancel := st.Subscribe()
	defer cancel()
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for i := range 5000 {
				st.Touch(fmt.Sprintf("machine/%d-%d", w, i))
			}
		})
	}
	writers.Wait()
	if got := changed(); !nudged(nudge) || !slices.Equal(got, []string{store.Everything}) {
		t.Errorf("got %d names, want %q", len(got), store.Everything)
	}
	st.Touch("machine/1")
	if got := changed(); !slices.Equal(got, []string{"machine/1"}) {
		t.Errorf("afterwards: got %v", got)
	}
}
