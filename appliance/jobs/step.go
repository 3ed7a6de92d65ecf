package jobs

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"riparo/replication"
	"riparo/store"
)

// mode tells whether the job goes forward or is taken back. What a cancel means
// depends on it: it ends the one and is the reason of the other.
type mode bool

const (
	forward mode = false
	back    mode = true
)

// work does step after step until the job ends or has to wait.
func (r *run) work(ctx context.Context) {
	if why := r.misfit(); why != nil {
		r.turnTo(0)
		r.end(ctx, store.Failed, back, 0, why)
		return
	}
	for goOn := true; goOn && ctx.Err() == nil; {
		job, _ := r.live()
		next := firstOpen(&job)
		switch {
		case next == len(job.Steps):
			goOn = r.end(ctx, store.Succeeded, forward, next-1, nil)
		case r.isCanceled():
			goOn = r.takeBack(ctx)
		default:
			goOn = r.advance(ctx, next)
		}
	}
}

// firstOpen is the first step that is not done; the number of steps when all are.
func firstOpen(job *store.Job) int {
	for i, s := range job.Steps {
		if s.State != store.Succeeded && s.State != store.Skipped {
			return i
		}
	}
	return len(job.Steps)
}

// advance does step i. It reports whether the job goes on at once.
func (r *run) advance(ctx context.Context, i int) (goOn bool) {
	def := &r.def.Steps[i]
	w := r.turnTo(i)
	skip := false
	if def.Skip != nil {
		if err := calm(w, func() error { skip = def.Skip(w); return nil }); err != nil {
			return r.failed(ctx, forward, i, w, err)
		}
	}
	err := r.save(ctx, func(job *store.Job) {
		if job.CancelAsk {
			return // a step that has not begun need not be taken back
		}
		if !r.def.fits(job.Steps) {
			job.Steps = r.def.steps()
		}
		s := &job.Steps[i]
		job.State, job.NextTry, job.Question = store.InProgress, time.Time{}, ""
		if job.Attempt == 0 {
			job.Error = nil // what it waited for is over
		}
		s.State, s.Ended = store.InProgress, time.Time{}
		if skip {
			s.State = store.Skipped
		} else if s.Started.IsZero() {
			s.Started = time.Now().UTC()
		}
	}, nil)
	if err != nil {
		return false
	}
	if skip || r.isCanceled() {
		return true
	}
	w, err = r.do(ctx, forward, i, w, def.Run)
	if err != nil {
		r.dropOnDone()
		return r.failed(ctx, forward, i, w, err)
	}
	var took time.Duration
	err = r.save(ctx, func(job *store.Job) {
		s := &job.Steps[i]
		s.State, s.Ended = store.Succeeded, time.Now().UTC()
		took = s.Ended.Sub(s.Started)
		job.Attempt, job.Error = 0, nil
	}, r.applyOnDone)
	r.dropOnDone()
	if refused, ok := errors.AsType[*refusal](err); ok {
		return r.failed(ctx, forward, i, w, refused.err)
	}
	if err == nil {
		w.log.Info("step done", "number", i+1, "of", len(r.def.Steps), "took", took)
	}
	return err == nil // or else the step runs again when the store is back
}

// do lets a function of a definition do its part of step i. It gives what the function
// worked with: with [Options.Twice] that is new for the second time.
func (r *run) do(ctx context.Context, m mode, i int, w *Work, f func(context.Context, *Work) error) (*Work, error) {
	err := r.attempt(ctx, m, w, f)
	if err == nil && r.e.twice {
		w = r.turnTo(i) // what it handed on is forgotten
		err = r.attempt(ctx, m, w, f)
	}
	return w, err
}

// attempt calls a function of a definition and waits until it returned. Meanwhile
// it keeps the progress. Going forward, Cancel ends the function's context.
func (r *run) attempt(ctx context.Context, m mode, w *Work, do func(context.Context, *Work) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if m == forward {
		r.mu.Lock()
		canceled := r.canceled
		if !canceled {
			r.cancelStep = cancel
		}
		r.mu.Unlock()
		if canceled {
			return ErrCanceled
		}
	}
	returned := make(chan struct{})
	var keeper sync.WaitGroup
	keeper.Go(func() { r.keepProgress(returned) })
	err := calm(w, func() error { return do(ctx, w) })
	close(returned)
	keeper.Wait()
	r.mu.Lock()
	r.cancelStep = nil
	r.mu.Unlock()
	return err
}

