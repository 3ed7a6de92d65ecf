package vault

import (
	"errors"
	"sync"

	"riparo/replication/vfs"
)

// Whoever reads much at once, as an export and a copy through NBD do, asks for many
// blocks that were written together. These lie in one segment, one behind the other,
// and are read together: a run.

const (
	// runBytes is the longest run in the segment: a large page.
	runBytes = 2 << 20
	// runGap is how much is read for nothing at most between two blocks of a run: the
	// table of a record and its padding are shorter, and so are some blocks that
	// nobody asked for.
	runGap = 64 << 10
	// directRun is the shortest run that is read around the page cache. The reads of a
	// machine that runs from a view are shorter, and live on what the kernel reads
	// ahead for them.
	directRun = 128 << 10
	// maxRuns bounds the memory, for all views together: an export uses as many. Whoever
	// comes when all are in use reads block by block.
	maxRuns = 4
)

// runMemory is what runs are read into. What came back last is taken first: whoever reads
// few at a time has memory for few.
var runMemory struct {
	mu    sync.Mutex // guards all below
	free  [][]byte
	taken int
}

// takeRun gives memory of runBytes, nil if all is in use.
func takeRun() []byte {
	m := &runMemory
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.taken == maxRuns {
		return nil
	}
	m.taken++
	if last := len(m.free) - 1; last >= 0 {
		p := m.free[last]
		m.free = m.free[:last]
		return p
	}
	return vfs.Memory(runBytes)
}

// giveRun gives back what takeRun gave.
func giveRun(p []byte) {
	m := &runMemory
	m.mu.Lock()
	defer m.mu.Unlock()
	m.taken--
	m.free = append(m.free, p)
}

// run gives how many of the first entries are one run, and where it ends in the segment.
// Those without a block are part of it where they are between others.
func run(list []entry) (n int, end int64) {
	first := &list[0]
	if first.codec == codecZero {
		return 1, 0
	}
	n, end = 1, int64(first.position)+int64(first.stored)
	start := int64(first.position) / alignment * alignment
	for i := range list[1:] {
		e := &list[1+i]
		if e.codec == codecZero {
			continue
		}
		behind := int64(e.position) + int64(e.stored)
		if e.segment != first.segment || int64(e.position) < end || int64(e.position) > end+runGap || roundUp(behind) > start+runBytes {
			break
		}
		n, end = i+2, behind
	}
	return n, end
}

// stretch is a part of a segment that was read before its blocks are asked for, or nothing.
type stretch struct {
	at int64 // in the segment
	p  []byte
}

// stored gives the stored bytes of a block, nil if they are not there. The block is
// opened in place, so they are good for one time.
func (r *stretch) stored(e *entry) []byte {
	at := int64(e.position) - r.at
	if at < 0 || at+int64(e.stored) > int64(len(r.p)) {
		return nil
	}
	return r.p[at:][:e.stored:e.stored]
}

// ahead reads a part of a segment into memory. What cannot be read is left to whoever reads
// block by block: one bad sector must not hide what lies around it.
func (b *blocks) ahead(segment uint32, from, to int64, memory []byte) stretch {
	if to-from >= directRun {
		from, to = from/alignment*alignment, roundUp(to)
	}
	r := stretch{from, memory[:to-from]}
	h, err := b.acquire(segment)
	if err != nil {
		return stretch{}
	}
	if err := errors.Join(readFull(h.file, r.p, from), b.release(h)); err != nil {
		return stretch{}
	}
	return r
}

// each visits the entries in order, with what was read of their segments before they are
// asked for. The first that visit fails for ends it.
func (b *blocks) each(list []entry, visit func(e *entry, read *stretch) error) (failed *entry, err error) {
	for len(list) > 0 {
		n, end := run(list)
		read, done := b.together(list[:n], end)
		for i := range list[:n] {
			if err := visit(&list[i], &read); err != nil {
				done()
				return &list[i], err
			}
		}
		done()
		list = list[n:]
	}
	return nil, nil
}

// readAll reads the bytes of all entries into p, which begins at offset on the disk. What
// no entry tells is cleared. If one cannot be read, what is before it is done.
func (b *blocks) readAll(list []entry, p []byte, offset int64) (failed *entry, err error) {
	at := int64(0) // of p
	failed, err = b.each(list, func(e *entry, read *stretch) error {
		clear(p[at : e.offset-offset])
		at = e.end() - offset
		return b.read(e, p[e.offset-offset:at], read)
	})
	if err == nil {
		clear(p[at:])
	}
	return failed, err
}

// together reads the blocks of a run, unless it is one block or the memory is in use.
func (b *blocks) together(list []entry, end int64) (read stretch, done func()) {
	if len(list) == 1 {
		return read, func() {}
	}
	memory := takeRun()
	if memory == nil {
		return read, func() {}
	}
	return b.ahead(list[0].segment, int64(list[0].position), end, memory), func() { giveRun(memory) }
}
