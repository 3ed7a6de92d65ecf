package sim

import (
	"encoding/hex"
	"flag"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"riparo/replication/planted"
	"riparo/replication/proof"
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

// TestWorldsThatFoundAFaultStayWhole lives again the worlds in which something was wrong
// once. They are worth that as long as what happens in them is what happened then.
func TestWorldsThatFoundAFaultStayWhole(t *testing.T) {
	for seed, what := range map[uint64]string{
		5110: "a disk that was not opened, for its file system took no changes, was not opened again by the world",
		454:  "a head that had been mended was doubted by an opening without a catalog",
		7925: "a head that is doubted could not be compared",
		7043: "a rewind was lost by storage that lied, and what a deposed owner had sent was taken for the new one's",
		9715: "the lost beginning of a segment was taken for a dead segment, and a point showed other bytes",
	} {
		if e := live(t, seed); e.err != nil {
			t.Errorf("seed %d, in which %s: %v", seed, what, e.err)
		}
	}
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
	seeds = proof.Times(t, "RIPARO_SEEDS", seeds)
	until := proof.Until(t)
	tries, bug := planted.Tries()
	if bug {
		seeds = tries
	}
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
		t.Fatalf("seed %d: %v (go test ./replication/sim -run TestEveryRecoveryPoint -seed=%d -v)", failed.seed, failed.err, failed.seed)
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

// TestTheSameSeedGivesTheSameTrace runs worlds alone, then beside others on all cores, and
// compares every line. Seed 50 has a source that breaks while many writes are under way.
// RIPARO_SEEDS sets how many there are beside it.
func TestTheSameSeedGivesTheSameTrace(t *testing.T) {
	seeds, more := []uint64{50}, 20
	if raced {
		more = 2
	}
	for seed := range uint64(proof.Times(t, "RIPARO_SEEDS", more)) {
		seeds = append(seeds, seed+1)
	}
	alone := map[uint64]ended{}
	for _, seed := range seeds {
		alone[seed] = live(t, seed)
		if err := alone[seed].err; err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
	t.Run("beside others", func(t *testing.T) {
		for n := range 2 * runtime.GOMAXPROCS(0) {
			t.Run(strconv.Itoa(n), func(t *testing.T) {
				t.Parallel()
				for i := range seeds {
					seed := seeds[(i+n*len(seeds)/2)%len(seeds)] // one world has its equal beside it, too
					if n > 1 {
						live(t, 1000*uint64(n)+seed) // others keep the cores busy
						continue
					}
					alone[seed].sameAs(t, live(t, seed))
				}
			})
		}
	})
	t.Logf("%d of %d seeds give the same trace beside other worlds", len(seeds), len(seeds))
}

// sameAs compares with the same world another time.
func (e ended) sameAs(t *testing.T, other ended) {
	t.Helper()
	if e.sum == other.sum {
		return
	}
	for i := range min(len(e.trace), len(other.trace)) {
		if e.trace[i] != other.trace[i] {
			t.Errorf("seed %d: line %d is %q alone, %q beside others", e.seed, i, e.trace[i], other.trace[i])
			return
		}
	}
	t.Errorf("seed %d: %d lines alone, %d beside others", e.seed, len(e.trace), len(other.trace))
}
