package vault

import (
	"context"
	"errors"

	"riparo/replication"
)

// Changed gives what the layers after one point, up to and including another, have
// touched: extents that lie within the disk at to, ascending, those that are zero
// there marked so. An empty from is the time before the first write, an empty to is
// the head. Bytes that both have and that are not in the result are equal in both.
func (v *Vault) Changed(ctx context.Context, id replication.DiskID, from, to replication.PointID) ([]replication.Region, error) {
	w, err := v.View(ctx, id, to)
	if err != nil {
		return nil, err
	}
	touched, err := w.disk.touched(from, to)
	if err != nil {
		return nil, closing(err, w)
	}
	var regions []replication.Region
	for _, e := range touched {
		e = e.Intersect(replication.Extent{Length: w.size})
		for at := e.Offset; at < e.End(); at += regionStep {
			list, err := w.resolve(at, min(at+regionStep, e.End()))
			if err != nil {
				return nil, closing(err, w)
			}
			for i := range list {
				r := replication.Region{Extent: list[i].extent(), Zero: list[i].codec == codecZero}
				if n := len(regions); n > 0 && regions[n-1].End() == r.Offset && regions[n-1].Zero == r.Zero {
					regions[n-1].Length += r.Length
				} else {
					regions = append(regions, r)
				}
			}
		}
	}
	return regions, w.Close()
}

// touched is the union of what the layers in (from, to] touch.
func (d *disk) touched(from, to replication.PointID) ([]replication.Extent, error) {
	d.mu.Lock()
	_, last, err := d.locate(to)
	first := serial(0)
	if err == nil && from != "" {
		_, first, err = d.locate(from)
	}
	if err == nil {
		err = errors.Join(d.trusted(to, last), d.trusted(from, first))
	}
	if err != nil {
		d.mu.Unlock()
		return nil, err
	}
	memory := d.memory.between(first, last)
	var pieces []piece
	for _, t := range d.tiles {
		if t.upTo > first && t.from < last {
			t.use.acquire()
			pieces = append(pieces, piece{t.mapFile, min(last, t.upTo)})
		}
	}
	d.mu.Unlock()
	k := stack{pieces: pieces}
	var all changedExtents
	for _, list := range memory {
		for i := range list {
			all.add(&list[i])
		}
	}
	for _, p := range pieces {
		if err := p.touched(first, &all); err != nil {
			return nil, errors.Join(d.mapProblem(err), k.release())
		}
	}
	return replication.Union(all.list), k.release()
}

// touched adds what the layers of a piece after first touch.
func (p piece) touched(first serial, all *changedExtents) error {
	at := int64(0)
	for _, l := range p.layers {
		if l.last > first && l.last <= p.upTo {
			c := p.fine.cursor(at, at+l.count)
			for c.advance() {
				all.add(&c.current)
			}
			if c.err != nil {
				return c.err
			}
		}
		at += l.count
	}
	return nil
}

// closing closes a view because of err.
func closing(err error, w *View) error { return errors.Join(err, w.Close()) }
