package vault

import (
	"fmt"
	"slices"
	"sort"

	"riparo/replication"
)

// state is what the records of a log add up to.
type state struct {
	serial   serial // of the last record
	disk     replication.Disk
	epoch    replication.Epoch
	sequence replication.Sequence
	points   []*point // in the order of their serials
	byID     map[replication.PointID]*point
	unmarked bool

	// The map: tiles, and memory for what comes after them.
	tiles   []tile
	folds   []fold
	memory  memory
	mapped  serial     // the last record that the tiles know of
	nextMap uint32     // number of the newest map file
	garbage []*mapFile // not needed by the map; removed after the next catalog
	moves   moves      // blocks whose content was stored again
	// What the part of the open layer that is in tiles changed, and its size in the
	// vault, in bytes.
	openChanged, openStored int64

	segments []segmentInfo // that are needed, ascending
	voids    []serialRange // rewound
	lost     []serialRange // records that cannot be read; see trusted
	lockedAt int64         // the latest time that a lock was made, Unix nanoseconds
	mended   serial        // the record after which what was lost does not matter
}

// apply adds a record to the state. It is the same for a record that was just
// appended and for one that is read again after a restart.
func (s *state) apply(r *record) error {
	s.serial = r.serial
	if r.sequence > s.sequence {
		s.sequence = r.sequence
	}
	s.needs(r)
	switch r.kind {
	case kindBatch:
		s.memory.add(r.serial, r.entries())
		s.unmarked = true
	case kindMark:
		p, err := parseMarkBody(r)
		if err != nil {
			return err
		}
		if s.byID[p.id] != nil {
			return nil // a mark repeated under a new sequence
		}
		p.changed, p.stored = s.memory.mark(r.serial)
		p.changed += s.openChanged
		p.stored += s.openStored
		s.openChanged, s.openStored = 0, 0
		if n := len(s.points); n > 0 && slices.Equal(p.members, s.points[n-1].members) {
			p.members = s.points[n-1].members // share the memory
		}
		s.points = append(s.points, &p)
		s.byID[p.id] = &p
		s.unmarked = false
	case kindDisk:
		b, err := parseDiskBody(r.body)
		if err != nil {
			return err
		}
		s.disk = replication.Disk{ID: b.id, Machine: b.machine, Size: b.size}
		s.epoch = r.epoch
		if len(r.table) > 0 { // the disk was cut
			s.memory.add(r.serial, r.entries())
			s.unmarked = true
		}
	case kindRewind:
		b, err := parseRewindBody(r.body)
		if err != nil {
			return err
		}
		return s.rewind(r, b)
	case kindDrop:
		marks, err := parseDropBody(r.body)
		if err != nil {
			return err
		}
		s.drop(marks)
	case kindRelease:
		b, err := parseReleaseBody(r.body)
		if err != nil {
			return err
		}
		s.release(b)
	case kindMove:
		return s.move(r)
	case kindInventory:
		return s.adoptInventory(r)
	case kindLock:
		b, err := parseLockBody(r.body)
		if err != nil {
			return err
		}
		s.lock(b)
	case kindPin:
		b, err := parsePinBody(r.body)
		if err != nil {
			return err
		}
		s.alter(b.marks, func(p *point) { p.pinned = b.pinned })
	case kindMend:
		s.mended = r.serial
	default:
		return fmt.Errorf("record %d is of kind %d, which this version does not know", r.serial, r.kind)
	}
	return nil
}

func (s *state) rewind(r *record, b rewindBody) error {
	p := s.byID[b.to]
	if p == nil || p.serial != b.at {
		return fmt.Errorf("record %d rewinds to point %s, which is not there", r.serial, b.to)
	}
	for _, later := range s.points[s.indexAfter(b.at):] {
		delete(s.byID, later.id)
	}
	s.points = s.points[:s.indexAfter(b.at)]
	s.memory.cut(b.at)
	if b.at < s.mapped {
		s.cutTiles(b.at)
		s.mapped = r.serial
	}
	s.voids = addRange(s.voids, serialRange{b.at, r.serial})
	s.lost = slices.DeleteFunc(slices.Clone(s.lost), func(l serialRange) bool { return l.from >= b.at })
	s.openChanged, s.openStored = 0, 0
	s.unmarked = false
	if s.mended > b.at {
		s.mended = 0 // what the mend wrote is void
	}
	s.epoch = r.epoch
	s.disk.Size = p.size
	return nil
}

