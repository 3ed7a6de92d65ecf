package nbd

import (
	"context"
	"encoding/binary"
	"fmt"
	"io/fs"
	"strings"

	"riparo/replication"
)

var (
	errReadOnly  = fmt.Errorf("the export is read-only: %w", fs.ErrPermission)
	errBeyondEnd = fmt.Errorf("no space left: %w", errNoSpace)
)

// minSentHole: a shorter run of zeroes is sent as data; reading it costs less
// than a chunk of its own.
const minSentHole = 64 << 10

// maxDescriptors bounds the answer to one BLOCK_STATUS, for each context: 128 KiB.
// Clients ask again for the rest.
const maxDescriptors = 16 << 10

// read answers a read. Zeroes that are known of are told, not sent.
func (s *session) read(ctx context.Context, o order) error {
	switch {
	case o.Length == 0:
		return s.answer(ctx, o, nil)
	case !s.structured || o.flags&cmdFlagDF != 0:
		return s.readWhole(ctx, o)
	}
	pieces := s.pieces(o.Extent)
	for i, p := range pieces {
		flags := uint16(0)
		if i == len(pieces)-1 {
			flags = chunkFlagDone
		}
		if p.Zero {
			b := chunkHeader(nil, o, flags, chunkOffsetHole, 12)
			b = binary.BigEndian.AppendUint64(b, uint64(p.Offset))
			if err := s.send(ctx, binary.BigEndian.AppendUint32(b, uint32(p.Length))); err != nil {
				return err
			}
			continue
		}
		n := int(p.Length)
		buf, err := s.server.buffers.take(ctx, s.share, n)
		if err != nil {
			return err
		}
		if err := replication.ReadFull(s.export.Source, buf.data(n), p.Offset); err != nil {
			s.server.buffers.give(s.share, buf)
			return s.answer(ctx, o, err)
		}
		var room [headRoom]byte
		header := chunkHeader(room[:0], o, flags, chunkOffsetData, 8+n)
		header = binary.BigEndian.AppendUint64(header, uint64(p.Offset))
		err = s.send(ctx, buf.with(header, n))
		s.server.buffers.give(s.share, buf)
		if err != nil {
			return err
		}
	}
	return nil
}

// pieces divides an extent into holes to be told and data to be sent. Holes are
// told when they are known anyway; nobody waits for a walk over the source.
func (s *session) pieces(e replication.Extent) []replication.Region {
	var list []replication.Region
	data := func(e replication.Extent) {
		if n := len(list); n > 0 && !list[n-1].Zero {
			// Grow the piece before, as far as a buffer goes.
			more := min(e.Length, bufferSize-list[n-1].Length)
			list[n-1].Length += more
			e.Offset, e.Length = e.Offset+more, e.Length-more
		}
		for e.Length > 0 {
			n := min(e.Length, bufferSize)
			list = append(list, replication.Region{Extent: replication.Extent{Offset: e.Offset, Length: n}})
			e.Offset, e.Length = e.Offset+n, e.Length-n
		}
	}
	add := func(r replication.Region) {
		if r.Zero && (r.Length >= minSentHole || r.Extent == e) {
			list = append(list, r)
		} else {
			data(r.Extent)
		}
	}
	holes, ready := s.export.holes.ready()
	if !ready || s.export.Writer != nil {
		data(e)
		return list
	}
	for r := range within(holes, e) {
		add(r)
	}
	return list
}

// readWhole answers with the data in one piece, as old clients need it and as
// others may ask for. A read larger than a buffer goes out as it comes in; then
// an error after the beginning can be told only by hanging up.
func (s *session) readWhole(ctx context.Context, o order) error {
	n := int(min(o.Length, bufferSize))
	buf, err := s.server.buffers.take(ctx, s.share, n)
	if err != nil {
		return err
	}
	defer s.server.buffers.give(s.share, buf)
	if err := replication.ReadFull(s.export.Source, buf.data(n), o.Offset); err != nil {
		return s.answer(ctx, o, err)
	}
	header := simpleHeader(o, 0)
	if s.structured {
		header = chunkHeader(header[:0], o, chunkFlagDone, chunkOffsetData, 8+int(o.Length))
		header = binary.BigEndian.AppendUint64(header, uint64(o.Offset))
	}
	release, err := s.hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	if err := s.write(buf.with(header, n)); err != nil {
		return err
	}
	for at := o.Offset + int64(n); at < o.End(); at += int64(n) {
		n = int(min(o.End()-at, bufferSize))
		if err := replication.ReadFull(s.export.Source, buf.data(n), at); err != nil {
			return fmt.Errorf("in the middle of a reply: %w", err)
		}
		if err := s.write(buf.data(n)); err != nil {
			return err
		}
	}
	return nil
}

// blockStatus answers with one chunk for each context that was agreed on.
func (s *session) blockStatus(ctx context.Context, o order) error {
	limit := maxDescriptors
	if o.flags&cmdFlagReqOne != 0 {
		limit = 1
	}
	for i, name := range s.contexts {
		list, err := s.describe(ctx, name, o.Extent, limit)
		if err != nil {
			return s.answer(ctx, o, err)
		}
		flags := uint16(0)
		if i == len(s.contexts)-1 {
			flags = chunkFlagDone
		}
		b := make([]byte, 0, chunkHeaderLength+4+8*len(list))
		b = chunkHeader(b, o, flags, chunkBlockStatus, 4+8*len(list))
		b = binary.BigEndian.AppendUint32(b, uint32(i)+1)
		for _, d := range list {
			b = binary.BigEndian.AppendUint32(b, d.length)
			b = binary.BigEndian.AppendUint32(b, d.flags)
		}
		if err := s.send(ctx, b); err != nil {
			return err
		}
	}
	return nil
}

// describe gives the descriptors of the beginning of an extent, at most limit.
func (s *session) describe(ctx context.Context, name string, e replication.Extent, limit int) ([]descriptor, error) {
	var list []descriptor
	// add reports false when the list is full.
	add := func(r replication.Region, flags uint32) bool {
		if !r.Zero {
			flags = 0
		}
		if n := len(list); n > 0 && list[n-1].flags == flags {
			list[n-1].length += uint32(r.Length)
			return true
		}
		if len(list) == limit {
			return false
		}
		list = append(list, descriptor{uint32(r.Length), flags})
		return true
	}
	const zero = StateHole | StateZero
	if set, ok := strings.CutPrefix(name, DirtyBitmapPrefix); ok {
		for r := range within(s.export.Dirty[set], e) {
			if !add(r, StateDirty) {
				break
			}
		}
		return list, nil
	}
	if s.export.Writer == nil {
		holes, err := s.export.holes.get(ctx)
		if err != nil {
			return nil, err
		}
		for r := range within(holes, e) {
			if !add(r, zero) {
				break
			}
		}
		return list, nil
	}
	if mapper, ok := s.export.Source.(RegionMapper); ok {
		for r, err := range mapper.RegionsIn(ctx, e) {
			if err != nil {
				return nil, err
			}
			if !add(r, zero) {
				break
			}
		}
		return list, nil
	}
	// A disk that is written to and cannot tell: all of it may be data.
	return []descriptor{{uint32(e.Length), 0}}, nil
}
