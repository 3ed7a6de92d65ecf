package vault

import (
	"flag"
	"maps"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"riparo/replication/planted"
	"riparo/replication/proof"
)

var (
	everyStep = flag.Bool("everystep", false, "compare with the model after every step of the power cuts")
	seedFlag  = flag.Uint64("seed", 0, "run the power cuts of this seed only")
)

// boots of one life; each but the last ends in a power cut.
const boots = 8

// leastInRecovery: the share of the cuts, in hundredths, that must have come while
// the vault recovered from another one.
const leastInRecovery = 10

// TestPowerCuts cuts the power at every kind of moment, also while the vault
// recovers, and compares every recovery point with a model after every cut. The
// environment variable RIPARO_CUTS sets the number of cuts, and RIPARO_TIME, as 15m,
// when no further life begins.
func TestPowerCuts(t *testing.T) {
	r := lives{t: t, cuts: proof.Times(t, "RIPARO_CUTS", 3000), seeds: 1 << 40, until: proof.Until(t)}
	switch tries, bug := planted.Tries(); {
	case *seedFlag != 0:
		r.first, r.seeds = *seedFlag, 1
	case bug:
		r.first, r.seeds, r.cuts = 1, uint64(tries), 1<<40
	default:
		r.first = 1
	}
	r.run()
}

// TestLivesThatFoundAFaultStayWhole lives them again.
func TestLivesThatFoundAFaultStayWhole(t *testing.T) {
	for _, seed := range []uint64{
		216, // a part of a block was moved, its map made anew from the log, and what it had moved to let go
	} {
		r := lives{t: t, cuts: 1 << 40, first: seed, seeds: 1, until: time.Now().Add(time.Hour)}
		r.run()
	}
}

// TestTheSameSeedLivesTheSameLife: what a seed has found, it finds again.
func TestTheSameSeedLivesTheSameLife(t *testing.T) {
	for seed := range uint64(60) {
		var first []string
		for again := range 2 {
			l := newLife(t.Context(), seed)
			if err := l.run(boots); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			l.note("at the end %v, %d cuts, clock %v", l.disk, l.cuts, l.clock)
			if again == 0 {
				first = l.trace
			} else if i := differsAt(first, l.trace); i >= 0 {
				t.Fatalf("seed %d: step %d of %d is %q, and was %q", seed, i, len(first), l.trace[min(i, len(l.trace)-1)], first[min(i, len(first)-1)])
			}
		}
	}
}

// differsAt is the first index at which two lists differ; -1: nowhere.
func differsAt(a, b []string) int {
	for i := range max(len(a), len(b)) {
		if i >= len(a) || i >= len(b) || a[i] != b[i] {
			return i
		}
	}
	return -1
}

// lives runs life after life, on every processor one, until the power was cut often
// enough or the seeds are used up.
type lives struct {
	t            *testing.T
	first, seeds uint64
	cuts         int
	until        time.Time

	next atomic.Uint64

	mu     sync.Mutex // guards all below
	total  int
	ended  uint64
	faults map[string]int
	failed *life // of the lowest seed that failed
	reason error
}

func (r *lives) run() {
	// The heap stays small, and collecting it all the time would take a third of the run. A
	// larger one leaves the caches of the processor, which takes as much.
	defer debug.SetGCPercent(debug.SetGCPercent(300))
	begin := time.Now()
	r.faults = map[string]int{}
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for r.one(r.first + r.next.Add(1) - 1) {
			}
		})
	}
	workers.Wait()
	if l := r.failed; l != nil {
		for _, line := range l.trace[max(0, len(l.trace)-60):] {
			r.t.Log(line)
		}
		r.t.Fatalf("seed %d, after %d cuts: %v (go test -run TestPowerCuts -seed=%d)", l.seed, l.cuts, r.reason, l.seed)
	}
	d := time.Since(begin)
	recovering := r.faults["cut in recovery"]
	r.t.Logf("%d power cuts in %d lives, 0 points lost, 0 mixed: %.0f cuts/s in %v; %d %% of the cuts during recovery",
		r.total, r.ended, float64(r.total)/d.Seconds(), d.Round(time.Millisecond), 100*recovering/max(r.total, 1))
	var figures []string
	for _, kind := range slices.Sorted(maps.Keys(r.faults)) {
		figures = append(figures, strconv.Itoa(r.faults[kind])+" "+kind)
	}
	r.t.Logf("%s", strings.Join(figures, ", "))
	if r.total < 1000 {
		return // too few to say something of shares
	}
	if 100*recovering < leastInRecovery*r.total {
		r.t.Errorf("%d of %d cuts came during recovery: want %d %%", recovering, r.total, leastInRecovery)
	}
	for _, kind := range []string{"eio", "full", "catalog lost"} {
		if r.faults[kind]*100 < r.total {
			r.t.Errorf("%q was met %d times in %d cuts: want one in a hundred", kind, r.faults[kind], r.total)
		}
	}
}

// one runs the life of a seed, and reports whether there is to be another.
func (r *lives) one(seed uint64) bool {
	r.mu.Lock()
	enough := r.failed != nil || r.total >= r.cuts || seed-r.first >= r.seeds || time.Now().After(r.until)
	r.mu.Unlock()
	if enough {
		return false
	}
	l := newLife(r.t.Context(), seed)
	err := l.run(boots)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		if r.failed == nil || seed < r.failed.seed {
			r.failed, r.reason = l, err
		}
		return false
	}
	r.ended++
	r.total += l.cuts
	for k, n := range l.faults {
		r.faults[k] += n
	}
	return true
}
