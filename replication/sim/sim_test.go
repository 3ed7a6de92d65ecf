package sim

import (
	"encoding/hex"
	"flag"
	"maps"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"riparo/replication/planted"
)

var seedFlag = flag.Uint64("seed", 0, "run the world of this seed only, and print its trace")

// outcome of a seed.
type ended struct {
	seed  uint64
	err   error
	sum   string
	trace []string
	fired map[string]int
	time  int64 // virtual, milliseconds
}

// live runs the world of a seed.
func live(t *testing.T, seed uint64) (e ended) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t.Context(), seed)
		err := w.run()
		e = ended{seed: seed, err: err, sum: hex.EncodeToString(w.sum.Sum(nil)), trace: w.trace, fired: w.fired, time: w.now}
	})
	return e
}

// TestEveryRecoveryPointIsItsInstant lets worlds run and counts what went wrong in them.
// The environment variable RIPARO_SEEDS sets their number, and
// RIPARO_TIME, as 15m, when no other begins.
func TestEveryRecoveryPointIsItsInstant(t *testing.T) {
	if *seedFlag != 0 {
		e := live(t, *seedFlag)
		for _, line := range e.trace {
			t.Log(line)
		}
		if e.err != nil {
			t.Fatalf("seed %d: %v", e.seed, e.err)
		}
		return
	}
	seeds := 300
	if raced {
		seeds = 60
	}
	if text := os.Getenv("RIPARO_SEEDS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("RIPARO_SEEDS: %v", err)
		}
		seeds = n
	}
	until := time.Now().Add(24 * time.Hour)
	if text := os.Getenv("RIPARO_TIME"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil {
			t.Fatalf("RIPARO_TIME: %v", err)
		}
		until = time.Now().Add(d)
	}
	tries, bug := planted.Tries()
	if bug {
		seeds = tries
	}
	defer debug.SetGCPercent(debug.SetGCPercent(800))
	began := time.Now()
	var next atomic.Uint64
	var mu sync.Mutex // guards the figures
	fired, virtual, ran := map[string]int{}, int64(0), 0
	var failed *ended
	t.Run("worlds", func(t *testing.T) {
		for n := range runtime.GOMAXPROCS(0) {
			t.Run(strconv.Itoa(n), func(t *testing.T) {
				t.Parallel()
				for {
					seed := next.Add(1)
					mu.Lock()
					enough := failed != nil || seed > uint64(seeds) || time.Now().After(until)
					mu.Unlock()
					if enough {
						return
					}
					e := live(t, seed)
					mu.Lock()
					for kind, n := range e.fired {
						fired[kind] += n
					}
					virtual += e.time
					ran++
					if e.err != nil && (failed == nil || e.seed < failed.seed) {
						failed = &e
					}
					mu.Unlock()
				}
			})
		}
	})
	if failed != nil {
		for _, line := range failed.trace[max(0, len(failed.trace)-60):] {
			t.Log(line)
		}
		t.Fatalf("seed %d: %v (go test -run TestEveryRecoveryPoint -seed %d -v ./replication/sim)", failed.seed, failed.err, failed.seed)
	}
	if bug {
		return
	}
	d := time.Since(began)
	seeds = ran
	t.Logf("%d world seeds, 0 violations: %.1f virtual hours in %v, %d recovery points compared", seeds, float64(virtual)/3_600_000, d.Round(time.Second), fired["points compared"])
	least := min(101, seeds/30)
	var figures []string
	for _, kind := range slices.Sorted(maps.Keys(fired)) {
		figures = append(figures, strconv.Itoa(fired[kind])+" "+kind)
	}
	t.Logf("%s", strings.Join(figures, ", "))
	rarest := slices.MinFunc(kinds, func(a, b string) int { return fired[a] - fired[b] })
	t.Logf("each of %d kinds of fault fired %d times or more (%s)", len(kinds), fired[rarest], rarest)
	for _, kind := range kinds {
		if fired[kind] < least {
			t.Errorf("%q happened %d times in %d seeds, want %d: this run proves nothing about it", kind, fired[kind], seeds, least)
		}
	}
}

// TestTheSameSeedGivesTheSameTrace runs worlds twice and compares every line.
func TestTheSameSeedGivesTheSameTrace(t *testing.T) {
	for seed := uint64(1); seed <= 20; seed++ {
		a, b := live(t, seed), live(t, seed)
		if a.err != nil {
			t.Fatalf("seed %d: %v", seed, a.err)
		}
		if a.sum == b.sum {
			continue
		}
		for i := range min(len(a.trace), len(b.trace)) {
			if a.trace[i] != b.trace[i] {
				t.Fatalf("seed %d: line %d is %q the first time, %q the second", seed, i, a.trace[i], b.trace[i])
			}
		}
		t.Fatalf("seed %d: %d lines the first time, %d the second", seed, len(a.trace), len(b.trace))
	}
	t.Log("20 of 20 seeds give the same trace twice")
}
