package nbd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"sync"

	"riparo/replication"
)

// blockState says where a block of an overlay is.
type blockState byte

const (
	blockBelow blockState = 0 // as in the source
	blockData  blockState = 1 // in the file
	blockZero  blockState = 2 // nowhere: all zero
)

const (
	statePageSize = 4096
	sectorSize    = 512            // what a disk writes whole or not at all
	sectorStates  = sectorSize - 4 // bytes of states, with their checksum behind them
	pageStates    = statePageSize / sectorSize * sectorStates
	blocksPerPage = pageStates * 4 // 2 bits each: a page stands for a little less than 1 GiB
)

// statePage is one page of states.
type statePage struct {
	number int64
	dirty  bool
	bytes  [pageStates]byte
}

// encode gives the page as it stands in the file. Each sector has a checksum of its
// own, so that a torn page is not taken for a damaged one. A sector without states is
// all zero, as in the hole that it was made of.
func (p *statePage) encode() []byte {
	b := make([]byte, statePageSize)
	for i := 0; i < statePageSize/sectorSize; i++ {
		sector := b[i*sectorSize:][:sectorSize]
		if copy(sector, p.bytes[i*sectorStates:][:sectorStates]); !replication.IsZero(sector) {
			binary.LittleEndian.PutUint32(sector[sectorStates:], p.sum(i, sector[:sectorStates]))
		}
	}
	return b
}

// decode takes a page as it stands in the file.
func (p *statePage) decode(b []byte) error {
	for i := 0; i < statePageSize/sectorSize; i++ {
		sector := b[i*sectorSize:][:sectorSize]
		states := sector[:sectorStates]
		if !replication.IsZero(sector) && binary.LittleEndian.Uint32(sector[sectorStates:]) != p.sum(i, states) {
			return fmt.Errorf("sector %d of page %d: %w", i, p.number, errStates)
		}
		copy(p.bytes[i*sectorStates:], states)
	}
	return nil
}

var errStates = errors.New("the checksum of the states is wrong")

// sum is the checksum of one sector of a page, bound to its place.
func (p *statePage) sum(sector int, states []byte) uint32 {
	var place [8]byte
	binary.LittleEndian.PutUint64(place[:], uint64(p.number)*statePageSize/sectorSize+uint64(sector))
	return crc32.Update(crc32.Checksum(place[:], castagnoli), castagnoli, states)
}

// blockStates are the states of all blocks. Pages of which no block was ever
// written do not exist.
type blockStates struct {
	pages map[int64]*statePage
	held  int64 // blocks in the state blockData
}

// load reads the pages that are not empty.
func (s *blockStates) load(f io.ReaderAt, l layout) error {
	const batch = 256 // pages: 1 MiB at a time
	b := make([]byte, min(batch, l.pages)*statePageSize)
	for first := int64(0); first < l.pages; first += batch {
		n := min(batch, l.pages-first)
		part := b[:n*statePageSize]
		if _, err := io.ReadFull(io.NewSectionReader(f, l.pageOffset(first), int64(len(part))), part); err != nil {
			return err
		}
		for i := range n {
			page := part[i*statePageSize:][:statePageSize]
			if replication.IsZero(page) {
				continue
			}
			p := &statePage{number: first + i}
			if err := p.decode(page); err != nil {
				return err
			}
			s.pages[p.number] = p
			for _, x := range p.bytes {
				for ; x != 0; x >>= 2 {
					if blockState(x&3) == blockData {
						s.held++
					}
				}
			}
		}
	}
	return nil
}

func (s *blockStates) get(block int64) blockState {
	p := s.pages[block/blocksPerPage]
	if p == nil {
		return blockBelow
	}
	i := block % blocksPerPage
	return blockState(p.bytes[i/4] >> (i % 4 * 2) & 3)
}

func (s *blockStates) set(block int64, state blockState) {
	before := s.get(block)
	if before == state {
		return
	}
	if before == blockData {
		s.held--
	}
	if state == blockData {
		s.held++
	}
	p := s.pages[block/blocksPerPage]
	if p == nil {
		p = &statePage{number: block / blocksPerPage}
		s.pages[p.number] = p
	}
	i := block % blocksPerPage
	shift := i % 4 * 2
	p.bytes[i/4] = p.bytes[i/4]&^(3<<shift) | byte(state)<<shift
	p.dirty = true
}

// runEnd is where the blocks from first on stop being in one state; at most end.
func (s *blockStates) runEnd(first, end int64) int64 {
	state := s.get(first)
	for b := first + 1; b < end; {
		if b%blocksPerPage == 0 && s.pages[b/blocksPerPage] == nil && state == blockBelow {
			b += blocksPerPage // A page that does not exist.
			continue
		}
		if s.get(b) != state {
			return b
		}
		b++
	}
	return end
}

// takeDirty gives copies of the pages that changed since the last call.
func (s *blockStates) takeDirty() []*statePage {
	var list []*statePage
	for _, p := range s.pages {
		if p.dirty {
			p.dirty = false
			copied := *p
			list = append(list, &copied)
		}
	}
	slices.SortFunc(list, func(a, b *statePage) int { return int(a.number - b.number) })
	return list
}

// markDirty takes back takeDirty.
func (s *blockStates) markDirty(pages []*statePage) {
	for _, p := range pages {
		s.pages[p.number].dirty = true
	}
}

// blockLocks keep two writers out of one block. A copy of the block below and
// what is written to it must arrive together, so they are held during I/O.
type blockLocks struct {
	shards [64]sync.Mutex
}

// hold locks the blocks from first to last; calling what it returns unlocks them.
func (l *blockLocks) hold(first, last int64) func() {
	n := int64(len(l.shards))
	locked := func(shard int64) bool {
		return last-first >= n-1 || (shard-first%n+n)%n <= last-first
	}
	// Always in the same order, so that no two holders wait for each other.
	for i := range n {
		if locked(i) {
			l.shards[i].Lock()
		}
	}
	return func() {
		for i := range n {
			if locked(i) {
				l.shards[i].Unlock()
			}
		}
	}
}
