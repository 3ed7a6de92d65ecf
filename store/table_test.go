package store_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"riparo/replication"
	"riparo/store"
	"riparo/store/storetest"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func update(t testing.TB, st *store.Store, fn func(tx *store.Tx) error) {
	t.Helper()
	if err := st.Update(fn); err != nil {
		t.Fatal(err)
	}
}

func TestARecordIsReadAsItWasWritten(t *testing.T) {
	st := storetest.Open(t)
	want := store.Site{Name: "rome", Kind: "lab", Address: "sites/rome", Reachable: true}
	if err := store.Put(st, store.Sites, want); err != nil {
		t.Fatal(err)
	}
	got, err := store.Get(st, store.Sites, "rome")
	if err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	changed, err := store.Change(st, store.Sites, "rome", func(s *store.Site) error { s.Reachable = false; return nil })
	if err != nil || changed.Reachable {
		t.Errorf("change: got %+v, %v", changed, err)
	}
	if got, _ := store.Get(st, store.Sites, "rome"); got != changed {
		t.Errorf("after the change: got %+v, want %+v", got, changed)
	}
	has := func(key string) (has bool) {
		t.Helper()
		if err := st.View(func(tx *store.Tx) (err error) { has, err = tx.Sites().Has(key); return err }); err != nil {
			t.Fatal(err)
		}
		return has
	}
	if !has("rome") || has("milan") {
		t.Errorf("there is rome %v and milan %v, want rome only", has("rome"), has("milan"))
	}
	for range 2 { // deleting twice is harmless
		if err := store.Delete(st, store.Sites, "rome"); err != nil {
			t.Fatal(err)
		}
	}
	if has("rome") {
		t.Error("rome is there after it was deleted")
	}
	if _, err := store.Get(st, store.Sites, "rome"); !errors.Is(err, store.ErrNotFound) || !strings.Contains(err.Error(), "rome") {
		t.Errorf("after Delete: got %v, want ErrNotFound that names it", err)
	}
	if _, err := store.Change(st, store.Sites, "rome", func(*store.Site) error { return nil }); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("change of nothing: got %v, want ErrNotFound", err)
	}
}

func TestUsersAreFoundWhateverTheirCase(t *testing.T) {
	st := storetest.Open(t)
	for _, name := range []string{"Anna", "ANNA", "anna"} {
		if err := store.Put(st, store.Users, store.User{Name: name, Role: store.Operator}); err != nil {
			t.Fatal(err)
		}
	}
	users, err := store.List(st, store.Users)
	if err != nil || len(users) != 1 {
		t.Fatalf("got %v, %v; want one user", users, err)
	}
	if u, err := store.Get(st, store.Users, "aNNa"); err != nil || u.Name != "anna" {
		t.Errorf("got %+v, %v", u, err)
	}
	if err := store.Delete(st, store.Users, "ANNA"); err != nil {
		t.Fatal(err)
	}
	if users, _ := store.List(st, store.Users); len(users) != 0 {
		t.Errorf("after Delete: %v", users)
	}
}

func TestKeysThatCannotBeOrderedAreRefused(t *testing.T) {
	st := storetest.Open(t)
	for _, name := range []string{"", "a\x00b", strings.Repeat("x", 513), "\xff\xfe"} {
		if err := store.Put(st, store.Sites, store.Site{Name: name}); err == nil {
			t.Errorf("a site named %q was taken", name)
		}
	}
	for _, machine := range []string{"a\x00b", strings.Repeat("x", 513), "\xff"} {
		if err := store.Put(st, store.Events, store.Event{ID: "e", Machine: machine}); err == nil {
			t.Errorf("an event of the machine %q was taken", machine)
		}
	}
	if err := store.Put(st, store.Exports, store.Export{Name: "big", Owner: strings.Repeat("x", 2<<20)}); err == nil {
		t.Error("a record of 2 MiB was taken")
	}
}

