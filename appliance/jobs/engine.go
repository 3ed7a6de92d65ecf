package jobs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"riparo/replication"
	"riparo/store"
)

// Engine starts jobs and, while Run runs, does them.
type Engine struct {
	st          *store.Store
	definitions map[string]*Definition
	log         *slog.Logger
	retryUnit   time.Duration
	twice       bool
	slots       chan struct{} // one per job that may work at the same time

	mu    sync.Mutex // guards the rest
	ctx   context.Context
	fatal context.CancelCauseFunc
	runs  map[string]*run // jobs that have a goroutine
	wg    sync.WaitGroup  // of those goroutines
}

// Options tell how an engine works. The zero value is right for a daemon.
type Options struct {
	// MaxParallel is how many jobs work at the same time, not counting urgent ones
	// and those that wait; 0 is 4: more transfers at once only slow each other.
	MaxParallel int
	// RetryUnit is the unit of the retry schedule; 0 is a minute.
	RetryUnit time.Duration
	// Twice is for tests: each step, and what takes it back, runs again after it
	// succeeded, as it does when the daemon ends just before that is saved.
	Twice  bool
	Logger *slog.Logger // nil discards
}

const (
	defaultParallel = 4
	// maxUnfinished bounds the jobs that have not ended, each of which has a
	// goroutine: some four times the machines that one appliance is made for.
	maxUnfinished = 4096
	maxSteps      = 64
	// A job's record is written before and after each step, and the store takes
	// 1 MiB. These keep it far below, also when every byte has to be escaped.
	maxParamBytes    = 16 << 10
	maxDataBytes     = 64 << 10 // of all that steps hand on, with answers
	maxTextBytes     = 4 << 10  // of one observation, answer or sentence of an error
	maxEvidence      = 64       // facts of one step
	maxEvidenceBytes = 64 << 10 // of all steps
)

var (
	// ErrCanceled is the cause with which the context of a step ends when its job
	// is canceled. At a shutdown the cause is another.
	ErrCanceled = errors.New("the job was canceled")
	// ErrBusy: the machine has a job that has not ended.
	ErrBusy = errors.New("the machine has an unfinished job")
	// ErrEnded: the job has ended, or does not wait for what is asked.
	ErrEnded = errors.New("the job is past that")
)

// New makes an engine that knows these definitions. It does nothing until Run.
func New(st *store.Store, o Options, definitions ...Definition) (*Engine, error) {
	e := &Engine{
		st:          st,
		definitions: map[string]*Definition{},
		log:         cmp.Or(o.Logger, slog.New(slog.DiscardHandler)),
		retryUnit:   cmp.Or(o.RetryUnit, time.Minute),
		twice:       o.Twice,
		slots:       make(chan struct{}, cmp.Or(max(o.MaxParallel, 0), defaultParallel)),
		runs:        map[string]*run{},
	}
	for _, d := range definitions {
		if err := d.check(); err != nil {
			return nil, err
		}
		if _, twice := e.definitions[d.Kind]; twice {
			return nil, fmt.Errorf("job kind %q is defined twice", d.Kind)
		}
		e.definitions[d.Kind] = &d
	}
	return e, nil
}

// Spec is a job to start.
type Spec struct {
	Kind    string
	Machine replication.MachineID // empty for a job that concerns none
	Name    string                // of the machine, for people
	Actor   string                // who asks
	Params  map[string]string
	// With changes other records in the transaction that starts the job: the state
	// of the machine, for instance. When it returns an error nothing was started,
	// and Start returns that error.
	With func(tx *store.Tx, job string) error
}

// Start makes a job durable and, while the engine runs, begins it. It gives the
// job's ID.
//
// Problems: job.busy (wraps [ErrBusy]), job.full.
func (e *Engine) Start(ctx context.Context, spec Spec) (string, error) {
	d := e.definitions[spec.Kind]
	if d == nil {
		return "", fmt.Errorf("start job: the kind %q is not known", spec.Kind)
	}
	if n := sizeOf(spec.Params); n > maxParamBytes {
		return "", fmt.Errorf("start job %s: %d bytes of parameters: limit %d", spec.Kind, n, maxParamBytes)
	}
	if err := ctx.Err(); err != nil {
		return "", err
	}
	now := time.Now().UTC()
	job := store.Job{
		Kind: spec.Kind, Machine: string(spec.Machine), Name: spec.Name,
		Actor: spec.Actor, Params: maps.Clone(spec.Params), State: store.NotStarted,
		Steps: d.steps(), Created: now,
	}
	err := e.st.Update(func(tx *store.Tx) error {
		if err := e.admit(tx, &job); err != nil {
			return err
		}
		// The newest job of a machine is the one that began last, whatever the clock said.
		before, err := tx.JobsOf(spec.Machine).Page("", 1, true)
		if err != nil {
			return err
		}
		var last string
		if len(before) > 0 {
			last = before[0].ID
		}
		job.ID = store.NewIDAfter(now, last)
		if err := tx.Jobs().Put(job); err != nil {
			return err
		}
		if spec.With != nil {
			if err := spec.With(tx, job.ID); err != nil {
				return err
			}
		}
		return tx.AddEvent(started(d, &job))
	})
	if err != nil {
		return "", err
	}
	e.wake(job.ID, false)
	return job.ID, nil
}

