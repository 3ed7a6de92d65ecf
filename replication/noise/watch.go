package noise

import "time"

// Sample is what a recovery point changed on a disk, in bytes. See vault.Makeup.
type Sample struct {
	Time     time.Time // of the point
	Size     int64     // of the disk
	Changed  int64
	Noise    int64
	Turned   int64
	Fresh    int64
	Vanished int64
}

// State is what is remembered of a disk between points. The zero value is a disk of
// which nothing is known.
type State struct {
	Since time.Time `json:"since,omitzero"` // of the first sample
	Last  time.Time `json:"last,omitzero"`  // of the newest
	// Usual is the counted loss that is usual, bytes per second: a moving average.
	Usual float64 `json:"usual"`
	// Sum is the loss beyond the usual, bytes; Clean is when it last stood near zero.
	Sum   float64   `json:"sum"`
	Clean time.Time `json:"clean,omitzero"`
	// Tolerated is what a person said is no attack: so much loss raises no alarm, up to Until.
	Tolerated float64   `json:"tolerated,omitempty"`
	Until     time.Time `json:"until,omitzero"`
	// Plain is what Sum would be if nothing were tolerated.
	Plain float64 `json:"plain,omitempty"`
}

// Verdict is what a sample says.
type Verdict struct {
	// Alarm: the disk is turning to noise.
	Alarm bool
	// Rising: there is more loss than usual, not yet enough for an alarm. The point of
	// Clean may be the last clean one: it should not be let go.
	Rising bool
	Clean  time.Time // points up to it are clean; zero when none is known to be
	Sum    int64     // bytes lost beyond the usual since Clean
	Limit  int64     // at which the alarm is raised, bytes
}

const (
	// A disk of 4 GiB to 512 GiB may lose 1/1024 of itself before the alarm: 32 MiB of
	// 32 GiB. Smaller ones lose 4 MiB, larger ones 512 MiB.
	limitShare = 1024
	minLimit   = 4 << 20
	maxLimit   = 512 << 20
	// The average of the usual loss looks back at a week, and no less than at a day
	// when less is known: an attack in the first hour is not the usual.
	memoryTime  = 7 * 24 * time.Hour
	learnedTime = 24 * time.Hour
	// allowanceTime: a threshold in six hours is never an alarm, 128 MiB a day of a disk
	// of 32 GiB. Databases lose less to columns of pictures and keys.
	allowanceTime = 6 * time.Hour
	// cleanShare: with no more than this part of the threshold lost, a point is clean.
	cleanShare = 128
	// usualTimes: twice the usual is still usual.
	usualTimes = 2
	// lowPurity and highPurity: see the package.
	lowPurity, highPurity = 0.5, 0.9
	// longestGap is the most time that one sample stands for: a machine that was paused
	// for a week does not earn a week's allowance.
	longestGap = time.Hour
)

// Limit is how many bytes a disk of so many may lose to noise before the alarm.
func Limit(size int64) int64 {
	return min(max(size/limitShare, minLimit), maxLimit)
}

// Watch takes the sample of one more point and judges it. It is a pure function:
// same state, same sample, same answer. A sample that is a little older than the newest
// one changes nothing but the sum.
func Watch(s State, p Sample) (State, Verdict) {
	if s.Tolerated > 0 && s.Until.IsZero() { // of a state that was kept before this ended
		s.Until = p.Time.Add(toleranceTime)
	}
	if s.Tolerated > 0 && p.Time.After(s.Until) {
		if s.Sum < s.Tolerated {
			s.Sum = 0 // what it covered raises no alarm now, and an alarm that stands stays
		}
		s.Tolerated, s.Plain = 0, 0
	}
	least := float64(Limit(p.Size))
	limit := max(least, s.Tolerated)
	elapsed := time.Duration(0)
	if s.Since.IsZero() {
		s.Since, s.Clean = p.Time, time.Time{}
	} else {
		elapsed = min(max(p.Time.Sub(s.Last), 0), longestGap)
	}
	loss := counted(p)
	allowance := (usualTimes*s.Usual + limit/allowanceTime.Seconds()) * elapsed.Seconds()
	s.Sum = max(0, s.Sum+loss-allowance)
	if s.Tolerated > 0 {
		allowance := (usualTimes*s.Usual + least/allowanceTime.Seconds()) * elapsed.Seconds()
		s.Plain = min(max(0, s.Plain+loss-allowance), 2*least)
		if s.Plain >= least {
			s.Until = p.Time.Add(toleranceTime) // it is of use
		}
	}
	if s.Sum <= limit/cleanShare {
		s.Clean = p.Time
	}
	// An attack is not learned from.
	if s.Sum < limit/2 && elapsed > 0 {
		known := min(max(p.Time.Sub(s.Since), learnedTime), memoryTime)
		weight := elapsed.Seconds() / known.Seconds()
		s.Usual += (loss/elapsed.Seconds() - s.Usual) * weight
	}
	// One that is much older says that the clock was ahead, and is right again.
	if p.Time.After(s.Last) || s.Last.Sub(p.Time) > longestGap {
		s.Last = p.Time
	}
	return s, Verdict{Alarm: s.Sum >= limit, Rising: s.Sum >= limit/4, Clean: s.Clean, Sum: int64(s.Sum), Limit: int64(limit)}
}

// counted is what a sample adds to the sum, in bytes.
func counted(p Sample) float64 {
	moved := min(p.Fresh, p.Vanished)
	loss := p.Turned + moved
	if loss <= 0 || p.Noise <= 0 {
		return 0
	}
	purity := float64(loss) / float64(p.Noise)
	return float64(loss) * min(max((purity-lowPurity)/(highPurity-lowPurity), 0), 1)
}

// tolerance: dismissing an alarm raises the threshold of the disk to half more than
// what was seen, and to 16 times the threshold at most. What nothing makes use of ends
// when the next of a monthly job would have come: one attack that was dealt with does not
// make room for another for ever.
const (
	toleranceTimes = 1.5
	maxTolerance   = 16
	toleranceTime  = 40 * 24 * time.Hour
)

// Dismiss is the state of a disk of so many bytes after a person has said that what
// was seen is no attack: it counts from here, and as much again raises no alarm.
func Dismiss(s State, size int64) State {
	s.Tolerated = min(max(s.Tolerated, toleranceTimes*s.Sum), maxTolerance*float64(Limit(size)))
	s.Sum, s.Plain, s.Clean, s.Until = 0, 0, s.Last, s.Last.Add(toleranceTime)
	return s
}