func TestAnUpdateHappensAsAWholeOrNotAtAll(t *testing.T) {
	st := storetest.Open(t)
	boom := errors.New("boom")
	half := func(tx *store.Tx) {
		if err := tx.Sites().Put(store.Site{Name: "rome"}); err != nil {
			t.Error(err)
		}
	}
	if err := st.Update(func(tx *store.Tx) error { half(tx); return boom }); !errors.Is(err, boom) {
		t.Errorf("got %v, want boom", err)
	}
	func() {
		defer func() {
			if p := recover(); p != "bang" {
				t.Errorf("recovered %v, want bang", p)
			}
		}()
		st.Update(func(tx *store.Tx) error { half(tx); panic("bang") })
	}()
	func() {
		defer func() { recover() }()
		st.View(func(tx *store.Tx) error { panic("bang") })
	}()
	sites, err := store.List(st, store.Sites)
	if err != nil || len(sites) != 0 {
		t.Errorf("got %v, %v; want no sites", sites, err)
	}
	// Nothing stayed locked.
	update(t, st, func(tx *store.Tx) error { half(tx); return nil })
	if err := st.View(func(tx *store.Tx) error { return tx.Sites().Put(store.Site{Name: "oslo"}) }); err == nil {
		t.Error("a view could write")
	}
}

func TestPagesGoThroughATableInBothDirections(t *testing.T) {
	st := storetest.Open(t)
	const n = 25
	update(t, st, func(tx *store.Tx) error {
		for i := range n {
			machine := fmt.Sprintf("m-%d", i%3)
			err := tx.Events().Put(store.Event{ID: fmt.Sprintf("%04d", i), Machine: machine, Severity: store.SeverityInfo})
			if err != nil {
				return err
			}
		}
		return nil
	})
	for _, c := range []struct {
		name string
		rows func(*store.Tx) store.Range[store.Event]
		want func(i int) bool
	}{
		{"all", func(tx *store.Tx) store.Range[store.Event] { return tx.Events().Range }, func(int) bool { return true }},
		{"of m-1", func(tx *store.Tx) store.Range[store.Event] { return tx.EventsOf("m-1") }, func(i int) bool { return i%3 == 1 }},
		{"of m", func(tx *store.Tx) store.Range[store.Event] { return tx.EventsOf("m") }, func(int) bool { return false }},
		{"info", func(tx *store.Tx) store.Range[store.Event] { return tx.EventsBy(store.SeverityInfo) }, func(int) bool { return true }},
		{"critical", func(tx *store.Tx) store.Range[store.Event] { return tx.EventsBy(store.SeverityCritical) }, func(int) bool { return false }},
	} {
		for _, reverse := range []bool{false, true} {
			for _, limit := range []int{1, 4, n, 2 * n} {
				var want, got []string
				for i := range n {
					if c.want(i) {
						want = append(want, fmt.Sprintf("%04d", i))
					}
				}
				if reverse {
					slices.Reverse(want)
				}
				err := st.View(func(tx *store.Tx) error {
					for after := ""; ; {
						page, err := c.rows(tx).Page(after, limit, reverse)
						if err != nil {
							return err
						}
						for _, e := range page {
							got = append(got, e.ID)
							after = e.ID
						}
						if len(page) < limit {
							break
						}
					}
					if count, err := c.rows(tx).Count(); err != nil || count != len(want) {
						t.Errorf("%s: Count is %d, %v; want %d", c.name, count, err, len(want))
					}
					return nil
				})
				if err != nil || !slices.Equal(got, want) {
					t.Errorf("%s, reverse %t, limit %d: %v\ngot  %v\nwant %v", c.name, reverse, limit, err, got, want)
				}
			}
		}
	}
	err := st.View(func(tx *store.Tx) error {
		page, err := tx.Events().Page("", 0, false)
		if len(page) != 0 {
			t.Errorf("limit 0: got %d", len(page))
		}
		// A page goes on from a place that is gone.
		page, err2 := tx.Events().Page("0007x", 1, false)
		if len(page) != 1 || page[0].ID != "0008" {
			t.Errorf("after 0007x: got %v", page)
		}
		return errors.Join(err, err2)
	})
	if err != nil {
		t.Error(err)
	}
}

