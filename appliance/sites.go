package appliance

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"riparo/hypervisor"
	"riparo/hypervisor/kvm"
	"riparo/hypervisor/kvm/libvirt"
	"riparo/hypervisor/lab"
	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/store"
)

// kind is a kind of place that machines can be protected at.
type kind struct {
	name string
	open func(ctx context.Context, a *Appliance, s store.Site) (hypervisor.Provider, error)
}

// kinds are all kinds of places this appliance knows.
var kinds = []kind{
	{"lab", func(_ context.Context, a *Appliance, s store.Site) (hypervisor.Provider, error) {
		return a.openLab(s.Name)
	}},
	{kvm.Kind, func(ctx context.Context, _ *Appliance, s store.Site) (hypervisor.Provider, error) {
		return kvm.Open(ctx, s.Address, kvm.Options{})
	}},
	{libvirt.Kind, func(ctx context.Context, a *Appliance, s store.Site) (hypervisor.Provider, error) {
		return libvirt.Open(ctx, s.Address, libvirt.Options{})
	}},
}

// connect opens the provider of a site.
func (a *Appliance) connect(ctx context.Context, s store.Site) (hypervisor.Provider, error) {
	for _, k := range kinds {
		if k.name == s.Kind {
			return k.open(ctx, a, s)
		}
	}
	var known []string
	for _, k := range kinds {
		known = append(known, k.name)
	}
	return nil, replication.Stopf("site.kind", fmt.Sprintf("choose one of %v", known), "site %s is of the unknown kind %q", s.Name, s.Kind)
}

// scenarioOf names the pair of places that a machine is protected between.
func scenarioOf(source, target store.Site) (lifecycle.Scenario, error) {
	family := func(kind string) string {
		if kind == "kvm-qmp" || kind == "kvm-libvirt" {
			return "kvm"
		}
		return kind
	}
	switch from, to := family(source.Kind), family(target.Kind); {
	case from == "lab" && to == "lab":
		return lifecycle.Lab, nil
	case from == "kvm" && to == "kvm":
		return lifecycle.KVMToSecondary, nil
	}
	return "", replication.Stopf("scenario.unknown", "choose a target site of the same kind", "there is no scenario from %s (%s) to %s (%s)", source.Name, source.Kind, target.Name, target.Kind)
}

// Lab opens the embedded lab of this appliance.
func (a *Appliance) Lab() (*lab.World, error) {
	a.labMu.Lock()
	defer a.labMu.Unlock()
	if a.lab != nil {
		return a.lab, nil
	}
	world, err := lab.OpenWorld(filepath.Join(a.config.Data, "lab"), lab.Options{})
	if err != nil {
		return nil, err
	}
	a.lab = world
	return world, nil
}

// maxLabSites bounds the lab sites of one appliance: each has a workload that runs.
const maxLabSites = 16

// openLab opens a lab site and lets its workloads run for as long as the
// appliance does.
func (a *Appliance) openLab(name string) (hypervisor.Provider, error) {
	world, err := a.Lab()
	if err != nil {
		return nil, err
	}
	site, err := world.Site(name)
	if err != nil {
		return nil, err
	}
	a.labMu.Lock()
	defer a.labMu.Unlock()
	if a.labRuns[name] {
		return site, nil
	}
	select {
	case a.labSites <- site:
		a.labRuns[name] = true
		return site, nil
	default:
		return nil, replication.Stopf("lab.sites", "use the sites there are", "the lab has %d sites already", maxLabSites)
	}
}

// runLab lets the workloads of lab sites run.
func (a *Appliance) runLab(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for {
		select {
		case <-ctx.Done():
			return errors.Join(group.Wait(), ctx.Err())
		case site := <-a.labSites:
			group.Go(func() error { return site.Run(ctx) })
		}
	}
}
