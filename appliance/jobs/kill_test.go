package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"riparo/appliance/jobs"
	"riparo/replication"
	"riparo/store"
)

// childFolder is set in the environment of a child that does jobs until they have
// ended, or it is killed.
const childFolder = "JOBS_TEST_CHILD"

const (
	childMachines = 6
	childSteps    = 5
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childFolder); dir != "" {
		if err := doJobs(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(3)
		}
		return
	}
	os.Exit(m.Run())
}

// doJobs starts one job for each machine that never had one, and does all jobs.
// What a step makes is a file; what it counts is in the store.
func doJobs(dir string) error {
	st, err := store.Open(filepath.Join(dir, "state.db"), store.Options{LockWait: time.Minute})
	if err != nil {
		return err
	}
	ctx, allEnded := context.WithCancel(context.Background())
	defer allEnded()
	d := jobs.Definition{Kind: "make", Title: "Make",
		OnEnd: func(tx *store.Tx, job store.Job) error { return count(tx, "end "+job.Machine) }}
	for i := range childSteps {
		d.Steps = append(d.Steps, jobs.StepDef{Name: fmt.Sprint("step ", i), Run: func(ctx context.Context, w *jobs.Work) error {
			name := fmt.Sprintf("%s.%d", w.Job().Machine, i)
			if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600); err != nil {
				return err
			}
			for n := range int64(20) {
				w.Progress(n, 20)
				w.Set("progress", fmt.Sprint(n))
			}
			if err := w.Save(ctx); err != nil {
				return err
			}
			if i == 2 && w.Job().Attempt == 0 {
				return trouble(replication.Retry)
			}
			w.OnDone(func(tx *store.Tx) error { return count(tx, name) })
			return nil
		}})
	}
	e, err := jobs.New(st, jobs.Options{RetryUnit: time.Millisecond}, d)
	if err != nil {
		return err
	}
	for i := range childMachines {
		machine := fmt.Sprint("m-", i)
		begun := "begun " + machine
		_, err := e.Start(ctx, jobs.Spec{Kind: "make", Machine: replication.MachineID(machine), With: func(tx *store.Tx, _ string) error {
			var yes bool
			if _, err := tx.Setting(begun, &yes); err != nil || yes {
				return errors.Join(err, fs.ErrExist)
			}
			return tx.SetSetting(begun, true)
		}})
		if err != nil && !errors.Is(err, jobs.ErrBusy) && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	nudge, _, _ := st.Subscribe()
	st.Touch("first look")
	go func() {
		for range nudge {
			if left, err := unfinished(st); err != nil || left == 0 {
				allEnded()
				return
			}
		}
	}()
	return errors.Join(e.Run(ctx), st.Close())
}

func unfinished(st *store.Store) (left int, err error) {
	err = st.View(func(tx *store.Tx) error {
		all, err := tx.AllUnfinishedJobs()
		left = len(all)
		return err
	})
	return left, err
}

// A daemon that is killed again and again, wherever it stands, finishes every job,
// and each step was recorded once. JOBS_KILLS sets the number of rounds.
func TestKilledAgainAndAgainEveryJobIsFinishedOnce(t *testing.T) {
	rounds, unit := 3, time.Millisecond
	if raceDetector { // a child needs long to begin
		rounds, unit = 1, 10*time.Millisecond
	}
	if text := os.Getenv("JOBS_KILLS"); text != "" {
		var err error
		if rounds, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 3))
	kills := 0
	for range rounds {
		dir := t.TempDir()
		for start := 0; ; start++ {
			child := exec.Command(os.Args[0])
			child.Env = append(os.Environ(), childFolder+"="+dir, "GORACE=atexit_sleep_ms=0")
			child.Stderr = os.Stderr
			if err := child.Start(); err != nil {
				t.Fatal(err)
			}
			// The first ones are killed early; later ones get further and further.
			after := time.Duration(5+random.IntN(20+10*start)) * unit
			timer := time.AfterFunc(after, func() { child.Process.Kill() })
			err := child.Wait()
			timer.Stop()
			if err == nil {
				break
			}
			if child.ProcessState.ExitCode() == 3 || start > 200 {
				t.Fatalf("seed %d: start %d: %v", seed, start, err)
			}
			kills++
		}
		finishedOnce(t, dir, seed)
	}
	t.Logf("%d kills", kills)
}

func finishedOnce(t *testing.T, dir string, seed uint64) {
	t.Helper()
	st, err := store.Open(filepath.Join(dir, "state.db"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	all, err := store.List(st, store.Jobs)
	if err != nil || len(all) != childMachines {
		t.Errorf("seed %d: %d jobs, %v; want %d", seed, len(all), err, childMachines)
	}
	for _, j := range all {
		if j.State != store.Succeeded {
			t.Errorf("seed %d: job of %s is %s: %+v", seed, j.Machine, j.State, j.Error)
		}
	}
	err = st.View(func(tx *store.Tx) error {
		for m := range childMachines {
			names := []string{fmt.Sprint("end m-", m)}
			for i := range childSteps {
				name := fmt.Sprintf("m-%d.%d", m, i)
				names = append(names, name)
				if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
					t.Errorf("seed %d: %v", seed, err)
				}
			}
			for _, name := range names {
				n := 0
				if _, err := tx.Setting(name, &n); err != nil || n != 1 {
					t.Errorf("seed %d: %s was counted %d times, %v", seed, name, n, err)
				}
			}
		}
		return nil
	})
	if err := errors.Join(err, st.Check(), st.Close()); err != nil {
		t.Errorf("seed %d: %v", seed, err)
	}
}
