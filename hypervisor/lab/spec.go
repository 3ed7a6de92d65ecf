package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"riparo/hypervisor"
)

// Spec is a machine to make, as the machines of a site are there before Riparo
// comes.
type Spec struct {
	Name  string
	Disks []DiskSpec
	// Seed decides the content of the disks and what the workload does.
	Seed uint64
	// Churn is what the workload writes while Run runs, bytes a second.
	Churn     int64
	CPUs      int    // 2 when 0
	MemoryMiB int    // 4096 when 0
	Network   string // Production when empty
}

// DiskSpec is a disk of a machine to make.
type DiskSpec struct {
	Key          string
	Size         int64 // bytes, a multiple of BlockSize, at least MinDiskSize
	InitialBytes int64 // how much of it has content at first
}

// MinDiskSize leaves the workload room to write in.
const MinDiskSize = 1 << 20

func (d DiskSpec) check() error {
	if err := checkName(d.Key); err != nil {
		return fmt.Errorf("disk: %w", err)
	}
	if d.Size < MinDiskSize || d.Size%BlockSize != 0 || d.Size/BlockSize > 1<<32-1 {
		return fmt.Errorf("disk %s of %d bytes: want a multiple of %d, at least %d", d.Key, d.Size, BlockSize, MinDiskSize)
	}
	if d.InitialBytes < 0 || d.InitialBytes > d.Size {
		return fmt.Errorf("disk %s of %d bytes cannot hold %d bytes at first", d.Key, d.Size, d.InitialBytes)
	}
	return nil
}

func (s Spec) check() error {
	if err := checkName(s.Name); err != nil {
		return fmt.Errorf("machine: %w", err)
	}
	if len(s.Disks) == 0 || len(s.Disks) > maxDisks/2 {
		return fmt.Errorf("machine %s has %d disks: want 1 to %d", s.Name, len(s.Disks), maxDisks/2)
	}
	seen := map[string]bool{}
	for _, d := range s.Disks {
		if err := d.check(); err != nil {
			return fmt.Errorf("machine %s: %w", s.Name, err)
		}
		if seen[d.Key] {
			return fmt.Errorf("machine %s has two disks %s", s.Name, d.Key)
		}
		seen[d.Key] = true
	}
	return nil
}

// AddMachine makes a machine with content on its disks, powered off, and its
// record. Its reference is its name. There is one machine of a name in a world.
func (s *Site) AddMachine(spec Spec) (hypervisor.Machine, error) {
	if spec.CPUs == 0 {
		spec.CPUs = 2
	}
	if spec.MemoryMiB == 0 {
		spec.MemoryMiB = 4096
	}
	if spec.Network == "" {
		spec.Network = Production
	}
	if err := spec.check(); err != nil {
		return hypervisor.Machine{}, fmt.Errorf("add to the lab: %w", err)
	}
	id := identity{Name: spec.Name, Seed: spec.Seed, Churn: spec.Churn, Created: s.options.Now()}
	for _, d := range spec.Disks {
		id.Disks = append(id.Disks, diskIdentity{Key: d.Key, Size: d.Size, InitialBytes: d.InitialBytes, Original: true})
	}
	ref := hypervisor.Ref(spec.Name)
	if _, err := s.lookup(ref); err == nil {
		return hypervisor.Machine{}, fmt.Errorf("the lab site %s has a machine %s already", s.name, ref)
	}
	// The record comes before the machine: what an interruption leaves is a record
	// without a machine, which the next AddMachine replaces.
	if _, err := s.world.newRecord(id); err != nil {
		return hypervisor.Machine{}, err
	}
	def := definition{
		Ref: ref, Name: spec.Name, CPUs: spec.CPUs, MemoryMiB: spec.MemoryMiB, OS: "riparo-lab workload",
		NICs:       []hypervisor.NIC{{MAC: macAddress(draw(spec.Seed, 0x3ac)), Network: spec.Network}},
		ShutDown:   true,
		Generation: firstGeneration + 1,
	}
	dir := filepath.Join(s.dir, string(ref))
	m := &machine{site: s, dir: dir, ref: ref, opened: map[*openedDisk]struct{}{}, flattening: make(chan struct{}, 1)}
	err := os.MkdirAll(dir, 0o700)
	for number, spec := range spec.Disks {
		if err != nil {
			break
		}
		def.Disks = append(def.Disks, diskDefinition{Key: spec.Key, Size: spec.Size, Boot: number == 0})
		var d *disk
		if d, err = createDisk(dir, spec.Key, spec.Size); err == nil {
			m.disks = append(m.disks, d)
			err = d.fill(id, uint8(number), id.superblock(uint8(number), instant{}, false))
		}
	}
	if err == nil {
		m.def = def
		err = writeJSON(definitionFile(dir), def)
	}
	if err != nil {
		return hypervisor.Machine{}, errors.Join(fmt.Errorf("add %s to the lab: %w", spec.Name, err), m.closeDisks(), os.RemoveAll(dir))
	}
	s.adopt(m)
	return def.machine(dir), nil
}

// adopt makes a machine known.
func (s *Site) adopt(m *machine) {
	s.mu.Lock()
	s.machines[m.ref] = m
	s.mu.Unlock()
	s.watchers.tell(m.ref)
}

