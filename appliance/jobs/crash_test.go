package jobs_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"riparo/appliance/jobs"
	"riparo/replication"
	"riparo/store"
	"riparo/store/storetest"
)

// world is what lies outside of the store: machines, disks, networks. It survives
// a crash of the daemon as it was at that moment.
type world struct {
	mu     sync.Mutex
	things map[string]int // made by steps; how many times
}

// make makes a thing unless it is there: an idempotent step.
func (w *world) make(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.things[name] == 0 {
		w.things[name]++
	}
}

func (w *world) remove(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.things, name)
}

func (w *world) clone() *world {
	w.mu.Lock()
	defer w.mu.Unlock()
	return &world{things: maps.Clone(w.things)}
}

func (w *world) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []string
	for _, name := range slices.Sorted(maps.Keys(w.things)) {
		list = append(list, fmt.Sprintf("%s×%d", name, w.things[name]))
	}
	return strings.Join(list, " ")
}

// crash is the state of everything at one moment: what a daemon finds that starts
// after the power went at that moment.
type crash struct {
	at    string
	time  time.Time
	file  []byte
	world *world
}

// scene is a job on a store and a world, which calls point at every place where
// the power could go.
type scene struct {
	t      *testing.T
	st     *store.Store
	world  *world
	cancel bool // the job is canceled while its third step runs
	point  func(name string)
}

// count adds one to a counter in the store.
func count(tx *store.Tx, name string) error {
	n := 0
	if _, err := tx.Setting(name, &n); err != nil {
		return err
	}
	return tx.SetSetting(name, n+1)
}

// definition is a job of four steps. Each makes two things, and counts in the
// transaction that records it as done. The second needs two tries.
func (s *scene) definition() jobs.Definition {
	d := jobs.Definition{Kind: "story", Title: "Story",
		OnCancel: func(ctx context.Context, w *jobs.Work) error {
			s.point("cancel begin")
			s.world.remove("ledger")
			s.point("cancel end")
			w.OnDone(func(tx *store.Tx) error { return count(tx, "cancel") })
			return nil
		},
		OnEnd: func(tx *store.Tx, job store.Job) error { return count(tx, "end "+string(job.State)) }}
	for _, name := range []string{"one", "two", "three", "four"} {
		d.Steps = append(d.Steps, jobs.StepDef{Name: name,
			Skip: func(w *jobs.Work) bool { s.point(name + " before"); return false },
			Run: func(ctx context.Context, w *jobs.Work) error {
				s.point(name + " begin")
				s.world.make("ledger")
				s.world.make(name + " disk")
				w.Set("ref", w.Get("ref")+"|"+name)
				if err := w.Save(ctx, func(tx *store.Tx) error { return tx.SetSetting("saved "+name, true) }); err != nil {
					return err
				}
				s.point(name + " half")
				if name == "two" && w.Job().Attempt == 0 {
					return trouble(replication.Retry)
				}
				if name == "three" && s.cancel {
					<-ctx.Done()
					s.point(name + " stopping")
					return context.Cause(ctx)
				}
				s.world.make(name + " machine")
				w.Evidence("made", name)
				w.Progress(1, 1)
				w.OnDone(func(tx *store.Tx) error { return count(tx, "done "+name) })
				s.point(name + " end")
				return nil
			},
			Undo: func(ctx context.Context, w *jobs.Work) error {
				s.point(name + " undo begin")
				s.world.remove(name + " machine")
				s.point(name + " undo half")
				s.world.remove(name + " disk")
				w.OnDone(func(tx *store.Tx) error { return count(tx, "undone "+name) })
				s.point(name + " undo end")
				return nil
			}})
	}
	return d
}

