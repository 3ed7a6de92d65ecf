package protection

import (
	"errors"
	"sync"
	"time"

	"riparo/replication"
	"riparo/replication/report"
	"riparo/store"
)

// live is what a worker shows of itself.
type live struct {
	mu          sync.Mutex // guards all
	activity    string
	done, total int64
	beganAt     time.Time
	took        time.Duration
	bytes       int64     // sent by the last cycle
	bytesSince  int64     // sent since the last sample
	rpo         []float64 // reports share it: it is never changed in place
	point       replication.PointID
	instant     time.Time // of point; with the uptime, as long as the program runs
}

func (l *live) began(at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.beganAt = at
}

func (l *live) lastBegan() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.beganAt
}

func (l *live) progress(activity string, done, total int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.activity, l.done, l.total = activity, done, total
}

func (l *live) finished(o Outcome, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.activity, l.done, l.total = "", 0, 0
	l.took, l.bytes = o.Took, o.SentBytes()
	l.bytesSince += l.bytes
}

// taken notes the instant of a point that the record has now.
func (l *live) taken(o Outcome) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.point, l.instant = o.Point.ID, o.Instant.NotBefore
}

// clockSlack is how far a clock goes back at most that is corrected bit by bit.
const clockSlack = 2 * time.Second

// instantOf is when a machine's newest point was taken, on the clock as it stands now, and
// not after now. Of a point that was taken since the start, the uptime tells how long ago
// that is at least: it does not go back with the clock, and stands still with the computer.
func (l *live) instantOf(point replication.RecoveryPoint, now time.Time) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := point.Time
	if point.ID == l.point {
		age := now.Sub(l.instant)
		if age-now.Round(0).Sub(at) > clockSlack {
			at = now.Round(0).Add(-age)
		}
	}
	if at.After(now) {
		return now
	}
	return at
}

// age is how old the newest point of a machine is.
func (p *Protector) age(m store.Machine, now time.Time) time.Duration {
	return now.Round(0).Sub(p.worker(m.ID).live.instantOf(*m.LastPoint, now))
}

// say sets what an idle worker shows.
func (w *worker) say(activity string) {
	w.live.progress(activity, 0, 0)
}

func activityAtRest(m store.Machine) string {
	switch {
	case m.Paused:
		return "paused"
	case m.Failures > 0:
		return "waiting to try again"
	case !cycles(m.State):
		return string(m.State)
	}
	return "idle"
}

// meter samples throughput and RPO for the charts.
type meter struct {
	mu         sync.Mutex // guards all
	last       time.Time
	rate       map[replication.MachineID]float64
	throughput []float64 // as rpo: reports share it
	total      float64
}

// sample takes a sample when one is due, and looks whether a machine's RPO is
// breached.
func (t *meter) sample(p *Protector) {
	now := p.now()
	t.mu.Lock()
	elapsed := now.Sub(t.last)
	if !t.last.IsZero() && elapsed < report.SampleEvery {
		t.mu.Unlock()
		return
	}
	first := t.last.IsZero()
	t.last = now
	t.mu.Unlock()
	p.mu.Lock()
	workers := make([]*worker, 0, len(p.workers))
	for _, w := range p.workers {
		workers = append(workers, w)
	}
	p.mu.Unlock()
	machines, policies, err := p.byName()
	if err != nil {
		p.log.Warn("a sample lacks the machines", "error", err)
	}
	rates := map[replication.MachineID]float64{}
	var total float64
	for _, w := range workers {
		m, policy := machines[w.id], policies[machines[w.id].Policy]
		if m.ID == "" {
			continue
		}
		p.watchRPO(m, policy)
		rpo := -1.0
		if m.LastPoint != nil {
			rpo = p.age(m, now).Seconds()
		}
		w.live.mu.Lock()
		w.live.rpo = report.Append(w.live.rpo, rpo)
		sent := w.live.bytesSince
		w.live.bytesSince = 0
		w.live.mu.Unlock()
		if !first && elapsed > 0 {
			rates[w.id] = float64(sent) / elapsed.Seconds()
			total += rates[w.id]
		}
	}
	t.mu.Lock()
	t.rate, t.total = rates, total
	t.throughput = report.Append(t.throughput, total)
	t.mu.Unlock()
}

// byName gives all machines by their IDs and all policies by their names.
func (p *Protector) byName() (map[replication.MachineID]store.Machine, map[string]replication.Policy, error) {
	machines, err := p.machines.All()
	policies, policiesErr := p.policies.All()
	byID, named := make(map[replication.MachineID]store.Machine, len(machines)), make(map[string]replication.Policy, len(policies))
	for _, m := range machines {
		byID[m.ID] = m
	}
	for _, policy := range policies {
		named[policy.Name] = policy.Policy
	}
	return byID, named, errors.Join(err, policiesErr)
}

// Report gives the state of replication now. Histories are shared: nobody changes them.
func (p *Protector) Report() report.Report {
	r := report.Report{Time: p.now(), Machines: map[replication.MachineID]report.Machine{}}
	p.meter.mu.Lock()
	r.SentPerSecond = p.meter.total
	r.Throughput = p.meter.throughput
	rates := p.meter.rate
	p.meter.mu.Unlock()
	machines, err := p.machines.All()
	policies, policiesErr := p.policies.All()
	if err := errors.Join(err, policiesErr); err != nil {
		p.log.Warn("the report lacks the machines", "error", err)
	}
	every := map[string]time.Duration{}
	for _, policy := range policies {
		every[policy.Name] = policy.CopyFrequency
	}
	for _, m := range machines {
		id := m.ID
		w := p.worker(id)
		w.live.mu.Lock()
		mr := report.Machine{Activity: w.live.activity, Done: w.live.done, Total: w.live.total, LastCycle: w.live.took,
			LastBytes: w.live.bytes, RPO: w.live.rpo, SentPerSecond: rates[id]}
		began := w.live.beganAt
		w.live.mu.Unlock()
		if m.LastPoint != nil {
			mr.PointTime = w.live.instantOf(*m.LastPoint, r.Time)
		}
		if cycles(m.State) && !m.Paused {
			mr.NextCycle = began.Add(every[m.Policy])
			if m.Failures > 0 {
				mr.NextCycle = m.NextTry
			}
		}
		r.Machines[id] = mr
	}
	return r
}
