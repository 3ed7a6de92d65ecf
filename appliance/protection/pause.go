package protection

import (
	"context"
	"errors"
	"fmt"

	"riparo/appliance/jobs"
	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/store"
)

// CodePaused is the problem of a job that waits because its machine is paused.
const CodePaused = "replication.paused"

// interruptLimit bounds how long a pause waits for the end of what it interrupts: twice
// what a rollback takes at most. What was told to end ends later all the same.
const interruptLimit = 2 * rollbackLimit

var errPaused = errors.New("replication was paused")

// Interrupt ends what is under way for a machine whose record says that it is paused, the
// transfer of a job too, and waits until it has ended, for a while. Nothing is lost: a job
// waits, and goes on from where it was once the machine is resumed.
func (p *Protector) Interrupt(ctx context.Context, id replication.MachineID) {
	ctx, cancel := context.WithTimeout(ctx, interruptLimit)
	defer cancel()
	w := p.worker(id)
	w.interrupt()
	if release, err := w.hold(ctx); err == nil {
		release()
	}
}

// interrupt ends the transfer of a job, if there is one.
func (w *worker) interrupt() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.transfer != nil {
		w.transfer(errPaused)
	}
}

// transferring does what transfers within a step of a job, one at a time for a machine.
// While the machine is paused it returns that the job waits; a pause ends it on its way.
func (p *Protector) transferring(ctx context.Context, id replication.MachineID, do func(context.Context) error) error {
	transfer, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w := p.worker(id)
	w.transfers(cancel)
	defer w.transfers(nil)
	// The record is read now: a pause that it does not tell of yet finds the transfer.
	m, _, err := p.machine(id)
	switch {
	case err != nil:
		return err
	case !lifecycle.Pauses(m.State):
		return do(ctx)
	case m.Paused:
		return paused(m)
	}
	if err = do(transfer); err != nil && errors.Is(context.Cause(transfer), errPaused) {
		return paused(m)
	}
	return err
}

// transfers notes how the transfer of a job is ended; nil is that there is none.
func (w *worker) transfers(end context.CancelCauseFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.transfer = end
}

// paused is what a step returns while its machine is paused. A failover and a failback
// never do: the machine stands still until they have sent the last changes.
func paused(m store.Machine) error {
	return &jobs.Waiting{
		Why: &replication.Problem{Code: CodePaused, Remedy: replication.Retry,
			Cause:  fmt.Sprintf("replication of %s is paused", m.Name),
			Effect: "the job waits; what it has sent stays",
			Action: "resume replication: the job goes on from where it was"},
		Still: func(tx *store.Tx) bool {
			now, err := tx.Machines().Get(string(m.ID))
			return err == nil && now.Paused && lifecycle.Pauses(now.State)
		},
	}
}
