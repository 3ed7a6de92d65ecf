package protection

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"riparo/appliance/discovery"
	"riparo/hypervisor"
	"riparo/hypervisor/lab"
	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/store"
)

// labSite is a lab that stays open.
type labSite struct{ *lab.Site }

func (labSite) Close() error { return nil }

// labProtector gives a protector with a lab site.
func labProtector(t *testing.T, policy replication.Policy, c Config) (*Protector, *lab.Site) {
	t.Helper()
	v, s := rooms(t)
	site, err := lab.Open(t.TempDir(), lab.Options{Name: "milano"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { site.Close() })
	if err := s.Update(func(tx *store.Tx) error {
		return errors.Join(tx.Sites().Put(store.Site{Name: "milano", Kind: "lab"}), tx.Policies().Put(store.Policy{Policy: policy}))
	}); err != nil {
		t.Fatal(err)
	}
	sites := discovery.New(s, func(context.Context, store.Site) (hypervisor.Provider, error) { return labSite{site}, nil }, slog.New(slog.DiscardHandler))
	if err := sites.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sites.Close() })
	c.Store, c.Sites, c.Vault, c.Log = s, sites, v, slog.New(slog.DiscardHandler)
	return New(c), site
}

// protect makes a machine at the lab site whose disks are full, and its record.
func protect(t *testing.T, p *Protector, site *lab.Site, policy, name string, size int64, keys ...string) store.Machine {
	t.Helper()
	spec := lab.Spec{Name: name, Seed: 1}
	for _, key := range keys {
		spec.Disks = append(spec.Disks, lab.DiskSpec{Key: key, Size: size, InitialBytes: size})
	}
	seen, err := site.AddMachine(spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := site.Start(t.Context(), seen.Ref, hypervisor.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	m := store.Machine{ID: replication.MachineID(strings.ToLower(name)), Name: name, Source: store.Place{Site: "milano", Ref: string(seen.Ref)},
		Direction: lifecycle.Forward, State: lifecycle.Protected, Policy: policy, Epoch: 1}
	if err := p.store.Update(func(tx *store.Tx) error { return tx.Machines().Put(m) }); err != nil {
		t.Fatal(err)
	}
	return m
}

// labMachine gives a protector with a machine of some disks.
func labMachine(t *testing.T, keys ...string) (*Protector, store.Machine) {
	t.Helper()
	policy := replication.DefaultPolicy()
	p, site := labProtector(t, policy, Config{})
	return p, protect(t, p, site, policy.Name, "WEB01", 1<<20, keys...)
}
