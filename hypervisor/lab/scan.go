package lab

import (
	"bytes"
	"context"
	"fmt"

	"riparo/replication"
)

// read goes over one disk once. Blocks that no entry ever wrote are compared on
// the way, the others are noted. It returns the first difference that no instant
// could explain.
func (j *judgment) read(ctx context.Context, key string, source replication.Source) (why string, err error) {
	size := source.Size()
	if size%BlockSize != 0 || size == 0 {
		return fmt.Sprintf("disk %s has %d bytes, which is no whole number of blocks", key, size), nil
	}
	block := make([]byte, BlockSize)
	if _, err := source.ReadAt(block, 0); err != nil {
		return fmt.Sprintf("disk %s offset 0: %v", key, err), nil
	}
	super, err := readSuperblock(block)
	switch {
	case err != nil:
		return fmt.Sprintf("disk %s offset 0: %v", key, err), nil
	case super.Identity != j.id.id() || int(super.Number) >= len(j.id.Disks) || super.Key != key || j.id.Disks[super.Number].Key != key:
		return fmt.Sprintf("disk %s offset 0: this is disk %s of machine %s (identity %016x), not of %s (identity %016x)",
			key, super.Key, super.Machine, super.Identity, j.id.Name, j.id.id()), nil
	}
	scan := &diskScan{judgment: j, key: key, source: source, number: super.Number, found: newBlockMap(size / BlockSize)}
	for _, l := range j.lives {
		for _, e := range l.entries {
			if e.disk == super.Number {
				from, count := e.written()
				scan.found.mark(from, count)
			}
		}
	}
	if why, err := scan.run(ctx); why != "" || err != nil {
		return why, err
	}
	j.shown = append(j.shown, shownDisk{super.Number, size, scan.found})
	j.checked += size
	return "", nil
}

// diskScan reads one disk for a judgment.
type diskScan struct {
	*judgment
	key    string
	source replication.Source
	number uint8
	found  blockMap
	want   [BlockSize]byte
	buffer []byte
}

// judgeRead is how much is read at a time: it stays in the processor's cache.
const judgeRead = 256 << 10

func (s *diskScan) run(ctx context.Context) (why string, err error) {
	s.buffer = make([]byte, judgeRead)
	at, size := int64(0), s.source.Size()
	for region, err := range s.source.Regions(ctx) {
		if err != nil {
			if ctx.Err() != nil {
				return "", err
			}
			return fmt.Sprintf("disk %s: the regions cannot be read: %v", s.key, err), nil
		}
		if region.Offset < at || region.End() > size {
			return fmt.Sprintf("disk %s: region %s lies outside of the disk or before the one ahead of it", s.key, region.Extent), nil
		}
		if !region.Zero {
			continue
		}
		// Whole blocks inside of a zero region need no reading; all else is read.
		from := (region.Offset + BlockSize - 1) / BlockSize * BlockSize
		to := region.End() / BlockSize * BlockSize
		if to <= from || from < at {
			continue
		}
		if why, err := s.data(ctx, at, from); why != "" || err != nil {
			return why, err
		}
		if why := s.zeroes(from, to); why != "" {
			return why, nil
		}
		at = to
	}
	return s.data(ctx, at, size)
}

// zeroes judges a region that the source says is zero.
func (s *diskScan) zeroes(from, to int64) string {
	for number := uint32(from / BlockSize); number < uint32(to/BlockSize); number++ {
		if s.found.get(number) != nothing {
			s.found.set(number, isZero)
			continue
		}
		if !s.id.initialZero(s.number, number) {
			s.id.initial(s.want[:], s.number, number)
			return difference(s.key, number, make([]byte, BlockSize), s.want[:], "zeroes (a hole)", "its initial content")
		}
	}
	return ""
}

// data reads and judges a range of the disk.
func (s *diskScan) data(ctx context.Context, from, to int64) (why string, err error) {
	for from < to {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		p := s.buffer[:min(int64(len(s.buffer)), to-from)]
		if _, err := s.source.ReadAt(p, from); err != nil {
			return fmt.Sprintf("disk %s offset %d: %v", s.key, from, err), nil
		}
		for ; len(p) > 0; p = p[BlockSize:] {
			if why := s.block(p[:BlockSize], uint32(from/BlockSize)); why != "" {
				return why, nil
			}
			from += BlockSize
		}
	}
	return "", nil
}

// block notes what a block shows, or compares it at once if nothing was ever
// written there.
func (s *diskScan) block(got []byte, number uint32) (why string) {
	if s.found.get(number) == nothing {
		s.id.initial(s.want[:], s.number, number)
		if !bytes.Equal(got, s.want[:]) {
			return difference(s.key, number, got, s.want[:], "something else", "its initial content (nothing was ever written there)")
		}
		return ""
	}
	if at, ok := s.id.trace(got, s.number, number); ok {
		if e, ok := written(s.lives, at, s.number, number); ok {
			s.id.content(s.want[:], at, e, number)
			if bytes.Equal(got, s.want[:]) {
				s.found.set(number, traitOf(at))
				if at.branch > s.newest.branch || at.branch == s.newest.branch && at.sequence > s.newest.sequence {
					s.newest = at
				}
				return ""
			}
		}
	}
	if allZero(got) {
		s.found.set(number, isZero)
		return ""
	}
	s.id.initial(s.want[:], s.number, number)
	if bytes.Equal(got, s.want[:]) {
		s.found.set(number, isInitial)
	} else {
		s.found.set(number, isForeign)
	}
	return ""
}
