package vault

import (
	"slices"
)

// memory is the youngest part of a disk's map, the part that no map file holds
// yet: one layer for each recovery point since, and the open one at the end for
// what arrived after the last mark. Maps that were handed out are never changed.
type memory struct {
	layers  []*layer
	entries int // in all layers
}

// layer is the map of what changed between two recovery points.
type layer struct {
	last   serial    // of its newest record; of its mark when it is closed
	closed bool      // by a mark
	maps   [][]entry // oldest first; each sorted and free of overlaps
}

// add takes the entries of one record into the open layer. They do not overlap
// each other.
func (m *memory) add(at serial, list []entry) {
	l := m.open()
	l.last = at
	if len(list) == 0 {
		return
	}
	slices.SortFunc(list, func(a, b entry) int {
		if a.offset < b.offset {
			return -1
		}
		return 1
	})
	m.entries += len(list)
	n := len(l.maps)
	if n > 0 {
		newest := l.maps[n-1]
		if list[0].offset >= newest[len(newest)-1].end() {
			// The usual way of an initial replication: always further up the disk.
			first, rest := list[0], list[1:]
			if !first.continues(&newest[len(newest)-1]) {
				newest = append(newest, first)
			} else {
				// The joined entry is rewritten in a copy of its own: a view may hold
				// the map.
				newest = append(slices.Clone(newest[:len(newest)-1]), joined(newest[len(newest)-1], first))
				m.entries--
			}
			l.maps[n-1] = append(newest, rest...)
			return
		}
	}
	l.maps = append(l.maps, list)
	// Maps of like size are merged, so there are never more than log n of them.
	for n := len(l.maps); n > 1 && len(l.maps[n-2]) <= 2*len(l.maps[n-1]); n = len(l.maps) {
		m.merge(l, n-2)
	}
}

func joined(a, b entry) entry {
	a.length += b.length
	return a
}

// merge lays the maps of l from index i on over each other.
func (m *memory) merge(l *layer, i int) {
	if i >= len(l.maps)-1 {
		return
	}
	before := countEntries(l.maps[i:])
	merged := flatten(l.maps[i:])
	l.maps = append(l.maps[:i:i], merged)
	m.entries += len(merged) - before
}

func countEntries(maps [][]entry) int {
	n := 0
	for _, list := range maps {
		n += len(list)
	}
	return n
}

// open is the layer that takes what arrives.
func (m *memory) open() *layer {
	if n := len(m.layers); n > 0 && !m.layers[n-1].closed {
		return m.layers[n-1]
	}
	l := &layer{}
	m.layers = append(m.layers, l)
	return l
}

// mark closes the open layer and tells how much it changes and what that takes in
// the vault, in bytes.
func (m *memory) mark(at serial) (changed, stored int64) {
	l := m.open()
	l.last, l.closed = at, true
	m.merge(l, 0)
	return measure(l.maps)
}

// measure tells how much maps change and what that takes in the vault, in bytes.
func measure(maps [][]entry) (changed, stored int64) {
	for _, list := range maps {
		for i := range list {
			changed += list[i].length
			stored += int64(list[i].stored)
		}
	}
	return changed, stored
}

// upTo are the maps of what happened up to and including at, oldest first.
func (m *memory) upTo(at serial) [][]entry { return m.between(0, at) }

// between are the maps of what happened after from and up to and including to.
// Both are boundaries of layers.
func (m *memory) between(from, to serial) [][]entry {
	var maps [][]entry
	for _, l := range m.layers {
		if l.last > from && l.last <= to {
			maps = append(maps, l.maps...)
		}
	}
	return maps
}

// cut forgets what came after at, which is the end of a closed layer or older than
// all of memory.
func (m *memory) cut(at serial) {
	for len(m.layers) > 0 {
		l := m.layers[len(m.layers)-1]
		if l.last <= at {
			return
		}
		m.entries -= countEntries(l.maps)
		m.layers = m.layers[:len(m.layers)-1]
	}
}

// drop merges the layers of points that are no more kept into the next newer one.
func (m *memory) drop(gone func(serial) bool) {
	kept := m.layers[:0:0]
	var waiting [][]entry
	for _, l := range m.layers {
		if l.closed && gone(l.last) {
			waiting = append(waiting, l.maps...)
			continue
		}
		if len(waiting) > 0 {
			l = &layer{last: l.last, closed: l.closed, maps: append(waiting, l.maps...)}
			m.merge(l, 0)
			waiting = nil
		}
		kept = append(kept, l)
	}
	if len(waiting) > 0 {
		// Nothing newer is in memory: they wait for it in the open layer.
		kept = append(kept, &layer{last: m.layers[len(m.layers)-1].last, maps: waiting})
	}
	m.layers = kept
}

// moveTo takes the place in another block that has the same content there.
func (e *entry) moveTo(to *entry) {
	if to.codec != codecZero {
		e.inner, e.plain = uint32(e.offset-to.offset)+to.inner, to.plain
	}
	e.segment, e.position, e.stored, e.crc, e.codec = to.segment, to.position, to.stored, to.crc, to.codec
	e.key, e.sum = to.key, to.sum
}