// cutTiles forgets what the tiles say about records after at.
func (s *state) cutTiles(at serial) {
	s.tiles = slices.Clone(s.tiles)
	for n := len(s.tiles); n > 0 && s.tiles[n-1].upTo > at; n = len(s.tiles) {
		if s.tiles[n-1].from < at {
			s.tiles[n-1].upTo = at
			break
		}
		s.garbage = append(s.garbage, s.tiles[n-1].mapFile)
		s.tiles = s.tiles[:n-1]
	}
	s.folds = slices.DeleteFunc(slices.Clone(s.folds), func(f fold) bool {
		if f.to > at {
			s.garbage = append(s.garbage, f.mapFile)
		}
		return f.to > at
	})
}

// needs notes the segment of a record.
func (s *state) needs(r *record) {
	if n := len(s.segments); n == 0 || s.segments[n-1].number < r.segment {
		s.segments = append(slices.Clone(s.segments), segmentInfo{r.segment, r.serial, r.serial})
	}
}

// move notes where blocks were stored again.
func (s *state) move(r *record) error {
	origins, err := r.origins()
	if err != nil {
		return err
	}
	list := make(map[location][]entry, len(origins))
	for i, e := range r.entries() {
		addMove(list, origins[i].location, e)
	}
	s.moves = s.moves.with(list, r.serial)
	s.holds(r.segment, origins)
	return nil
}

// holds notes how old the blocks are that were moved to a segment.
func (s *state) holds(segment uint32, origins []origin) {
	i := slices.IndexFunc(s.segments, func(g segmentInfo) bool { return g.number == segment })
	if i < 0 {
		return
	}
	s.segments = slices.Clone(s.segments)
	for _, o := range origins {
		s.segments[i].oldest = min(s.segments[i].oldest, o.serial)
	}
}

func (s *state) drop(marks []serial) {
	gone := make(map[serial]bool, len(marks))
	for _, m := range marks {
		gone[m] = true
	}
	kept := s.points[:0:0]
	for _, p := range s.points {
		if gone[p.serial] {
			delete(s.byID, p.id)
		} else {
			kept = append(kept, p)
		}
	}
	s.points = kept
	s.memory.drop(func(at serial) bool { return gone[at] })
}

// release takes an erased member out of points. Points that were handed out are not
// changed.
func (s *state) release(b releaseBody) {
	freed := make(map[serial]bool, len(b.marks))
	for _, m := range b.marks {
		freed[m] = true
	}
	s.points = slices.Clone(s.points)
	for i, p := range s.points {
		if !freed[p.serial] {
			continue
		}
		fresh := *p
		fresh.members = slices.DeleteFunc(slices.Clone(p.members), func(id replication.DiskID) bool { return id == b.member })
		if i > 0 && slices.Equal(fresh.members, s.points[i-1].members) {
			fresh.members = s.points[i-1].members // share the memory
		}
		s.points[i] = &fresh
		s.byID[p.id] = &fresh
	}
}

// indexAfter is the index of the first point whose mark comes after at.
func (s *state) indexAfter(at serial) int {
	return sort.Search(len(s.points), func(i int) bool { return s.points[i].serial > at })
}

// report is the state as a Sink tells it.
func (s *state) report() replication.DiskState {
	st := replication.DiskState{Disk: s.disk, Epoch: s.epoch, Sequence: s.sequence, Unmarked: s.unmarked}
	if n := len(s.points); n > 0 {
		st.Point, st.PointSize = s.points[n-1].id, s.points[n-1].size
	}
	return st
}

// redo adds a record to memory only: the snapshot that the state was restored from
// knows everything else about it.
func (s *state) redo(r *record) {
	if len(r.table) > 0 && r.kind != kindMove && !inRanges(s.voids, r.serial) {
		s.memory.add(r.serial, r.entries())
	}
}

// closeLayers closes the layers of the points whose marks lie after from and not
// after to. Their mark records may be gone with a segment that nothing else needed.
func (s *state) closeLayers(from, to serial) {
	for _, p := range s.points[s.indexAfter(from):s.indexAfter(to)] {
		s.memory.mark(p.serial)
	}
}
