package appliance

import (
	"context"
	"time"

	"riparo/appliance/discovery"
	"riparo/appliance/protection"
	"riparo/hypervisor"
	"riparo/replication/lifecycle"
	"riparo/store"
)

// ownershipEvery is how often machines that failed over are looked at, for a
// source that came back.
const ownershipEvery = 5 * time.Second

// watchOwnership raises the alarm when a source runs beside the replica that owns
// its machine, and fences it: then it stays down once somebody stopped it.
func (a *Appliance) watchOwnership(ctx context.Context) error {
	tick := time.NewTicker(ownershipEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		machines, err := a.machines.All()
		if err != nil {
			return err
		}
		for _, m := range machines {
			runs, known := a.sourceRuns(m)
			both := replicaOwns(m.State) && runs
			if replicaOwns(m.State) && !known || both == protection.IsBothActive(m) {
				continue // what cannot be seen changes nothing
			}
			if both {
				a.fenceSource(ctx, m)
			}
			if err := a.protect.BothActive(m.ID, both); err != nil {
				a.part("recovery").Error("both copies of a machine are active and it was not recorded", "machine", m.ID, "name", m.Name, "error", err)
			}
		}
	}
}

// replicaOwns reports whether the replica has the machine's identity in s.
func replicaOwns(s lifecycle.State) bool {
	switch s {
	case lifecycle.CommitPending, lifecycle.ChangingPoint, lifecycle.Committed, lifecycle.Reversing, lifecycle.ProtectedReverse, lifecycle.Migrated:
		return true
	}
	return false
}

// sourceRuns tells whether the source of a machine runs, and whether that is known.
func (a *Appliance) sourceRuns(m store.Machine) (runs, known bool) {
	return sourceRuns(a.sites.Seen(), m)
}

// sourceRuns looks at what was seen last: a site may be away, and of a machine that is
// there it may be unclear what it does.
func sourceRuns(sites []discovery.Seen, m store.Machine) (runs, known bool) {
	for _, s := range sites {
		if s.Site.Name != m.Source.Site || s.Problem != nil || s.Listed.IsZero() {
			continue
		}
		for _, seen := range s.Machines {
			if string(seen.Ref) == m.Source.Ref {
				return seen.Power == hypervisor.Running, seen.Power != hypervisor.PowerUnknown
			}
		}
		return false, true // it is gone there
	}
	return false, false
}

// fenceSource keeps a source that came back from starting once more after somebody
// stopped it. It does not stop it: that is a person's decision.
func (a *Appliance) fenceSource(ctx context.Context, m store.Machine) {
	fencer, err := a.sites.Fencer(m.Source.Site)
	if err == nil {
		err = fencer.Fence(ctx, hypervisor.Ref(m.Source.Ref), "failed over to "+m.Target.Site)
	}
	if err != nil {
		a.part("recovery").Warn("a source that came back was not fenced; the vault refuses it all the same", "machine", m.ID, "name", m.Name, "error", err)
	}
}