// calm turns a panic of a definition's function into an error: one job must not
// end the daemon, and with it the replication of every machine, again after each
// restart.
func calm(w *Work, do func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			w.log.Error("step panicked", "panic", p, "stack", string(debug.Stack()))
			err = &replication.Problem{Code: "job.panic", Remedy: replication.Stop,
				Cause:  fmt.Sprintf("the step ended by a mistake of the program: %v", p),
				Effect: "the job cannot go on",
				Action: "report it with the log of the daemon; restart the job to try again"}
		}
	}()
	return do()
}

// failed decides what becomes of the job after step i returned err.
func (r *run) failed(ctx context.Context, m mode, i int, w *Work, err error) (goOn bool) {
	// A shutdown: the step runs again after the next start. A cancel: it is taken back.
	if ctx.Err() != nil || m == forward && r.isCanceled() {
		return r.save(ctx, func(*store.Job) {}, nil) == nil
	}
	if question, ok := errors.AsType[*unanswered](err); ok {
		return r.askPerson(ctx, m, i, question.question)
	}
	if waiting, ok := errors.AsType[*Waiting](err); ok {
		return r.await(ctx, m, i, waiting)
	}
	switch replication.RemedyFor(err) {
	case replication.Stop:
		return r.fail(ctx, m, i, w, err)
	case replication.Resync:
		return r.resync(ctx, m, i, w, err)
	}
	return r.retry(ctx, m, i, w, err, false)
}

// resync lets the definition put things right after an error that says that both
// ends no longer agree.
func (r *run) resync(ctx context.Context, m mode, i int, w *Work, cause error) (goOn bool) {
	if r.def.OnResync == nil {
		return r.fail(ctx, m, i, w, cause)
	}
	err := r.attempt(ctx, m, w, func(ctx context.Context, w *Work) error { return r.def.OnResync(ctx, w, cause) })
	r.dropOnDone()
	switch {
	case ctx.Err() != nil || m == forward && r.isCanceled():
		return r.save(ctx, func(*store.Job) {}, nil) == nil
	case err != nil:
		return r.fail(ctx, m, i, w, withAddition(cause, err))
	}
	// The first time the step is tried again at once. Whoever needs it twice in a
	// row waits like everyone else.
	job, _ := r.live()
	return r.retry(ctx, m, i, w, cause, job.Attempt == 0)
}

// retry saves when step i is tried again.
func (r *run) retry(ctx context.Context, m mode, i int, w *Work, cause error, atOnce bool) (goOn bool) {
	job, _ := r.live()
	failures := job.Attempt + 1
	if r.def.Attempts > 0 && failures >= r.def.Attempts {
		return r.fail(ctx, m, i, w, cause)
	}
	wait := r.e.retryWait(failures)
	if atOnce {
		wait = 0
	}
	w.log.Warn("step failed and is tried again", "failures", failures, "wait", wait, "error", cause)
	return r.hold(ctx, m, i, func(job *store.Job) store.JobState {
		job.Attempt, job.Error, job.NextTry = failures, finding(cause), time.Now().UTC().Add(wait)
		return store.WaitingToRetry
	}, func(tx *store.Tx, job *store.Job) error {
		if failures > 1 {
			return nil
		}
		return tx.AddEvent(retrying(r.def.title(), job, job.Steps[i].Name))
	})
}

// askPerson saves that the job waits for an answer.
func (r *run) askPerson(ctx context.Context, m mode, i int, question string) (goOn bool) {
	return r.hold(ctx, m, i, func(job *store.Job) store.JobState {
		job.Question = question
		return store.WaitingForInput
	}, func(tx *store.Tx, job *store.Job) error {
		return tx.AddEvent(waiting(r.def.title(), job))
	})
}

// await saves that the job waits for something that is no failure: nobody is warned, and
// those that there were are forgotten.
func (r *run) await(ctx context.Context, m mode, i int, waiting *Waiting) (goOn bool) {
	return r.hold(ctx, m, i, func(job *store.Job) store.JobState {
		job.Attempt, job.Error, job.NextTry = 0, finding(waiting.Why), time.Now().UTC().Add(r.e.retryWait(maxFailures))
		return store.WaitingToRetry
	}, func(tx *store.Tx, job *store.Job) error {
		if !waiting.Still(tx) {
			job.NextTry = time.Time{}
		}
		return nil
	})
}

