package vault

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"path/filepath"
	"slices"
)

// segmentInfo is a segment that the disk needs.
type segmentInfo struct {
	number uint32
	first  serial // of its records
	oldest serial // the least of its records and of those whose blocks were moved to it
}

// deadSegment is a segment that nothing needs but perhaps a view that was open when
// it died.
type deadSegment struct {
	number uint32
	died   uint64
}

// pin notes that a view is open. The caller holds mu.
func (d *disk) pin() uint64 {
	d.clock++
	d.pins[d.clock] = true
	return d.clock
}

// unpin ends it and removes the segments that only that view needed.
func (d *disk) unpin(since uint64) error {
	d.mu.Lock()
	delete(d.pins, since)
	d.mu.Unlock()
	return d.removeDead()
}

// sweep writes the catalog if the maps changed, and frees the segments that no map
// refers to. What is still needed of them, the marks above all, is written into an
// inventory first.
func (d *disk) sweep(ctx context.Context, changed bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	changed = (changed || len(d.garbage) > 0) && d.catalogDue() || d.buried()
	dead := d.unreferenced()
	if len(dead) == 0 && !changed {
		return nil
	}
	if err := d.lead(ctx); err != nil {
		return err
	}
	defer d.follow()
	if dead = d.unreferenced(); len(dead) > 0 {
		if err := d.bury(dead); err != nil {
			return err
		}
	}
	d.mu.Unlock()
	err := d.writeCatalog()
	if err == nil {
		d.letGo()
		err = d.removeDead()
	}
	d.mu.Lock()
	return err
}

// notYet is the death of a segment that the catalog on the medium still counts on:
// before the next one is written, no end of a view may remove it.
const notYet = math.MaxUint64

// buried reports whether there is such a segment. The caller holds mu.
func (d *disk) buried() bool {
	return slices.ContainsFunc(d.dead, func(g deadSegment) bool { return g.died == notYet })
}

// letGo lets go of them, as a catalog was written that does without them.
func (d *disk) letGo() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.distrusted || d.injected {
		return // then none was written
	}
	d.clock++
	for i := range d.dead {
		if d.dead[i].died == notYet {
			d.dead[i].died = d.clock
		}
	}
}

// catalogShare: the catalog is written when the maps that changed since are so many
// times as large, or when a segment is to be removed.
const catalogShare = 8

// catalogDue reports whether the maps changed enough for a new catalog: the map files
// that it made superfluous, and those that an opening would have to make again. The
// caller holds mu.
func (d *disk) catalogDue() bool {
	bytes := int64(0)
	for _, m := range d.garbage {
		bytes += (m.fine.pages() + m.whole.pages()) * pageSize
	}
	return bytes >= catalogShare*d.catalogBytes
}

// unreferenced lists the sealed segments that no map refers to. The caller holds mu.
func (d *disk) unreferenced() []uint32 {
	if d.forgive(); len(d.lost) > 0 {
		return nil // what no map knows may be what cannot be read
	}
	needed := map[uint32]bool{}
	for _, t := range d.tiles {
		for _, r := range t.refs {
			needed[r.segment] = true
		}
	}
	for _, l := range d.memory.layers {
		for _, list := range l.maps {
			for i := range list {
				needed[list[i].segment] = true
			}
		}
	}
	d.forgetMoves()
	for _, places := range d.moves.all() {
		for _, to := range places {
			needed[to.segment] = true
		}
	}
	last := uint32(0) // the newest one may still be written to
	if n := len(d.segments); n > 0 {
		last = d.segments[n-1].number
	}
	var dead []uint32
	for _, g := range d.segments {
		if needed[g.number] || g.number >= last {
			continue
		}
		// What follows a segment without footer says where its records end.
		if slices.ContainsFunc(d.unsealed, func(n uint32) bool { return n < g.number }) {
			continue
		}
		dead = append(dead, g.number)
	}
	return dead
}

