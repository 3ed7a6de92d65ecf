package jobs

import (
	"context"
	"fmt"

	"riparo/store"
)

// Definition says how a kind of job is done.
type Definition struct {
	Kind  string // a verb: "test-failover"
	Title string // for people: "Test failover"; the kind when empty
	Steps []StepDef

	// Attempts is how often a step is tried before the job fails; 0 is without end.
	Attempts int
	// Urgent jobs do not wait for others to leave room: a failover must not stand
	// in line behind initial replications that take days.
	Urgent bool

	// OnResync puts things so that the step can be tried again after an error whose
	// remedy is Resync; then the step is tried again at once. Without it, or when
	// it returns an error, the job fails with that.
	OnResync func(ctx context.Context, w *Work, cause error) error
	// OnFail is called when a step has failed for good, before the job is failed.
	// It may make the failure visible elsewhere; it takes nothing back, because a
	// failed job can be restarted. What it passes to OnDone is saved with the
	// failure. The error it returns, if any, is added to the job's.
	OnFail func(ctx context.Context, w *Work, cause error) error
	// OnCancel is called after the steps of a canceled job were taken back. An
	// error has the remedies of a step's error.
	OnCancel func(ctx context.Context, w *Work) error
	// OnEnd changes other records in the transaction that ends the job, whether it
	// succeeded, failed or was canceled: exactly once for each end. It must not
	// wait for anything. When it returns an error the job ends as failed with that
	// error instead, without OnEnd.
	OnEnd func(tx *store.Tx, job store.Job) error
}

// StepDef is one named step of a definition.
type StepDef struct {
	Name string // as on the page: "Start the test machine"
	// Run does the step. It returns nil when it has seen that the work is done. It
	// may be called again at any time after it began, also after it ended, and
	// finds what an earlier call left. When ctx ends it puts things right and
	// returns soon.
	Run func(ctx context.Context, w *Work) error
	// Skip, if set, tells that the step is not needed.
	Skip func(w *Work) bool
	// Undo takes back what Run did, or part of it, after a cancel. Like Run it may
	// be called again. Without it there is nothing to take back.
	Undo func(ctx context.Context, w *Work) error
	// Final: once this step has begun the job cannot be canceled any more.
	Final bool
}

// check reports what makes d unusable.
func (d *Definition) check() error {
	if d.Kind == "" || len(d.Steps) == 0 || len(d.Steps) > maxSteps {
		return fmt.Errorf("definition of job %q: want a kind and 1 to %d steps", d.Kind, maxSteps)
	}
	seen := map[string]bool{}
	for _, s := range d.Steps {
		if s.Name == "" || s.Run == nil || seen[s.Name] {
			return fmt.Errorf("definition of job %q, step %q: want a name of its own and a Run", d.Kind, s.Name)
		}
		seen[s.Name] = true
	}
	return nil
}

func (d *Definition) title() string {
	if d.Title != "" {
		return d.Title
	}
	return d.Kind
}
