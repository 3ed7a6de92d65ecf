package providertest

import (
	"errors"
	"slices"
	"testing"

	"riparo/hypervisor"
)

const mib = 1 << 20

// spec is a machine without content.
func (s *suite) spec(name, owner string) hypervisor.Spec {
	return hypervisor.Spec{
		Name: name, Owner: owner, CPUs: 1, MemoryMiB: 128,
		Disks: []hypervisor.DiskSpec{{Key: "vda", Size: 8 * mib, Boot: true}, {Key: "vdb", Size: 5 * mib}},
	}
}

// create makes a machine and removes it when the test is over.
func (s *suite) create(t *testing.T, spec hypervisor.Spec) hypervisor.Machine {
	t.Helper()
	m, err := s.p.Create(s.context(t), spec)
	if err != nil {
		t.Fatalf("create machine %s: %v", spec.Name, err)
	}
	t.Cleanup(func() {
		ctx, cancel := cleanContext()
		defer cancel()
		if err := s.p.Remove(ctx, m.Ref); err != nil {
			t.Errorf("remove machine %s: %v", spec.Name, err)
		}
	})
	return m
}

func (s *suite) remove(t *testing.T, ref hypervisor.Ref) {
	t.Helper()
	if err := s.p.Remove(s.context(t), ref); err != nil {
		t.Fatalf("remove machine %s: %v", ref, err)
	}
}

func (s *suite) createTwice(t *testing.T) {
	spec := s.spec("riparo-suite-replica", "m-suite/test")
	s.create(t, spec)
	spec.Disks = spec.Disks[:1]
	spec.Disks[0].Size = 6 * mib
	m := s.create(t, spec)
	machines, err := s.p.Discover(s.context(t))
	if err != nil {
		t.Fatal(err)
	}
	machines = slices.DeleteFunc(machines, func(m hypervisor.Machine) bool { return m.Name != spec.Name })
	if len(machines) != 1 || machines[0].Ref != m.Ref {
		t.Fatalf("creating %s twice made %d machines", spec.Name, len(machines))
	}
	if d := machines[0].Disks; len(d) != 1 || d[0].Size != 6*mib {
		t.Errorf("the second creation asked for one disk of 6 MiB; the machine has %+v", d)
	}
	s.remove(t, m.Ref)
	s.remove(t, m.Ref)
	if _, err := s.p.Machine(s.context(t), m.Ref); !errors.Is(err, hypervisor.ErrNoMachine) {
		t.Errorf("after it was removed the machine is reported with %v: want ErrNoMachine", err)
	}
}

func (s *suite) createAsSpecified(t *testing.T) {
	spec := s.spec("riparo-suite-replica", "m-suite/test")
	spec.Isolated = true
	spec.NICs = []hypervisor.NIC{{MAC: "52:54:00:12:34:56"}}
	m := s.create(t, spec)
	again, err := s.p.Machine(s.context(t), m.Ref)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []hypervisor.Machine{m, again} {
		switch {
		case m.Name != spec.Name || !m.Replica || m.Owner != spec.Owner || m.Power != hypervisor.Stopped:
			t.Errorf("the machine is %+v: want a stopped replica named %s of %s", m, spec.Name, spec.Owner)
		case m.CPUs != 1 || m.MemoryMiB != 128:
			t.Errorf("the machine has %d CPUs and %d MiB: want 1 and 128", m.CPUs, m.MemoryMiB)
		case len(m.Disks) != 2 || m.Disks[0].Key != "vda" || m.Disks[0].Size != 8*mib || m.Disks[1].Key != "vdb" || m.Disks[1].Size != 5*mib:
			t.Errorf("the machine has disks %+v", m.Disks)
		case len(m.NICs) != 1 || m.NICs[0].MAC != "52:54:00:12:34:56":
			t.Errorf("the machine has network cards %+v: want the one with its address kept", m.NICs)
		}
	}
	networks, err := s.p.Networks(s.context(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range networks {
		if len(again.NICs) > 0 && n.Name == again.NICs[0].Network && !n.Isolated {
			t.Errorf("the machine was to be isolated and is on %+v", n)
		}
	}
}

func (s *suite) createRefuses(t *testing.T) {
	taken := s.spec(s.report(t).Name, "m-suite/test")
	lost := s.spec("riparo-suite-replica", "m-suite/test")
	lost.Network = "riparo-suite-no-such-network"
	specs := map[string]hypervisor.Spec{"the name of a machine that is not ours": taken, "a network that does not exist": lost}
	if _, ok := s.p.(hypervisor.OverlayBooter); ok {
		backed := s.spec("riparo-suite-replica", "m-suite/test")
		backed.Disks[0].Backing = "nbd+unix:///vda?socket=/nonexistent/riparo-suite.sock"
		specs["a backing that is not there"] = backed
	}
	for what, spec := range specs {
		if m, err := s.p.Create(s.context(t), spec); err == nil {
			t.Errorf("a machine was created with %s", what)
			if m.Ref != s.ref {
				s.remove(t, m.Ref)
			}
		}
	}
	s.report(t) // the source is still there
}

func (s *suite) removeRefuses(t *testing.T) {
	if err := s.p.Remove(s.context(t), s.ref); !errors.Is(err, hypervisor.ErrNotOurs) {
		t.Errorf("removing the source: %v: want ErrNotOurs", err)
	}
	s.report(t)
}