// admit refuses a second unfinished job of a machine, and more than the engine holds.
func (e *Engine) admit(tx *store.Tx, job *store.Job) error {
	if job.Machine != "" {
		for other, err := range tx.UnfinishedJobs(replication.MachineID(job.Machine)).All() {
			if err != nil {
				return err
			}
			if other.ID != job.ID {
				return e.busy(job, &other)
			}
		}
	}
	unfinished := 0
	for _, state := range []store.JobState{store.NotStarted, store.InProgress, store.WaitingForInput, store.WaitingToRetry} {
		n, err := tx.JobsIn(state).Count()
		if err != nil {
			return err
		}
		unfinished += n
	}
	if unfinished >= maxUnfinished {
		return &replication.Problem{Code: "job.full", Remedy: replication.Retry,
			Cause:  fmt.Sprintf("%d jobs have not ended", unfinished),
			Effect: "no other job can be started",
			Action: "wait until some end, or cancel those that are not needed"}
	}
	return nil
}

func (e *Engine) busy(job, other *store.Job) error {
	return &replication.Problem{Code: "job.busy", Err: ErrBusy, Remedy: replication.Retry,
		Cause:  fmt.Sprintf("%s: the job “%s” (%s) is %s", cmp.Or(job.Name, job.Machine), e.title(other.Kind), other.ID, other.State),
		Effect: "no other job of this machine can run beside it",
		Action: "wait until it ends, or cancel it"}
}

// Run does the jobs, first of all those that were not finished when it last
// ended, each from the step that was not finished. It returns nil after ctx ended
// and every step has returned, or an error when the store takes no more changes.
func (e *Engine) Run(ctx context.Context) error {
	ctx, fatal := context.WithCancelCause(ctx)
	defer fatal(nil)
	e.mu.Lock()
	if e.ctx != nil {
		e.mu.Unlock()
		return errors.New("the job engine runs already")
	}
	e.ctx, e.fatal = ctx, fatal
	e.mu.Unlock()

	err := e.resume()
	if err == nil {
		<-ctx.Done()
	}
	fatal(nil)
	e.mu.Lock()
	e.ctx = nil // from here on no goroutine is added
	e.mu.Unlock()
	e.wg.Wait()

	var stop *storeStopped
	if cause := context.Cause(ctx); errors.As(cause, &stop) {
		return fmt.Errorf("jobs: %w", stop.err)
	}
	return err
}

// resume gives each job that has not ended its goroutine.
func (e *Engine) resume() error {
	var unfinished []store.Job
	err := e.st.View(func(tx *store.Tx) (err error) {
		unfinished, err = tx.AllUnfinishedJobs()
		return err
	})
	if err != nil {
		return fmt.Errorf("continue the jobs: %w", err)
	}
	for _, job := range unfinished {
		e.wake(job.ID, false)
	}
	return nil
}

// wake makes sure that a job has a goroutine which looks at its record once more.
// With cancel it ends the context of the step under way.
func (e *Engine) wake(id string, cancel bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if r := e.runs[id]; r != nil {
		r.again = true
		r.nudge(cancel)
		return
	}
	if e.ctx == nil || e.ctx.Err() != nil {
		return // Run finds it in the store
	}
	r := newRun(e, id)
	e.runs[id] = r
	ctx := e.ctx
	e.wg.Go(func() {
		for again := true; again; again = e.leave(r) {
			r.drive(ctx)
		}
	})
}

// leave ends a job's goroutine unless it was woken meanwhile.
func (e *Engine) leave(r *run) (again bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if r.again && e.ctx != nil && e.ctx.Err() == nil {
		r.again = false
		return true
	}
	delete(e.runs, r.id)
	return false
}

// Live gives a job as it is this moment, with progress and evidence that are not
// in the store yet. It reports false for a job that is not under way.
func (e *Engine) Live(id string) (store.Job, bool) {
	e.mu.Lock()
	r := e.runs[id]
	e.mu.Unlock()
	if r == nil {
		return store.Job{}, false
	}
	return r.live()
}

func (e *Engine) title(kind string) string {
	if d := e.definitions[kind]; d != nil {
		return d.title()
	}
	return kind
}

func (d *Definition) steps() []store.Step {
	steps := make([]store.Step, len(d.Steps))
	for i, s := range d.Steps {
		steps[i] = store.Step{Name: s.Name, State: store.NotStarted}
	}
	return steps
}

func sizeOf(m map[string]string) (n int) {
	for k, v := range m {
		n += len(k) + len(v)
	}
	return n
}
