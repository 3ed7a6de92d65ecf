package vault

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
)

const (
	// runEntries is how many entries memory may hold before they are written to a
	// map file, and how many entries a file with several layers may have: 32,768
	// entries are 1.8 MiB, and 2 GiB of a disk that is written once.
	runEntries = 32 << 10
	// runLayers bounds the layers in memory of a disk that hardly changes.
	runLayers = 4096
	// foldWidth is how many files are folded into one. A view looks into at most
	// foldWidth-1 files per level.
	foldWidth = 8
	// tidyLayers: so many layers of dropped points in a file are worth a rewrite,
	// and so is an eighth of its entries.
	tidyLayers = 16
	tidyShare  = 8
)

// fold is a map file that repeats several tiles as one, so that a newer point needs
// to look only there. It is never needed.
type fold struct {
	*mapFile
	level int // 1: of tiles, 2: of folds of level 1, …
}

// spill writes memory to a map file when it has grown too large, or in any case.
// The caller leads, and does not hold mu.
func (d *disk) spill(always bool) error {
	d.mu.Lock()
	limit := d.vault.options.memoryEntries
	if len(d.memory.layers) == 0 || !always && d.memory.entries < limit && len(d.memory.layers) < runLayers {
		d.mu.Unlock()
		return nil
	}
	layers := slices.Clone(d.memory.layers)
	for i, l := range layers {
		c := *l
		layers[i] = &c
	}
	from, to, mapped := serial(0), layers[len(layers)-1].last, d.serial
	if n := len(d.tiles); n > 0 {
		from = d.tiles[n-1].upTo
	}
	d.nextMap++
	number := d.nextMap
	d.mu.Unlock()

	var parts []part
	for _, l := range layers {
		parts = append(parts, part{last: l.last, flows: func() ([]flow, error) { return []flow{&listFlow{list: flatten(l.maps)}}, nil }})
	}
	m, err := d.writeMap(number, from, to, parts)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if n := len(layers); !layers[n-1].closed {
		changed, stored := measure(layers[n-1].maps)
		d.openChanged += changed
		d.openStored += stored
	}
	d.memory = memory{}
	d.tiles = append(d.tiles, tile{m, to})
	d.mapped = mapped
	return nil
}

// part is what one layer of a new map file is made of.
type part struct {
	last  serial
	flows func() ([]flow, error) // oldest first
}

// writeMap writes a map file of parts, the oldest first.
func (d *disk) writeMap(number uint32, from, to serial, parts []part) (*mapFile, error) {
	w, err := d.newMapWriter(number, from, to)
	if err != nil {
		return nil, err
	}
	for _, p := range parts {
		w.layer(p.last)
		if err := each([]part{p}, w.add); err != nil {
			return nil, w.abandon(err)
		}
	}
	if len(parts) > 1 {
		w.merged()
		if err := each(parts, w.addMerged); err != nil {
			return nil, w.abandon(err)
		}
	}
	return w.finish()
}

// each calls add for the entries of parts laid over each other.
func each(parts []part, add func(*entry)) error {
	var flows []flow
	for _, p := range parts {
		list, err := p.flows()
		if err != nil {
			return err
		}
		flows = append(flows, list...)
	}
	f := mergeFlows(flows)
	for f.advance() {
		add(f.value())
	}
	return f.failed()
}

// maintain keeps the map of the disk small and quick, and frees what is dead, until
// nothing is left to do.
func (d *disk) maintain(ctx context.Context) error {
	select {
	case d.maintaining <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-d.maintaining }()
	changed := false
	for {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		did, err := d.tidy()
		if err == nil && !did {
			did, err = d.fold()
		}
		if err != nil {
			return d.mapProblem(err)
		}
		if !did {
			break
		}
		changed = true
	}
	return d.sweep(ctx, changed)
}

// retained reports whether a serial is the mark of a point. The caller holds mu.
func (s *state) retained(at serial) bool {
	i := sort.Search(len(s.points), func(i int) bool { return s.points[i].serial >= at })
	return i < len(s.points) && s.points[i].serial == at
}

// plan is one or two neighboring tiles that are to be written anew.
type plan struct {
	tiles   []tile
	outputs []output
}

// output is a map file to be written: the ends of its layers.
type output struct {
	number uint32
	layers []serial
}

