package lab_test

import (
	"strings"
	"testing"

	"riparo/hypervisor"
	"riparo/hypervisor/lab"
)

func TestOneSiteCanBeOpenedAlone(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		s, err := lab.Open(dir, lab.Options{Name: "home"})
		if err != nil {
			t.Fatal(err)
		}
		if d := s.Describe(); d.Kind != "lab" || !d.Emulated || s.Name() != "home" {
			t.Errorf("the site %s is %+v: want an emulated lab named home", s.Name(), d)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Discover(t.Context()); err == nil {
			t.Error("a closed site was discovered")
		}
	}
}

func TestACaptureThatANewerOneEndedIsNotCommitted(t *testing.T) {
	w := openWorld(t, t.TempDir())
	s := site(t, w, "primary")
	ref := startWeb01(t, s, small(111))
	old := begin(t, s, hypervisor.PointRequest{Ref: ref, Point: "p1", Disks: []string{"vda", "vdb"}})
	next := begin(t, s, hypervisor.PointRequest{Ref: ref, Point: "p2", Disks: []string{"vda", "vdb"}})
	if err := old.Commit(t.Context()); err == nil {
		t.Error("the older capture was committed")
	}
	if v := judge(t, w, "WEB01", sources(next)); !v.OK {
		t.Errorf("the newer capture: %s", v.Why)
	}
}

func TestTwoCopiesOfAMachineAreSeen(t *testing.T) {
	w := openWorld(t, t.TempDir())
	s := site(t, w, "primary")
	ref := startWeb01(t, s, small(112))
	base := newCopies(t)
	point(t, w, s, ref, base, "p1", "")
	view := serve(t, base.sources(t))
	for _, c := range []struct {
		spec hypervisor.Spec
		says string
		here int // copies that are not isolated
	}{
		{hypervisor.Spec{Name: "test", Isolated: true}, "network isolated", 1},
		{hypervisor.Spec{Name: "test", Network: lab.Isolated}, "network isolated", 1},
		{hypervisor.Spec{Name: "test"}, "network none", 1},
		{hypervisor.Spec{Name: "test", Network: lab.Production}, "network production reachable WEB01", 2},
	} {
		c.spec.Owner, c.spec.Disks = "m-1/test", view.overlays()
		m, err := s.Create(t.Context(), c.spec)
		if err != nil {
			t.Fatal(err)
		}
		start(t, s, m.Ref, "")
		mustServe(t, s, m.Ref, c.says)
		here := 0
		copies := w.Copies("WEB01")
		for _, one := range copies {
			if !one.Isolated {
				here++
			}
		}
		if len(copies) != 2 || here != c.here {
			t.Errorf("with %q the machine runs as %+v: want 2 copies, %d of them not isolated", c.says, copies, c.here)
		}
		networks, err := s.Networks(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		private := 0
		for _, n := range networks {
			if strings.HasSuffix(n.Name, string(m.Ref)) {
				private++
			}
		}
		if (private == 1) != c.spec.Isolated {
			t.Errorf("a machine with isolated %t has %d networks of its own", c.spec.Isolated, private)
		}
	}
}
