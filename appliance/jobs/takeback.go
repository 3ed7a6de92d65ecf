package jobs

import (
	"context"
	"errors"
	"time"

	"riparo/store"
)

// takeBack undoes the steps of a canceled job that have begun, last first, each
// saved when it is undone, and ends the job. It reports whether to go on at once.
func (r *run) takeBack(ctx context.Context) (goOn bool) {
	job, _ := r.live()
	for i := len(job.Steps) - 1; i >= 0; i-- {
		if state := job.Steps[i].State; !begun(state) || state == store.Canceled {
			continue
		}
		w := r.turnTo(i)
		if def := r.def.step(job.Steps[i].Name); def != nil && def.Undo != nil {
			if w, err := r.do(ctx, back, i, w, def.Undo); err != nil {
				r.dropOnDone()
				return r.failed(ctx, back, i, w, err)
			}
		}
		err := r.save(ctx, func(job *store.Job) {
			s := &job.Steps[i]
			s.State, s.Ended = store.Canceled, time.Now().UTC()
			job.State, job.Attempt, job.Error = store.InProgress, 0, nil
			job.NextTry, job.Question = time.Time{}, ""
		}, r.applyOnDone)
		r.dropOnDone()
		if refused, ok := errors.AsType[*refusal](err); ok {
			return r.failed(ctx, back, i, w, refused.err)
		}
		if err != nil || ctx.Err() != nil {
			return false
		}
	}
	w := r.turnTo(0)
	if r.def.OnCancel != nil {
		if w, err := r.do(ctx, back, 0, w, r.def.OnCancel); err != nil {
			r.dropOnDone()
			return r.failed(ctx, back, 0, w, err)
		}
	}
	return r.end(ctx, store.Canceled, back, 0, nil)
}

// step finds a step of d by its name.
func (d *Definition) step(name string) *StepDef {
	for i := range d.Steps {
		if d.Steps[i].Name == name {
			return &d.Steps[i]
		}
	}
	return nil
}
