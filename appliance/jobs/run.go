package jobs

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/store"
)

// run is one job that has a goroutine. Its record in the store is the truth; job
// is that record as last written or read, and the rest is what comes on top.
type run struct {
	e   *Engine
	id  string
	def *Definition // nil when this program does not know the kind
	log *slog.Logger

	woken chan struct{} // one slot: look at the record again
	dirty chan struct{} // one slot: there is progress to save
	again bool          // guarded by e.mu: woken since it last looked
	stuck bool          // of the goroutine: the end could not be saved

	saving sync.Mutex // one save at a time, so that job follows the store

	mu          sync.Mutex // guards the rest
	job         store.Job
	loaded      bool
	canceled    bool                    // Cancel was called: no further step begins
	cancelStep  context.CancelCauseFunc // of the step under way; nil when it cannot be canceled
	step        int                     // that overlays belong to, -1 for none
	done, total int64
	evidence    []store.Fact
	data        map[string]string // Set and not saved yet
	onDone      []func(*store.Tx) error
}

func newRun(e *Engine, id string) *run {
	return &run{e: e, id: id, log: e.log.With("job", id), step: -1,
		woken: make(chan struct{}, 1), dirty: make(chan struct{}, 1), data: map[string]string{}}
}

// nudge makes the goroutine look at the record again; with cancel the step under
// way is told to stop. The mark comes before the nudge: who is woken sees it.
func (r *run) nudge(cancel bool) {
	var stop context.CancelCauseFunc
	if cancel {
		r.mu.Lock()
		stop, r.canceled = r.cancelStep, true
		r.mu.Unlock()
	}
	select {
	case r.woken <- struct{}{}:
	default:
	}
	if stop != nil {
		stop(ErrCanceled)
	}
}

// drive takes the job as far as it goes: to its end, or to that of ctx.
func (r *run) drive(ctx context.Context) {
	for ctx.Err() == nil {
		if err := r.load(); err != nil {
			r.log.Error("job cannot be read", "error", err)
			return
		}
		job, _ := r.live()
		if job.State.Ended() {
			return
		}
		if until, waits := waitsFor(&job); waits && !r.wait(ctx, until) {
			continue
		}
		leave, ok := r.enter(ctx)
		if !ok {
			return
		}
		r.work(ctx)
		leave()
		if r.stuck {
			// Nothing that a step does leads here. If it happens all the same, it
			// must not keep a processor busy.
			r.stuck = false
			r.wait(ctx, time.Now().Add(lastSaveTry))
		}
	}
}

// load reads the record.
func (r *run) load() error {
	r.saving.Lock()
	defer r.saving.Unlock()
	job, err := store.Get(r.e.st, store.Jobs, r.id)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.job, r.loaded = job, true
	r.def = r.e.definitions[job.Kind]
	r.canceled = r.canceled || job.CancelAsk // Cancel may have come while we read
	return nil
}

// waitsFor tells whether the job waits, and until when; zero is for a person.
func waitsFor(job *store.Job) (until time.Time, waits bool) {
	switch job.State {
	case store.WaitingToRetry:
		return job.NextTry, time.Now().Before(job.NextTry)
	case store.WaitingForInput:
		_, answered := job.Data[answerKey(job.Question)]
		return time.Time{}, !answered
	}
	return time.Time{}, false
}

// wait waits for a time (zero: without end) and reports true when it has come. It
// reports false when the job was woken, or ctx has ended.
func (r *run) wait(ctx context.Context, until time.Time) bool {
	var due <-chan time.Time
	if !until.IsZero() {
		// A clock that was set back must not turn 30 minutes into days.
		t := time.NewTimer(min(time.Until(until), r.e.retryWait(maxFailures)))
		defer t.Stop()
		due = t.C
	}
	select {
	case <-ctx.Done():
		return false
	case <-r.woken:
		return false
	case <-due:
		return true
	}
}

// enter waits until the job may work. To take a job back nobody stands in line.
func (r *run) enter(ctx context.Context) (leave func(), ok bool) {
	for {
		if r.def != nil && r.def.Urgent || r.isCanceled() {
			return func() {}, true
		}
		select {
		case r.e.slots <- struct{}{}:
			return func() { <-r.e.slots }, true
		case <-r.woken:
		case <-ctx.Done():
			return nil, false
		}
	}
}

func (r *run) isCanceled() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.canceled
}

// live is the job with what is not saved yet on top.
func (r *run) live() (store.Job, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	job := clone(r.job)
	r.overlay(&job)
	return job, r.loaded
}

// overlay adds progress and evidence to the record of a job. r.mu is held.
func (r *run) overlay(job *store.Job) {
	if r.step < 0 || r.step >= len(job.Steps) {
		return
	}
	s := &job.Steps[r.step]
	if r.done != 0 || r.total != 0 {
		s.Done, s.Total = r.done, r.total
	}
	kept := 0
	for _, step := range job.Steps {
		for _, fact := range step.Evidence {
			kept += len(fact.Name) + len(fact.Value)
		}
	}
	for _, fact := range r.evidence {
		more := len(fact.Name) + len(fact.Value)
		if i := factNamed(s.Evidence, fact.Name); i >= 0 {
			more = len(fact.Value) - len(s.Evidence[i].Value)
		}
		if kept+more <= maxEvidenceBytes {
			kept += more
			s.Evidence = addFact(s.Evidence, fact)
		}
	}
}

// turnTo makes room for what step i will report.
func (r *run) turnTo(i int) *Work {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.step, r.done, r.total, r.evidence, r.onDone = i, 0, 0, nil, nil
	clear(r.data)
	log := r.log
	if i < len(r.job.Steps) {
		log = log.With("step", r.job.Steps[i].Name)
	}
	log = log.With("kind", r.job.Kind)
	if r.job.Machine != "" {
		log = log.With("machine", r.job.Machine, "name", r.job.Name)
	}
	return &Work{r: r, step: i, log: log}
}

// misfit says why this program cannot do the job. A job that has not begun takes
// the steps as they are defined now.
func (r *run) misfit() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.def == nil {
		return &replication.Problem{Code: "job.unknown", Remedy: replication.Stop,
			Cause:  fmt.Sprintf("this version does not know jobs of the kind %q", r.job.Kind),
			Effect: "the job cannot go on",
			Action: "start the version that began it"}
	}
	if r.job.CancelAsk || r.def.fits(r.job.Steps) {
		return nil
	}
	for _, s := range r.job.Steps {
		if begun(s.State) {
			return &replication.Problem{Code: "job.steps", Remedy: replication.Stop,
				Cause:  "the job was begun by another version, with other steps",
				Effect: "it cannot go on",
				Action: "cancel it to take back what it did, then start it again"}
		}
	}
	r.job.Steps = r.def.steps() // saved with the first step
	return nil
}

// fits reports whether these are the steps of d.
func (d *Definition) fits(steps []store.Step) bool {
	if len(steps) != len(d.Steps) {
		return false
	}
	for i := range steps {
		if steps[i].Name != d.Steps[i].Name {
			return false
		}
	}
	return true
}

// maxFailures is beyond where the retry schedule has reached its last step.
const maxFailures = 100

// retryWait is the seed's schedule in the engine's unit.
func (e *Engine) retryWait(failures int) time.Duration {
	return lifecycle.RetryWait(failures) / time.Minute * e.retryUnit
}
