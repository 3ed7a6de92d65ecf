package vault

import (
	"flag"
	"os"
	"runtime/debug"
	"strconv"
	"testing"
	"time"
)

var (
	everyStep = flag.Bool("everystep", false, "compare with the model after every step of the power cuts")
	seedFlag  = flag.Uint64("seed", 0, "run the power cuts of this seed only")
)

// lives runs seeds until a number of power cuts is reached and tells the figures.
func lives(t *testing.T, cuts int, first uint64) {
	// The heap stays small, and collecting it all the time would take half the run.
	defer debug.SetGCPercent(debug.SetGCPercent(800))
	begin := time.Now()
	total := 0
	faults := map[string]int{}
	seed := first
	for ; total < cuts; seed++ {
		l := newLife(t.Context(), seed)
		if err := l.run(6); err != nil {
			for _, line := range l.trace[max(0, len(l.trace)-60):] {
				t.Log(line)
			}
			t.Fatalf("seed %d, after %d cuts: %v (go test -run TestPowerCuts -seed %d)", seed, l.cuts, err, seed)
		}
		total += l.cuts
		for k, n := range l.faults {
			faults[k] += n
		}
	}
	d := time.Since(begin)
	t.Logf("%d lives, %d power cuts, 0 violations in %v: %.0f cuts/s; %v", seed-first, total, d.Round(time.Millisecond), float64(total)/d.Seconds(), faults)
}

// TestPowerCuts cuts the power at every kind of moment, also while the vault
// recovers, and compares every recovery point with a model after every cut. The
// environment variable RIPARO_CUTS sets the number of cuts.
func TestPowerCuts(t *testing.T) {
	cuts := 3000
	if text := os.Getenv("RIPARO_CUTS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("RIPARO_CUTS: %v", err)
		}
		cuts = n
	}
	if *seedFlag != 0 {
		lives(t, 1, *seedFlag)
		return
	}
	lives(t, cuts, 1)
}
