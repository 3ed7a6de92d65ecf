package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"riparo/hypervisor"
	"riparo/replication"
)

// Site is one place of a world: a [hypervisor.Provider] that offers every
// capability. Its machines write while [Site.Run] runs, or when [Site.Step] lets
// them.
type Site struct {
	world   *World
	name    string
	dir     string
	options Options
	owns    bool // the world was opened for this site alone

	watchers watchers

	mu          sync.Mutex // guards what follows
	machines    map[hypervisor.Ref]*machine
	unreachable bool
	refused     bool
	closed      bool
}

var (
	_ hypervisor.Provider      = (*Site)(nil)
	_ hypervisor.Watcher       = (*Site)(nil)
	_ hypervisor.ChangeReader  = (*Site)(nil)
	_ hypervisor.OverlayBooter = (*Site)(nil)
	_ hypervisor.DiskOpener    = (*Site)(nil)
	_ hypervisor.ConsoleReader = (*Site)(nil)
	_ hypervisor.Fencer        = (*Site)(nil)
)

// openSite opens the machines of a site. A folder without a definition is what an
// interrupted creation left, and goes.
func openSite(world *World, name, dir string) (*Site, error) {
	s := &Site{world: world, name: name, dir: dir, options: world.options, machines: map[hypervisor.Ref]*machine{}}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open the lab site %s: %w", name, err)
	}
	folders, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open the lab site %s: %w", name, err)
	}
	for _, f := range folders {
		folder := filepath.Join(dir, f.Name())
		if _, err := os.Stat(definitionFile(folder)); errors.Is(err, os.ErrNotExist) {
			if err := os.RemoveAll(folder); err != nil {
				return nil, errors.Join(fmt.Errorf("open the lab site %s: %w", name, err), s.closeMachines())
			}
			continue
		}
		m, err := openMachine(s, folder)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("open the lab site %s: %w", name, err), s.closeMachines())
		}
		s.machines[m.ref] = m
	}
	return s, nil
}

// Name is the name of the site in its world.
func (s *Site) Name() string { return s.name }

// Describe says that this is a lab and where its files are.
func (s *Site) Describe() hypervisor.Description {
	return hypervisor.Description{Kind: "lab", Address: s.dir, Emulated: true}
}

// Discover lists the machines by name.
func (s *Site) Discover(ctx context.Context) ([]hypervisor.Machine, error) {
	if err := s.reach(ctx); err != nil {
		return nil, err
	}
	var out []hypervisor.Machine
	for _, m := range s.all() {
		out = append(out, m.definition().machine(m.dir))
	}
	slices.SortFunc(out, func(a, b hypervisor.Machine) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Ref, b.Ref))
	})
	return out, nil
}

// Machine reports one machine.
func (s *Site) Machine(ctx context.Context, ref hypervisor.Ref) (hypervisor.Machine, error) {
	m, err := s.machine(ctx, ref)
	if err != nil {
		return hypervisor.Machine{}, err
	}
	return m.definition().machine(m.dir), nil
}

// Names of the networks that every site has. Machines created with Isolated get
// one of their own besides.
const (
	Production = "production"
	Isolated   = "isolated"
)

// Networks lists what machines can be attached to.
func (s *Site) Networks(ctx context.Context) ([]hypervisor.Network, error) {
	if err := s.reach(ctx); err != nil {
		return nil, err
	}
	out := []hypervisor.Network{{Name: Production}, {Name: Isolated, Isolated: true}}
	for _, m := range s.all() {
		if d := m.definition(); d.Private != "" {
			out = append(out, hypervisor.Network{Name: d.Private, Isolated: true})
		}
	}
	slices.SortFunc(out, func(a, b hypervisor.Network) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

// Close lets go of the files. Machines go on when the site is opened again.
func (s *Site) Close() error {
	err := s.closeMachines()
	if s.owns {
		err = errors.Join(err, s.world.Close())
	}
	return err
}

func (s *Site) closeMachines() error {
	s.mu.Lock()
	machines := s.machines
	s.machines = map[hypervisor.Ref]*machine{}
	s.closed = true
	s.mu.Unlock()
	var errs []error
	for _, m := range machines {
		errs = append(errs, m.close())
	}
	return errors.Join(errs...)
}

// all is the machines in no order.
func (s *Site) all() []*machine {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*machine, 0, len(s.machines))
	for _, m := range s.machines {
		out = append(out, m)
	}
	return out
}

// machine finds a machine at a site that can be reached.
func (s *Site) machine(ctx context.Context, ref hypervisor.Ref) (*machine, error) {
	if err := s.reach(ctx); err != nil {
		return nil, err
	}
	return s.lookup(ref)
}

// takeTurn finds a machine and takes its turn; the caller gives it back by calling
// done.
func (s *Site) takeTurn(ctx context.Context, ref hypervisor.Ref) (m *machine, done func(), err error) {
	if m, err = s.machine(ctx, ref); err != nil {
		return nil, nil, err
	}
	m.turn.Lock()
	if m.removed {
		m.turn.Unlock()
		return nil, nil, fmt.Errorf("machine %s at the lab site %s: %w", ref, s.name, hypervisor.ErrNoMachine)
	}
	return m, m.turn.Unlock, nil
}

// lookup finds a machine whatever the site's faults are.
func (s *Site) lookup(ref hypervisor.Ref) (*machine, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, ok := s.machines[ref]
	if !ok {
		return nil, fmt.Errorf("machine %s at the lab site %s: %w", ref, s.name, hypervisor.ErrNoMachine)
	}
	return m, nil
}

// reach says why the site does not answer, if it does not.
func (s *Site) reach(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return fmt.Errorf("the lab site %s is closed", s.name)
	case s.unreachable:
		return &replication.Problem{
			Code: "lab.unreachable", Cause: fmt.Sprintf("the lab site %s cannot be reached", s.name),
			Effect: "nothing can be learned from it or done there", Action: "bring the site back; Riparo tries again by itself",
			Remedy: replication.Retry,
		}
	case s.refused:
		return &replication.Problem{
			Code: "lab.account", Cause: fmt.Sprintf("the lab site %s refused the account", s.name),
			Effect: "nothing can be learned from it or done there", Action: "correct the account of the site",
			Remedy: replication.Stop,
		}
	}
	return nil
}

// Step lets the workload of a running machine do n things, for tests that decide
// themselves when a machine writes. It returns how many it did.
func (s *Site) Step(ctx context.Context, ref hypervisor.Ref, n int) (int, error) {
	m, err := s.lookup(ref)
	if err != nil {
		return 0, err
	}
	for i := range n {
		if err := ctx.Err(); err != nil {
			return i, err
		}
		m.io.Lock()
		ok, err := m.step()
		m.io.Unlock()
		if err != nil || !ok {
			return i, err
		}
	}
	return n, nil
}