// newRecord begins the record of a machine. An unused one of that name, left by an
// interrupted AddMachine, is replaced.
func (w *World) newRecord(id identity) (*Record, error) {
	w.recordsMu.Lock()
	defer w.recordsMu.Unlock()
	dir := filepath.Join(w.dir, "records", id.Name)
	if old, ok := w.records[id.Name]; ok {
		if old.Entries() > 0 || w.hasMachine(id.Name) {
			return nil, fmt.Errorf("the lab has a machine %s already", id.Name)
		}
		if err := errors.Join(old.close(), os.RemoveAll(dir)); err != nil {
			return nil, fmt.Errorf("replace the record of %s: %w", id.Name, err)
		}
		delete(w.records, id.Name)
	}
	r, err := createRecord(dir, id)
	if err != nil {
		return nil, err
	}
	w.records[id.Name] = r
	return r, nil
}

// hasMachine reports whether a folder of any site belongs to a machine of that name.
func (w *World) hasMachine(name string) bool {
	matches, err := filepath.Glob(filepath.Join(w.dir, "sites", "*", name, "machine.json"))
	return err != nil || len(matches) > 0
}

// macAddress is a locally administered address.
func macAddress(r uint64) string {
	return fmt.Sprintf("52:54:%02x:%02x:%02x:%02x", byte(r), byte(r>>8), byte(r>>16), byte(r>>24))
}

// AddDisk gives a running machine a further disk with initial content.
func (s *Site) AddDisk(ctx context.Context, ref hypervisor.Ref, spec DiskSpec) error {
	if err := spec.check(); err != nil {
		return fmt.Errorf("add a disk to %s: %w", ref, err)
	}
	m, done, err := s.takeTurn(ctx, ref)
	if err != nil {
		return err
	}
	defer done()
	m.io.Lock()
	defer m.io.Unlock()
	switch {
	case m.branch == nil:
		return fmt.Errorf("add disk %s to %s: its workload does not run", spec.Key, ref)
	case m.disk(spec.Key) != nil:
		return fmt.Errorf("add disk %s to %s: it has a disk of that name", spec.Key, ref)
	}
	number, err := m.record.addDisk(diskIdentity{Key: spec.Key, Size: spec.Size, InitialBytes: spec.InitialBytes})
	if err != nil {
		return err
	}
	if err := m.settlePair(); err != nil {
		return err
	}
	d, err := createDisk(m.dir, spec.Key, spec.Size)
	if err != nil {
		return err
	}
	at := instant{m.branch.number, m.branch.snapshot().end() + 1}
	if err := d.fill(m.record.id(), number, m.record.id().superblock(number, at, false)); err != nil {
		return errors.Join(err, d.close())
	}
	// From the entry on the disk is part of the machine, also if the process ends
	// before the definition says so.
	if _, err := m.append(entry{kind: added, disk: number, block: uint32(spec.Size / BlockSize)}); err != nil {
		return errors.Join(err, d.close())
	}
	m.disks, m.numbers = append(m.disks, d), append(m.numbers, number)
	return m.change(func(d *definition) {
		d.Disks = append(d.Disks, diskDefinition{Key: spec.Key, Size: spec.Size})
	})
}

// GrowDisk makes a disk of a running machine larger. The new space is zero.
func (s *Site) GrowDisk(ctx context.Context, ref hypervisor.Ref, key string, size int64) error {
	m, done, err := s.takeTurn(ctx, ref)
	if err != nil {
		return err
	}
	defer done()
	m.io.Lock()
	defer m.io.Unlock()
	d := m.disk(key)
	switch {
	case m.branch == nil:
		return fmt.Errorf("grow disk %s of %s: its workload does not run", key, ref)
	case d == nil:
		return fmt.Errorf("grow disk %s of %s: it has no such disk", key, ref)
	case d.overlay != nil:
		return fmt.Errorf("grow disk %s of %s: it still reads from a recovery point", key, ref)
	case size < d.size || size%BlockSize != 0 || size/BlockSize > 1<<32-1:
		return fmt.Errorf("grow disk %s of %s from %d to %d bytes: want more, in multiples of %d", key, ref, d.size, size, BlockSize)
	}
	if err := m.settlePair(); err != nil {
		return err
	}
	if _, err := m.append(entry{kind: grown, disk: m.number(d), block: uint32(size / BlockSize)}); err != nil {
		return err
	}
	return m.growTo(d, size)
}

// growTo makes the disk as large as the record says that it is.
func (m *machine) growTo(d *disk, size int64) error {
	if err := d.grow(size); err != nil {
		return err
	}
	return m.change(func(def *definition) {
		for i := range def.Disks {
			if def.Disks[i].Key == d.key {
				def.Disks[i].Size = size
			}
		}
	})
}

// settle brings the make-up of a machine in line with the record, after a process
// ended between the entry of an added or grown disk and its definition.
func (m *machine) settle(id identity, sizes map[string]diskAt) error {
	for key, at := range sizes {
		if d := m.disk(key); d != nil {
			if d.size < at.size {
				if err := m.growTo(d, at.size); err != nil {
					return err
				}
			}
			continue
		}
		if id.Disks[at.number].Original {
			continue
		}
		def := diskDefinition{Key: key, Size: at.size}
		d, err := openDisk(m.dir, def)
		if err != nil {
			return err
		}
		m.disks = append(m.disks, d)
		if err := m.change(func(d *definition) { d.Disks = append(d.Disks, def) }); err != nil {
			return err
		}
	}
	return nil
}
