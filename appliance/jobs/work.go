package jobs

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"riparo/replication"
	"riparo/store"
)

// Work is what a step gets to work with. It is good until the step returns, and
// safe for several goroutines.
type Work struct {
	r    *run
	step int
	log  *slog.Logger
}

// Job is the job as it is now. The copy is the caller's.
func (w *Work) Job() store.Job {
	job, _ := w.r.live()
	return job
}

// Step is the name of the step.
func (w *Work) Step() string { return w.Job().Steps[w.step].Name }

// Param is a parameter that the job was started with, "" when there is none.
func (w *Work) Param(name string) string {
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	return w.r.job.Params[name]
}

// Get is what this or an earlier step handed on under name, "" when nothing.
func (w *Work) Get(name string) string {
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	if v, fresh := w.r.data[name]; fresh {
		return v
	}
	return w.r.job.Data[name]
}

// Set hands a value on to this step when it is run again, and to later ones. It
// is durable when the step returns, whatever it returns, or after Save. A thing
// that has to be found again after a crash is saved before it is made.
func (w *Work) Set(name, value string) {
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	w.r.data[name] = value
}

// Save makes what was Set and observed so far durable, and the changes that also
// makes in the same transaction.
func (w *Work) Save(ctx context.Context, also ...func(tx *store.Tx) error) error {
	return w.r.save(ctx, func(*store.Job) {}, func(tx *store.Tx, _ *store.Job) error {
		for _, change := range also {
			if err := change(tx); err != nil {
				return err
			}
		}
		return nil
	})
}

// OnDone changes other records in the transaction that records the step as done:
// exactly once, whatever crashes. When change returns an error the step has
// failed with it.
func (w *Work) OnDone(change func(tx *store.Tx) error) {
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	w.r.onDone = append(w.r.onDone, change)
}

// Evidence keeps what the step observed: "console", "login:". A later observation
// of the same name replaces it. Long ones are cut, and what is beyond the bound of
// a job is not kept.
func (w *Work) Evidence(name, value string) {
	fact := store.Fact{Name: clip(name), Value: clip(value)}
	w.r.mu.Lock()
	w.r.evidence = addFact(w.r.evidence, fact)
	w.r.mu.Unlock()
	w.r.progressed()
}

// Progress says how far the step is, in bytes. It is seen at once through
// [Engine.Live] and reaches the store at most twice a second.
func (w *Work) Progress(done, total int64) {
	w.r.mu.Lock()
	w.r.done, w.r.total = done, total
	w.r.mu.Unlock()
	w.r.progressed()
}

// Ask gives the answer to a question for a person. Until there is one it returns
// an error, which the step returns: the job then waits for the answer, and the
// step is run again with it.
func (w *Work) Ask(question string) (string, error) {
	question = clip(question)
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	if answer, given := w.r.job.Data[answerKey(question)]; given {
		return answer, nil
	}
	return "", &unanswered{question: question}
}

// Log is a logger that knows job, step and machine.
func (w *Work) Log() *slog.Logger { return w.log }

// unanswered is what a step returns while a question of it is open.
type unanswered struct{ question string }

func (u *unanswered) Error() string { return fmt.Sprintf("waiting for an answer to %q", u.question) }

// Waiting is what a step returns that cannot go on while something lasts that is no
// failure: replication is paused, for instance. The job waits without a place among those
// that work; the step is run again when it is restarted, and now and then by itself.
type Waiting struct {
	Why *replication.Problem
	// Still tells whether what it waits for lasts, in the transaction that saves that the
	// job waits: what ends it in another transaction and then restarts the job is not missed.
	Still func(tx *store.Tx) bool
}

func (w *Waiting) Error() string { return w.Why.Error() }
func (w *Waiting) Unwrap() error { return w.Why }

// clip cuts a text to what a record keeps of it.
func clip(text string) string {
	if len(text) > maxTextBytes {
		cut := maxTextBytes
		for cut > 0 && !utf8.RuneStart(text[cut]) {
			cut--
		}
		text = text[:cut] + "…"
	}
	return strings.ToValidUTF8(text, "�")
}

// addFact adds a fact, or replaces the one of its name.
func addFact(facts []store.Fact, fact store.Fact) []store.Fact {
	if i := factNamed(facts, fact.Name); i >= 0 {
		facts[i] = fact
		return facts
	}
	if len(facts) >= maxEvidence {
		return facts
	}
	return append(facts, fact)
}

func factNamed(facts []store.Fact, name string) int {
	return slices.IndexFunc(facts, func(f store.Fact) bool { return f.Name == name })
}

// clone copies a job so that neither side sees what the other changes.
func clone(job store.Job) store.Job {
	job.Params, job.Data = maps.Clone(job.Params), maps.Clone(job.Data)
	job.Steps = slices.Clone(job.Steps)
	for i := range job.Steps {
		job.Steps[i].Evidence = slices.Clone(job.Steps[i].Evidence)
	}
	if job.Error != nil {
		cause := *job.Error
		job.Error = &cause
	}
	return job
}
