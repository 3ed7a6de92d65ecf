package jobs

import (
	"fmt"
	"time"

	"riparo/replication"
	"riparo/store"
)

// What a person can ask of a job. Each call is durable when it returns nil; the
// job follows while the engine runs.

// Cancel asks for the end of a job: the step under way is stopped, then the steps
// are taken back. A failed job can be canceled too: what it left is taken back.
//
// Problems: job.ended, job.final (a step has begun that cannot be taken back),
// job.busy (another job of the machine came after the failed one).
func (e *Engine) Cancel(id string) error {
	return e.ask(id, true, func(tx *store.Tx, job *store.Job) error {
		if job.State.Ended() && job.State != store.Failed {
			return past(e.title(job.Kind), job, "it cannot be canceled")
		}
		if d := e.definitions[job.Kind]; d != nil {
			for _, s := range job.Steps {
				if def := d.step(s.Name); def != nil && def.Final && begun(s.State) {
					return &replication.Problem{Code: "job.final", Err: ErrEnded, Remedy: replication.Stop,
						Cause:  fmt.Sprintf("the step “%s” has begun and cannot be taken back", s.Name),
						Effect: "the job cannot be canceled",
						Action: "let it finish; if it failed, restart it"}
				}
			}
		}
		if job.State == store.Failed {
			if err := e.reopen(tx, job); err != nil {
				return err
			}
		}
		if !job.CancelAsk { // asked again, it leaves a wait of the taking back alone
			job.CancelAsk, job.NextTry, job.Question = true, time.Time{}, ""
			if job.State != store.NotStarted {
				job.State = store.InProgress
			}
		}
		return nil
	})
}

// Restart continues a failed job at the step that failed, and lets a job that
// waits to retry try now.
//
// Problems: job.ended, job.busy.
func (e *Engine) Restart(id string) error {
	return e.ask(id, false, func(tx *store.Tx, job *store.Job) error {
		switch job.State {
		case store.WaitingToRetry:
			job.NextTry = time.Time{}
			return nil
		case store.Failed:
			return e.reopen(tx, job)
		}
		return past(e.title(job.Kind), job, "it cannot be restarted")
	})
}

// Answer gives a waiting job what it asked for.
func (e *Engine) Answer(id, text string) error {
	return e.ask(id, false, func(tx *store.Tx, job *store.Job) error {
		if job.State != store.WaitingForInput {
			return past(e.title(job.Kind), job, "it does not wait for an answer")
		}
		if len(text) > maxTextBytes || sizeOf(job.Data)+len(text) > maxDataBytes {
			return fmt.Errorf("an answer of %d bytes: limit %d", len(text), maxTextBytes)
		}
		if job.Data == nil {
			job.Data = map[string]string{}
		}
		job.Data[answerKey(job.Question)] = text
		return nil
	})
}

func (e *Engine) ask(id string, cancel bool, change func(*store.Tx, *store.Job) error) error {
	err := e.st.Update(func(tx *store.Tx) error {
		job, err := tx.Jobs().Get(id)
		if err != nil {
			return err
		}
		if err := change(tx, &job); err != nil {
			return err
		}
		return tx.Jobs().Put(job)
	})
	if err != nil {
		return err
	}
	e.wake(id, cancel)
	return nil
}

// reopen makes a failed job one that has not ended.
func (e *Engine) reopen(tx *store.Tx, job *store.Job) error {
	if err := e.admit(tx, job); err != nil {
		return err
	}
	job.State, job.Error, job.Attempt = store.InProgress, nil, 0
	job.NextTry, job.Ended = time.Time{}, time.Time{}
	return nil
}

func past(title string, job *store.Job, what string) error {
	return &replication.Problem{Code: "job.ended", Err: ErrEnded, Remedy: replication.Stop,
		Cause:  fmt.Sprintf("the job “%s” (%s) is %s", title, job.ID, job.State),
		Effect: what}
}

func answerKey(question string) string { return "answer: " + question }

// begun reports whether a step in this state may have had an effect.
func begun(s store.JobState) bool { return s != store.NotStarted && s != store.Skipped }
