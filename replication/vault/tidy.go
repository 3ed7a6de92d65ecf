package vault

import (
	"errors"
	"slices"
)

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

// hiddenShare: files are written anew when that share of their entries may hide what
// is dead.
func (d *disk) hiddenShare() int64 {
	if d.thorough {
		return thoroughShare
	}
	return tidyShare
}

// plan chooses what to tidy. The caller holds mu.
func (d *disk) plan() (plan, bool) {
	for i, t := range d.tiles {
		keep, loose, entries := d.layersOf(t)
		if t.cut() || t.stale(d.moves) || loose >= max(tidyLayers, len(keep)) || loose > 0 && entries*d.hiddenShare() >= t.fine.count {
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
	if len(inner) > 0 && thoroughShare*min(u.entriesFrom(inner[len(inner)-1]), t.entriesUpTo(newer[0])) < both {
		return nil // little can be hidden
	}
	switch {
	case both <= run:
		return [][]serial{append(slices.Clone(inner), newer...)}
	case len(inner) > 0:
		// The last layer of the older one joins the first of the newer one.
		return [][]serial{inner, newer}
	case len(newer) == 1:
		if d.hiddenShare()*t.fine.count >= u.fine.count {
			return [][]serial{newer}
		}
	case d.hiddenShare()*t.entriesUpTo(newer[0]) >= u.fine.count:
		// The first layer of the newer one joins the older one.
		return [][]serial{newer[:1], newer[1:]}
	}
	return nil
}

// entriesFrom counts the entries of the layers after a serial.
func (m *mapFile) entriesFrom(at serial) int64 { return m.fine.count - m.entriesUpTo(at) }

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
