package lab

// content makes block what the entry e, which has the given place, wrote there.
func (id identity) content(block []byte, at instant, e entry, number uint32) {
	switch e.kind {
	case data, first, second:
		fillWritten(block, id.Seed, stamp{branch: at.branch, sequence: at.sequence, disk: e.disk, block: number})
	case boot, added:
		id.superblock(e.disk, at, false).fill(block)
	case clean:
		id.superblock(e.disk, at, true).fill(block)
	default:
		clear(block)
	}
}

// initial makes block what a new disk has there.
func (id identity) initial(block []byte, disk uint8, number uint32) {
	if number == 0 {
		id.superblock(disk, instant{}, false).fill(block)
		return
	}
	id.Disks[disk].fillInitial(block, id.Seed, disk, number)
}

// initialZero reports whether a new disk is all zero at that block.
func (id identity) initialZero(disk uint8, number uint32) bool {
	return number != 0 && id.Disks[disk].initialZero(id.Seed, disk, number)
}

// trace reads from a block which entry wrote it, without believing it yet.
func (id identity) trace(block []byte, disk uint8, number uint32) (instant, bool) {
	if number == 0 {
		s, err := readSuperblock(block)
		if err != nil || s.Identity != id.id() || s.Number != disk || s.Sequence == 0 {
			return instant{}, false
		}
		return instant{s.Branch, s.Sequence}, true
	}
	s, ok := stampOf(block, id.Seed)
	if !ok || s.disk != disk || s.block != number {
		return instant{}, false
	}
	return instant{s.branch, s.sequence}, true
}

// written reports whether lives have an entry of that place which wrote that
// block, and gives it.
func written(lives []life, at instant, disk uint8, number uint32) (entry, bool) {
	if int(at.branch) >= len(lives) {
		return entry{}, false
	}
	e, ok := lives[at.branch].at(at.sequence)
	if !ok || e.disk != disk || !e.leavesTrace() {
		return entry{}, false
	}
	from, count := e.written()
	return e, number >= from && number-from < count
}
