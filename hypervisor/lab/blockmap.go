package lab

// trait is what a block shows: nothing noted, zeroes, its initial content, bytes
// that were never written there, or the write of an instant.
type trait uint64

const (
	nothing   trait = 0
	isZero    trait = 1<<62 + iota
	isInitial       // and not zero
	isForeign       // never right
	isMarked        // some entry wrote here; not read yet
)

// traitOf is the trait of a write: 14 bits of branch, 48 of sequence.
func traitOf(at instant) trait { return trait(at.branch)<<48 | trait(at.sequence) }

func (t trait) isWrite() bool { return t != nothing && t < 1<<62 }

func (t trait) instant() instant {
	return instant{branch: uint32(t >> 48), sequence: uint64(t & (1<<48 - 1))}
}

// blockMap is the traits of the blocks of a disk. Pages exist only where something
// was noted: memory follows what was written, not the size of the disk.
type blockMap struct {
	pages []*[pageBlocks]trait
	size  uint32 // blocks
}

const pageBlocks = 512

func newBlockMap(blocks int64) blockMap {
	return blockMap{pages: make([]*[pageBlocks]trait, (blocks+pageBlocks-1)/pageBlocks), size: uint32(blocks)}
}

func (m *blockMap) get(number uint32) trait {
	if page := m.pages[number/pageBlocks]; page != nil {
		return page[number%pageBlocks]
	}
	return nothing
}

func (m *blockMap) set(number uint32, t trait) {
	page := m.pages[number/pageBlocks]
	if page == nil {
		page = new([pageBlocks]trait)
		m.pages[number/pageBlocks] = page
	}
	page[number%pageBlocks] = t
}

// mark notes that something was written to blocks; those past the end, which a
// grown disk had, are left out.
func (m *blockMap) mark(from, count uint32) {
	for number := from; number-from < count && number < m.size; number++ {
		m.set(number, isMarked)
	}
}

// note lets an entry decide its blocks.
func (m *blockMap) note(e entry, at instant) {
	t := isZero
	if e.leavesTrace() {
		t = traitOf(at)
	}
	from, count := e.written()
	for number := from; number-from < count && number < m.size; number++ {
		m.set(number, t)
	}
}

// step notes one more entry in an expectation and tells by how much the number of
// differences from what was found changed.
func (m *blockMap) step(e entry, at instant, found *blockMap, initial func(uint32) trait) int {
	from, count := e.written()
	change := 0
	for number := from; number-from < count && number < m.size; number++ {
		if differs(found.get(number), m.get(number), number, initial) {
			change--
		}
	}
	m.note(e, at)
	for number := from; number-from < count && number < m.size; number++ {
		if differs(found.get(number), m.get(number), number, initial) {
			change++
		}
	}
	return change
}

// differs compares what a block shows with what is expected of it; nothing
// expected means its initial content.
func differs(found, expected trait, number uint32, initial func(uint32) trait) bool {
	if expected == nothing {
		expected = initial(number)
	}
	return found != expected
}

// differences counts the blocks that were found other than expected.
func (m *blockMap) differences(expected blockMap, initial func(uint32) trait) int {
	n := 0
	for p, page := range m.pages {
		if page == nil {
			continue
		}
		for i, t := range page {
			number := uint32(p*pageBlocks + i)
			if t != nothing && differs(t, expected.get(number), number, initial) {
				n++
			}
		}
	}
	return n
}

// firstDifference is the first block that was found other than expected.
func (m *blockMap) firstDifference(expected blockMap, initial func(uint32) trait) (uint32, bool) {
	for p, page := range m.pages {
		if page == nil {
			continue
		}
		for i, t := range page {
			number := uint32(p*pageBlocks + i)
			if t != nothing && differs(t, expected.get(number), number, initial) {
				return number, true
			}
		}
	}
	return 0, false
}