// tidy rewrites one or two tiles if that is worth it.
func (d *disk) tidy() (bool, error) {
	d.mu.Lock()
	p, ok := d.plan()
	if ok {
		for _, t := range p.tiles {
			t.use.acquire()
		}
	}
	d.mu.Unlock()
	if !ok {
		return false, nil
	}
	files, err := d.writePlan(&p)
	var errs []error
	for _, t := range p.tiles {
		errs = append(errs, t.use.release())
	}
	if err := errors.Join(append(errs, err)...); err != nil {
		return false, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	at := slices.IndexFunc(d.tiles, func(t tile) bool { return t == p.tiles[0] })
	if at < 0 || at+len(p.tiles) > len(d.tiles) || !slices.Equal(d.tiles[at:at+len(p.tiles)], p.tiles) {
		d.garbage = append(d.garbage, files...) // a rewind was quicker
		return true, nil
	}
	var fresh []tile
	for _, m := range files {
		fresh = append(fresh, tile{m, m.to})
	}
	for _, t := range p.tiles {
		d.garbage = append(d.garbage, t.mapFile)
	}
	d.tiles = slices.Concat(d.tiles[:at], fresh, d.tiles[at+len(p.tiles):])
	// Folds that begin or end at a boundary which is gone are of no use any more.
	d.folds = slices.DeleteFunc(slices.Clone(d.folds), func(f fold) bool {
		gone := d.tileEnding(f.to) < 0 || !slices.ContainsFunc(d.tiles, func(t tile) bool { return t.from == f.from })
		if gone {
			d.garbage = append(d.garbage, f.mapFile)
		}
		return gone
	})
	return true, nil
}

// plan chooses what to tidy. The caller holds mu.
func (d *disk) plan() (plan, bool) {
	for i, t := range d.tiles {
		keep, loose, entries := d.layersOf(t)
		if t.cut() || loose >= tidyLayers || loose > 0 && entries*tidyShare >= t.fine.count {
			return d.planOf(d.tiles[i:i+1], keep), true
		}
		if i > 0 {
			if outputs := d.join(d.tiles[i-1], t); outputs != nil {
				return d.planOf(d.tiles[i-1:i+1], outputs...), true
			}
		}
	}
	return plan{}, false
}

// join tells how two neighbors should be written anew, nil if they are good as they
// are. A boundary that is no point hides that the newer one covers entries of the
// older one, which are dead then. The caller holds mu.
func (d *disk) join(u, t tile) [][]serial {
	run := int64(d.vault.options.memoryEntries)
	older, _, _ := d.layersOf(u)
	newer, _, _ := d.layersOf(t)
	both := u.fine.count + t.fine.count
	if d.retained(u.upTo) {
		if both <= run/2 { // only to have fewer files
			return [][]serial{append(slices.Clone(older), newer...)}
		}
		return nil
	}
	inner := older[:len(older)-1]
	switch {
	case both <= run:
		return [][]serial{append(slices.Clone(inner), newer...)}
	case len(inner) > 0:
		// The last layer of the older one joins the first of the newer one.
		return [][]serial{inner, newer}
	case len(newer) == 1:
		// Of like size, so that an entry is rewritten log n times at most.
		if 2*t.fine.count >= u.fine.count {
			return [][]serial{newer}
		}
	case 2*t.entriesUpTo(newer[0]) >= u.fine.count:
		// The first layer of the newer one joins the older one.
		return [][]serial{newer[:1], newer[1:]}
	}
	return nil
}

// entriesUpTo counts the entries of the layers up to a serial.
func (m *mapFile) entriesUpTo(at serial) int64 {
	n := int64(0)
	for _, l := range m.layers {
		if l.last <= at {
			n += l.count
		}
	}
	return n
}

// layersOf gives the ends of the layers that a tile must keep, how many others it
// has, and how many entries those have. The caller holds mu.
func (d *disk) layersOf(t tile) (keep []serial, loose int, entries int64) {
	for _, l := range t.layers {
		switch {
		case l.last > t.upTo:
		case l.last == t.upTo || d.retained(l.last):
			keep = append(keep, l.last)
		default:
			loose++
			entries += l.count
		}
	}
	if len(keep) == 0 || keep[len(keep)-1] != t.upTo {
		keep = append(keep, t.upTo)
	}
	return keep, loose, entries
}

func (d *disk) planOf(tiles []tile, outputs ...[]serial) plan {
	p := plan{tiles: slices.Clone(tiles)}
	for _, layers := range outputs {
		d.nextMap++
		p.outputs = append(p.outputs, output{d.nextMap, slices.Clone(layers)})
	}
	return p
}

// writePlan writes the files of a plan.
func (d *disk) writePlan(p *plan) (files []*mapFile, err error) {
	after := p.tiles[0].from
	for _, o := range p.outputs {
		begin := after
		var parts []part
		for _, end := range o.layers {
			from := after
			parts = append(parts, part{last: end, flows: func() ([]flow, error) { return p.flows(from, end) }})
			after = end
		}
		m, err := d.writeMap(o.number, begin, after, parts)
		if err != nil {
			for _, m := range files {
				err = errors.Join(err, m.use.discard())
			}
			return nil, err
		}
		files = append(files, m)
	}
	return files, nil
}

// flows are the maps of what the tiles of the plan say about (from, to].
func (p *plan) flows(from, to serial) ([]flow, error) {
	var flows []flow
	for _, t := range p.tiles {
		if from <= t.from && to >= t.to && !t.cut() {
			flows = append(flows, t.whole.cursor(0, t.whole.count))
			continue
		}
		layers, err := t.layersBetween(from, min(to, t.upTo))
		if err != nil {
			return nil, err
		}
		for _, l := range layers {
			flows = append(flows, &listFlow{list: l})
		}
	}
	return flows, nil
}

// fold makes one fold if enough files of a level follow each other.
func (d *disk) fold() (bool, error) {
	d.mu.Lock()
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

// mapProblem marks the maps of the disk as not to be trusted if err says that one of
// them is damaged: the next opening makes them again from the log.
func (d *disk) mapProblem(err error) error {
	if m, ok := errors.AsType[*mapError](err); ok {
		return d.distrust(fmt.Errorf("disk %s: %w", d.id, m))
	}
	return err
}
