package protection

import (
	"testing"
	"time"

	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/store"
)

// setBack is what a record says of a moment when the clock was set back since.
func setBack(at time.Time) time.Time { return at.Round(0).Add(time.Hour) }

// The age of the newest point grows while nothing is replicated, also when the clock is set
// back meanwhile.
func TestAClockThatWasSetBackHidesNoLateMachine(t *testing.T) {
	now := time.Now()
	taken := now.Add(-20 * time.Minute)
	p := &Protector{now: func() time.Time { return now }, workers: map[replication.MachineID]*worker{}}
	m := store.Machine{ID: "m-1", State: lifecycle.Protected, LastPoint: &replication.RecoveryPoint{ID: "p", Time: setBack(taken)}}
	policy := replication.DefaultPolicy() // 15 minutes
	if age := p.age(m, now); age != 0 {
		t.Errorf("a point from the future that another run took is %s old, want 0", age)
	}
	var o Outcome
	o.Point.ID, o.Instant.NotBefore = "p", taken
	p.worker(m.ID).live.taken(o)
	if age := p.age(m, now); age != 20*time.Minute {
		t.Errorf("the point is %s old, want 20m", age)
	}
	if !p.breached(m, policy, now) {
		t.Error("the machine is not late")
	}
	// A computer that slept has an uptime that stood still.
	m.LastPoint.Time = taken.Round(0).Add(-time.Hour)
	if age := p.age(m, now); age != 80*time.Minute {
		t.Errorf("after a sleep of an hour the point is %s old, want 1h20m", age)
	}
}

// What is due does not wait for a clock that was set back.
func TestAClockThatWasSetBackHoldsNothingUp(t *testing.T) {
	now := time.Now()
	w := newWorker(&Protector{}, "m-1")
	w.retry = now.Add(time.Minute)
	m := store.Machine{Failures: 1, NextTry: setBack(w.retry)}
	if wait := w.due(m, replication.Policy{}).Sub(now); wait != time.Hour+time.Minute {
		t.Errorf("a try that another run put off waits %s, want 1h1m", wait)
	}
	m.NextTry = w.retry.Round(0)
	if due := w.due(m, replication.Policy{}); due.Sub(now) != time.Minute || due == due.Round(0) {
		t.Errorf("the next try is due at %s; want it in a minute of the uptime", due)
	}
	m = store.Machine{AppTried: setBack(now.Add(-time.Minute))}
	if got := wanted(m, replication.DefaultPolicy(), now); got != replication.AppConsistent {
		t.Errorf("wanted is a %s-consistent point, want an app-consistent one", got)
	}
}