// play starts the job, or continues it, and waits for its end. It collects a crash
// for each point that is passed.
func play(t *testing.T, from *crash, cancel bool) (crashes []crash) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &scene{t: t, cancel: cancel, world: &world{things: map[string]int{}}}
		if from == nil {
			s.st = storetest.Open(t)
		} else {
			path := filepath.Join(t.TempDir(), "state.db")
			if err := os.WriteFile(path, from.file, 0o600); err != nil {
				t.Fatal(err)
			}
			s.st, s.world = storetest.Reopen(t, path), from.world.clone()
			time.Sleep(time.Until(from.time) + time.Second) // the daemon is back a second later
		}
		s.point = func(name string) {
			var file bytes.Buffer
			if err := s.st.Backup(&file); err != nil {
				t.Error(err)
			}
			crashes = append(crashes, crash{at: name, time: time.Now(), file: file.Bytes(), world: s.world.clone()})
		}
		e, stop := start(t, s.st, jobs.Options{}, s.definition())
		var id string
		if from == nil {
			id = ask(t, e, jobs.Spec{Kind: "story", Machine: "m-1", With: func(tx *store.Tx, id string) error { return count(tx, "with") }})
		} else {
			all, err := store.List(s.st, store.Jobs)
			if err != nil || len(all) != 1 {
				t.Fatalf("jobs after the crash: %v, %v", all, err)
			}
			id = all[0].ID
		}
		if cancel {
			time.Sleep(10 * time.Minute)
			synctest.Wait()
			if j := job(t, s.st, id); !j.State.Ended() && !j.CancelAsk {
				if err := e.Cancel(id); err != nil {
					t.Error(err)
				}
			}
		}
		time.Sleep(24 * time.Hour)
		stop()
		if cancel {
			s.tookBack(id)
		} else {
			s.succeeded(id)
		}
	})
	return crashes
}

// counters are all counters in the store.
func (s *scene) counters() string {
	settings, err := store.List(s.st, store.Settings)
	if err != nil {
		s.t.Fatal(err)
	}
	var list []string
	for _, c := range settings {
		if !strings.HasPrefix(c.Name, "saved ") {
			list = append(list, c.Name+"="+string(c.Value))
		}
	}
	return strings.Join(list, " ")
}

func (s *scene) succeeded(id string) {
	j := job(s.t, s.st, id)
	if j.State != store.Succeeded || j.Error != nil {
		s.t.Errorf("the job is %s, %+v", j.State, j.Error)
	}
	for _, step := range j.Steps {
		if step.State != store.Succeeded || len(step.Evidence) != 1 || step.Done != 1 {
			s.t.Errorf("step %+v", step)
		}
	}
	if got, want := s.world.String(), "four disk×1 four machine×1 ledger×1 one disk×1 one machine×1 three disk×1 three machine×1 two disk×1 two machine×1"; got != want {
		s.t.Errorf("the world has %s\nwant %s", got, want)
	}
	if got, want := s.counters(), "done four=1 done one=1 done three=1 done two=1 end succeeded=1 with=1"; got != want {
		s.t.Errorf("counters %s\nwant %s", got, want)
	}
	if got := codes(s.t, s.st); got != "started retrying succeeded" {
		s.t.Errorf("events: %s", got)
	}
}

func (s *scene) tookBack(id string) {
	j := job(s.t, s.st, id)
	if j.State != store.Canceled {
		s.t.Errorf("the job is %s, %+v", j.State, j.Error)
	}
	if got := s.world.String(); got != "" {
		s.t.Errorf("the world still has %s", got)
	}
	if got, want := s.counters(), "cancel=1 done one=1 done two=1 end canceled=1 undone one=1 undone three=1 undone two=1 with=1"; got != want {
		s.t.Errorf("counters %s\nwant %s", got, want)
	}
	if got := codes(s.t, s.st); got != "started retrying canceled" {
		s.t.Errorf("events: %s", got)
	}
}

// The power goes at every step boundary, inside every step and every undo, and
// once more at every point of the way that is left: the job comes to the same end,
// and every effect is there once.
func TestAJobComesToTheSameEndWhereverThePowerGoes(t *testing.T) {
	for _, c := range []struct {
		name   string
		cancel bool
	}{{"forward", false}, {"taken back", true}} {
		t.Run(c.name, func(t *testing.T) {
			once := play(t, nil, c.cancel)
			if len(once) < 16 {
				t.Fatalf("only %d points", len(once))
			}
			twice := 0
			for i, first := range once {
				again := play(t, &first, c.cancel)
				for k, second := range again {
					// Every pair is the long form, diagonals the usual one.
					every := 5
					switch {
					case os.Getenv("JOBS_ALL_CRASHES") != "":
						every = 1
					case testing.Short() || raceDetector:
						every = 17
					}
					if (i+k)%every != 0 {
						continue
					}
					twice++
					play(t, &second, c.cancel)
					if t.Failed() {
						t.Fatalf("after crashes at %q and %q", first.at, second.at)
					}
				}
				if t.Failed() {
					t.Fatalf("after a crash at %q", first.at)
				}
			}
			t.Logf("%d single crashes, %d double ones", len(once), twice)
		})
	}
}
