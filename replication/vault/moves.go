package vault

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"

	"riparo/replication/vfs"
)

// moves says where blocks were stored again: by Heal, because the old place is
// damaged, or by compaction, because its segment is to be freed. Maps that were
// written before a move still name the old place, and are read through it; when all
// of them were written anew, the move is forgotten.
//
// An entry without data has no place, only the segment whose record says so. The
// whole of a segment's extents without data moves at once, from position 0.
//
// Of a block that is needed in part, the parts are stored again, as blocks of their
// own: then one place has become several. What no part has was needed by nothing.
//
// A value is never changed: views hold it without a lock.
type moves struct {
	maps     []map[location][]entry // oldest first; of like size they are merged
	segments map[uint32]serial      // the record that last moved something out of a segment
}

func (m moves) empty() bool { return len(m.segments) == 0 }

// newest is the last record that moved something.
func (m moves) newest() serial {
	newest := serial(0)
	for _, at := range m.segments {
		newest = max(newest, at)
	}
	return newest
}

// find gives the places where the parts of a block are now. What moved twice is
// followed.
func (m moves) find(at location) []entry {
	var places []entry
	for _, to := range m.once(at) {
		if further := m.find(to.location()); len(further) > 0 {
			places = append(places, further...)
		} else {
			places = append(places, to)
		}
	}
	return places
}

func (m moves) once(at location) []entry {
	for _, list := range slices.Backward(m.maps) {
		if to := list[at]; len(to) > 0 {
			return to
		}
	}
	return nil
}

// follow makes e say where its block is now.
func (m moves) follow(e *entry) {
	for {
		if _, ok := m.segments[e.segment]; !ok {
			return
		}
		list := m.once(e.location())
		i := slices.IndexFunc(list, func(to entry) bool { return to.holds(e) })
		if i < 0 {
			return // it did not move, or is a part that nothing needed
		}
		e.moveTo(&list[i])
	}
}

// holds reports whether the block of e has all that other says.
func (e *entry) holds(other *entry) bool {
	return e.codec == codecZero || e.offset <= other.offset && other.end() <= e.end()
}

// addMove notes one more place to which something moved from a place.
func addMove(list map[location][]entry, from location, to entry) {
	if to.codec == codecZero {
		list[from] = []entry{to} // they all say the same
		return
	}
	list[from] = append(list[from], to)
}

// with adds what a record moved.
func (m moves) with(more map[location][]entry, at serial) moves {
	if len(more) == 0 {
		return m
	}
	fresh := moves{maps: append(slices.Clone(m.maps), more), segments: maps.Clone(m.segments)}
	if fresh.segments == nil {
		fresh.segments = map[uint32]serial{}
	}
	for from := range more {
		fresh.segments[from.segment] = at
	}
	// n moves cost n·log n, however many records they come in.
	for n := len(fresh.maps); n > 1 && len(fresh.maps[n-2]) <= 2*len(fresh.maps[n-1]); n = len(fresh.maps) {
		merged := maps.Clone(fresh.maps[n-2])
		maps.Copy(merged, fresh.maps[n-1])
		fresh.maps = append(fresh.maps[:n-2], merged)
	}
	return fresh
}

// all gives every move, with the places where the block is now.
func (m moves) all() iter.Seq2[location, []entry] {
	return func(yield func(location, []entry) bool) {
		for i, list := range m.maps {
			for from := range list {
				// A later one says the same.
				if slices.ContainsFunc(m.maps[i+1:], func(later map[location][]entry) bool { _, ok := later[from]; return ok }) {
					continue
				}
				if !yield(from, m.find(from)) {
					return
				}
			}
		}
	}
}

// arriving forgets the moves to segments that are not there any more. Whoever let such a
// segment go had a map, written since, that names the place before, or needs none of the
// two: of a block of which parts were stored again, a map that is older, or was made anew
// from the log, may say more than any part has, and then it names the block itself.
func (m moves) arriving(there func(segment uint32) bool) moves {
	list, all := map[location][]entry{}, true
	for from, to := range m.all() {
		kept := slices.DeleteFunc(slices.Clone(to), func(e entry) bool { return !there(e.segment) })
		all = all && len(kept) == len(to)
		if len(kept) > 0 {
			list[from] = kept
		}
	}
	if all {
		return m
	}
	return moves{maps: []map[location][]entry{list}, segments: m.segments}
}

