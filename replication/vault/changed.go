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
	defer d.mu.Unlock()
	_, last, err := d.locate(to)
	if err != nil {
		return nil, err
	}
	first := serial(0)
	if from != "" {
		if _, first, err = d.locate(from); err != nil {
			return nil, err
		}
	}
	return replication.Union(extents(d.memory.between(first, last))), nil
}

// closing closes a view because of err.
func closing(err error, w *View) error { return errors.Join(err, w.Close()) }
