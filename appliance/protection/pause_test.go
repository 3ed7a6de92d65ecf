package protection

import (
	"context"
	"errors"
	"testing"

	"riparo/appliance/jobs"
	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/store"
)

// preparing is a vault that does something when a disk is prepared.
type preparing struct {
	Vault
	do func()
}

func (v preparing) Prepare(ctx context.Context, d replication.Disk, epoch replication.Epoch) (replication.DiskState, error) {
	v.do()
	return v.Vault.Prepare(ctx, d, epoch)
}

// TestAPauseEndsTheTransferOfAJob where replication can be paused, before it begins and on
// its way. A failover that sends the last changes of a paused machine does not wait.
func TestAPauseEndsTheTransferOfAJob(t *testing.T) {
	for state, wait := range map[lifecycle.State]bool{
		lifecycle.InitialReplication: true, lifecycle.Resyncing: true, lifecycle.Reversing: true,
		lifecycle.FailingOver: false, lifecycle.FailingBack: false,
	} {
		for _, when := range []string{"before", "on its way"} {
			p, m := labMachine(t, "vda")
			pause := func(on bool) {
				if _, err := p.Change(m.ID, func(m *store.Machine) error { m.Paused = on; return nil }); err != nil {
					t.Error(err)
				}
			}
			if _, err := p.Change(m.ID, func(m *store.Machine) error { m.State = state; return nil }); err != nil {
				t.Fatal(err)
			}
			release, err := p.Hold(t.Context(), m.ID)
			if err != nil {
				t.Fatal(err)
			}
			whole := p.sink
			if when == "before" {
				pause(true)
			} else {
				p.sink = preparing{whole, func() { pause(true); p.worker(m.ID).interrupt() }}
			}
			_, _, err = p.TakePoint(t.Context(), m.ID, func(int64, int64) {})
			release()
			p.sink = whole
			waiting, waits := errors.AsType[*jobs.Waiting](err)
			if waits != wait || !wait && err != nil {
				t.Errorf("%s, paused %s: %v; want that it waits: %t", state, when, err, wait)
				continue
			}
			if !wait {
				continue
			}
			still := func() (so bool) {
				if err := p.store.View(func(tx *store.Tx) error { so = waiting.Still(tx); return nil }); err != nil {
					t.Fatal(err)
				}
				return so
			}
			if replication.AsProblem(err).Code != CodePaused || !still() {
				t.Errorf("%s, paused %s: %v, still %t", state, when, err, still())
			}
			pause(false)
			if still() {
				t.Errorf("%s: it waits though the machine is resumed", state)
			}
			if _, err := p.Take(t.Context(), m.ID, CycleOptions{}); err != nil {
				t.Errorf("%s, resumed: %v", state, err)
			}
		}
	}
}
