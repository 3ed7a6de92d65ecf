package recovery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"riparo/appliance/jobs"
	"riparo/hypervisor"
	"riparo/replication"
	"riparo/store"
)

// purpose tells apart the machines that are made of a recovery point.
type purpose string

const (
	forTest    purpose = "test"
	forReplica purpose = "replica"
)

// createLimit bounds the making of a machine, which is not cut off: what is half made
// would be left behind.
const createLimit = 5 * time.Minute

// build publishes a point and creates a machine on it at the target site,
// replacing one that an interrupted run of the step left.
func (r *Recovery) build(ctx context.Context, w *jobs.Work, m store.Machine, point replication.RecoveryPoint, p purpose, network string) (hypervisor.Machine, error) {
	began := r.now()
	spec := hypervisor.Spec{
		Name: m.Name + "-" + string(p), Owner: owner(m, p),
		CPUs: m.Shape.CPUs, MemoryMiB: m.Shape.MemoryMiB, Hardware: m.Shape.Hardware,
		Network: network, Isolated: p == forTest && network == "",
	}
	if p == forReplica {
		spec.NICs = m.Shape.NICs // it takes the machine's place, its addresses too
	}
	for _, id := range point.Disks {
		i := slices.IndexFunc(m.Disks, func(d store.Disk) bool { return d.ID == id })
		if i < 0 {
			return hypervisor.Machine{}, fmt.Errorf("point %s has disk %s, which machine %s never had", point.ID, id, m.Name)
		}
		d := m.Disks[i]
		export := store.Export{Name: string(d.ID) + "." + string(p), Disk: d.ID, Point: point.ID, Owner: spec.Owner}
		if err := r.store.Update(func(tx *store.Tx) error { return tx.Exports().Put(export) }); err != nil {
			return hypervisor.Machine{}, fmt.Errorf("keep published point: %w", err)
		}
		uri, err := r.publisher.Publish(ctx, export.Name, export.Disk, export.Point)
		if err != nil {
			return hypervisor.Machine{}, err
		}
		view, err := r.vault.View(ctx, d.ID, point.ID)
		if err != nil {
			return hypervisor.Machine{}, fmt.Errorf("open point %s of disk %s: %w", point.ID, d.ID, err)
		}
		size := view.Size()
		if err := view.Close(); err != nil {
			return hypervisor.Machine{}, err
		}
		spec.Disks = append(spec.Disks, hypervisor.DiskSpec{Key: d.Key, Size: size, Backing: uri, Boot: d.Boot})
	}
	target, err := r.sites.Provider(m.Target.Site)
	if err != nil {
		return hypervisor.Machine{}, err
	}
	making, cancel := context.WithTimeout(context.WithoutCancel(ctx), createLimit)
	defer cancel()
	made, err := target.Create(making, spec)
	if err != nil {
		return hypervisor.Machine{}, fmt.Errorf("create %s at site %s: %w", spec.Name, m.Target.Site, err)
	}
	w.Evidence("machine", fmt.Sprintf("%s (%s) at %s", made.Name, made.Ref, m.Target.Site))
	for _, d := range spec.Disks {
		w.Evidence("disk "+d.Key, fmt.Sprintf("%d bytes, overlay on point %s", d.Size, point.ID))
	}
	w.Evidence("prepared in", r.now().Sub(began).Round(time.Millisecond).String())
	return made, nil
}

// dismantle removes a machine that build made and withdraws its points. Without a
// reference, which a crash may have kept from being known, it looks for one.
func (r *Recovery) dismantle(ctx context.Context, m store.Machine, ref hypervisor.Ref, p purpose) error {
	target, err := r.sites.Provider(m.Target.Site)
	if err != nil {
		return err
	}
	exports, err := r.exports(m, p)
	if err != nil {
		return err
	}
	if ref == "" && len(exports) > 0 { // else nothing was made
		seen, err := target.Discover(ctx)
		if err != nil {
			return fmt.Errorf("look for what was made of %s at site %s: %w", m.Name, m.Target.Site, err)
		}
		if i := slices.IndexFunc(seen, func(made hypervisor.Machine) bool { return made.Owner == owner(m, p) }); i >= 0 {
			ref = seen[i].Ref
		}
	}
	if ref != "" {
		if _, err := target.Stop(ctx, ref, 0); err != nil && !errors.Is(err, hypervisor.ErrNoMachine) {
			return fmt.Errorf("power off %s: %w", ref, err)
		}
		if err := target.Remove(ctx, ref); err != nil && !errors.Is(err, hypervisor.ErrNoMachine) {
			return fmt.Errorf("remove %s: %w", ref, err)
		}
	}
	return r.withdraw(m, p)
}

