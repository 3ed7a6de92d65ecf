package store

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"
)

func TestTheOldestGiveWay(t *testing.T) {
	const bound, more = 50, 7
	events, jobs := Events.limit, Jobs.limit
	if events != MaxEvents || jobs != MaxJobs {
		t.Errorf("bounds %d and %d, want %d and %d", events, jobs, MaxEvents, MaxJobs)
	}
	Events.limit, Jobs.limit = bound, bound
	defer func() { Events.limit, Jobs.limit = events, jobs }()

	s, err := Open(filepath.Join(t.TempDir(), "state.db"), Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	for i := range bound + more {
		err := s.Update(func(tx *Tx) error {
			state := Succeeded
			if i == 0 {
				state = WaitingForInput
			}
			return errors.Join(
				tx.Jobs().Put(Job{ID: fmt.Sprintf("%04d", i), Machine: "m-1", State: state}),
				tx.AddEvent(Event{Machine: "m-1", Text: fmt.Sprint(i)}))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	err = s.View(func(tx *Tx) error {
		events, err1 := tx.Events().Page("", MaxPage, false)
		if len(events) != bound || events[0].Text != fmt.Sprint(more) {
			t.Errorf("%d events, the oldest is number %s; want %d and %d", len(events), events[0].Text, bound, more)
		}
		// Job 0 has not ended: it stays, and one more of the others went.
		jobs, err2 := tx.JobsOf("m-1").Page("", MaxPage, false)
		if len(jobs) != bound || jobs[0].ID != "0000" || jobs[1].ID != fmt.Sprintf("%04d", more+1) {
			t.Errorf("%d jobs, the oldest are %s and %s", len(jobs), jobs[0].ID, jobs[1].ID)
		}
		return errors.Join(err1, err2)
	})
	if err := errors.Join(err, s.Check(), s.Close()); err != nil {
		t.Error(err)
	}
}