// without forgets what moved out of the segments that gone tells.
func (m moves) without(gone func(segment uint32) bool) moves {
	fresh := moves{segments: maps.Clone(m.segments)}
	maps.DeleteFunc(fresh.segments, func(n uint32, _ serial) bool { return gone(n) })
	if len(fresh.segments) == len(m.segments) {
		return m
	}
	list := map[location][]entry{}
	for from, to := range m.all() {
		if !gone(from.segment) {
			list[from] = to
		}
	}
	if len(list) == 0 {
		return moves{}
	}
	fresh.maps = []map[location][]entry{list}
	return fresh
}

// origin says for a row of kindMove what it takes the place of.
type origin struct {
	location
	serial serial // of the record that brought the block
}

const originSize = 16

var errOrigin = errors.New("a block was moved from an impossible place")

func (o origin) append(p []byte) []byte {
	le := binary.LittleEndian
	return le.AppendUint64(le.AppendUint32(le.AppendUint32(p, o.segment), o.position), uint64(o.serial))
}

// origins reads the body of kindMove.
func (r *record) origins() ([]origin, error) {
	if len(r.body) != originSize*len(r.table) {
		return nil, errShortBody
	}
	list := make([]origin, len(r.table))
	le := binary.LittleEndian
	for i := range list {
		p := r.body[originSize*i:]
		list[i] = origin{location{le.Uint32(p), le.Uint32(p[4:])}, serial(le.Uint64(p[8:]))}
		if list[i].serial == 0 || list[i].serial >= r.serial || (list[i].position == 0) != (r.table[i].codec == codecZero) {
			return nil, errOrigin
		}
	}
	return list, nil
}

// noOrigin makes of a segment that is gone, or of which what is around its blocks cannot be
// read, one that has no origin: that must not keep the rest of the disk from being healed.
func noOrigin(err error) error {
	if _, newer := errors.AsType[*versionError](err); newer || vfs.Short(err) {
		return err
	}
	return fmt.Errorf("%w: %w", errNoOrigin, err)
}

// originAt finds what brought the block at a place.
func (d *disk) originAt(ctx context.Context, at location) (_ origin, err error) {
	s, err := openSegment(d.vault.fs, d.folder, at.segment)
	if err != nil {
		return origin{}, noOrigin(err)
	}
	defer func() { err = closeAfter(err, s) }()
	var promised []byte
	if s.trailer != nil {
		promised, err = s.footerBytes()
	} else if promised, err = d.promised(ctx, at.segment); err != nil {
		return origin{}, err
	}
	var records []record
	if promised != nil && err == nil {
		records, _, err = s.repeated(promised)
	}
	if promised == nil || err != nil {
		r := replayer{disk: newDisk(d.vault, d.id)} // what it finds missing is known
		if records, _, err = r.records(s, -1); err != nil {
			return origin{}, noOrigin(err)
		}
	}
	for i := range records {
		rec := &records[i]
		for j, e := range rec.entries() {
			if e.codec != codecZero && e.position == at.position {
				first, err := rec.broughtBy()
				if err != nil {
					return origin{}, err
				}
				return origin{at, first(j)}, nil
			}
		}
	}
	return origin{}, errNoOrigin
}

// errNoOrigin: the place of a block is known, and what brought it is not.
var errNoOrigin = errors.New("the record that brought it cannot be read")

// promised is what the footer of a segment will say that is being written; nil for
// others.
func (d *disk) promised(ctx context.Context, segment uint32) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.lead(ctx); err != nil {
		return nil, err
	}
	defer d.follow()
	if w := d.log.current; w != nil && w.number == segment {
		return slices.Clip(w.footer), nil
	}
	return nil, nil
}

// broughtBy tells of each row the serial of the record that brought it.
func (r *record) broughtBy() (of func(row int) serial, err error) {
	if r.kind != kindMove {
		return func(int) serial { return r.serial }, nil
	}
	list, err := r.origins()
	return func(i int) serial { return list[i].serial }, err
}
