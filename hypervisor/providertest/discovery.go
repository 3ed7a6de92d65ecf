package providertest

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"testing"

	"riparo/hypervisor"
)

const noSuchMachine = hypervisor.Ref("00000000-0000-4000-8000-000000000000")

func (s *suite) describes(t *testing.T) {
	if d := s.p.Describe(); d.Kind == "" || d != s.p.Describe() {
		t.Errorf("the description is %+v: want a kind, and the same each time", d)
	}
}

func (s *suite) discovers(t *testing.T) {
	machines, err := s.p.Discover(s.context(t))
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(machines, func(m hypervisor.Machine) bool { return m.Ref == s.ref })
	if i < 0 {
		t.Fatalf("%d machines were discovered, and not the source %s", len(machines), s.ref)
	}
	found, alone := machines[i], s.report(t)
	if !reflect.DeepEqual(found, alone) {
		t.Errorf("discovery reports\n%+v\nand the machine asked for alone is\n%+v", found, alone)
	}
	if alone.Name == "" || alone.Replica || alone.Fenced || len(alone.Obstacles) > 0 {
		t.Errorf("the source is %+v: want a name, no replica, not fenced, without obstacles", alone)
	}
	seen := map[string]bool{}
	for _, d := range alone.Disks {
		if d.Key == "" || d.Size <= 0 || seen[d.Key] {
			t.Errorf("disk %+v: want a key of its own and a size", d)
		}
		seen[d.Key] = true
	}
}

func (s *suite) unknownMachine(t *testing.T) {
	ctx := s.context(t)
	_, machine := s.p.Machine(ctx, noSuchMachine)
	_, stop := s.p.Stop(ctx, noSuchMachine, 0)
	for call, err := range map[string]error{
		"Machine": machine,
		"Start":   s.p.Start(ctx, noSuchMachine, hypervisor.StartOptions{}),
		"Stop":    stop,
	} {
		if !errors.Is(err, hypervisor.ErrNoMachine) {
			t.Errorf("%s of an unknown machine: %v: want ErrNoMachine", call, err)
		}
	}
	if err := s.p.Remove(ctx, noSuchMachine); err != nil {
		t.Errorf("removing what is gone: %v: want nil", err)
	}
}

func (s *suite) canceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.p.Discover(ctx); err == nil {
		t.Error("a canceled Discover gave machines")
	}
	if _, err := s.p.Create(ctx, s.spec("riparo-suite-canceled", "m-suite/canceled")); err == nil {
		t.Error("a canceled Create made a machine")
	}
	if reader, ok := s.p.(hypervisor.ChangeReader); ok {
		if c, err := reader.BeginPoint(ctx, hypervisor.PointRequest{Ref: s.ref, Point: s.point(), Disks: s.keys}); err == nil {
			t.Errorf("a canceled BeginPoint began; ending it: %v", c.Rollback(t.Context()))
		}
	}
}

func (s *suite) networks(t *testing.T) {
	networks, err := s.p.Networks(s.context(t))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, n := range networks {
		if n.Name == "" || seen[n.Name] {
			t.Errorf("network %+v: want a name of its own", n)
		}
		seen[n.Name] = true
	}
	if s.h.Network != "" && !seen[s.h.Network] {
		t.Errorf("networks %+v: %s is missing", networks, s.h.Network)
	}
}

func (s *suite) watch(t *testing.T) {
	watcher := offered[hypervisor.Watcher](t, s.p, "Watcher")
	ctx, cancel := context.WithCancel(s.context(t))
	// One slot for each machine that is waited for: a watcher must not block.
	changed := make(chan hypervisor.Ref, 256)
	ended := make(chan error, 1)
	go func() {
		ended <- watcher.Watch(ctx, func(ref hypervisor.Ref) {
			select {
			case changed <- ref:
			default:
			}
		})
	}()
	// The watch may take a moment to begin, so something happens again until it is
	// seen. A provider may give each of the machines another reference.
	made := map[hypervisor.Ref]bool{}
	waitFor(t, "a change of a machine to be told", func() bool {
		m := s.create(t, s.spec("riparo-suite-watched", "m-suite/watch"))
		made[m.Ref] = true
		s.remove(t, m.Ref)
		for {
			select {
			case ref := <-changed:
				if made[ref] {
					return true
				}
				continue
			default:
				return false
			}
		}
	})
	cancel()
	if err := <-ended; err == nil {
		t.Error("Watch returned nil when its ctx ended: want why")
	}
}
