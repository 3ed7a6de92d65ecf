package lab_test

import (
	"context"
	"errors"
	"os"
	"testing"

	"riparo/hypervisor"
	"riparo/hypervisor/lab"
	"riparo/hypervisor/providertest"
	"riparo/replication"
)

// harness is a lab whose machines write by themselves while the suite looks on.
type harness struct {
	dir   string
	world *lab.World
	site  *lab.Site
	stop  func() error // ends the workloads
}

func TestTheLabKeepsTheContractOfProviders(t *testing.T) {
	h := &harness{dir: t.TempDir()}
	providertest.Run(t, providertest.Harness{
		Open: func(t *testing.T) hypervisor.Provider {
			h.open(t)
			t.Cleanup(func() {
				if err := errors.Join(h.stop(), h.world.Close()); err != nil {
					t.Error(err)
				}
			})
			return h.provider()
		},
		Source: func(t *testing.T, _ hypervisor.Provider) providertest.Machine {
			m, err := h.site.AddMachine(small(31))
			if err != nil {
				t.Fatal(err)
			}
			return &labMachine{h, m.Ref}
		},
		Reopen: func(t *testing.T, _ hypervisor.Provider) hypervisor.Provider {
			if err := errors.Join(h.stop(), h.world.Abandon()); err != nil {
				t.Fatal(err)
			}
			h.open(t)
			return h.provider()
		},
		Network: lab.Production,
	})
}

// provider is the site, or the site with a bug that another test planted.
func (h *harness) provider() hypervisor.Provider {
	if bug := os.Getenv("RIPARO_LAB_BUG"); bug != "" {
		return planted{h.site, bug}
	}
	return h.site
}

func (h *harness) open(t *testing.T) {
	t.Helper()
	var err error
	if h.world, err = lab.OpenWorld(h.dir, lab.Options{}); err != nil {
		t.Fatal(err)
	}
	h.site = site(t, h.world, "primary")
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- h.site.Run(ctx) }()
	h.stop = func() error {
		cancel()
		return <-ended
	}
}

// labMachine is the suite's source machine.
type labMachine struct {
	h   *harness
	ref hypervisor.Ref
}

func (m *labMachine) Ref() hypervisor.Ref { return m.ref }

func (m *labMachine) Write(t *testing.T, ref hypervisor.Ref) {
	t.Helper()
	step(t, m.h.site, ref, 40)
}

func (m *labMachine) Judge(ctx context.Context, disks map[string]replication.Source) error {
	r, err := m.h.world.Record("WEB01")
	if err != nil {
		return err
	}
	v, err := r.Judge(ctx, disks)
	if err == nil && !v.OK {
		err = errors.New(v.Why)
	}
	return err
}

func (m *labMachine) AddDisk(t *testing.T) string {
	t.Helper()
	if err := m.h.site.AddDisk(t.Context(), m.ref, lab.DiskSpec{Key: "vdc", Size: mib, InitialBytes: mib / 2}); err != nil {
		t.Fatal(err)
	}
	return "vdc"
}

func (m *labMachine) GrowDisk(t *testing.T, key string) {
	t.Helper()
	if err := m.h.site.GrowDisk(t.Context(), m.ref, key, mib+3*lab.BlockSize); err != nil {
		t.Fatal(err)
	}
}

func (m *labMachine) LoseTracking(t *testing.T) {
	t.Helper()
	if err := m.h.site.LoseTracking(m.ref); err != nil {
		t.Fatal(err)
	}
}

func (m *labMachine) FailFreeze(t *testing.T, on bool) {
	t.Helper()
	if err := m.h.site.FailFreeze(m.ref, on); err != nil {
		t.Fatal(err)
	}
}
