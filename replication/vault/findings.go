package vault

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"

	"riparo/replication"
	"riparo/replication/vfs"
)

// finding is a damaged block that was met, by the scrub or by who read it, and who
// needs it as far as was looked at. It is never changed once it is kept.
type finding struct {
	badBlock
	looked bool
	turn   uint64 // of the disk when it was looked at
	upTo   serial // the newest point then
	at     serial // of the head then
	head   bool   // the head needed it then
	// Points that need a block follow one another, and there may be thousands: these are
	// the serials of the first and the last of them. Those between may be gone meanwhile.
	some        bool
	first, last serial
}

// need notes that a point needs the block. It comes behind those that were noted.
func (f *finding) need(p serial) {
	if !f.some {
		f.some, f.first = true, p
	}
	f.last = p
}

// of gives which of the points of a disk, in their order, need the block.
func (f *finding) of(points []*point) (from, to int) {
	if !f.some {
		return 0, 0
	}
	from, _ = slices.BinarySearchFunc(points, f.first, func(p *point, s serial) int { return cmp.Compare(p.serial, s) })
	to, there := slices.BinarySearchFunc(points, f.last, func(p *point, s serial) int { return cmp.Compare(p.serial, s) })
	if there {
		to++
	}
	return from, to
}

// badBlockOf is the block that e refers to.
func badBlockOf(e *entry, reason error) badBlock {
	return badBlock{
		location: location{e.segment, e.position},
		row:      row{extent: replication.Extent{Offset: e.offset - int64(e.inner), Length: int64(e.plain)}, stored: e.stored, crc: e.crc, sum: e.sum, codec: e.codec, key: e.key},
		reason:   reason,
	}
}

// remember keeps damaged blocks as findings.
func (d *disk) remember(bad []badBlock) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, b := range bad {
		if len(d.damaged) < maxDamaged && d.damaged[b.location] == nil {
			d.damaged[b.location] = &finding{badBlock: b}
			d.vault.scrub.noteMet()
		}
	}
}

// Found tells what damage of a disk is known and was not healed: what the scrub, a
// verification or any reader met since the vault was opened, and that a map is damaged.
// Damage that neither a point nor the head needs any more is forgotten. It reads maps, not
// data.
func (v *Vault) Found(ctx context.Context, id replication.DiskID) ([]Damage, error) {
	d, err := v.find(id)
	if err != nil {
		return nil, err
	}
	_, list, err := d.assessed(ctx)
	if err != nil {
		return nil, err
	}
	report := VerifyReport{Damage: list}
	c := check{disk: d, report: &report}
	c.lost()
	d.mu.Lock()
	for _, n := range slices.Sorted(maps.Keys(d.rotten)) {
		report.Damage = append(report.Damage, d.rotten[n]...)
	}
	if d.distrusted && d.why != nil && !d.vault.options.ReadOnly {
		report.Damage = append(report.Damage, Damage{Disk: id, Map: true, Reason: d.why.Error()})
	}
	d.mu.Unlock()
	return report.Damage, nil
}

// assessed gives the findings that somebody needs, by their place on the disk, and what is
// to be told of each; it forgets the others. What is told shares the names of points.
func (d *disk) assessed(ctx context.Context) ([]*finding, []Damage, error) {
	d.mu.Lock()
	known := slices.Collect(maps.Values(d.damaged))
	d.mu.Unlock()
	var list []*finding
	for _, f := range known {
		fresh, err := d.assess(ctx, *f)
		if err != nil && (context.Cause(ctx) != nil || vfs.Short(err)) {
			return nil, nil, err
		}
		if err != nil {
			// Who needs it cannot be told, for a map cannot be read. None is called sound for
			// that, and the list of points is there all the same.
			list = append(list, d.neededByAll(*f))
			continue
		}
		d.mu.Lock()
		from, to := fresh.of(d.points)
		needed := fresh.head || from < to
		if d.damaged[f.location] != nil { // not healed meanwhile
			d.damaged[f.location] = &fresh
			if !needed {
				delete(d.damaged, f.location)
			}
		}
		d.mu.Unlock()
		if needed {
			list = append(list, &fresh)
		}
	}
	slices.SortFunc(list, func(a, b *finding) int { return cmp.Compare(a.row.extent.Offset, b.row.extent.Offset) })
	if len(list) == 0 {
		return nil, nil, nil
	}
	return list, d.told(list), nil
}

// neededByAll is a finding that counts for every point and the head.
func (d *disk) neededByAll(f finding) *finding {
	d.mu.Lock()
	defer d.mu.Unlock()
	f.head = true
	if n := len(d.points); n > 0 {
		f.need(d.points[0].serial)
		f.need(d.points[n-1].serial)
	}
	return &f
}

