//go:build unix

package appliance_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"riparo/appliance"
	"riparo/hypervisor"
	"riparo/hypervisor/lab"
	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/replication/proof"
	"riparo/replication/vault"
	"riparo/store"
	"riparo/web/api"
)

// stage is how far a life has come: the acts that are over, and the newest job of before
// the one that is not.
type stage struct {
	Over int
	Job  string
}

func (s *stage) load(data string) error {
	text, err := os.ReadFile(filepath.Join(data, "stage"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return errors.Join(err, json.Unmarshal(text, s))
}

func (s *stage) save(data string) error {
	text, err := json.Marshal(s)
	path := filepath.Join(data, "stage")
	return errors.Join(err, os.WriteFile(path+".new", text, 0o600), os.Rename(path+".new", path))
}

// liveUntil opens the appliance and takes its machine through the acts, from where
// another process has come, and ends this one with SIGKILL in the moment in which a change
// of the machine's record is durable: one of so many since the start, or since an act was
// asked for.
func liveUntil(data, when string) error {
	var sinceStart, sinceAct int64
	if _, err := fmt.Sscan(when, &sinceStart, &sinceAct); err != nil {
		return err
	}
	ctx, stop := context.WithTimeout(context.Background(), guestLimit)
	defer stop()
	var made, begun atomic.Int64 // changes, and how many of them before the act
	begun.Store(math.MaxInt32)
	a, err := appliance.Open(ctx, appliance.Config{Data: data, Listen: "127.0.0.1:0", RetryUnit: 50 * time.Millisecond,
		Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
		Committed: func(changed []string) {
			if !slices.ContainsFunc(changed, func(name string) bool { return strings.HasPrefix(name, "machine/") }) {
				return
			}
			if n := made.Add(1); n == sinceStart || n-begun.Load() == sinceAct {
				syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {} // until it arrives
			}
		}})
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	err = live(ctx, a, data, func() { begun.Store(made.Load()) })
	stop()
	if end := <-ended; !errors.Is(end, context.Canceled) {
		err = errors.Join(err, end)
	}
	return errors.Join(err, a.Close())
}

// live takes the machine through the acts. Before it asks for one it calls begin.
func live(ctx context.Context, a *appliance.Appliance, data string, begin func()) error {
	var s stage
	if err := s.load(data); err != nil {
		return err
	}
	for s.Over < len(acts) {
		act := acts[s.Over]
		var m store.Machine
		var newest store.Job
		err := a.Rooms().Store.View(func(tx *store.Tx) error {
			for j, err := range tx.Jobs().All() {
				if err != nil {
					return err
				}
				newest = j
			}
			for one, err := range tx.Machines().All() {
				if m = one; err != nil {
					return err
				}
			}
			return nil
		})
		var asked error
		switch {
		case err != nil:
			return err
		case newest.ID != s.Job && newest.State == store.Succeeded:
			if newest.Kind != string(act.verb) || m.State != act.state || m.Drill != act.drill {
				return fmt.Errorf("%s: %s ended and the machine is %s, drill %q; want %s, drill %q", act.verb, newest.Kind, m.State, m.Drill, act.state, act.drill)
			}
			s.Over++
			s.Job = newest.ID
			if err := s.save(data); err != nil {
				return err
			}
			continue
		case newest.State.Ended() && newest.State != store.Succeeded || newest.Attempt > 5:
			return fmt.Errorf("%s is %s: %+v; steps %+v", newest.Kind, newest.State, newest.Error, newest.Steps)
		case newest.ID == s.Job && act.verb == lifecycle.EnableProtection:
			begin()
			_, _, asked = a.Protect(ctx, api.ProtectRequest{Actor: "test", Site: "milano", Ref: "WEB01", Target: "torino", Policy: "quick"})
		case newest.ID == s.Job:
			begin()
			_, asked = a.Ask(ctx, api.Request{Actor: "test", Machine: m.ID, Verb: act.verb, Confirm: m.Name})
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%s: %w; the machine is %s, drill %q: %w", act.verb, ctx.Err(), m.State, m.Drill, asked)
		}
	}
	return nil
}

// actChanges is as often as an act changes the record of its machine, or more.
const actChanges = 8

// TestALifeGoesOnFromAnyChange takes machines through their lives while the daemon dies in
// each act, in the very moment in which a change of the machine's record is durable, before
// anything else learns of it, and sometimes again soon after its start. In one life it is
// the first change of each act, in the next one the second, and so on; RIPARO_LIVES sets
// how many lives, from a change by chance on.
func TestALifeGoesOnFromAnyChange(t *testing.T) {
	lives, deaths := proof.Times(t, "RIPARO_LIVES", 4), 0
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 3))
	first := random.IntN(actChanges)
	for n := range lives {
		deaths += dieOften(t, random, 1+(first+n)%actChanges)
	}
	t.Logf("%d kills in %d lives, both ends equal after each", deaths, lives)
}

// dieOften is one life, with a death at a change of each act. It gives how many there were.
func dieOften(t *testing.T, random *rand.Rand, at int) (deaths int) {
	data := t.TempDir()
	th := &theater{T: t, primary: "milano", secondary: "torino"}
	th.start(data)
	site := th.labSites()
	seen, err := site.AddMachine(lab.Spec{Name: "WEB01", Seed: random.Uint64(), Churn: 256 << 10, Disks: []lab.DiskSpec{{Key: "vda", Size: 8 << 20, InitialBytes: 4 << 20}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := site.Start(t.Context(), seen.Ref, hypervisor.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	policy := replication.DefaultPolicy()
	policy.Name, policy.CopyFrequency, policy.AppConsistentFrequency = "quick", replication.MinCopyFrequency, 0
	if err := th.a.SavePolicy(t.Context(), api.Who{Name: "test"}, policy); err != nil {
		t.Fatal(err)
	}
	th.stop()
	for {
		soon := 0 // after the start; not
		if random.IntN(3) == 0 {
			soon = 1 + random.IntN(actChanges)
		}
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), "RIPARO_TEST_LIFE="+data, fmt.Sprintf("RIPARO_TEST_CHANGES=%d %d", soon, at))
		var said bytes.Buffer
		child.Stdout, child.Stderr = &said, &said
		err := child.Run()
		if err == nil {
			break
		}
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("after %d deaths at change %d of each act the life ends with %v: %s", deaths, at, err, &said)
		}
		deaths++
	}
	th.start(data)
	defer th.stop()
	th.ref, th.id = seen.Ref, th.machines()[0].ID
	th.bothEndsAreEqual()
	report, err := th.a.Rooms().Vault.Verify(t.Context(), vault.VerifyOptions{})
	if err != nil || len(report.Damage) > 0 {
		t.Errorf("the vault after %d deaths: %v, damage %+v", deaths, err, report.Damage)
	}
	return deaths
}
