package lab

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// superblock is the first block of every lab disk, as text: whose disk this is,
// which branch of the machine's life wrote it last, and whether it was left clean.
type superblock struct {
	Machine  string
	Identity uint64
	Key      string
	Number   uint8 // of the disk in the machine's record
	Branch   uint32
	Sequence uint64
	// Clean: the workload stood still at a boundary when it wrote this. It holds as
	// long as nothing newer is on any of the machine's disks.
	Clean bool
}

const superblockFormat = "riparo-lab 1\nmachine %s\nidentity %016x\ndisk %s\nnumber %d\nbranch %d\nsequence %d\nclean %t\n"

var superblockTable = crc32.MakeTable(crc32.Castagnoli)

// fill makes block the superblock. Its last four bytes are the CRC32C of the rest.
func (s superblock) fill(block []byte) {
	clear(block)
	copy(block[:BlockSize-4], fmt.Sprintf(superblockFormat, s.Machine, s.Identity, s.Key, s.Number, s.Branch, s.Sequence, s.Clean))
	binary.LittleEndian.PutUint32(block[BlockSize-4:], crc32.Checksum(block[:BlockSize-4], superblockTable))
}

// readSuperblock understands a superblock, or says why it is none.
func readSuperblock(block []byte) (superblock, error) {
	var s superblock
	if allZero(block) {
		return s, fmt.Errorf("no superblock: the first block is empty")
	}
	text, _, _ := bytes.Cut(block[:BlockSize-4], []byte{0})
	if !bytes.HasPrefix(text, []byte("riparo-lab 1\n")) {
		return s, fmt.Errorf("no superblock: the first block begins with %q", block[:16])
	}
	if binary.LittleEndian.Uint32(block[BlockSize-4:]) != crc32.Checksum(block[:BlockSize-4], superblockTable) {
		return s, fmt.Errorf("damaged superblock: its checksum is wrong")
	}
	if _, err := fmt.Sscanf(string(text), superblockFormat, &s.Machine, &s.Identity, &s.Key, &s.Number, &s.Branch, &s.Sequence, &s.Clean); err != nil {
		return s, fmt.Errorf("damaged superblock: %w", err)
	}
	return s, nil
}
