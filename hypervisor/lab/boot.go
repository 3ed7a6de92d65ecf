package lab

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"riparo/hypervisor"
	"riparo/replication"
)

// boot is what a machine does when it is powered on: it reads its own disks,
// says on the console what it found, and serves only if it found itself. The
// caller holds io alone. A machine that cannot boot is no error: it hangs, as
// machines do.
func (m *machine) boot(ctx context.Context, def definition) error {
	err := m.wake(ctx, def)
	return errors.Join(err, m.change(func(d *definition) { d.Booting = false }))
}

func (m *machine) wake(ctx context.Context, def definition) error {
	var keys []string
	for _, d := range m.disks {
		keys = append(keys, d.key)
	}
	found, err := m.findSelf(ctx)
	if err != nil {
		return errors.Join(
			m.print("riparo-lab: boot %s disks %s: %v", def.Name, strings.Join(keys, ","), err),
			m.print("not serving"))
	}
	if err := m.live(found); err != nil {
		m.halt(err)
		return err
	}
	return errors.Join(
		m.print("riparo-lab: boot %s disks %s identity ok", found.record.Machine(), strings.Join(keys, ",")),
		m.print("counter %d", found.at.sequence),
		m.print("%s", m.network(def)),
		m.print("serving"))
}

// self is what a machine found on its disks.
type self struct {
	record  *Record
	id      identity
	numbers []uint8
	at      instant // of the newest write
	again   []entry // discards after it that may have happened
	resized []entry // disks that are larger than they were at that instant
}

// findSelf reads the superblocks and looks for the newest write.
func (m *machine) findSelf(ctx context.Context) (self, error) {
	var f self
	var newest superblock
	for i, d := range m.disks {
		block, err := m.bootRead(ctx, d, 0)
		if err != nil {
			return f, err
		}
		super, err := readSuperblock(block)
		if err != nil {
			return f, fmt.Errorf("disk %s: %w", d.key, err)
		}
		if i > 0 && super.Identity != newest.Identity {
			return f, fmt.Errorf("disk %s belongs to machine %s, disk %s to %s", d.key, super.Machine, m.disks[0].key, newest.Machine)
		}
		if super.Key != d.key {
			return f, fmt.Errorf("disk %s holds disk %s of machine %s", d.key, super.Key, super.Machine)
		}
		if i == 0 || super.Branch > newest.Branch || super.Branch == newest.Branch && super.Sequence > newest.Sequence {
			newest = super
		}
		f.numbers = append(f.numbers, super.Number)
	}
	if len(m.disks) == 0 {
		return f, errors.New("no disk to boot from")
	}
	var err error
	if f.record, err = m.site.world.Record(newest.Machine); err != nil {
		return f, err
	}
	f.id = f.record.id()
	if f.id.id() != newest.Identity {
		return f, fmt.Errorf("identity %016x is not that of %s (%016x)", newest.Identity, f.id.Name, f.id.id())
	}
	return f, m.findNewest(ctx, &f, instant{newest.Branch, newest.Sequence})
}

// findNewest looks for the newest write that is on the disks, beginning at that
// of a superblock. The record says only where to look; what is there decides.
//
// Writes up to the instant of the disks are there and those after it are not, so
// a binary search takes a few reads whatever the branch's length. Where something
// was discarded nothing can be told, and the search looks at the next entry.
func (m *machine) findNewest(ctx context.Context, f *self, from instant) error {
	lives := f.record.lives()
	if int(from.branch) >= len(lives) {
		return fmt.Errorf("the superblock speaks of branch %d, which never was", from.branch)
	}
	l := lives[from.branch]
	low, high := from.sequence, l.end()+1 // low is there, high is not
	for high-low > 1 {
		middle := low + (high-low)/2
		there, known := uint64(0), false
		for try := middle; try < high && !known; try++ {
			var err error
			if there, known, err = m.shows(ctx, f, lives, instant{l.number, try}); err != nil {
				return err
			}
		}
		if known && there >= middle {
			low = max(low, there)
		} else {
			high = middle
		}
	}
	f.at = instant{l.number, low}
	return m.findRest(ctx, f, lives)
}

// shows reads the block that an entry wrote. known is false when it cannot tell
// whether the entry happened; otherwise there is the sequence of this branch that
// the block shows, 0 if it shows something older.
func (m *machine) shows(ctx context.Context, f *self, lives []life, at instant) (there uint64, known bool, err error) {
	e, _ := lives[at.branch].at(at.sequence)
	i := slices.Index(f.numbers, e.disk)
	if i < 0 || !e.leavesTrace() {
		return 0, false, nil
	}
	number, _ := e.written()
	if int64(number) >= m.disks[i].size/BlockSize {
		return 0, true, nil // the disk was not that large yet
	}
	block, err := m.bootRead(ctx, m.disks[i], number)
	if err != nil {
		return 0, false, err
	}
	if allZero(block) {
		return 0, false, nil
	}
	shown, ok := f.id.trace(block, e.disk, number)
	if !ok || shown.branch != at.branch {
		return 0, true, nil
	}
	wrote, ok := written(lives, shown, e.disk, number)
	want := make([]byte, BlockSize)
	f.id.content(want, shown, wrote, number)
	if !ok || string(block) != string(want) {
		return 0, false, fmt.Errorf("disk %s is damaged at %d: it should show the write of %s", m.disks[i].key, int64(number)*BlockSize, shown)
	}
	return shown.sequence, true, nil
}

