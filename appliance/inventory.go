package appliance

import (
	"context"
	"errors"

	"riparo/hypervisor"
	"riparo/replication"
	"riparo/store"
	"riparo/web/api"
)

// Discovered lists the machines of all sites.
func (a *Appliance) Discovered(ctx context.Context, refresh bool) ([]api.DiscoveredSite, error) {
	if refresh {
		// What cannot be reached is told site by site below.
		if err := a.sites.Refresh(ctx); err != nil && ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	machines, err := a.machines.All()
	if err != nil {
		return nil, err
	}
	protects := map[store.Place]string{}
	for _, m := range machines {
		protects[m.Source] = string(m.ID)
		if m.Target.Ref != "" {
			protects[m.Target] = string(m.ID)
		}
	}
	var all []api.DiscoveredSite
	for _, s := range a.sites.Seen() {
		d := api.DiscoveredSite{Site: s.Site, About: s.About, Seen: s.Listed, Machines: s.Machines, Networks: s.Networks, Problem: s.Problem, Protects: map[hypervisor.Ref]string{}}
		for _, m := range s.Machines {
			if id, ok := protects[store.Place{Site: s.Site.Name, Ref: string(m.Ref)}]; ok {
				d.Protects[m.Ref] = id
			}
		}
		all = append(all, d)
	}
	return all, nil
}

// Points are a machine's recovery points, newest first.
func (a *Appliance) Points(_ context.Context, machine replication.MachineID) ([]replication.RecoveryPoint, error) {
	var m store.Machine
	err := a.store.View(func(tx *store.Tx) (err error) {
		m, err = tx.Machines().Get(string(machine))
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil, replication.Stopf("machine.unknown", "choose one of the protected machines", "there is no protected machine %q", machine)
	}
	if err != nil {
		return nil, err
	}
	points, err := a.protect.Points(m)
	if errors.Is(err, replication.ErrUnknownDisk) {
		return nil, nil // nothing was sent yet
	}
	return points, err
}

// Vault says how full the vault is.
func (a *Appliance) Vault(context.Context) (api.VaultUsage, error) {
	u := a.vault.Room()
	size, points := a.vault.Totals()
	clock, err := a.clockFinding()
	return api.VaultUsage{StoredBytes: u.StoredBytes, FreeBytes: u.FreeBytes, LogicalBytes: size, Points: points, TrustedTime: a.vault.TrustedTime().UTC(), Clock: clock}, err
}

// Report gives the live figures of replication.
func (a *Appliance) Report() api.Report { return a.protect.Report() }

// Subscribe tells what changes, in the store and beside it.
func (a *Appliance) Subscribe() (nudge <-chan struct{}, changed func() []string, cancel func()) {
	return a.store.Subscribe()
}
