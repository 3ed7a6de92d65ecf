package store_test

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"riparo/replication"
	"riparo/store"
)

// model is what the store should hold.
type model struct {
	jobs  map[string]store.Job
	users map[string]store.User
}

func (m model) clone() model { return model{maps.Clone(m.jobs), maps.Clone(m.users)} }

// seeded gives a generator whose seed is in STORE_SEED or new, and prints it when
// the test fails.
func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("STORE_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("again with STORE_SEED=%d", seed)
		}
	})
	return rand.New(rand.NewPCG(seed, 2))
}

// Whatever is done to the store, it holds what a map would.
func TestTheStoreHoldsWhatAMapWould(t *testing.T) {
	random := seeded(t)
	path := filepath.Join(t.TempDir(), "state.db")
	open := func() *store.Store {
		st, err := store.Open(path, store.Options{NoSync: true})
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	st := open()
	want := model{map[string]store.Job{}, map[string]store.User{}}
	states := []store.JobState{store.NotStarted, store.InProgress, store.Failed, store.Succeeded, store.WaitingToRetry}
	for round := range 300 {
		next := want.clone()
		refused := errors.New("refused")
		err := st.Update(func(tx *store.Tx) error {
			for range random.IntN(12) {
				id := fmt.Sprintf("%03d", random.IntN(60))
				var err error
				switch random.IntN(6) {
				case 0, 1, 2:
					j := store.Job{ID: id, Machine: fmt.Sprintf("m-%d", random.IntN(4)), State: states[random.IntN(len(states))],
						Kind: strings.Repeat("k", random.IntN(2000))}
					if random.IntN(4) == 0 {
						j.Machine = ""
					}
					// One unfinished job per machine is a promise of the one who writes.
					if j.Machine != "" && !j.State.Ended() {
						for other := range maps.Values(next.jobs) {
							if other.Machine == j.Machine && !other.State.Ended() {
								j.State = store.Failed
							}
						}
					}
					next.jobs[id], err = j, tx.Jobs().Put(j)
				case 3:
					delete(next.jobs, id)
					err = tx.Jobs().Delete(id)
				case 4:
					u := store.User{Name: []string{"Anna", "anna", "Bo", "BO", "Éva"}[random.IntN(5)], Role: store.Role(id)}
					next.users[strings.ToLower(u.Name)], err = u, tx.Users().Put(u)
				case 5:
					name := []string{"ANNA", "bo", "éva"}[random.IntN(3)]
					delete(next.users, strings.ToLower(name))
					err = tx.Users().Delete(name)
				}
				if err != nil {
					return err
				}
			}
			if random.IntN(5) == 0 {
				return refused
			}
			return nil
		})
		switch {
		case err == nil:
			want = next
		case !errors.Is(err, refused):
			t.Fatal(err)
		}
		if round%30 == 29 {
			if err := errors.Join(st.Check(), st.Close()); err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
			st = open()
		}
		same(t, st, want, round)
		if t.Failed() {
			break
		}
	}
	if err := errors.Join(st.Check(), st.Close()); err != nil {
		t.Fatal(err)
	}
}

func same(t *testing.T, st *store.Store, want model, round int) {
	t.Helper()
	jobs := func(keep func(store.Job) bool) []store.Job {
		var list []store.Job
		for _, id := range slices.Sorted(maps.Keys(want.jobs)) {
			if j := want.jobs[id]; keep(j) {
				list = append(list, j)
			}
		}
		return list
	}
	err := st.View(func(tx *store.Tx) error {
		equal(t, round, "users", tx.Users().All(), slices.Collect(func(yield func(store.User) bool) {
			for _, name := range slices.Sorted(maps.Keys(want.users)) {
				if !yield(want.users[name]) {
					return
				}
			}
		}))
		equal(t, round, "jobs", tx.Jobs().All(), jobs(func(store.Job) bool { return true }))
		for _, s := range []store.JobState{store.InProgress, store.Failed} {
			equal(t, round, string(s), tx.JobsIn(s).All(), jobs(func(j store.Job) bool { return j.State == s }))
		}
		for _, m := range []string{"m-0", "m-1", "m-2", "m-3"} {
			id := replication.MachineID(m)
			equal(t, round, m, tx.JobsOf(id).All(), jobs(func(j store.Job) bool { return j.Machine == m }))
			equal(t, round, m+" unfinished", tx.UnfinishedJobs(id).All(), jobs(func(j store.Job) bool { return j.Machine == m && !j.State.Ended() }))
		}
		all, err := tx.AllUnfinishedJobs()
		if wanted := jobs(func(j store.Job) bool { return !j.State.Ended() }); !reflect.DeepEqual(all, wanted) {
			t.Errorf("round %d: unfinished\ngot  %v\nwant %v", round, all, wanted)
		}
		n, err2 := tx.Jobs().Count()
		if n != len(want.jobs) {
			t.Errorf("round %d: %d jobs, want %d", round, n, len(want.jobs))
		}
		return errors.Join(err, err2)
	})
	if err != nil {
		t.Errorf("round %d: %v", round, err)
	}
}

func equal[T any](t *testing.T, round int, what string, got iter.Seq2[T, error], want []T) {
	t.Helper()
	var list []T
	for v, err := range got {
		if err != nil {
			t.Errorf("round %d: %s: %v", round, what, err)
			return
		}
		list = append(list, v)
	}
	if !reflect.DeepEqual(list, want) {
		t.Errorf("round %d: %s\ngot  %v\nwant %v", round, what, list, want)
	}
}
