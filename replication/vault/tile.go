package vault

import (
	"errors"
	"slices"
	"sort"

	"riparo/replication"
)

// tile is a map file that is part of a disk's map. The tiles of a disk follow each
// other without gaps; what comes after the last one is in memory. A rewind cuts a
// tile: then only its layers up to upTo count.
type tile struct {
	*mapFile
	upTo serial
}

// cut reports whether part of the file does not count.
func (t tile) cut() bool { return t.upTo < t.to }

// source is a map that a view looks into.
type source interface {
	// overlapping calls visit for the entries that overlap [from, to), in order.
	overlapping(from, to int64, visit func(*entry)) error
}

// table is a map in memory.
type table []entry

func (t table) overlapping(from, to int64, visit func(*entry)) error {
	for i := sort.Search(len(t), func(i int) bool { return t[i].end() > from }); i < len(t) && t[i].offset < to; i++ {
		visit(&t[i])
	}
	return nil
}

// stack is what a view of one moment is made of, collected under the disk's lock
// and put together without it.
type stack struct {
	memory [][]entry // oldest first
	pieces []piece   // oldest first
	moves  moves
}

// piece is a map file, or its layers up to a point.
type piece struct {
	*mapFile
	upTo serial // its end, or less
}

// stackUpTo collects the maps of what happened up to and including at, which is a
// mark or the end of the log. The files in it are acquired. The caller holds mu.
func (s *state) stackUpTo(at serial) stack {
	k := stack{memory: s.memory.upTo(at), moves: s.moves}
	for i := 0; i < len(s.tiles) && s.tiles[i].from < at; {
		t := s.tiles[i]
		p, next := piece{t.mapFile, min(at, t.upTo)}, i+1
		for _, f := range s.folds {
			if f.from != t.from || f.to > at || f.to <= p.upTo {
				continue
			}
			if j := s.tileEnding(f.to); j > i {
				p, next = piece{f.mapFile, f.to}, j+1
			}
		}
		p.use.acquire()
		k.pieces = append(k.pieces, p)
		i = next
	}
	return k
}

// sources puts the stack together, the newest first.
func (k *stack) sources() ([]source, error) {
	var list []source
	if m := flatten(k.memory); len(m) > 0 {
		list = append(list, table(m))
	}
	for _, p := range slices.Backward(k.pieces) {
		if p.upTo == p.to {
			list = append(list, &p.whole)
			continue
		}
		layers, err := p.layersBetween(0, p.upTo)
		if err != nil {
			return nil, err
		}
		if m := flatten(layers); len(m) > 0 {
			list = append(list, table(m))
		}
	}
	return list, nil
}

// release gives the files back.
func (k *stack) release() error {
	var errs []error
	for _, p := range k.pieces {
		errs = append(errs, p.use.release())
	}
	k.pieces = nil
	return errors.Join(errs...)
}

// tileEnding is the index of the tile that ends at a serial, or -1.
func (s *state) tileEnding(at serial) int {
	return slices.IndexFunc(s.tiles, func(t tile) bool { return t.upTo == at })
}

// changedExtents is the union of extents, which may be many: it is compacted while
// it grows.
type changedExtents struct {
	list []replication.Extent
	next int // length at which it is compacted
}

func (c *changedExtents) add(e *entry) {
	c.list = append(c.list, e.extent())
	if len(c.list) >= max(c.next, 1<<16) {
		c.list = replication.Union(c.list)
		c.next = 2 * len(c.list)
	}
}