// withdraw ends the publication of the points that a machine stood on.
func (r *Recovery) withdraw(m store.Machine, p purpose) error {
	names, err := r.exports(m, p)
	if err != nil {
		return err
	}
	return r.store.Update(func(tx *store.Tx) error {
		for _, name := range names {
			if err := r.publisher.Withdraw(name); err != nil {
				return fmt.Errorf("withdraw %s: %w", name, err)
			}
			if err := tx.Exports().Delete(name); err != nil {
				return err
			}
		}
		return nil
	})
}

// exports are the names under which points are published for a machine.
func (r *Recovery) exports(m store.Machine, p purpose) (names []string, err error) {
	err = r.store.View(func(tx *store.Tx) error {
		for e, err := range tx.Exports().All() {
			if err != nil {
				return err
			}
			if e.Owner == owner(m, p) {
				names = append(names, e.Name)
			}
		}
		return nil
	})
	return names, err
}

// owner is what a machine that build makes belongs to.
func owner(m store.Machine, p purpose) string { return string(m.ID) + "/" + string(p) }

// takeOwnership raises the machine's epoch at the vault: from now on whoever comes
// with an older one is refused. Run again after a crash it takes the same epoch.
func (r *Recovery) takeOwnership(ctx context.Context, w *jobs.Work) error {
	m, err := r.machine(w)
	if err != nil {
		return err
	}
	return r.own(ctx, w, m, "epoch")
}

func (r *Recovery) own(ctx context.Context, w *jobs.Work, m store.Machine, name string) error {
	var epoch replication.Epoch
	if kept := w.Get(name); kept != "" {
		if _, err := fmt.Sscan(kept, &epoch); err != nil {
			return fmt.Errorf("epoch %q of job %s: %w", kept, w.Job().ID, err)
		}
	} else {
		epoch = m.Epoch + 1
		w.Set(name, fmt.Sprint(epoch))
		if err := w.Save(ctx); err != nil {
			return err
		}
	}
	// The record first: one that is ahead of the vault is harmless, one that is behind
	// would be refused there for good.
	if _, err := r.change(w, func(m *store.Machine) error { m.Epoch = max(m.Epoch, epoch); return nil }); err != nil {
		return err
	}
	for _, d := range m.Disks {
		state, err := r.vault.State(d.ID)
		if errors.Is(err, replication.ErrUnknownDisk) {
			continue
		}
		if err != nil {
			return fmt.Errorf("state of disk %s: %w", d.ID, err)
		}
		if _, err := r.vault.Prepare(ctx, state.Disk, epoch); err != nil {
			return fmt.Errorf("take ownership of disk %s: %w", d.ID, err)
		}
	}
	w.Evidence("ownership epoch", fmt.Sprint(epoch))
	return nil
}

// fence keeps a machine from starting, where its site can.
func (r *Recovery) fence(ctx context.Context, w *jobs.Work, place store.Place, reason string) error {
	fencer, err := r.sites.Fencer(place.Site)
	if err != nil {
		w.Evidence("fence", "the site cannot fence machines; the vault refuses the old owner all the same")
		return nil
	}
	if err := fencer.Fence(ctx, hypervisor.Ref(place.Ref), reason); err != nil && !errors.Is(err, hypervisor.ErrNoMachine) {
		return fmt.Errorf("fence %s at site %s: %w", place.Ref, place.Site, err)
	}
	w.Evidence("fence", reason)
	return nil
}

func (r *Recovery) unfence(ctx context.Context, place store.Place) error {
	fencer, err := r.sites.Fencer(place.Site)
	if err != nil {
		return nil // nothing there can be fenced
	}
	return fencer.Unfence(ctx, hypervisor.Ref(place.Ref))
}
