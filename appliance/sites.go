package appliance

import (
	"context"
	"fmt"

	"riparo/hypervisor"
	"riparo/hypervisor/kvm"
	"riparo/hypervisor/kvm/libvirt"
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
		return libvirt.Open(ctx, s.Address, libvirt.Options{KnownHosts: a.knownHosts()[:1], Fingerprint: s.Fingerprint})
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
