package noise

import (
	"math/rand/v2"
	"testing"
	"time"
)

const (
	mib = 1 << 20
	gib = 1 << 30
)

var start = time.Date(2026, 11, 26, 9, 0, 0, 0, time.UTC)

func TestOnlyNoiseInThePlaceOfSomethingCounts(t *testing.T) {
	for _, c := range []struct {
		name string
		s    Sample
		want float64
	}{
		{"nothing", Sample{}, 0},
		{"what compresses over what compresses", Sample{Changed: gib}, 0},
		{"half of what is encrypted are films", Sample{Changed: 20, Noise: 20, Turned: 14}, 14 * 0.5},
		{"noise where nothing was", Sample{Changed: gib, Noise: gib, Fresh: gib}, 0},
		{"noise over noise", Sample{Changed: gib, Noise: gib}, 0},
		{"trimming", Sample{Changed: gib, Vanished: gib}, 0},
		{"noise over what compressed", Sample{Changed: 10, Noise: 10, Turned: 10}, 10},
		{"new noise while as much goes away", Sample{Changed: 20, Noise: 10, Fresh: 10, Vanished: 10}, 10},
		{"new noise while less goes away", Sample{Changed: 20, Noise: 10, Fresh: 10, Vanished: 7}, 7 * 0.5},
		{"films over half reused space", Sample{Changed: 20, Noise: 20, Fresh: 10, Turned: 10}, 0},
		{"films over space that is mostly reused", Sample{Changed: 20, Noise: 20, Fresh: 6, Turned: 14}, 14 * 0.5},
		{"an encryption beside a copy of films", Sample{Changed: 20, Noise: 20, Fresh: 2, Turned: 18}, 18},
	} {
		if got := counted(c.s); got < c.want-1e-6 || got > c.want+1e-6 {
			t.Errorf("%s: %g bytes count, want %g", c.name, got, c.want)
		}
	}
}

func TestTheThresholdGrowsWithTheDisk(t *testing.T) {
	for size, want := range map[int64]int64{0: 4 * mib, 16 * mib: 4 * mib, 4 * gib: 4 * mib, 32 * gib: 32 * mib, 512 * gib: 512 * mib, 8 << 40: 512 * mib} {
		if got := Limit(size); got != want {
			t.Errorf("a disk of %d bytes: %d, want %d", size, got, want)
		}
	}
}

// TestAClockThatWasAheadForOnePointRaisesNoAlarmLater: ordinary work keeps its allowance.
func TestAClockThatWasAheadForOnePointRaisesNoAlarmLater(t *testing.T) {
	var s State
	at := start
	take := func(at time.Time) Verdict {
		v := Verdict{}
		s, v = Watch(s, Sample{Time: at, Size: 32 * gib, Changed: mib, Noise: 64 << 10, Turned: 64 << 10})
		return v
	}
	for i := range 10_000 {
		at = at.Add(time.Minute)
		seen := at
		if i == 100 {
			seen = at.AddDate(1, 0, 0)
		}
		if v := take(seen); v.Alarm || i > 200 && v.Clean.Before(at.Add(-time.Hour)) {
			t.Fatalf("after %d minutes: %+v", i, v)
		}
	}
}

func TestTheOnsetIsTheLastCleanPoint(t *testing.T) {
	var s State
	var v Verdict
	at := start
	take := func(turned int64) {
		at = at.Add(time.Minute)
		s, v = Watch(s, Sample{Time: at, Size: 32 * gib, Changed: turned, Noise: turned, Turned: turned})
	}
	for range 60 {
		take(0)
	}
	onset := at
	for range 3 {
		take(10 * mib)
		if v.Alarm || !v.Clean.Equal(onset) {
			t.Fatalf("%+v: want no alarm yet and the onset at %s", v, onset)
		}
	}
	if !v.Rising {
		t.Errorf("%+v: the point of the onset is to be kept by now", v)
	}
	take(10 * mib)
	if !v.Alarm || !v.Clean.Equal(onset) {
		t.Fatalf("%+v: want the alarm and the onset at %s", v, onset)
	}
	// It stands until a person has looked at it, then it counts from there.
	take(0)
	if !v.Alarm || !v.Clean.Equal(onset) {
		t.Errorf("%+v: the alarm went by itself", v)
	}
	s = Dismiss(s, 32*gib)
	take(40 * mib)
	if v.Alarm {
		t.Errorf("%+v: what a person said is no attack raises the alarm again", v)
	}
	take(40 * mib)
	if !v.Alarm {
		t.Errorf("%+v: more than a person said is no attack raises no alarm", v)
	}
	// What nothing makes use of ends; what is of use each month stays.
	s = Dismiss(s, 32*gib)
	allowed := s.Tolerated
	for month := range 6 {
		at = at.Add(31 * 24 * time.Hour)
		for range 6 {
			take(10 * mib)
		}
		if v.Alarm || s.Tolerated != allowed {
			t.Fatalf("%+v, %g bytes tolerated in month %d: want no alarm, and %g", v, s.Tolerated, month, allowed)
		}
		s.Sum = 0
	}
	at = at.Add(41 * 24 * time.Hour)
	take(0)
	for range 6 {
		take(10 * mib)
	}
	if !v.Alarm {
		t.Errorf("%+v: what was tolerated long ago raises no alarm", v)
	}
	for range 20 {
		s.Sum = 1e18
		s = Dismiss(s, 32*gib)
	}
	if s.Tolerated > maxTolerance*32*mib {
		t.Errorf("%g bytes are tolerated: dismissing must not switch the alarm off", s.Tolerated)
	}
}

