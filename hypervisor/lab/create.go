package lab

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"

	"riparo/hypervisor"
	"riparo/replication"
)

// Create makes a machine, powered off, with empty disks or overlays on recovery
// points. A machine of this name and owner that Create made before is replaced.
func (s *Site) Create(ctx context.Context, spec hypervisor.Spec) (hypervisor.Machine, error) {
	if err := s.reach(ctx); err != nil {
		return hypervisor.Machine{}, err
	}
	if err := s.checkSpec(spec); err != nil {
		return hypervisor.Machine{}, fmt.Errorf("create machine %s: %w", spec.Name, err)
	}
	h := fnv.New64a()
	fmt.Fprintf(h, "%s\x00%s", spec.Owner, spec.Name)
	ref := hypervisor.Ref(fmt.Sprintf("replica-%016x", h.Sum64()))
	if err := s.nameTaken(spec.Name, ref); err != nil {
		return hypervisor.Machine{}, err
	}
	if err := s.remove(ctx, ref); err != nil && !errors.Is(err, hypervisor.ErrNoMachine) {
		return hypervisor.Machine{}, fmt.Errorf("replace machine %s: %w", spec.Name, err)
	}
	def := definition{
		Ref: ref, Name: spec.Name, Owner: spec.Owner, CPUs: spec.CPUs, MemoryMiB: spec.MemoryMiB,
		OS: "riparo-lab workload", Hardware: spec.Hardware, Generation: firstGeneration + 1,
	}
	def.NICs = s.nics(spec, ref)
	if spec.Isolated {
		def.Private = privateNetwork(ref)
	}
	dir := filepath.Join(s.dir, string(ref))
	m := &machine{site: s, dir: dir, ref: ref, opened: map[*openedDisk]struct{}{}, flattening: make(chan struct{}, 1)}
	err := os.MkdirAll(dir, 0o700)
	for _, one := range spec.Disks {
		if err != nil {
			break
		}
		def.Disks = append(def.Disks, diskDefinition{Key: one.Key, Size: one.Size, Boot: one.Boot, Backing: one.Backing})
		var d *disk
		if d, err = createDisk(dir, one.Key, one.Size); err == nil {
			m.disks = append(m.disks, d)
			if one.Backing != "" {
				err = d.layOver(ctx, dir, one.Backing)
			}
		}
	}
	if err == nil {
		m.def = def
		err = writeJSON(definitionFile(dir), def)
	}
	if err != nil {
		return hypervisor.Machine{}, errors.Join(fmt.Errorf("create machine %s: %w", spec.Name, err), m.closeDisks(), os.RemoveAll(dir))
	}
	s.adopt(m)
	return def.machine(dir), nil
}

// checkSpec says what cannot be made.
func (s *Site) checkSpec(spec hypervisor.Spec) error {
	if err := checkName(spec.Name); err != nil {
		return err
	}
	if spec.Owner == "" {
		return errors.New("a machine that Riparo makes needs an owner")
	}
	switch spec.Network {
	case "", Production, Isolated:
	default:
		return &replication.Problem{
			Code: "lab.no-network", Cause: fmt.Sprintf("the lab site %s has no network %q", s.name, spec.Network),
			Effect: "the machine was not created", Action: "map the network to one that exists", Remedy: replication.Stop,
		}
	}
	seen := map[string]bool{}
	for _, d := range spec.Disks {
		if err := checkName(d.Key); err != nil {
			return fmt.Errorf("disk: %w", err)
		}
		if seen[d.Key] {
			return fmt.Errorf("there are two disks %s", d.Key)
		}
		seen[d.Key] = true
		if d.Size < 0 {
			return fmt.Errorf("disk %s of %d bytes: a size is not below 0", d.Key, d.Size)
		}
	}
	return nil
}

// nameTaken refuses a name that another machine has.
func (s *Site) nameTaken(name string, ref hypervisor.Ref) error {
	for _, m := range s.all() {
		if d := m.definition(); d.Name == name && d.Ref != ref {
			return &replication.Problem{
				Code: "lab.name-taken", Cause: fmt.Sprintf("the lab site %s has a machine %s that was not made for this purpose", s.name, name),
				Effect: "the machine was not created", Action: "choose another name", Remedy: replication.Stop,
			}
		}
	}
	return nil
}

// nics gives the new machine its network cards.
func (s *Site) nics(spec hypervisor.Spec, ref hypervisor.Ref) []hypervisor.NIC {
	network := spec.Network
	if spec.Isolated {
		network = privateNetwork(ref)
	}
	if network == "" {
		return nil
	}
	if len(spec.NICs) == 0 {
		h := fnv.New64a()
		h.Write([]byte(ref))
		return []hypervisor.NIC{{MAC: macAddress(h.Sum64()), Network: network}}
	}
	var out []hypervisor.NIC
	for _, nic := range spec.NICs {
		out = append(out, hypervisor.NIC{MAC: nic.MAC, Network: network})
	}
	return out
}

func privateNetwork(ref hypervisor.Ref) string { return "isolated-" + string(ref) }

// Remove ends a machine that Create made.
func (s *Site) Remove(ctx context.Context, ref hypervisor.Ref) error {
	if err := s.reach(ctx); err != nil {
		return err
	}
	if err := s.remove(ctx, ref); err != nil && !errors.Is(err, hypervisor.ErrNoMachine) {
		return err
	}
	return nil
}

func (s *Site) remove(ctx context.Context, ref hypervisor.Ref) error {
	m, done, err := s.takeTurn(ctx, ref)
	if err != nil {
		return err
	}
	defer done()
	if def := m.definition(); def.Owner == "" {
		return fmt.Errorf("remove machine %s: %w", def.Name, hypervisor.ErrNotOurs)
	}
	if _, err := m.stop(ctx, 0); err != nil {
		return err
	}
	m.io.Lock()
	defer m.io.Unlock()
	err = errors.Join(m.endCapture(), m.closeDisks())
	m.removed = true
	// The definition goes first: what is left after an interruption has none and is
	// cleared away when the site is opened.
	if err := os.Remove(definitionFile(m.dir)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove machine %s: %w", ref, err)
	}
	if err := os.RemoveAll(m.dir); err != nil {
		return fmt.Errorf("remove machine %s: %w", ref, err)
	}
	s.mu.Lock()
	delete(s.machines, ref)
	s.mu.Unlock()
	s.watchers.tell(ref)
	return err
}
