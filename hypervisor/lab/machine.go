package lab

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"riparo/hypervisor"
	"riparo/replication"
)

// machine is one machine of a site.
//
// Three locks, taken in this order: turn while its power or its make-up changes,
// io around its disks, state around its definition. Holding io while reading and
// writing is what io is for: it is the queue of the machine's disks, and a capture
// is an instant because nothing is under way when it holds io alone.
type machine struct {
	site *Site
	dir  string
	ref  hypervisor.Ref

	turn sync.Mutex

	io      sync.RWMutex // guards what follows
	disks   []*disk      // in the order of the definition
	record  *Record      // of the identity that runs here; nil when none does
	branch  *branch      // where it writes; nil when no workload runs
	numbers []uint8      // of the disks in the record, as disks
	frozen  bool         // the workload stands still
	rests   bool         // because its record is full, and the console says so
	capture *capture     // the open one, or nil
	opened  map[*openedDisk]struct{}
	stamped bool // nobody was told the stamp that the next write would make wrong
	removed bool // or its site was closed; changed only with turn and io held

	flattening chan struct{} // one slot, taken by the Flatten under way

	state   sync.Mutex // guards what follows; saving the file is part of it
	def     definition
	faults  faults
	console []byte // since the last start
}

// maxConsole bounds what a machine's console keeps.
const maxConsole = 64 << 10

// openMachine opens a machine from its folder and lets it go on if it ran.
func openMachine(site *Site, dir string) (*machine, error) {
	def, err := readDefinition(dir)
	if err != nil {
		return nil, err
	}
	m := &machine{site: site, dir: dir, ref: def.Ref, def: def, opened: map[*openedDisk]struct{}{}, flattening: make(chan struct{}, 1)}
	if m.console, err = os.ReadFile(filepath.Join(dir, "console.log")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("open the lab machine %s: %w", def.Name, err)
	}
	if err := removeScratch(dir); err != nil {
		return nil, err
	}
	for _, d := range def.Disks {
		disk, err := openDisk(dir, d)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("open the lab machine %s: %w", def.Name, err), m.closeDisks())
		}
		m.disks = append(m.disks, disk)
	}
	if err := m.resume(); err != nil {
		return nil, errors.Join(fmt.Errorf("open the lab machine %s: %w", def.Name, err), m.closeDisks())
	}
	return m, nil
}

// definition is a copy of the machine's definition.
func (m *machine) definition() definition {
	m.state.Lock()
	defer m.state.Unlock()
	return m.def.clone()
}

// change alters the definition, first on disk, then in memory, and tells watchers.
func (m *machine) change(alter func(*definition)) error {
	m.state.Lock()
	next := m.def.clone()
	alter(&next)
	err := writeJSON(definitionFile(m.dir), next)
	if err == nil {
		m.def = next
	}
	m.state.Unlock()
	if err == nil {
		m.site.watchers.tell(m.ref)
	}
	return err
}

func (m *machine) disk(key string) *disk {
	for _, d := range m.disks {
		if d.key == key {
			return d
		}
	}
	return nil
}

// number is the number of a disk in the record of the identity that runs here.
func (m *machine) number(d *disk) uint8 {
	for i := range m.disks {
		if m.disks[i] == d {
			return m.numbers[i]
		}
	}
	return 0
}

// write changes a disk: the blocks that an open capture still needs are kept
// first, the change is remembered, then it happens. nil data makes the extent
// zero. The caller holds io alone.
func (m *machine) write(ctx context.Context, d *disk, e replication.Extent, data []byte) error {
	if err := e.Within(d.size); err != nil {
		return fmt.Errorf("disk %s: %w", d.key, err)
	}
	if err := m.restamp(); err != nil {
		return fmt.Errorf("disk %s: %w", d.key, err)
	}
	if m.capture != nil {
		m.capture.keep(ctx, d, e)
	}
	generation := m.currentGeneration()
	if data == nil {
		return d.discard(ctx, e, generation)
	}
	return d.write(ctx, data, e.Offset, generation)
}

// restamp makes a stamp wrong that somebody may know, before the disks are written to. The
// caller holds io.
func (m *machine) restamp() error {
	if m.stamped {
		return nil
	}
	if err := m.change(func(d *definition) { d.Stamp = rand.Text() }); err != nil {
		return err
	}
	m.stamped = true
	return nil
}

func (m *machine) currentGeneration() uint32 {
	m.state.Lock()
	defer m.state.Unlock()
	return m.def.Generation
}

// print adds a line to the console. A console that cannot be stored is still read.
func (m *machine) print(format string, args ...any) error {
	line := fmt.Sprintf(format, args...) + "\n"
	m.state.Lock()
	defer m.state.Unlock()
	if len(m.console)+len(line) > maxConsole {
		return nil
	}
	m.console = append(m.console, line...)
	return os.WriteFile(filepath.Join(m.dir, "console.log"), m.console, 0o600)
}

func (m *machine) clearConsole() error {
	m.state.Lock()
	defer m.state.Unlock()
	m.console = nil
	if err := os.Remove(filepath.Join(m.dir, "console.log")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("clear the console: %w", err)
	}
	return nil
}

func (m *machine) closeDisks() error {
	var errs []error
	for _, d := range m.disks {
		errs = append(errs, d.close())
	}
	m.disks = nil
	return errors.Join(errs...)
}

// close lets go of the machine's files; the machine itself goes on, once its site
// is opened again.
func (m *machine) close() error {
	m.turn.Lock()
	defer m.turn.Unlock()
	m.io.Lock()
	defer m.io.Unlock()
	m.branch, m.record, m.removed = nil, nil, true
	err := m.endCapture()
	return errors.Join(err, m.closeDisks())
}

// now is the site's clock.
func (m *machine) now() time.Time { return m.site.options.Now() }
