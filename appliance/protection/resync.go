package protection

import (
	"context"

	"riparo/appliance/jobs"
	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/store"
)

// resyncJob compares a machine with the vault by checksum, because a person asked
// for it or because replication stopped for a person.
func (p *Protector) resyncJob() jobs.Definition {
	return jobs.Definition{
		Kind:  string(lifecycle.Resynchronize),
		Title: "Resynchronize",
		Steps: []jobs.StepDef{
			{Name: "distrust change tracking", Run: p.distrust},
			{Name: "compare and send what differs", Run: p.compareAll},
		},
	}
}

func (p *Protector) distrust(ctx context.Context, w *jobs.Work) error {
	// What is under way trusts it still, and would keep how far it came.
	release, err := p.Hold(ctx, machineOf(w))
	if err != nil {
		return err
	}
	defer release()
	_, err = p.Change(machineOf(w), func(m *store.Machine) error {
		m.Failures, m.Compare = 0, true
		for i := range m.Disks {
			m.Disks[i].Brought = nil // what was compared before is doubted too
		}
		if m.State == lifecycle.Protected {
			if err := step(m, lifecycle.TrackingLost, p.now()); err != nil {
				return err
			}
		}
		if m.State == lifecycle.ResyncRequired {
			return step(m, lifecycle.ResyncStarted, p.now())
		}
		return nil
	})
	return err
}

func (p *Protector) compareAll(ctx context.Context, w *jobs.Work) error {
	id := machineOf(w)
	m, _, err := p.machine(id)
	if err != nil {
		return err
	}
	if !cycles(m.State) { // a failed job was restarted when the machine had moved on
		return replication.Stopf("resync.late", "nothing: it is not needed any more", "%s is %s now", m.Name, m.State)
	}
	out, err := p.takeFor(ctx, w, id, CycleOptions{Want: replication.CrashConsistent, Compare: true})
	if err != nil {
		return err
	}
	evidenceOf(w, out)
	p.Nudge(id)
	return nil
}
