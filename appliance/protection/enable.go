package protection

import (
	"context"
	"fmt"
	"strings"

	"riparo/appliance/jobs"
	"riparo/hypervisor"
	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/store"
)

// Jobs are the definitions of the jobs that this package does.
func (p *Protector) Jobs() []jobs.Definition {
	return []jobs.Definition{p.enableJob(), p.resyncJob(), p.disableJob()}
}

// enableJob brings a machine from "discovered" to "protected".
func (p *Protector) enableJob() jobs.Definition {
	return jobs.Definition{
		Kind:  string(lifecycle.EnableProtection),
		Title: "Enable protection",
		Steps: []jobs.StepDef{
			{Name: "check prerequisites", Run: p.checkPrerequisites},
			{Name: "create the replication relationship", Run: p.createRelationship},
			{Name: "initial replication", Run: p.initialReplication},
			{Name: "finalize protection", Run: p.finalize, Final: true},
		},
		// Canceled, nothing of it is left, here or at the source.
		OnCancel: func(ctx context.Context, w *jobs.Work) error {
			for _, step := range []func(context.Context, *jobs.Work) error{p.clearTracking, p.erasePoints, p.forgetMachine} {
				if err := step(ctx, w); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func machineOf(w *jobs.Work) replication.MachineID { return replication.MachineID(w.Job().Machine) }

func (p *Protector) checkPrerequisites(ctx context.Context, w *jobs.Work) error {
	m, policy, err := p.machine(machineOf(w))
	if err != nil {
		return err
	}
	if err := policy.Check(); err != nil {
		return replication.Stopf("policy.invalid", "correct the policy", "%w", err)
	}
	source, err := p.sites.Provider(m.Source.Site)
	if err != nil {
		return err
	}
	if _, err := p.sites.ChangeReader(m.Source.Site); err != nil {
		return err
	}
	seen, err := source.Machine(ctx, hypervisor.Ref(m.Source.Ref))
	if err != nil {
		return fmt.Errorf("machine %s at site %s: %w", m.Name, m.Source.Site, err)
	}
	if len(seen.Obstacles) > 0 {
		return replication.Stopf("machine.obstacles", "remove the obstacles, then start the job again", "%s cannot be protected: %s", m.Name, strings.Join(seen.Obstacles, "; "))
	}
	if _, err := p.sites.OverlayBooter(m.Target.Site); err != nil {
		return err
	}
	target, err := p.sites.Provider(m.Target.Site)
	if err != nil {
		return err
	}
	networks, err := target.Networks(ctx)
	if err != nil {
		return fmt.Errorf("networks of site %s: %w", m.Target.Site, err)
	}
	found := m.Network == ""
	for _, n := range networks {
		found = found || n.Name == m.Network
	}
	if !found {
		return replication.Stopf("network.unknown", "choose a network that the target site has", "site %s has no network %q", m.Target.Site, m.Network)
	}
	w.Evidence("power", string(seen.Power))
	w.Evidence("guest agent", fmt.Sprint(seen.GuestAgent))
	w.Evidence("disks", fmt.Sprint(len(seen.Disks)))
	return nil
}

func (p *Protector) createRelationship(ctx context.Context, w *jobs.Work) error {
	id := machineOf(w)
	m, _, err := p.machine(id)
	if err != nil {
		return err
	}
	for _, d := range m.Disks {
		if d.Excluded {
			continue
		}
		state, err := p.sink.Prepare(ctx, replication.Disk{ID: d.ID, Machine: id, Size: d.Size}, m.Epoch)
		if err != nil {
			return fmt.Errorf("prepare disk %s: %w", d.ID, err)
		}
		w.Evidence(d.Key, fmt.Sprintf("%s, %d bytes, epoch %d", d.ID, d.Size, state.Epoch))
	}
	return p.stepFrom(id, lifecycle.Enabling, lifecycle.InitialReplicationStarted)
}

func (p *Protector) initialReplication(ctx context.Context, w *jobs.Work) error {
	id := machineOf(w)
	if err := p.transferring(ctx, id, func(ctx context.Context) error { return p.fillFromSeeds(ctx, w) }); err != nil {
		return err
	}
	out, err := p.takeFor(ctx, w, id, CycleOptions{Want: replication.CrashConsistent})
	if err != nil {
		return err
	}
	evidenceOf(w, out)
	return p.stepFrom(id, lifecycle.InitialReplication, lifecycle.InitialReplicationDone)
}

func (p *Protector) finalize(ctx context.Context, w *jobs.Work) error {
	id := machineOf(w)
	m, _, err := p.machine(id)
	if err != nil {
		return err
	}
	point, err := p.Choose(m, "")
	if err != nil {
		return err
	}
	w.Evidence("first recovery point", string(point.ID))
	if err := p.stepFrom(id, lifecycle.Finalizing, lifecycle.Finalized); err != nil {
		return err
	}
	p.Nudge(id)
	return nil
}

// stepFrom moves a machine's state by an event, unless a run of the same job step
// before a crash has done so: then the state is not from any more.
func (p *Protector) stepFrom(id replication.MachineID, from lifecycle.State, e lifecycle.Event) error {
	_, err := p.Change(id, func(m *store.Machine) error {
		if m.State != from {
			return nil
		}
		return step(m, e, p.now())
	})
	return err
}

// takeFor takes a point within a job's step and shows its progress there.
func (p *Protector) takeFor(ctx context.Context, w *jobs.Work, id replication.MachineID, o CycleOptions) (Outcome, error) {
	release, err := p.Hold(ctx, id)
	if err != nil {
		return Outcome{}, err
	}
	defer release()
	o.Progress = func(_ string, done, total int64) { w.Progress(done, total) }
	return p.Take(ctx, id, o)
}

// evidenceOf stores what a cycle showed with the job's step.
func evidenceOf(w *jobs.Work, out Outcome) {
	for _, fact := range out.Facts() {
		w.Evidence(fact.Name, fact.Value)
	}
}
