package vault

import (
	"fmt"
	"maps"
	"slices"

	"riparo/replication"
)

// snapshot writes what a log has added up to, without its maps: the body of an
// inventory, and the first part of a catalog.
func (s *state) snapshot(e *encoder) {
	e.text(string(s.disk.ID))
	e.text(string(s.disk.Machine))
	e.number(uint64(s.disk.Size))
	e.number(uint64(s.epoch))
	e.number(uint64(s.sequence))
	e.flag(s.unmarked)
	e.number(uint64(s.openChanged))
	e.number(uint64(s.openStored))
	e.number(uint64(len(s.points)))
	for _, p := range s.points {
		e.point(p)
	}
	e.number(uint64(len(s.segments)))
	for _, g := range s.segments {
		e.number(uint64(g.number))
		e.number(uint64(g.first))
		e.number(uint64(g.first - g.oldest))
	}
	e.ranges(s.voids)
	e.ranges(s.lost)
	e.number(uint64(s.mended))
	e.number(uint64(s.lockedAt))
	all := maps.Collect(s.moves.all())
	places := 0
	for _, to := range all {
		places += len(to)
	}
	e.number(uint64(places))
	for _, from := range slices.SortedFunc(maps.Keys(all), compareLocations) {
		for _, to := range all[from] {
			e.number(uint64(from.segment))
			e.number(uint64(from.position))
			e.p = append(e.p, make([]byte, entrySize)...)
			to.put(e.p[len(e.p)-entrySize:])
		}
	}
}

func compareLocations(a, b location) int {
	if a.segment != b.segment {
		return int(int64(a.segment) - int64(b.segment))
	}
	return int(int64(a.position) - int64(b.position))
}

const (
	// leastPointBytes: a point has thirteen numbers, which take a byte each at least.
	leastPointBytes = 13
	// pointSlab is how many points are one piece of memory when they are read.
	pointSlab = 128
)

// restore reads a snapshot.
func (s *state) restore(d *decoder) error {
	s.disk = replication.Disk{
		ID: replication.DiskID(d.text()), Machine: replication.MachineID(d.text()), Size: int64(d.number()),
	}
	s.epoch = replication.Epoch(d.number())
	s.sequence = replication.Sequence(d.number())
	s.unmarked = d.flag()
	s.openChanged = int64(d.number())
	s.openStored = int64(d.number())
	count := min(d.count(), len(d.p)/leastPointBytes+1)
	s.points, s.byID = make([]*point, 0, count), make(map[replication.PointID]*point, count)
	d.whole = string(d.p) // one piece of memory for the texts of all points
	var slab []point
	for range count {
		if len(slab) == 0 {
			slab = make([]point, min(pointSlab, count-len(s.points)))
		}
		p := &slab[0]
		slab = slab[1:]
		*p = d.point()
		if n := len(s.points); n > 0 && p.serial <= s.points[n-1].serial {
			d.fail()
		}
		s.points = append(s.points, p)
		s.byID[p.id] = p
		if d.err != nil {
			return d.err
		}
	}
	d.whole = ""
	s.segments = nil
	for range d.count() {
		g := segmentInfo{number: uint32(d.number()), first: serial(d.number())}
		g.oldest = g.first - serial(d.number())
		if g.oldest > g.first {
			d.fail()
		}
		s.segments = append(s.segments, g)
	}
	s.voids = d.ranges()
	s.lost = d.ranges()
	s.mended = serial(d.number())
	s.lockedAt = int64(d.number())
	list := map[location][]entry{}
	for range d.count() {
		from := location{uint32(d.number()), uint32(d.number())}
		if len(d.p) < entrySize {
			d.fail()
			break
		}
		to := parseEntry(d.p)
		if err := to.check(); err != nil {
			return err
		}
		d.p = d.p[entrySize:]
		addMove(list, from, to)
	}
	s.moves = moves{}.with(list, 1)
	if d.err == nil && (s.disk.Size < 0 || s.disk.ID.Check() != nil) {
		return fmt.Errorf("a snapshot of disk %q with %d bytes", string(s.disk.ID), s.disk.Size)
	}
	return d.err
}

// serialRange is all records after from, up to and including to.
type serialRange struct{ from, to serial }

func (r serialRange) has(at serial) bool { return at > r.from && at <= r.to }

func inRanges(list []serialRange, at serial) bool {
	return slices.ContainsFunc(list, func(r serialRange) bool { return r.has(at) })
}

// addRange adds r to a list; a later range swallows those that it covers.
func addRange(list []serialRange, r serialRange) []serialRange {
	list = slices.DeleteFunc(slices.Clone(list), func(o serialRange) bool { return o.from >= r.from && o.to <= r.to })
	return append(list, r)
}

func (e *encoder) ranges(list []serialRange) {
	e.number(uint64(len(list)))
	for _, r := range list {
		e.number(uint64(r.from))
		e.number(uint64(r.to))
	}
}

func (d *decoder) ranges() []serialRange {
	var list []serialRange
	for range d.count() {
		list = append(list, serialRange{serial(d.number()), serial(d.number())})
	}
	return list
}

func (e *encoder) flag(b bool) {
	n := uint64(0)
	if b {
		n = 1
	}
	e.number(n)
}

func (d *decoder) flag() bool { return d.number() == 1 }
