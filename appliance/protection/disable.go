package protection

import (
	"context"
	"errors"
	"fmt"

	"riparo/appliance/jobs"
	"riparo/hypervisor"
	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/store"
)

// ParamKeepPoints is the job parameter that leaves the points in the vault.
const ParamKeepPoints = "keep points"

// disableJob ends protection: nothing of ours stays at the source, and the points
// go unless they are to be kept.
func (p *Protector) disableJob() jobs.Definition {
	return jobs.Definition{
		Kind:  string(lifecycle.DisableProtection),
		Title: "Disable protection",
		Steps: []jobs.StepDef{
			{Name: "stop replication", Run: p.stopReplication, Final: true},
			{Name: "clear change tracking at the source", Run: p.clearTracking},
			{Name: "erase recovery points", Run: p.erasePoints, Skip: func(w *jobs.Work) bool { return w.Param(ParamKeepPoints) == "true" }},
			{Name: "forget the machine", Run: p.forgetMachine},
		},
	}
}

func (p *Protector) stopReplication(ctx context.Context, w *jobs.Work) error {
	id := machineOf(w)
	release, err := p.Hold(ctx, id)
	if err != nil {
		return err
	}
	defer release()
	_, err = p.Change(id, func(m *store.Machine) error {
		if m.State == lifecycle.Disabling {
			return nil
		}
		return step(m, lifecycle.DisableAsked, p.now())
	})
	return err
}

func (p *Protector) clearTracking(ctx context.Context, w *jobs.Work) error {
	m, _, err := p.machine(machineOf(w))
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	place := active(m)
	reader, err := p.sites.ChangeReader(place.Site)
	if err == nil {
		err = reader.Forget(ctx, hypervisor.Ref(place.Ref))
	}
	if err != nil && !errors.Is(err, hypervisor.ErrNoMachine) {
		// Protection ends even when the source is gone for good; what stays there is
		// named, and harmless.
		w.Evidence("left at the source", fmt.Sprintf("change tracking objects named riparo-*: %v", err))
	}
	return nil
}

func (p *Protector) erasePoints(ctx context.Context, w *jobs.Work) error {
	m, _, err := p.machine(machineOf(w))
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, d := range m.Disks {
		if err := p.sink.Erase(ctx, d.ID); err != nil && !errors.Is(err, replication.ErrUnknownDisk) {
			return fmt.Errorf("erase disk %s: %w", d.ID, err)
		}
		w.Evidence(d.Key, "erased")
	}
	return nil
}

// forgetMachine ends the record of a machine. Of one whose points stay the name is kept:
// the vault knows only its identifier.
func (p *Protector) forgetMachine(_ context.Context, w *jobs.Work) error {
	id := machineOf(w)
	err := p.store.Update(func(tx *store.Tx) error {
		m, err := tx.Machines().Get(string(id))
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := p.putEvent(tx, m, store.Event{Severity: "info", Code: "protection.disabled", Text: "protection was disabled"}); err != nil {
			return err
		}
		if w.Param(ParamKeepPoints) == "true" {
			if err := tx.Kept().Put(store.Kept{ID: id, Name: m.Name, Since: p.now(), By: w.Job().Actor}); err != nil {
				return err
			}
		}
		return tx.Machines().Delete(string(id))
	})
	if err == nil {
		p.changed("machine/" + string(id))
	}
	return err
}
