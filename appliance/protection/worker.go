package protection

import (
	"context"
	"errors"
	"sync"
	"time"

	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/replication/vault"
	"riparo/store"
)

// worker runs the cycles of one machine.
type worker struct {
	p  *Protector
	id replication.MachineID

	busy   chan struct{} // one slot: a cycle or a holder has it
	wake   chan struct{}
	pruned time.Time // when retention was last applied; used by run only

	mu       sync.Mutex // guards what follows
	started  bool
	retired  bool
	holders  int
	retry    time.Time               // when to try again after the last failure
	cancel   context.CancelCauseFunc // of the cycle under way
	transfer context.CancelCauseFunc // of the transfer of a job
	live     live
}

var (
	errHeld    = errors.New("a job took over the machine")
	errRetired = errors.New("the machine is protected no more")
)

func newWorker(p *Protector, id replication.MachineID) *worker {
	return &worker{p: p, id: id, busy: make(chan struct{}, 1), wake: make(chan struct{}, 1)}
}

// start reports whether the caller must run the worker now.
func (w *worker) start() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	first := !w.started
	w.started = true
	return first
}

// retire ends a worker that runs; it reports whether nobody needs it any more.
func (w *worker) retire() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.holders > 0 {
		return false
	}
	w.retired = true
	if w.cancel != nil {
		w.cancel(errRetired)
	}
	w.nudgeLocked()
	return true
}

func (w *worker) nudge() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.nudgeLocked()
}

func (w *worker) nudgeLocked() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// hold cancels a cycle under way and takes its place.
func (w *worker) hold(ctx context.Context) (release func(), err error) {
	w.mu.Lock()
	w.holders++
	if w.cancel != nil {
		w.cancel(errHeld)
	}
	w.mu.Unlock()
	select {
	case w.busy <- struct{}{}:
	case <-ctx.Done():
		w.mu.Lock()
		w.holders--
		w.nudgeLocked() // the cycle that was canceled for it is due again
		w.mu.Unlock()
		return nil, ctx.Err()
	}
	return sync.OnceFunc(func() {
		<-w.busy
		w.mu.Lock()
		w.holders--
		w.nudgeLocked()
		w.mu.Unlock()
	}), nil
}

// run takes a point whenever one is due, until ctx ends or the worker retires.
func (w *worker) run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		case <-w.wake:
		}
		w.mu.Lock()
		retired, held := w.retired, w.holders > 0
		w.mu.Unlock()
		if retired {
			return nil
		}
		if held {
			continue // release nudges
		}
		timer.Reset(w.turn(ctx))
	}
}

// idle is how long a worker sleeps that has nothing to do until it is nudged.
const idle = time.Hour

// turn takes a point if one is due and tells how long to wait.
func (w *worker) turn(ctx context.Context) time.Duration {
	m, policy, err := w.p.machine(w.id)
	if err != nil {
		return w.p.retryUnit
	}
	if !cycles(m.State) || m.Paused {
		w.say(activityAtRest(m))
		return idle
	}
	now := w.p.now()
	if wait := w.due(m, policy).Sub(now); wait > 0 {
		w.say(activityAtRest(m))
		return wait
	}
	select {
	case w.p.slots <- struct{}{}:
	case <-ctx.Done():
		return idle
	}
	at := place{p: w.p, in: w.p.slots}
	defer at.end()
	select {
	case w.busy <- struct{}{}:
	default:
		return idle // a holder came first; its release nudges
	}
	defer func() { <-w.busy }()

	// What was read above may be old: a job can have come and gone while this waited
	// for its turn, and the machine may belong to its replica now.
	m, policy, err = w.p.machine(w.id)
	if err != nil || !cycles(m.State) || m.Paused {
		return idle
	}
	cycle, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w.mu.Lock()
	if w.holders > 0 || w.retired {
		w.mu.Unlock()
		return idle
	}
	w.cancel = cancel
	w.mu.Unlock()
	w.live.began(now)
	_, err = w.take(cycle, CycleOptions{Want: wanted(m, policy, now), Limited: at.leave})
	w.mu.Lock()
	w.cancel = nil
	w.mu.Unlock()
	if cause := context.Cause(cycle); errors.Is(cause, errHeld) || errors.Is(cause, errRetired) || ctx.Err() != nil {
		return idle
	}
	if err != nil {
		w.failed(err)
	} else if now.Sub(w.pruned) >= pruneEvery {
		w.pruned = now
		err := w.p.Prune(ctx, w.id)
		if m, policy, readErr := w.p.machine(w.id); readErr == nil {
			err = errors.Join(err, w.p.eraseLeft(ctx, m, policy))
		}
		if err != nil {
			w.p.log.Warn("what retention lets go was not removed; it is tried again", "machine", w.id, "error", err)
		}
	}
	m, policy, err = w.p.machine(w.id)
	if err != nil {
		return w.p.retryUnit
	}
	return max(0, w.due(m, policy).Sub(w.p.now()))
}

// cycles reports whether points are taken in s without a job: also while a lost
// tracker mends itself.
func cycles(s lifecycle.State) bool {
	return lifecycle.Replicates(s) || s == lifecycle.Resyncing || s == lifecycle.ResyncRequired
}

