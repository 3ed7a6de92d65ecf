package jobs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"riparo/replication"
	"riparo/store"
)

// How progress reaches the store, and how long a store that is full is asked again.
const (
	// saveEvery: two saves a second are enough for a page, and few for a disk.
	saveEvery    = 500 * time.Millisecond
	firstSaveTry = time.Second
	lastSaveTry  = 30 * time.Second
)

// refusal is an error of what was to change beside the job.
type refusal struct{ err error }

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

// storeStopped ends the engine: the store takes no more changes.
type storeStopped struct{ err error }

func (s *storeStopped) Error() string { return s.err.Error() }

// save changes the record of the job and, in the same transaction, whatever also
// changes. An error of also is a *refusal and nothing was saved. A store that is
// full is asked again until ctx ends: the work is done, only nobody could write
// it down.
func (r *run) save(ctx context.Context, change func(*store.Job), also func(*store.Tx, *store.Job) error) error {
	r.saving.Lock()
	defer r.saving.Unlock()
	for wait := firstSaveTry; ; wait = min(2*wait, lastSaveTry) {
		err := r.saveOnce(change, also, true)
		var refused *refusal
		switch {
		case err == nil, errors.As(err, &refused):
			return err
		case errors.Is(err, store.ErrNotFound):
			return err // somebody removed the job
		case errors.Is(err, store.ErrClosed), replication.RemedyFor(err) == replication.Stop:
			r.e.stop(err)
			return err
		}
		r.log.Warn("job cannot be saved and waits", "wait", wait, "error", err)
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
		}
	}
}

// saveOnce is one try to save; withData includes what was Set.
func (r *run) saveOnce(change func(*store.Job), also func(*store.Tx, *store.Job) error, withData bool) error {
	var saved store.Job
	var data map[string]string
	err := r.e.st.Update(func(tx *store.Tx) error {
		job, err := tx.Jobs().Get(r.id)
		if err != nil {
			return err
		}
		r.mu.Lock()
		if withData {
			data = maps.Clone(r.data)
		}
		if job.Data == nil && len(data) > 0 {
			job.Data = map[string]string{}
		}
		maps.Copy(job.Data, data)
		r.overlay(&job)
		r.mu.Unlock()
		change(&job)
		if n := sizeOf(job.Data); n > maxDataBytes {
			r.dropData()
			return &refusal{&replication.Problem{Code: "job.data", Remedy: replication.Stop,
				Cause:  fmt.Sprintf("the steps hand on %d bytes: limit %d", n, maxDataBytes),
				Effect: "the job cannot be saved",
				Action: "report this as a mistake of the program"}}
		}
		if also != nil {
			if err := also(tx, &job); err != nil {
				return &refusal{err}
			}
		}
		saved = job
		return tx.Jobs().Put(job)
	})
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, value := range data {
		if r.data[name] == value {
			delete(r.data, name)
		}
	}
	r.job = saved
	r.canceled = r.canceled || saved.CancelAsk
	return nil
}

// dropData forgets what was Set and cannot be saved.
func (r *run) dropData() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.data)
}

// stop ends Run with err.
func (e *Engine) stop(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.fatal != nil {
		e.fatal(&storeStopped{err})
	}
}

// progressed tells viewers at once and the keeper to save soon.
func (r *run) progressed() {
	select {
	case r.dirty <- struct{}{}:
	default:
	}
	r.e.st.Touch("job/" + r.id)
}

// keepProgress saves progress at most every saveEvery until the step returned.
// What it misses is saved with the end of the step.
func (r *run) keepProgress(returned <-chan struct{}) {
	for {
		select {
		case <-returned:
			return
		case <-r.dirty:
		}
		r.saving.Lock()
		err := r.saveOnce(func(*store.Job) {}, nil, false)
		r.saving.Unlock()
		if err != nil {
			r.log.Debug("progress not saved", "error", err)
		}
		select {
		case <-returned:
			return
		case <-time.After(saveEvery):
		}
	}
}
