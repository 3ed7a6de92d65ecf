package web

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestTheMiddleIsThatOfTheSorted compares with sorting, for many lengths and with values
// that repeat or are not known.
func TestTheMiddleIsThatOfTheSorted(t *testing.T) {
	const seed = 12
	random := rand.New(rand.NewPCG(seed, seed))
	for n := 1; n < 400; n++ {
		of := make([]float64, n)
		for i := range of {
			switch random.IntN(4) {
			case 0:
				of[i] = math.Inf(1)
			case 1:
				of[i] = float64(random.IntN(3))
			default:
				of[i] = random.Float64() * 1000
			}
		}
		want := slices.Sorted(slices.Values(of))[n/2]
		if got := middleOf(of); got != want {
			t.Fatalf("of %d values: got %v, want %v (seed %d)", n, got, want, seed)
		}
	}
}