// due is when the next point is to be taken.
func (w *worker) due(m store.Machine, policy replication.Policy) time.Time {
	if m.Failures > 0 {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.retry.Equal(m.NextTry) {
			return w.retry // with the uptime, which does not go back with the clock
		}
		return m.NextTry
	}
	return w.live.lastBegan().Add(policy.CopyFrequency)
}

// wanted is the consistency to try for.
func wanted(m store.Machine, policy replication.Policy, now time.Time) replication.Consistency {
	tried := now.Sub(m.AppTried) // below 0 when the clock was set back since
	if policy.AppConsistentFrequency > 0 && (tried < 0 || tried >= policy.AppConsistentFrequency) {
		return replication.AppConsistent
	}
	return replication.CrashConsistent
}

// take takes one point and keeps what it showed in the machine's record.
func (w *worker) take(ctx context.Context, o CycleOptions) (Outcome, error) {
	m, policy, err := w.p.machine(w.id)
	if err != nil {
		return Outcome{}, err
	}
	o.Compare = o.Compare || m.Compare
	given := o.Progress
	o.Progress = func(activity string, done, total int64) {
		w.live.progress(activity, done, total)
		w.p.changed("machine/" + string(w.id))
		if given != nil {
			given(activity, done, total)
		}
	}
	out, err := w.p.cycle(ctx, &m, policy, o)
	w.live.finished(out, w.p.now())
	disks, shape, news := m.Disks, m.Shape, out.News
	if err != nil {
		if len(news) > 0 { // a new disk stays known even when its first copy failed
			_, keepErr := w.p.Change(w.id, func(m *store.Machine) error { m.Disks = disks; return nil }, news...)
			err = errors.Join(err, keepErr)
		}
		return out, err
	}
	for _, warning := range out.Instant.Warnings {
		if o.Want == replication.AppConsistent {
			news = append(news, store.Event{Severity: "warning", Code: "app-consistency.missed", Text: warning})
		}
	}
	// A point that is there counts for the signal, whoever cancels now.
	sampling, cancel := context.WithTimeout(context.WithoutCancel(ctx), markLimit)
	samples := w.p.samples(sampling, m, out)
	cancel()
	points := func() []replication.RecoveryPoint { // wanted only when something is wrong
		list, err := w.p.Points(m)
		if err != nil {
			w.p.log.Warn("the points of a machine cannot be listed", "machine", m.Name, "error", err)
		}
		return list
	}
	_, err = w.p.changeAndTell(w.id, func(m *store.Machine) ([]store.Event, error) {
		news := append(news, recovered(*m)...)
		m.Disks, m.Shape = disks, shape
		for i := range m.Disks {
			m.Disks[i].Brought = nil // it is part of the point
		}
		news = append(news, suspect(m, samples, points, w.p.now())...)
		m.LastPoint = &out.Point
		if out.Point.Consistency == replication.AppConsistent {
			m.LastApp = &out.Point
		}
		if o.Want == replication.AppConsistent {
			m.AppTried = out.Point.Time // a missed one is not tried again at every cycle
		}
		m.Failures, m.NextTry = 0, time.Time{}
		if o.Compare {
			m.Compare = false
		}
		switch {
		case m.Compare: // the doubt came while this was under way: the next one compares
		case m.State == lifecycle.ResyncRequired:
			if err := step(m, lifecycle.ResyncStarted, w.p.now()); err != nil {
				return nil, err
			}
			fallthrough
		case m.State == lifecycle.Resyncing:
			return news, step(m, lifecycle.ResyncDone, w.p.now())
		}
		return news, nil
	})
	if err == nil {
		w.live.taken(out)
		w.p.review(w.id)
	}
	return out, err
}

// recovered is the event that replication goes on after failures.
func recovered(m store.Machine) []store.Event {
	if m.Failures == 0 {
		return nil
	}
	return []store.Event{{Severity: "info", Code: "replication.recovered", Text: "replication goes on"}}
}

// failed keeps a failed cycle in the record: when to try again, or that a person
// has to act.
func (w *worker) failed(err error) {
	problem := replication.AsProblem(err)
	now := w.p.now()
	event := store.Event{Severity: "warning", Code: "replication.failed", Text: problem.Cause, Action: problem.Action}
	if problem.Remedy == replication.Stop {
		event.Severity, event.Code = "critical", "replication.stopped"
	}
	before, _, readErr := w.p.machine(w.id)
	var events []store.Event
	if readErr != nil || before.Failures == 0 || problem.Remedy == replication.Stop {
		events = append(events, event) // once per row of failures, not at every try
	}
	_, keepErr := w.p.Change(w.id, func(m *store.Machine) error {
		m.Failures++
		wait := lifecycle.RetryWait(m.Failures) / time.Minute * w.p.retryUnit
		if problem.Remedy == replication.Stop {
			m.NextTry = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC) // never by itself
			setFinding(m, findingOf(problem, store.Critical, now))
			return nil
		}
		m.NextTry = now.Add(wait)
		w.mu.Lock()
		w.retry = m.NextTry
		w.mu.Unlock()
		setFinding(m, findingOf(problem, store.Warning, now))
		return nil
	}, events...)
	if keepErr != nil {
		w.p.log.Error("a failed cycle was not recorded", "machine", w.id, "error", keepErr)
	}
	if problem.Code == vault.CodeBroken {
		w.p.broken()
	}
	w.p.log.Warn("replication cycle ended early", "machine", w.id, "error", err, "remedy", problem.Remedy.String())
}
