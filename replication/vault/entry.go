package vault

import (
	"encoding/binary"
	"fmt"

	"riparo/replication"
)

// entry is one row of a map: it says where in the log the bytes of an extent are.
// The extent is the whole of a stored block or, where newer data covers the rest,
// a part of it. An entry without data still names the segment whose record says so:
// that record is needed as long as the entry is.
type entry struct {
	offset   int64 // on the disk
	length   int64
	sum      plainSum // of the whole block
	segment  uint32
	position uint32 // of the stored bytes in the segment
	stored   uint32 // how many they are
	inner    uint32 // where the extent begins inside the block
	plain    uint32 // length of the whole block
	crc      uint32 // CRC32C of the stored bytes
	codec    codec  // codecZero: there is no block, the extent is all zero
	key      uint32 // of the data key that it is sealed with; 0: none
}

func (e *entry) end() int64 { return e.offset + e.length }

func (e *entry) extent() replication.Extent {
	return replication.Extent{Offset: e.offset, Length: e.length}
}

// location is where the block of e begins. A zero entry has none.
func (e *entry) location() location { return location{e.segment, e.position} }

// part is what e says about [from, to), which lies inside it.
func (e entry) part(from, to int64) entry {
	if e.codec != codecZero {
		e.inner += uint32(from - e.offset)
	}
	e.offset, e.length = from, to-from
	return e
}

// continues reports whether e goes on where last ends, so that one entry can say
// both.
func (e *entry) continues(last *entry) bool {
	if e.offset != last.end() || e.codec != last.codec || e.segment != last.segment {
		return false
	}
	return e.codec == codecZero || e.position == last.position && int64(e.inner) == int64(last.inner)+last.length
}

// push appends e to a sorted map, joining what belongs together.
func push(list []entry, e entry) []entry {
	if n := len(list); n > 0 && e.continues(&list[n-1]) {
		list[n-1].length += e.length
		return list
	}
	return append(list, e)
}

// overlay lays newer over older. Both are sorted and free of overlaps, and so is
// the result, which shares no memory with them.
func overlay(older, newer []entry) []entry {
	out := make([]entry, 0, len(older)+len(newer))
	if len(older) == 0 || len(newer) == 0 {
		return append(append(out, older...), newer...)
	}
	o, rest := older[0], older[1:]
	more := true // o is valid
	next := func() {
		if len(rest) == 0 {
			more = false
			return
		}
		o, rest = rest[0], rest[1:]
	}
	for _, n := range newer {
		for more && o.end() <= n.offset {
			out = push(out, o)
			next()
		}
		if more && o.offset < n.offset {
			out = push(out, o.part(o.offset, n.offset))
			o = o.part(n.offset, o.end())
		}
		out = push(out, n)
		for more && o.end() <= n.end() {
			next()
		}
		if more && o.offset < n.end() {
			o = o.part(n.end(), o.end())
		}
	}
	for more {
		out = push(out, o)
		next()
	}
	return out
}

// flatten lays maps over each other, the oldest first. It merges neighbors of like
// age, so that n entries in k maps cost n·log k. The result may be one of them.
func flatten(maps [][]entry) []entry {
	switch len(maps) {
	case 0:
		return nil
	case 1:
		return maps[0]
	}
	middle := len(maps) / 2
	return overlay(flatten(maps[:middle]), flatten(maps[middle:]))
}

func (e *entry) put(p []byte) {
	le := binary.LittleEndian
	le.PutUint64(p[0:], uint64(e.offset))
	le.PutUint64(p[8:], uint64(e.length))
	le.PutUint64(p[16:], uint64(e.sum))
	le.PutUint32(p[24:], e.segment)
	le.PutUint32(p[28:], e.position)
	le.PutUint32(p[32:], e.stored)
	le.PutUint32(p[36:], e.inner)
	le.PutUint32(p[40:], e.plain)
	le.PutUint32(p[44:], e.crc)
	clear(p[48:entrySize])
	p[48] = byte(e.codec)
	le.PutUint32(p[52:], e.key)
}

func parseEntry(p []byte) entry {
	le := binary.LittleEndian
	return entry{
		offset:   int64(le.Uint64(p[0:])),
		length:   int64(le.Uint64(p[8:])),
		sum:      plainSum(le.Uint64(p[16:])),
		segment:  le.Uint32(p[24:]),
		position: le.Uint32(p[28:]),
		stored:   le.Uint32(p[32:]),
		inner:    le.Uint32(p[36:]),
		plain:    le.Uint32(p[40:]),
		crc:      le.Uint32(p[44:]),
		codec:    codec(p[48]),
		key:      le.Uint32(p[52:]),
	}
}

// entryEnd is where the extent of an entry ends, without parsing the rest of it.
func entryEnd(p []byte) int64 {
	return int64(binary.LittleEndian.Uint64(p)) + int64(binary.LittleEndian.Uint64(p[8:]))
}

// check reports what makes the entry unacceptable: whoever reads a block by it
// relies on its numbers.
func (e *entry) check() error {
	switch {
	case e.offset < 0 || e.length <= 0 || e.offset+e.length < 0:
	case e.codec == codecZero:
		return nil
	case !e.codec.known():
	case e.plain == 0 || e.plain > blockBytes || e.stored == 0 || e.stored > maxStoredBytes:
	case int64(e.inner)+e.length > int64(e.plain):
	default:
		return nil
	}
	return fmt.Errorf("the map has an impossible entry at %d", e.offset)
}
