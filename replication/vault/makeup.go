package vault

import (
	"context"
	"errors"
	"fmt"

	"riparo/replication"
)

// Makeup is what a point changed on a disk, by how its blocks compress, in bytes. It
// is read from maps alone: how long a block is stored was found out when it was.
type Makeup struct {
	Changed  int64 // all that the point changed
	Noise    int64 // of it, what does not compress
	Turned   int64 // noise in the place of what compressed before
	Fresh    int64 // noise in the place of zeros
	Vanished int64 // zeros in the place of what compressed before
}

const (
	// noiseShare: what shrinks by less than a twentieth is noise. LZ4 shrinks text and
	// tables by half or more, and what is compressed or encrypted not at all.
	noiseShare = 20
	// makeupStep is how much of a disk is resolved at once.
	makeupStep = 16 << 20
)

// noisy reports whether the block of an entry does not compress.
func (e *entry) noisy() bool {
	return e.codec != codecZero && int64(e.stored)*noiseShare >= int64(e.plain)*(noiseShare-1)
}

// Makeup tells what a point changed against the point before it. Of the first point
// of a disk only Changed and Noise are told. Errors wrap ErrUnknownDisk and
// ErrUnknownPoint.
func (v *Vault) Makeup(ctx context.Context, id replication.DiskID, at replication.PointID) (m Makeup, err error) {
	d, err := v.find(id)
	if err != nil {
		return m, err
	}
	d.mu.Lock()
	i := -1
	for n := len(d.points) - 1; n >= 0 && i < 0; n-- { // it is mostly the newest
		if d.points[n].id == at {
			i = n
		}
	}
	var before replication.PointID
	if i > 0 {
		before = d.points[i-1].id
	}
	d.mu.Unlock()
	if i < 0 {
		return m, fmt.Errorf("point %s of disk %s: %w", at, id, replication.ErrUnknownPoint)
	}
	touched, err := d.touched(before, at)
	if err != nil {
		return m, err
	}
	now, err := v.View(ctx, id, at)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, now.Close()) }()
	var was *View
	if before != "" {
		if was, err = v.View(ctx, id, before); err != nil {
			return m, err
		}
		defer func() { err = errors.Join(err, was.Close()) }()
	}
	for _, e := range touched {
		e = e.Intersect(replication.Extent{Length: now.size})
		for from := e.Offset; from < e.End(); from += makeupStep {
			if err := context.Cause(ctx); err != nil {
				return m, err
			}
			to := min(from+makeupStep, e.End())
			if err := m.add(now, was, from, to); err != nil {
				return m, err
			}
		}
	}
	return m, nil
}

// add adds what became of [from, to).
func (m *Makeup) add(now, was *View, from, to int64) error {
	m.Changed += to - from
	news, err := now.resolve(from, to)
	if err != nil {
		return err
	}
	for i := range news {
		if news[i].noisy() {
			m.Noise += news[i].length
		}
	}
	if was == nil {
		return nil
	}
	olds, err := was.resolve(from, min(to, was.size))
	if err != nil {
		return err
	}
	// Both are sorted; what they leave out is zero.
	known := int64(0) // of the noise, what covers something
	n := 0
	for i := range olds {
		o := &olds[i]
		if o.codec == codecZero {
			continue
		}
		left := o.length // that nothing new covers, or only zeros
		for n < len(news) && news[n].end() <= o.offset {
			n++
		}
		for k := n; k < len(news) && news[k].offset < o.end(); k++ {
			shared := news[k].extent().Intersect(o.extent()).Length
			if news[k].codec == codecZero {
				continue
			}
			left -= shared
			if news[k].noisy() {
				known += shared
				if !o.noisy() {
					m.Turned += shared
				}
			}
		}
		if !o.noisy() {
			m.Vanished += left
		}
	}
	noise := int64(0)
	for i := range news {
		if news[i].noisy() {
			noise += news[i].length
		}
	}
	m.Fresh += noise - known
	return nil
}
