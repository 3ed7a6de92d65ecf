package api

import (
	"errors"
	"math"
	"testing"
	"time"

	"riparo/store"
	"riparo/store/storetest"
)

var noon = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

func hour(h float64) time.Time { return noon.Add(time.Duration(h * float64(time.Hour))) }

// TestComplianceIsTheShareOfTheTimeThatWasNotLate judges ten hours, from 0 to 10.
func TestComplianceIsTheShareOfTheTimeThatWasNotLate(t *testing.T) {
	at := func(h float64, code string, kind ...string) store.Event {
		e := store.Event{Time: hour(h), Code: code}
		if len(kind) > 0 {
			e.Args = map[string]string{"kind": kind[0]}
		}
		return e
	}
	for _, row := range []struct {
		name              string
		story             []store.Event
		late              bool
		met               float64
		breaches          int
		longest, observed float64
	}{
		{"never late", nil, false, 100, 0, 0, 10},
		{"late for an hour", []store.Event{at(3, "rpo.breached"), at(4, "rpo.met")}, false, 90, 1, 1, 10},
		{"late twice", []store.Event{at(1, "rpo.breached"), at(1.5, "rpo.met"), at(6, "rpo.breached"), at(8, "rpo.met")}, false, 75, 2, 2, 10},
		{"late since before", []store.Event{at(-3, "rpo.breached"), at(1, "rpo.met")}, false, 90, 1, 1, 10},
		{"late before, and not in the period", []store.Event{at(-3, "rpo.breached"), at(-1, "rpo.met")}, false, 100, 0, 0, 10},
		{"late until now", []store.Event{at(7, "rpo.breached")}, true, 70, 1, 3, 10},
		{"told twice", []store.Event{at(7, "rpo.breached"), at(8, "rpo.breached"), at(9, "rpo.met")}, false, 80, 1, 2, 10},
		{"ended without a word", []store.Event{at(2, "rpo.breached"), at(3, "replication.paused")}, false, 90, 1, 1, 10},
		{"failed over for five hours", []store.Event{at(1, "rpo.breached"), at(2, "job.succeeded", "unplanned-failover"), at(3, "rpo.breached"), at(7, "job.succeeded", "reverse-replicate")}, false, 80, 1, 1, 5},
		{"failed over still", []store.Event{at(5, "job.succeeded", "planned-failover")}, false, 100, 0, 0, 5},
		{"tested", []store.Event{at(5, "job.succeeded", "test-failover")}, false, 100, 0, 0, 10},
	} {
		c := Compliance{Threshold: 900, Since: hour(0), Until: hour(10)}
		var story []heard
		for _, e := range row.story {
			story = append(story, hear(&e))
		}
		c.judge(story, row.late)
		if c.Met == nil {
			t.Errorf("%s: not judged", row.name)
			continue
		}
		if math.Abs(*c.Met-row.met) > 0.01 || c.Breaches != row.breaches || c.Longest != row.longest*3600 || c.Observed != row.observed*3600 {
			t.Errorf("%s: met %.2f %%, %d breaches, longest %.0f s, observed %.0f s; want %.2f %%, %d, %.0f s, %.0f s",
				row.name, *c.Met, c.Breaches, c.Longest, c.Observed, row.met, row.breaches, row.longest*3600, row.observed*3600)
		}
	}
	none := Compliance{Since: hour(0), Until: hour(10)}
	if none.judge(nil, false); none.Met != nil {
		t.Errorf("without an objective it is met to %.0f %%, want nothing", *none.Met)
	}
}

func TestADrillIsReportedWithItsCleanup(t *testing.T) {
	st := storetest.Open(t)
	job := func(id string, h float64, kind, machine string, state store.JobState, change func(*store.Job)) store.Job {
		j := store.Job{ID: id, Kind: kind, Machine: machine, Name: "WEB01", Actor: "anna", State: state, Created: hour(h), Ended: hour(h + 0.01)}
		if change != nil {
			change(&j)
		}
		return j
	}
	noted := func(j *store.Job) { j.Actor, j.Params = "bruno", map[string]string{"notes": "the shop answered"} }
	seen := func(j *store.Job) {
		j.Data = map[string]string{"point": "p-7"}
		j.Steps = []store.Step{{Name: "choose the recovery point", State: store.Succeeded, Evidence: []store.Fact{{Name: "age", Value: "4s"}}},
			{Name: "see it boot", State: store.Succeeded, Evidence: []store.Fact{{Name: "console", Value: "login:"}}}}
	}
	err := st.Update(func(tx *store.Tx) error {
		return errors.Join(
			tx.Machines().Put(store.Machine{ID: "m-1", Name: "WEB01", Created: hour(-100)}),
			tx.Jobs().Put(job("a", 1, "test-failover", "m-1", store.Succeeded, seen)),
			tx.Jobs().Put(job("b", 2, "cleanup-test-failover", "m-1", store.Failed, noted)),
			tx.Jobs().Put(job("c", 3, "cleanup-test-failover", "m-1", store.Succeeded, noted)),
			tx.Jobs().Put(job("d", 4, "test-failover", "m-1", store.Failed, func(j *store.Job) { j.Error = &store.Finding{Cause: "it printed nothing"} })),
			tx.Jobs().Put(job("e", 5, "test-failover", "m-2", store.Succeeded, nil)),
			tx.Jobs().Put(job("f", 6, "planned-failover", "m-1", store.Succeeded, nil)))
	})
	if err != nil {
		t.Fatal(err)
	}
	var drills []Drill
	if err := st.View(func(tx *store.Tx) (err error) { drills, err = Drills(tx, "", hour(0)); return err }); err != nil {
		t.Fatal(err)
	}
	if len(drills) != 3 {
		t.Fatalf("%d drills, want 3", len(drills))
	}
	gone, failed, passed := drills[0], drills[1], drills[2]
	if !passed.Passed || passed.Point != "p-7" || passed.Age != "4s" || passed.Console != "login:" || passed.RTO < 35 || passed.Notes != "the shop answered" || passed.CleanedBy != "bruno" ||
		!passed.Cleaned.Equal(hour(3.01)) || passed.Due.Before(hour(24*180)) {
		t.Errorf("the one that passed: %+v", passed)
	}
	if failed.Passed || failed.Cause != "it printed nothing" || !failed.Cleaned.IsZero() || failed.Notes != "" || !failed.Due.IsZero() {
		t.Errorf("the one that did not: %+v", failed)
	}
	if !gone.Due.IsZero() {
		t.Errorf("a machine that is not protected is due: %+v", gone)
	}
	if err := st.View(func(tx *store.Tx) (err error) { drills, err = Drills(tx, "m-1", hour(3.5)); return err }); err != nil || len(drills) != 1 {
		t.Errorf("of one machine since 3:30: %d drills, %v", len(drills), err)
	}
}
