package store_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"riparo/replication"
	"riparo/store"
	"riparo/store/storetest"
)

// TestAMirrorShowsWhatTheStoreHas changes machines at random, some by others' leave, and
// compares after each step. What was given before stays as it was.
func TestAMirrorShowsWhatTheStoreHas(t *testing.T) {
	const seed = 4
	random := rand.New(rand.NewPCG(seed, seed))
	st := storetest.Open(t)
	m := store.NewMirror(st, store.Machines, store.Whole)
	defer m.Close()
	var before []store.Machine
	text := ""
	for step := range 400 {
		update(t, st, func(tx *store.Tx) error {
			for range 1 + random.IntN(4) {
				id := fmt.Sprintf("m-%02d", random.IntN(30))
				switch random.IntN(5) {
				case 0:
					if err := tx.Machines().Delete(id); err != nil {
						return err
					}
				default:
					if err := tx.Machines().Put(store.Machine{ID: replication.MachineID(id), Name: fmt.Sprint("name ", step), Disks: []store.Disk{{Key: "vda"}}}); err != nil {
						return err
					}
				}
			}
			return tx.Sites().Put(store.Site{Name: "rome"}) // none of its business
		})
		if step%50 == 49 { // so many names that they are told as everything
			names := make([]string, 5000)
			for i := range names {
				names[i] = fmt.Sprint("job/", i)
			}
			st.Touch(names...)
		}
		if random.IntN(3) == 0 {
			st.Touch("machine/m-00", "machine/m-none")
		}
		if random.IntN(4) == 0 {
			continue // several changes are seen at once
		}
		var want []store.Machine
		err := st.View(func(tx *store.Tx) error {
			for v, err := range tx.Machines().All() {
				if err != nil {
					return err
				}
				want = append(want, v)
			}
			return nil
		})
		got, lookErr := m.All()
		if err := errors.Join(err, lookErr); err != nil {
			t.Fatal(err)
		}
		if !slices.EqualFunc(got, want, func(a, b store.Machine) bool { return a.ID == b.ID && a.Name == b.Name }) {
			t.Fatalf("step %d: got %v, want %v (seed %d)", step, got, want, seed)
		}
		if now, err := json.Marshal(before); err != nil || step > 0 && before != nil && string(now) != text {
			t.Fatalf("step %d: what was given before changed to %s, want %s (seed %d)", step, now, text, seed)
		}
		kept, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		before, text = got, string(kept)
	}
}

// TestAMirrorOfEventsFollowsWhatComesAndGoes adds events, most of them at the end, until
// the oldest give way.
func TestAMirrorOfEventsFollowsWhatComesAndGoes(t *testing.T) {
	const seed = 5
	random := rand.New(rand.NewPCG(seed, seed))
	st := storetest.Open(t)
	read := 0
	m := store.NewMirror(st, store.Events, func(e *store.Event) string { read++; return e.ID })
	defer m.Close()
	id := func(n int) string { return fmt.Sprintf("e-%06d", n) }
	next, first := 0, 0
	for step := range 120 {
		update(t, st, func(tx *store.Tx) error {
			for range random.IntN(20) {
				next += 1 + random.IntN(3)
				n := next
				if random.IntN(200) == 0 && next > first+10 {
					n = next - 1 - random.IntN(5) // told late: it lies between others
				}
				if err := tx.Events().Put(store.Event{ID: id(n)}); err != nil {
					return err
				}
			}
			for range random.IntN(8) { // as if there were too many
				oldest, err := tx.Events().Page("", 1, false)
				if err != nil || len(oldest) == 0 || step%40 != 39 && random.IntN(2) == 0 {
					return err
				}
				if err := tx.Events().Delete(oldest[0].ID); err != nil {
					return err
				}
			}
			return nil
		})
		var want []string
		if err := st.View(func(tx *store.Tx) error {
			for e, err := range tx.Events().All() {
				if err != nil {
					return err
				}
				want = append(want, e.ID)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if got, err := m.All(); err != nil || !slices.Equal(got, want) {
			t.Fatalf("step %d: got %d events, %v; want %d (seed %d)", step, len(got), err, len(want), seed)
		}
	}
	if read > 12*next {
		t.Errorf("%d events were read to follow %d", read, next)
	}
}

// TestAMirrorReadsNothingThatDidNotChange looks a thousand times into a mirror while
// others change.
func TestAMirrorReadsNothingThatDidNotChange(t *testing.T) {
	st := storetest.Open(t)
	update(t, st, func(tx *store.Tx) error {
		for i := range 200 {
			if err := tx.Machines().Put(store.Machine{ID: replication.MachineID(fmt.Sprintf("m-%03d", i))}); err != nil {
				return err
			}
		}
		return nil
	})
	m := store.NewMirror(st, store.Machines, store.Whole)
	defer m.Close()
	first, err := m.All()
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		update(t, st, func(tx *store.Tx) error { return tx.Sites().Put(store.Site{Name: "rome"}) })
		again, err := m.All()
		if err != nil || &again[0] != &first[0] {
			t.Fatalf("it was read again although no machine changed (%v)", err)
		}
	}
	if n := testing.AllocsPerRun(100, func() { m.All() }); n > 4 {
		t.Errorf("a look at what did not change takes %v allocations, want at most 4", n)
	}
}

// TestAMirrorOfAClosedStoreSaysSo, and does not show what it remembers.
func TestAMirrorOfAClosedStoreSaysSo(t *testing.T) {
	st, err := store.Open(filepath.Join(t.TempDir(), "state.db"), store.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	m := store.NewMirror(st, store.Machines, store.Whole)
	defer m.Close()
	if _, err := m.All(); err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	st.Touch(store.Everything)
	for range 2 {
		if all, err := m.All(); !errors.Is(err, store.ErrClosed) || all != nil {
			t.Errorf("got %v, %v; want %v", all, err, store.ErrClosed)
		}
	}
}

// TestAMirrorIsLookedIntoByMany while it changes, under the race detector.
func TestAMirrorIsLookedIntoByMany(t *testing.T) {
	st := storetest.Open(t)
	m := store.NewMirror(st, store.Machines, store.Whole)
	defer m.Close()
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 200 {
				list, err := m.All()
				if err != nil || len(list) > 1 {
					t.Errorf("got %v, %v", list, err)
				}
				for _, v := range list {
					_ = v.Name + v.Policy
				}
			}
		})
	}
	for i := range 50 {
		update(t, st, func(tx *store.Tx) error {
			return tx.Machines().Put(store.Machine{ID: "m", Name: fmt.Sprint(i)})
		})
	}
	all.Wait()
}