// hold saves that the job waits, unless it was canceled meanwhile: then it goes on
// with taking back.
func (r *run) hold(ctx context.Context, m mode, i int, change func(*store.Job) store.JobState, tell func(*store.Tx, *store.Job) error) (goOn bool) {
	held := false
	err := r.save(ctx, func(job *store.Job) {
		if held = m == back || !job.CancelAsk; !held {
			return
		}
		job.State = change(job)
		if m == forward {
			job.Steps[i].State = job.State
		}
	}, func(tx *store.Tx, job *store.Job) error {
		if !held {
			return nil
		}
		return tell(tx, job)
	})
	return err == nil && !held
}

// fail ends the job at step i.
func (r *run) fail(ctx context.Context, m mode, i int, w *Work, cause error) (goOn bool) {
	if m == forward && r.def.OnFail != nil {
		err := r.attempt(ctx, back, w, func(ctx context.Context, w *Work) error { return r.def.OnFail(ctx, w, cause) })
		if ctx.Err() != nil {
			return false
		}
		if err != nil {
			cause = withAddition(cause, err)
		}
	}
	return r.end(ctx, store.Failed, m, i, cause)
}

// withAddition keeps what a person reads about cause and adds what went wrong
// when it was handled.
func withAddition(cause, addition error) error {
	p := *replication.AsProblem(cause)
	p.Cause += " (and then: " + addition.Error() + ")"
	p.Err = errors.Join(cause, addition)
	return &p
}

// end saves the end of the job with its event and what OnDone and OnEnd change.
// It reports true when a cancel came first, so that the job goes on.
func (r *run) end(ctx context.Context, state store.JobState, m mode, i int, cause error) (goOn bool) {
	done, err := r.saveEnd(ctx, state, m, i, cause, true)
	if refused, ok := errors.AsType[*refusal](err); ok {
		if cause == nil {
			cause = refused.err
		} else {
			cause = withAddition(cause, refused.err)
		}
		state = store.Failed
		done, err = r.saveEnd(ctx, state, m, i, cause, false)
	}
	r.dropOnDone()
	if err != nil {
		if r.stuck = ctx.Err() == nil; r.stuck {
			r.log.Error("the end of a job cannot be saved", "state", string(state), "error", err)
		}
		return false // it ends again later
	}
	if done {
		job, _ := r.live()
		// The event of its end tells the operator.
		r.log.Debug("job ended", "kind", job.Kind, "machine", job.Machine, "name", job.Name, "state", string(state), "error", cause)
	}
	return !done
}

func (r *run) saveEnd(ctx context.Context, state store.JobState, m mode, i int, cause error, hooks bool) (done bool, err error) {
	err = r.save(ctx, func(job *store.Job) {
		if done = m == back || state == store.Succeeded || !job.CancelAsk; !done {
			return
		}
		job.State, job.Ended = state, time.Now().UTC()
		job.NextTry, job.Question, job.Error = time.Time{}, "", nil
		switch state {
		case store.Succeeded:
			job.CancelAsk = false // it came too late
		case store.Failed:
			job.Error = finding(cause)
			if m == forward && i < len(job.Steps) {
				job.Steps[i].State, job.Steps[i].Ended = store.Failed, job.Ended
			}
		}
	}, func(tx *store.Tx, job *store.Job) error {
		if !done {
			return nil
		}
		if hooks {
			if err := r.endHooks(tx, job); err != nil {
				return err
			}
		}
		step := ""
		if i < len(job.Steps) {
			step = job.Steps[i].Name
		}
		return tx.AddEvent(ended(r.e.title(job.Kind), job, step))
	})
	return done, err
}

func (r *run) endHooks(tx *store.Tx, job *store.Job) error {
	if err := r.applyOnDone(tx, job); err != nil {
		return err
	}
	if r.def == nil || r.def.OnEnd == nil {
		return nil
	}
	return calm(&Work{r: r, log: r.log}, func() error { return r.def.OnEnd(tx, clone(*job)) })
}

// applyOnDone makes the changes that were asked for with OnDone.
func (r *run) applyOnDone(tx *store.Tx, _ *store.Job) error {
	r.mu.Lock()
	changes := r.onDone
	r.mu.Unlock()
	for _, change := range changes {
		if err := calm(&Work{r: r, log: r.log}, func() error { return change(tx) }); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) dropOnDone() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.onDone = nil
}