func TestATableMayChangeWhileItIsRead(t *testing.T) {
	st := storetest.Open(t)
	update(t, st, func(tx *store.Tx) error {
		for _, name := range []string{"a", "b", "c", "d"} {
			if err := tx.Sites().Put(store.Site{Name: name}); err != nil {
				return err
			}
		}
		var met []string
		for s, err := range tx.Sites().All() {
			if err != nil {
				return err
			}
			met = append(met, s.Name)
			switch s.Name {
			case "a":
				s.Kind = "seen"
				if err := errors.Join(tx.Sites().Delete("a"), tx.Sites().Delete("b"), tx.Sites().Put(store.Site{Name: "bb"})); err != nil {
					return err
				}
			case "d":
				if err := tx.Sites().Put(store.Site{Name: "0"}); err != nil {
					return err
				}
			}
		}
		if got := strings.Join(met, " "); got != "a bb c d" {
			t.Errorf("met %s, want a bb c d", got)
		}
		return nil
	})
}

func TestIndexesFollowTheirRecords(t *testing.T) {
	st := storetest.Open(t)
	states := func() string {
		var text []string
		err := st.View(func(tx *store.Tx) error {
			for _, s := range []store.JobState{store.NotStarted, store.InProgress, store.Failed, store.Succeeded} {
				n, err := tx.JobsIn(s).Count()
				if err != nil {
					return err
				}
				text = append(text, fmt.Sprint(n))
			}
			unfinished, err := tx.UnfinishedJobs("m-1").Count()
			text = append(text, fmt.Sprint(unfinished))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(text, " ")
	}
	for _, step := range []struct {
		state store.JobState
		want  string
	}{
		{store.NotStarted, "1 0 0 0 1"}, {store.InProgress, "0 1 0 0 1"}, {store.Failed, "0 0 1 0 0"},
		{store.InProgress, "0 1 0 0 1"}, {store.Succeeded, "0 0 0 1 0"},
	} {
		if err := store.Put(st, store.Jobs, store.Job{ID: "j", Machine: "m-1", State: step.state}); err != nil {
			t.Fatal(err)
		}
		if got := states(); got != step.want {
			t.Errorf("%s: got %s, want %s", step.state, got, step.want)
		}
	}
	if err := store.Delete(st, store.Jobs, "j"); err != nil {
		t.Fatal(err)
	}
	if got := states(); got != "0 0 0 0 0" {
		t.Errorf("deleted: got %s", got)
	}
}

func TestSettingsKeepSmallValues(t *testing.T) {
	st := storetest.Open(t)
	type smtp struct{ Host string }
	update(t, st, func(tx *store.Tx) error {
		var got smtp
		if found, err := tx.Setting("smtp", &got); found || err != nil {
			t.Errorf("before: %t, %v", found, err)
		}
		return tx.SetSetting("smtp", smtp{"mail"})
	})
	err := st.View(func(tx *store.Tx) error {
		var got smtp
		if found, err := tx.Setting("smtp", &got); !found || err != nil || got.Host != "mail" {
			t.Errorf("after: %t, %v, %+v", found, err, got)
		}
		var wrong int
		if _, err := tx.Setting("smtp", &wrong); err == nil || !strings.Contains(err.Error(), "smtp") {
			t.Errorf("as a number: %v; want an error that names the setting", err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestIDsSortByTime(t *testing.T) {
	var ids []string
	now := noon
	for i := range 20_000 {
		if i%5_000 == 0 {
			now = now.Add(time.Millisecond)
		}
		ids = append(ids, store.NewID(now))
	}
	if !slices.IsSorted(ids) {
		t.Error("IDs of one process do not sort in the order in which they were made")
	}
	slices.Sort(ids)
	if n := len(slices.Compact(ids)); n != 20_000 {
		t.Errorf("%d different IDs of 20000", n)
	}
	later, earlier := store.NewID(noon.Add(time.Hour)), store.NewID(noon.Add(-time.Hour))
	if !(earlier < ids[0] && ids[len(ids)-1] < later) {
		t.Errorf("%s, %s, %s do not sort by time", earlier, ids[0], later)
	}
	if !strings.HasPrefix(later, "20261123T130000.000Z-") {
		t.Errorf("got %s", later)
	}
}

// TestEventsFollowOneAnotherWhateverTheClockSays: who follows them looks for those behind
// the last one that they saw.
func TestEventsFollowOneAnotherWhateverTheClockSays(t *testing.T) {
	st := storetest.Open(t)
	var want []string
	for i, at := range []time.Time{noon, noon.AddDate(1, 0, 0), noon.AddDate(1, 0, 0), noon, noon.Add(time.Second), noon.AddDate(-3, 0, 0), noon.AddDate(2, 0, 0), noon} {
		e := store.Event{Time: at, Severity: store.SeverityInfo, Text: fmt.Sprint(i)}
		if i == 4 {
			e.ID = store.NewID(at) // of its own
		}
		update(t, st, func(tx *store.Tx) error { return tx.AddEvent(e) })
		want = append(want, e.Text+" "+at.String())
	}
	all, err := store.List(st, store.Events)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range all {
		got = append(got, e.Text+" "+e.Time.String())
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A full store, as large as the bounds let it grow.
func TestPagesOfAFullStoreAreQuick(t *testing.T) {
	if raceDetector {
		t.Skip("under the race detector times say nothing")
	}
	st := storetest.Open(t)
	fill(t, st, store.MaxJobs, store.MaxEvents)
	pagesAreQuick(t, st)
}

// fill writes jobs and events of ten machines, a minute apart. Job 0 never ends.
func fill(t testing.TB, st *store.Store, jobs, events int) {
	t.Helper()
	steps := make([]store.Step, 8)
	for i := range steps {
		steps[i] = store.Step{Name: fmt.Sprintf("step %d of this job", i), State: store.Succeeded, Started: noon, Ended: noon,
			Evidence: []store.Fact{{Name: "console", Value: "login:"}}}
	}
	const each = 5000 // records of one transaction
	for from := 0; from < max(jobs, events); from += each {
		update(t, st, func(tx *store.Tx) error {
			for i := from; i < from+each; i++ {
				now := noon.Add(time.Duration(i) * time.Minute)
				machine := fmt.Sprintf("m-%d", i%10)
				if i < jobs {
					state := store.Succeeded
					if i == 0 {
						state = store.InProgress
					}
					if err := tx.Jobs().Put(store.Job{ID: store.NewID(now), Kind: fmt.Sprint(i), Machine: machine, State: state, Steps: steps, Created: now}); err != nil {
						return err
					}
				}
				if i < events {
					e := store.Event{Time: now, Machine: machine, Severity: store.SeverityInfo, Text: fmt.Sprint(i), Code: "rpo.breached",
						Args: map[string]string{"title": "Test failover", "cause": "the site cannot be reached"}}
					if err := tx.AddEvent(e); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
}

// pagesAreQuick holds each page of a full store below 10 ms, at the best of a few
// tries: the machine may be busy with something else.
func pagesAreQuick(t *testing.T, st *store.Store) {
	t.Helper()
	const limit, size, tries = 10 * time.Millisecond, 100, 10
	middle := store.NewID(noon.Add(5000 * time.Minute))
	for name, read := range map[string]func(tx *store.Tx) (int, error){
		"newest events": func(tx *store.Tx) (int, error) { p, err := tx.Events().Page("", size, true); return len(p), err },
		"newest events of a machine": func(tx *store.Tx) (int, error) {
			p, err := tx.EventsOf("m-3").Page("", size, true)
			return len(p), err
		},
		"events by severity": func(tx *store.Tx) (int, error) {
			p, err := tx.EventsBy(store.SeverityInfo).Page(middle, size, true)
			return len(p), err
		},
		"newest jobs": func(tx *store.Tx) (int, error) { p, err := tx.Jobs().Page("", size, true); return len(p), err },
		"jobs from the middle": func(tx *store.Tx) (int, error) {
			p, err := tx.Jobs().Page(middle, size, true)
			return len(p), err
		},
		"jobs of a machine": func(tx *store.Tx) (int, error) {
			p, err := tx.JobsOf(replication.MachineID("m-7")).Page("", size, true)
			return len(p), err
		},
		"unfinished jobs": func(tx *store.Tx) (int, error) {
			j, err := tx.AllUnfinishedJobs()
			return size * len(j), err
		},
	} {
		best := time.Hour
		for range tries {
			began := time.Now()
			var n int
			err := st.View(func(tx *store.Tx) (err error) { n, err = read(tx); return err })
			if err != nil || n != size {
				t.Fatalf("%s: %d records, %v; want %d", name, n, err, size)
			}
			best = min(best, time.Since(began))
		}
		t.Logf("%-28s %s", name, best)
		if best > limit {
			t.Errorf("%s took %s, want below %s", name, best, limit)
		}
	}
}