// findRest looks past the newest write for discards that may have happened since,
// and compares the disks with what the machine had at that instant.
func (m *machine) findRest(ctx context.Context, f *self, lives []life) error {
	path, err := lineage(lives, f.at)
	if err != nil {
		return err
	}
	sizes := f.id.sizes(path)
	for i, d := range m.disks {
		at, ok := sizes[d.key]
		if !ok || at.number != f.numbers[i] {
			return fmt.Errorf("disk %s is not one that the machine had at %s", d.key, f.at)
		}
		delete(sizes, d.key)
		if d.size < at.size {
			return fmt.Errorf("disk %s has %d bytes and should have %d", d.key, d.size, at.size)
		}
		if d.size > at.size {
			f.resized = append(f.resized, entry{kind: grown, disk: at.number, block: uint32(d.size / BlockSize)})
		}
	}
	for key := range sizes {
		return fmt.Errorf("disk %s is missing", key)
	}
	l := lives[f.at.branch]
	for sequence := f.at.sequence + 1; sequence <= l.end() && sequence-f.at.sequence <= maxHidden; sequence++ {
		e, _ := l.at(sequence)
		if e.kind != zero {
			if _, known, err := m.shows(ctx, f, lives, instant{l.number, sequence}); known || err != nil {
				return err
			}
			continue
		}
		if is, err := m.zeroed(ctx, f, e); err != nil {
			return err
		} else if is {
			f.again = append(f.again, entry{kind: zero, disk: e.disk, block: e.block, count: e.count})
		}
	}
	return nil
}

// zeroed reports whether all that an entry discarded reads zero.
func (m *machine) zeroed(ctx context.Context, f *self, e entry) (bool, error) {
	i := slices.Index(f.numbers, e.disk)
	from, count := e.written()
	for number := from; number-from < count; number++ {
		if i < 0 || int64(number) >= m.disks[i].size/BlockSize {
			return false, nil
		}
		block, err := m.bootRead(ctx, m.disks[i], number)
		if err != nil || !allZero(block) {
			return false, err
		}
	}
	return true, nil
}

// bootRead reads a block as the guest does.
func (m *machine) bootRead(ctx context.Context, d *disk, number uint32) ([]byte, error) {
	block := make([]byte, BlockSize)
	offset := int64(number) * BlockSize
	if err := m.disturb(d.key, replication.Extent{Offset: offset, Length: BlockSize}); err != nil {
		return nil, err
	}
	if d.size < BlockSize {
		return nil, fmt.Errorf("disk %s has only %d bytes", d.key, d.size)
	}
	if err := d.read(ctx, block, offset); err != nil {
		return nil, fmt.Errorf("disk %s cannot be read: %w", d.key, err)
	}
	return block, nil
}

// live begins a new branch at what was found, and marks the disks with it.
func (m *machine) live(f self) error {
	if len(f.numbers) > reserve/4 || f.record.full(len(f.numbers)+len(f.again)+len(f.resized)) {
		return fmt.Errorf("the record of %s is full", f.id.Name)
	}
	b, err := f.record.begin(f.at, m.site.name, m.now())
	if err != nil {
		return err
	}
	// Stored first: if the process ends here, the machine goes on from this branch.
	if err := m.change(func(d *definition) { d.Identity, d.Branch = f.id.Name, b.number }); err != nil {
		return err
	}
	m.record, m.branch, m.numbers, m.rests = f.record, b, f.numbers, false
	for _, e := range f.resized {
		if _, err := m.append(e); err != nil {
			return err
		}
	}
	if err := m.markAll(boot); err != nil {
		return err
	}
	// Whether these discards happened before cannot be seen. Doing them again
	// changes no byte and settles the question.
	for _, e := range f.again {
		if err := m.do(op{e, m.disks[slices.Index(m.numbers, e.disk)]}); err != nil {
			return err
		}
	}
	return nil
}

// network is what the machine says of its network: whom it reaches there, or that
// it reaches nobody because nothing leads out.
func (m *machine) network(def definition) string {
	for _, nic := range def.NICs {
		switch nic.Network {
		case "":
		case Production:
			peers := m.site.peers(m, nic.Network)
			if len(peers) == 0 {
				peers = []string{"nobody"}
			}
			return "network production reachable " + strings.Join(peers, ",")
		default:
			return "network isolated"
		}
	}
	return "network none"
}

// peers are the other machines that run on a network of the site, by name.
func (s *Site) peers(than *machine, network string) []string {
	var names []string
	for _, m := range s.all() {
		d := m.definition()
		if m != than && d.Running && slices.ContainsFunc(d.NICs, func(n hypervisor.NIC) bool { return n.Network == network }) {
			names = append(names, d.Name)
		}
	}
	slices.Sort(names)
	return names
}
