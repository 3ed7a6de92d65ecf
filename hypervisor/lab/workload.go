package lab

import (
	"fmt"

	"riparo/replication"
)

// The workload writes one block at a time: some at random in the front eighth of a
// disk, some in sequential runs, some in pairs across two disks, some discards. It
// needs no memory: what it does next follows from the seed and its place in the
// record, so a machine goes on where it was.

// firstBlock is where the workload may write: the first grain is the superblock's.
const firstBlock = grainBlocks

// op is what the workload does next.
type op struct {
	entry entry
	disk  *disk
}

// next chooses what the workload does at a sequence. The caller holds io.
func (m *machine) next(sequence uint64, last kind) op {
	id := m.record.id()
	r := draw(id.Seed, 0x0b, uint64(m.branch.number), sequence)
	pick, r2 := r%100, mix(r)
	if last == first {
		i := 1 + int(r2%uint64(len(m.disks)-1))
		return m.on(i, entry{kind: second, block: m.random(i, r2>>8)})
	}
	i := int(r2 % uint64(len(m.disks)))
	switch {
	case pick < 8 && len(m.disks) > 1:
		return m.on(0, entry{kind: first, block: m.random(0, r2>>8)})
	case pick < 10:
		return m.on(i, entry{kind: zero, block: m.random(i, r2>>8), count: 1})
	case pick < 11: // a whole grain, as a file system's trim does
		return m.on(i, entry{kind: zero, block: m.random(i, r2>>8) / grainBlocks * grainBlocks, count: grainBlocks})
	case pick < 45: // runs of 64 blocks, anywhere on the disk
		run := draw(id.Seed, 0x5e, uint64(m.branch.number), sequence/64)
		i = int(run % uint64(len(m.disks)))
		blocks := uint64(m.disks[i].size/BlockSize) - firstBlock
		return m.on(i, entry{kind: data, block: firstBlock + uint32((run>>8+sequence%64)%blocks)})
	}
	return m.on(i, entry{kind: data, block: m.random(i, r2>>8)})
}

func (m *machine) on(i int, e entry) op {
	e.disk = m.numbers[i]
	return op{e, m.disks[i]}
}

// random is a block in the front of a disk, where real disks are busiest.
func (m *machine) random(i int, r uint64) uint32 {
	blocks := max(uint64(m.disks[i].size/BlockSize)/8, 2*grainBlocks) - firstBlock
	return firstBlock + uint32(r%blocks)
}

// step lets the workload do one thing. It reports false when the workload does
// not run, stands still or rests because its record is full. A disk that fails
// ends it. The caller holds io alone.
func (m *machine) step() (bool, error) {
	if m.branch == nil || m.frozen {
		return false, nil
	}
	l := m.branch.snapshot()
	var last kind
	if n := len(l.entries); n > 0 {
		last = l.entries[n-1].kind
	}
	if last != first && m.record.full(reserve) {
		if m.rests {
			return false, nil
		}
		m.rests = true
		return false, m.print("record full after %d entries: the workload rests", MaxEntries-reserve)
	}
	err := m.do(m.next(l.end()+1, last))
	if err != nil {
		m.halt(err)
	}
	return err == nil, err
}

// do records an operation and then performs it.
func (m *machine) do(o op) error {
	sequence, err := m.append(o.entry)
	if err != nil {
		return err
	}
	if err := m.perform(o, sequence); err != nil {
		return fmt.Errorf("machine %s: %w", m.record.Machine(), err)
	}
	return nil
}

// append adds an entry to the record, as of now.
func (m *machine) append(e entry) (uint64, error) {
	e.at = m.now().UnixNano()
	sequence, err := m.branch.append(e)
	if err != nil {
		return 0, fmt.Errorf("machine %s: %w", m.record.Machine(), err)
	}
	m.record.count.Add(1)
	return sequence, nil
}

// perform writes what an entry says; doing it twice is harmless. Nothing but the
// end of the world interrupts it: what is recorded is to be done.
func (m *machine) perform(o op, sequence uint64) error {
	ctx := m.site.world.life
	from, count := o.entry.written()
	e := replication.Extent{Offset: int64(from) * BlockSize, Length: int64(count) * BlockSize}
	if o.entry.kind == zero {
		e.Length = min(e.Length, o.disk.size-e.Offset)
		return m.write(ctx, o.disk, e, nil)
	}
	block := make([]byte, BlockSize)
	m.record.id().content(block, instant{m.branch.number, sequence}, o.entry, from)
	return m.write(ctx, o.disk, e, block)
}

// quiesce brings the workload to a boundary and marks all disks clean. The caller
// holds io alone.
func (m *machine) quiesce() error {
	if err := m.settlePair(); err != nil {
		return err
	}
	return m.markAll(clean)
}

// settlePair writes the partner of a write that still waits for it.
func (m *machine) settlePair() error {
	l := m.branch.snapshot()
	if n := len(l.entries); n == 0 || l.entries[n-1].kind != first {
		return nil
	}
	return m.do(m.next(l.end()+1, first))
}

// markAll writes the superblock of every disk, in order.
func (m *machine) markAll(k kind) error {
	for i, d := range m.disks {
		if err := m.do(op{entry{kind: k, disk: m.numbers[i], count: uint16(len(m.disks) - 1 - i)}, d}); err != nil {
			return err
		}
	}
	return nil
}

// resume lets a machine that ran when the process ended go on: what the record
// says last is done again, because nobody knows whether it reached the disks.
func (m *machine) resume() error {
	if m.def.Booting {
		// The power never came on as far as anybody was told: Start is repeated.
		return m.change(func(d *definition) {
			d.Running, d.Booting, d.Identity, d.Branch = false, false, "", 0
		})
	}
	if !m.def.Running || m.def.Identity == "" {
		return nil
	}
	record, err := m.site.world.Record(m.def.Identity)
	if err != nil {
		return err
	}
	b, ok := record.branch(m.def.Branch)
	if !ok {
		return fmt.Errorf("the record of %s has no branch %d", m.def.Identity, m.def.Branch)
	}
	m.record, m.branch = record, b
	l := b.snapshot()
	path, err := lineage(record.lives(), instant{l.number, l.end()})
	if err != nil {
		return err
	}
	sizes := record.id().sizes(path)
	if err := m.settle(record.id(), sizes); err != nil {
		return err
	}
	for _, d := range m.disks {
		at, ok := sizes[d.key]
		if !ok {
			return fmt.Errorf("the record of %s knows no disk %s", m.def.Identity, d.key)
		}
		m.numbers = append(m.numbers, at.number)
	}
	if len(l.entries) == 0 {
		return nil
	}
	last := l.entries[len(l.entries)-1]
	if last.kind == grown || last.kind == added {
		return nil // settle has done it
	}
	for i, number := range m.numbers {
		if number == last.disk {
			return m.perform(op{last, m.disks[i]}, l.end())
		}
	}
	return nil
}