// told is what is to be told of findings. Their points are parts of one list.
func (d *disk) told(list []*finding) []Damage {
	d.mu.Lock()
	points := slices.Clone(d.points)
	d.mu.Unlock()
	ids := make([]replication.PointID, len(points))
	for i := range points {
		ids[i] = points[i].id
	}
	all := make([]Damage, len(list))
	for i, f := range list {
		from, to := f.of(points)
		all[i] = Damage{Disk: d.id, Extent: f.row.extent, Points: ids[from:to:to], Head: f.head, Segment: f.segment, Offset: int64(f.position), Reason: f.reason.Error()}
	}
	return all
}

// assess finds out which points need a damaged block. What was looked at before is
// not looked at again: a block that the head does not need is needed by no later
// point, unless the disk is rewound, and that changes its turn.
func (d *disk) assess(ctx context.Context, f finding) (finding, error) {
	for {
		fresh, err := d.assessOnce(ctx, f)
		if err != nil || fresh.head {
			return fresh, err
		}
		// A point that was taken meanwhile may have needed it, and the head after it not.
		d.mu.Lock()
		n := len(d.points)
		passed := d.turn != fresh.turn || n == 0 || d.points[n-1].serial <= fresh.upTo || f.looked && f.turn == fresh.turn && !f.head
		d.mu.Unlock()
		if passed {
			return fresh, nil
		}
		f = fresh
		f.head = true // for all that is known
	}
}

func (d *disk) assessOnce(ctx context.Context, f finding) (finding, error) {
	d.mu.Lock()
	turn, n, at := d.turn, len(d.points), d.serial
	if f.looked && f.turn == turn && (!f.head || n == 0 || d.points[n-1].serial <= f.upTo) {
		d.mu.Unlock()
		if !f.head || f.at == at {
			return f, nil
		}
		var err error
		f.head, err = d.needsBlock(ctx, "", f.badBlock)
		f.at = at
		return f, err
	}
	points := slices.Clone(d.points)
	d.mu.Unlock()
	first := !f.looked || f.turn != turn
	if first {
		f.some, f.head, f.upTo = false, true, 0
	}
	f.looked, f.turn = true, turn
	if first && len(points) > 0 {
		// If the head needs it too, they are the last ones.
		needed, err := d.needsBlock(ctx, "", f.badBlock)
		if err != nil {
			return f, err
		}
		from := 0
		if needed {
			from, err = firstOf(len(points), func(i int) (bool, error) { return d.needsBlock(ctx, points[i].id, f.badBlock) })
		}
		if needed && err == nil {
			f.upTo = points[len(points)-1].serial
			if from < len(points) {
				f.need(points[from].serial)
				f.need(f.upTo)
			}
			return f, nil
		}
		if err != nil && !errors.Is(err, replication.ErrUnknownPoint) { // dropped meanwhile
			return f, err
		}
	}
	for _, p := range points {
		if !f.head || p.serial <= f.upTo {
			continue
		}
		need, err := d.needsBlock(ctx, p.id, f.badBlock)
		if errors.Is(err, replication.ErrUnknownPoint) {
			continue // dropped meanwhile
		}
		if err != nil {
			return f, err
		}
		if need {
			f.need(p.serial)
		} else if !first || f.some {
			f.head = false
		}
		f.upTo = p.serial
	}
	if !f.head && len(points) > 0 {
		f.upTo = points[len(points)-1].serial // none behind the last one that needs it does
	}
	if f.head {
		var err error
		if f.head, err = d.needsBlock(ctx, "", f.badBlock); err != nil {
			return f, err
		}
	}
	return f, nil
}

// firstOf gives the first of n that is so, if all behind it are; n when none is.
func firstOf(n int, so func(i int) (bool, error)) (int, error) {
	from, to := 0, n
	for from < to {
		i := from + (to-from)/2
		yes, err := so(i)
		if err != nil {
			return 0, err
		}
		if yes {
			to = i
		} else {
			from = i + 1
		}
	}
	return from, nil
}

// needsBlock reports whether a point, or with "" the head, needs a block.
func (d *disk) needsBlock(ctx context.Context, id replication.PointID, b badBlock) (bool, error) {
	if err := context.Cause(ctx); err != nil {
		return false, err
	}
	d.mu.Lock()
	size, upTo, err := d.locate(id)
	if err != nil {
		d.mu.Unlock()
		return false, err
	}
	w, err := d.view(size, upTo)
	if err != nil {
		return false, err
	}
	list, err := w.resolve(b.row.extent.Offset, min(b.row.extent.End(), w.size))
	if err != nil {
		return false, closing(err, w)
	}
	for i := range list {
		if list[i].codec != codecZero && list[i].segment == b.segment && list[i].position == b.position {
			return true, w.Close()
		}
	}
	return false, w.Close()
}
