package web

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"riparo/replication"
	"riparo/replication/report"
	"riparo/store"
	"riparo/web/view"
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

// TestCurvesAreDrawnWhenAHistoryMoves: in between they are the ones that were drawn, and
// what they show is what a plain look at every instant finds.
func TestCurvesAreDrawnWhenAHistoryMoves(t *testing.T) {
	const seed = 7
	random := rand.New(rand.NewPCG(seed, seed))
	var g glance
	histories := make([][]float64, 5)
	for round := range report.HistorySamples + 20 {
		for i := range histories {
			if random.IntN(8) > 0 || round < i { // some machines are younger than others
				histories[i] = report.Append(histories[i], float64(random.IntN(100)-1))
			}
		}
		first, again := g.curvesOf(slices.Clone(histories)), g.curvesOf(slices.Clone(histories))
		if len(first.worst) > 0 && &first.worst[0] != &again.worst[0] {
			t.Fatalf("round %d: nothing moved, and the curves were drawn again", round)
		}
		if round%40 != 0 && round < report.HistorySamples {
			continue
		}
		for back := 1; back <= len(first.worst); back++ {
			var at []float64
			for _, h := range histories {
				if i := len(h) - back; i >= 0 {
					if at = append(at, h[i]); h[i] < 0 {
						at[len(at)-1] = math.Inf(1)
					}
				}
			}
			slices.Sort(at)
			worst, middle := first.worst[len(first.worst)-back], first.middle[len(first.middle)-back]
			if worst != at[len(at)-1] || middle != at[len(at)/2] {
				t.Fatalf("round %d, %d samples ago: got %v and %v of %v (seed %d)", round, back, worst, middle, at, seed)
			}
		}
	}
}

// TestNeedsAreToldAsManyAsAreShown: of a thousand machines with findings the overview
// shows the first few, and it does not put the other ones into words.
func TestNeedsAreToldAsManyAsAreShown(t *testing.T) {
	catalog, err := view.Load()
	if err != nil {
		t.Fatal(err)
	}
	v := visit{words: catalog.Words("it", nil), user: &store.User{Role: store.Administrator}}
	crowd := func(n int) survey {
		s := survey{records: records{machines: make([]store.Machine, n)}}
		for i := range s.machines {
			m := &s.machines[i]
			level := store.Warning
			if i == n-1 {
				level = store.Critical
			}
			*m = store.Machine{ID: replication.MachineID("m-1"), Name: "web01", Health: store.Health{Level: level,
				Findings: []store.Finding{{Code: "x", Level: string(level), Cause: "the disk vda is damaged", Effect: "try again in 5m0s", Action: "see the log"}}}}
			s.count(m, MachineReport{})
		}
		return s
	}
	few, many := crowd(2*maxNeeds), crowd(1000)
	list := needs(v, many, nil)
	if len(list) != maxNeeds+1 || list[0].Tone != view.Bad || list[1].Tone != view.Warn || list[maxNeeds].Tone != view.Info {
		t.Fatalf("1,000 machines have %d needs, the first ones %+v: want the critical one, then warnings, and that there are more", len(list), list[:2])
	}
	small, large := testing.AllocsPerRun(10, func() { needs(v, few, nil) }), testing.AllocsPerRun(10, func() { needs(v, many, nil) })
	if each := (large - small) / float64(1000-2*maxNeeds); each > 6 {
		t.Errorf("each machine that is not shown takes %.1f allocations, want at most 6", each)
	}
}