// forgetMoves forgets moves that no map needs any more. The caller holds mu.
func (d *disk) forgetMoves() {
	if d.moves.empty() {
		return
	}
	named := map[uint32]bool{}
	note := func(m *mapFile) {
		for _, r := range m.refs {
			named[r.segment] = named[r.segment] || d.moves.segments[r.segment] > m.moved
		}
	}
	for _, t := range d.tiles {
		note(t.mapFile)
	}
	for _, f := range d.folds {
		note(f.mapFile)
	}
	for _, l := range d.memory.layers {
		for _, list := range l.maps {
			for i := range list {
				named[list[i].segment] = true
			}
		}
	}
	d.moves = d.moves.without(func(n uint32) bool { return !named[n] })
}

// bury writes an inventory that does without some segments, and marks these as
// dead. The caller holds mu and leads.
func (d *disk) bury(dead []uint32) error {
	kept := slices.DeleteFunc(slices.Clone(d.segments), func(g segmentInfo) bool { return slices.Contains(dead, g.number) })
	before, voids := d.segments, d.voids
	d.segments = kept
	if len(kept) > 0 {
		// Records that are void and gone need no mention.
		// What was moved before the rewind is in a segment that is older than it, and
		// after it nothing void is moved: see mover.
		d.voids = slices.DeleteFunc(slices.Clone(voids), func(r serialRange) bool { return r.to < kept[0].first })
	}
	var e encoder
	d.snapshot(&e)
	d.segments, d.voids = before, voids
	if len(e.p) > maxBodyBytes { // no opening would read it
		return fmt.Errorf("disk %s: an inventory of %d bytes is beyond the limit of %d: nothing is let go until there are fewer points", d.id, len(e.p), int64(maxBodyBytes))
	}
	r := newDraft(kindInventory, nil, nil, e.p)
	r.head.epoch = d.epoch
	if err := d.write(r); err != nil {
		return err
	}
	for _, n := range dead {
		d.dead = append(d.dead, deadSegment{n, notYet})
	}
	// What was found damaged there was read well by the one who moved it, or is needed no more.
	maps.DeleteFunc(d.damaged, func(at location, _ *finding) bool { return slices.Contains(dead, at.segment) })
	return nil
}

// adoptInventory takes from an inventory which segments are still needed. The rest
// of it repeats what the records before it say.
func (s *state) adoptInventory(r *record) error {
	var i state
	d := decoder{p: r.body}
	if err := i.restore(&d); err != nil {
		return err
	}
	if err := d.done(); err != nil {
		return err
	}
	own := s.segments[len(s.segments)-1]
	s.segments, s.voids = i.segments, i.voids
	if n := len(s.segments); n == 0 || s.segments[n-1].number != own.number {
		s.segments = append(s.segments, own)
	}
	s.moves = s.moves.arriving(func(segment uint32) bool { _, there := s.segmentInfo(segment); return there })
	return nil
}

// removeDead removes the dead segments that no open view may need.
func (d *disk) removeDead() error {
	d.mu.Lock()
	oldest := d.clock + 1
	for pin := range d.pins {
		oldest = min(oldest, pin)
	}
	var free []deadSegment
	d.dead = slices.DeleteFunc(d.dead, func(g deadSegment) bool {
		if g.died < oldest {
			free = append(free, g)
			return true
		}
		return false
	})
	d.mu.Unlock()
	if d.gone.Load() {
		return nil
	}
	var errs []error
	for _, g := range free {
		err := d.vault.fs.Remove(filepath.Join(d.folder, segmentName(g.number)))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			// The next opening removes it.
			errs = append(errs, fmt.Errorf("remove the dead segment %s of disk %s: %w", segmentName(g.number), d.id, err))
		}
	}
	return errors.Join(errs...)
}

// forgive forgets lost records that no point and not the head builds on any more.
// The caller holds mu.
func (s *state) forgive() {
	s.lost = slices.DeleteFunc(slices.Clone(s.lost), func(l serialRange) bool {
		if s.doubts(l, s.serial) {
			return false
		}
		return !slices.ContainsFunc(s.points, func(p *point) bool { return s.doubts(l, p.serial) })
	})
}

// doubts reports whether lost records make what happened up to a serial uncertain.
func (s *state) doubts(l serialRange, at serial) bool {
	return at > l.from && (s.mended < l.to || at < s.mended)
}
