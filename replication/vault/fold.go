package vault

import (
	"errors"
	"slices"
)

// fold is a map file that repeats several tiles as one, so that a newer point needs
// to look only there. It is never needed.
type fold struct {
	*mapFile
	level int // 1: of tiles, 2: of folds of level 1, …
}

// fold makes one fold if enough files of a level follow each other.
func (d *disk) fold() (bool, error) {
	d.mu.Lock()
	d.folds = slices.DeleteFunc(slices.Clone(d.folds), func(f fold) bool {
		if f.stale(d.moves) {
			d.garbage = append(d.garbage, f.mapFile)
		}
		return f.stale(d.moves)
	})
	members, level := d.foldable()
	if members == nil {
		d.mu.Unlock()
		return false, nil
	}
	for _, m := range members {
		m.use.acquire()
	}
	d.nextMap++
	number := d.nextMap
	d.mu.Unlock()
	from, to := members[0].from, members[len(members)-1].to
	p := part{last: to, flows: func() ([]flow, error) {
		var flows []flow
		for _, m := range members {
			flows = append(flows, m.whole.cursor(0, m.whole.count))
		}
		return flows, nil
	}}
	m, err := d.writeMap(number, from, to, []part{p})
	var errs []error
	for _, m := range members {
		errs = append(errs, m.use.release())
	}
	if err := errors.Join(append(errs, err)...); err != nil {
		return false, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.tileEnding(to) < 0 || !slices.ContainsFunc(d.tiles, func(t tile) bool { return t.from == from }) {
		d.garbage = append(d.garbage, m) // the tiles were rewritten or rewound meanwhile
		return true, nil
	}
	d.folds = append(slices.Clone(d.folds), fold{m, level})
	return true, nil
}

// foldable finds foldWidth files of a level that follow each other and that no fold
// of the next level repeats. The caller holds mu.
func (d *disk) foldable() (members []*mapFile, level int) {
	var files []*mapFile
	for _, t := range d.tiles {
		if !t.cut() {
			files = append(files, t.mapFile)
		}
	}
	for level = 1; len(files) >= foldWidth; level++ {
		var next []*mapFile
		for _, f := range d.folds {
			if f.level == level {
				next = append(next, f.mapFile)
			}
		}
		slices.SortFunc(next, func(a, b *mapFile) int {
			if a.from < b.from {
				return -1
			}
			return 1
		})
		for _, f := range files {
			repeated := slices.ContainsFunc(next, func(n *mapFile) bool { return n.from <= f.from && f.to <= n.to })
			if repeated || len(members) > 0 && members[len(members)-1].to != f.from {
				members = nil
			}
			if !repeated {
				members = append(members, f)
			}
			if len(members) == foldWidth {
				return members, level
			}
		}
		members, files = nil, next
	}
	return nil, 0
}
