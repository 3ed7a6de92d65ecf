package lab

import (
	"encoding/binary"
	"time"
)

// kind is what an entry of the record did.
type kind uint8

const (
	data   kind = iota + 1 // one block of the workload
	first                  // the same, and its partner on another disk follows
	second                 // the partner of the entry before
	zero                   // count blocks were discarded: they read zero from now on
	boot                   // the superblock was written because the machine booted
	clean                  // the superblock was written while the workload stood still
	added                  // a disk appeared with its initial content; block is its size in blocks
	grown                  // a disk grew to block blocks
)

// entry is one thing that a workload did. Its sequence is its place in its branch.
type entry struct {
	at    int64  // Unix time in nanoseconds
	block uint32 // the first block, or a size in blocks
	count uint16 // of blocks for zero; for boot and clean, how many of their kind follow
	disk  uint8  // number of the disk in the identity
	kind  kind
}

// entrySize is what an entry takes in a branch file and in memory, bytes.
const entrySize = 16

func (e entry) encode(p []byte) {
	binary.LittleEndian.PutUint64(p[0:], uint64(e.at))
	binary.LittleEndian.PutUint32(p[8:], e.block)
	binary.LittleEndian.PutUint16(p[12:], e.count)
	p[14], p[15] = e.disk, byte(e.kind)
}

func decodeEntry(p []byte) entry {
	return entry{
		at:    int64(binary.LittleEndian.Uint64(p[0:])),
		block: binary.LittleEndian.Uint32(p[8:]),
		count: binary.LittleEndian.Uint16(p[12:]),
		disk:  p[14],
		kind:  kind(p[15]),
	}
}

func (e entry) time() time.Time { return time.Unix(0, e.at) }

// written is the range of blocks whose content the entry decided.
func (e entry) written() (from, count uint32) {
	switch e.kind {
	case data, first, second:
		return e.block, 1
	case zero:
		return e.block, uint32(e.count)
	case boot, clean, added:
		return 0, 1 // the superblock
	}
	return 0, 0
}

// leavesTrace reports whether the block written tells by itself which entry it was.
func (e entry) leavesTrace() bool { return e.kind != zero && e.kind != grown }
