package vault

import (
	"cmp"
	"context"
	"slices"
)

// movedBlocks are the blocks that were stored again, when a log is read without its
// catalog. The records that brought them first may be gone with their segments: what
// a map says of a moved block is what those records said, at the time of those
// records, and it has to be laid there between what came before and after.
type movedBlocks struct {
	waiting []movedRecord // by the oldest of their blocks
	active  []*activeMove // of which some blocks have been laid
}

// movedRecord is a record of kindMove that is not read yet.
type movedRecord struct {
	segment  uint32
	position int64
	serial   serial
	oldest   serial // of its origins
}

// activeMove has the rest of the blocks of a record.
type activeMove struct {
	serial serial
	list   []movedEntry // by origin
}

type movedEntry struct {
	entry
	origin serial
}

// findMoved looks for records of kindMove up to the inventory. What they moved may be
// gone from its first place; what later ones moved is still there, for segments are
// removed after an inventory only.
func (r *replayer) findMoved(limits map[uint32]int64) error {
	lost := r.lost
	for _, n := range r.there {
		if err := context.Cause(r.ctx); err != nil {
			return err
		}
		s, err := openSegment(r.vault.fs, r.folder, n)
		if err != nil {
			return r.unreadable(n, err)
		}
		limit, ok := limits[n]
		if !ok {
			limit = -1
		}
		records, _, err := r.records(s, limit)
		if err := closeAfter(err, s); err != nil {
			return r.unreadable(n, err)
		}
		for i := range records {
			rec := &records[i]
			if rec.kind != kindMove || rec.serial > r.base {
				continue
			}
			origins, err := rec.origins()
			if err != nil {
				return logDamagedProblem(r.id, n, rec.position, err)
			}
			if len(origins) == 0 {
				continue
			}
			m := movedRecord{segment: n, position: rec.position, serial: rec.serial, oldest: rec.serial}
			for _, o := range origins {
				m.oldest = min(m.oldest, o.serial)
			}
			r.moved.waiting = append(r.moved.waiting, m)
		}
	}
	r.lost = lost // what is missing is noted when the records are taken
	slices.SortFunc(r.moved.waiting, func(a, b movedRecord) int {
		return cmp.Or(cmp.Compare(a.oldest, b.oldest), cmp.Compare(a.serial, b.serial))
	})
	return nil
}

func closeAfter(err error, s *segmentReader) error {
	if e := s.close(); err == nil {
		err = e
	}
	return err
}

// inject lays the moved blocks whose origin is not after to into memory.
func (r *replayer) inject(to serial) error {
	m := &r.moved
	for len(m.waiting) > 0 && m.waiting[0].oldest <= to {
		a, err := r.activate(m.waiting[0])
		if err != nil {
			return err
		}
		m.active = append(m.active, a)
		m.waiting = m.waiting[1:]
	}
	for {
		var next *activeMove // with the oldest block; of the same, the one moved first
		for _, a := range m.active {
			if next == nil || a.list[0].origin < next.list[0].origin ||
				a.list[0].origin == next.list[0].origin && a.serial < next.serial {
				next = a
			}
		}
		if next == nil || next.list[0].origin > to {
			return nil
		}
		at := next.list[0].origin
		var list []entry
		for len(next.list) > 0 && next.list[0].origin == at {
			list = append(list, next.list[0].entry)
			next.list = next.list[1:]
		}
		if len(next.list) == 0 {
			m.active = slices.DeleteFunc(m.active, func(a *activeMove) bool { return a == next })
		}
		r.closeUpTo(min(at-1, r.base))
		if !inRanges(r.voids, at) {
			r.memory.add(at, list)
			r.injected = true
		}
	}
}

// activate reads a record of moved blocks.
func (r *replayer) activate(m movedRecord) (*activeMove, error) {
	s, err := openSegment(r.vault.fs, r.folder, m.segment)
	if err != nil {
		return nil, r.unreadable(m.segment, err)
	}
	rec, err := s.record(m.position)
	if err := closeAfter(err, s); err != nil {
		return nil, r.unreadable(m.segment, err)
	}
	origins, err := rec.origins()
	if err != nil {
		return nil, logDamagedProblem(r.id, m.segment, m.position, err)
	}
	a := &activeMove{serial: m.serial}
	for i, e := range rec.entries() {
		a.list = append(a.list, movedEntry{e, origins[i].serial})
	}
	slices.SortStableFunc(a.list, func(x, y movedEntry) int { return cmp.Compare(x.origin, y.origin) })
	r.holds(m.segment, origins)
	return a, nil
}