// TestTheEndOfAToleranceEndsNoAlarm: nor does what it covered raise one, when a machine was
// paused for so long.
func TestTheEndOfAToleranceEndsNoAlarm(t *testing.T) {
	const tolerated = 100 * mib
	for sum, want := range map[float64]bool{tolerated - 1: false, tolerated + 50*mib: true} {
		s := State{Since: start, Last: start, Sum: sum, Tolerated: tolerated, Until: start.Add(toleranceTime)}
		s, v := Watch(s, Sample{Time: start.Add(toleranceTime + time.Hour), Size: 32 * gib})
		if v.Alarm != want || s.Tolerated != 0 {
			t.Errorf("with %g bytes lost: %+v, %g tolerated; want an alarm: %t", sum, v, s.Tolerated, want)
		}
	}
}

// TestASlowJobThatComesEachMonthStaysTolerated: one that takes hours never comes near what
// is tolerated, and is what was meant all the same.
func TestASlowJobThatComesEachMonthStaysTolerated(t *testing.T) {
	var s State
	at := start
	job := func() (alarm bool) {
		for range 8 * 60 {
			at = at.Add(time.Minute)
			var v Verdict
			s, v = Watch(s, Sample{Time: at, Size: 32 * gib, Changed: mib / 3, Noise: mib / 3, Turned: mib / 3})
			alarm = alarm || v.Alarm
		}
		return alarm
	}
	quiet := func(d time.Duration) {
		for end := at.Add(d); at.Before(end); {
			at = at.Add(30 * time.Minute)
			s, _ = Watch(s, Sample{Time: at, Size: 32 * gib})
		}
	}
	quiet(time.Hour)
	if !job() {
		t.Fatal("a job that loses 20 MiB an hour raises no alarm")
	}
	s = Dismiss(s, 32*gib)
	for month := range 6 {
		quiet(30 * 24 * time.Hour)
		if job() {
			t.Fatalf("what was dismissed raises the alarm in month %d", month)
		}
	}
	quiet(60 * 24 * time.Hour)
	if !job() {
		t.Error("it raises none after it had not come for two months")
	}
}

// TestAJudgmentHoldsWhateverComes: properties of Watch over random samples, with a
// clock that jumps.
func TestAJudgmentHoldsWhateverComes(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 7))
		var s State
		at := start
		size := int64(1) << r.IntN(45)
		for step := range 200 {
			switch r.IntN(40) {
			case 0:
				at = at.Add(time.Duration(r.Int64N(int64(1000 * time.Hour))))
			case 1:
				at = at.Add(-time.Duration(r.Int64N(int64(1000 * time.Hour))))
			default:
				at = at.Add(time.Duration(r.Int64N(int64(5 * time.Minute))))
			}
			p := Sample{Time: at, Size: size, Turned: r.Int64N(8 * mib), Fresh: r.Int64N(32 * mib), Vanished: r.Int64N(32 * mib)}
			if r.IntN(2) == 0 {
				p.Turned, p.Vanished = 0, 0
			}
			p.Noise = p.Turned + p.Fresh
			p.Changed = p.Noise + p.Vanished
			before := s
			got, v := Watch(s, p)
			again, w := Watch(s, p)
			if got != again || v != w {
				t.Fatalf("seed %d, step %d: not a function of its arguments", seed, step)
			}
			more := p
			more.Turned += mib
			more.Noise += mib
			if worse, _ := Watch(s, more); worse.Sum < got.Sum {
				t.Fatalf("seed %d, step %d: more loss, a lower sum: %g, %g", seed, step, worse.Sum, got.Sum)
			}
			switch {
			case got.Sum < 0 || got.Usual < 0 || got.Sum != got.Sum || got.Usual != got.Usual:
				t.Fatalf("seed %d, step %d: %+v", seed, step, got)
			case got.Sum > before.Sum+float64(p.Turned+min(p.Fresh, p.Vanished)):
				t.Fatalf("seed %d, step %d: the sum rose by more than was lost: %+v after %+v", seed, step, got, before)
			case v.Alarm && !v.Rising:
				t.Fatalf("seed %d, step %d: %+v: an alarm out of nothing", seed, step, v)
			case p.Turned == 0 && min(p.Fresh, p.Vanished) == 0 && got.Sum > before.Sum:
				t.Fatalf("seed %d, step %d: no loss, a higher sum", seed, step)
			}
			s = got
		}
	}
}
