package vault

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"riparo/replication"
	"riparo/replication/vfs"
)

// Heal looks for damage to a disk and mends it from a source that shows the disk as
// its machine has it now.
//
// Where the source still has what was written in a damaged block (its checksum
// tells), all points that need the block are whole again: that damage is healed.
// Elsewhere the points stay damaged and the damage is left; but where the head needs
// the block, the head takes what the source has, as a change like any other, so that
// the next point is right. The same happens to the whole head when records of the log
// are lost. Harmless damage is neither healed nor left: see [Damage].
func (v *Vault) Heal(ctx context.Context, id replication.DiskID, source replication.Source) (healed, left []Damage, err error) {
	if err := v.writable(); err != nil {
		return nil, nil, err
	}
	d, err := v.findToWrite(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	if err := d.couldBe(source); err != nil {
		return nil, nil, err
	}
	var report VerifyReport
	bad, err := v.verifyDisks(ctx, []*disk{d}, &report, func(int64) {})
	if err != nil {
		return nil, nil, fmt.Errorf("heal disk %s: %w", id, err)
	}
	if err := d.keepFooter(ctx, func(segment uint32) bool {
		return slices.ContainsFunc(report.Damage, func(m Damage) bool { return m.Disk == id && m.Segment == segment })
	}); err != nil {
		return nil, nil, err
	}
	damage := report.Damage[len(report.Damage)-len(bad):]
	for _, b := range report.Damage[:len(report.Damage)-len(bad)] {
		if !b.Harmless {
			left = append(left, b)
		}
	}
	var failed error
	for i, b := range bad {
		if damage[i].Harmless {
			continue
		}
		same, err := d.healBlock(ctx, b, damage[i].Head, source)
		if d.endsHealing(ctx, err) {
			return healed, left, err
		}
		failed = cmp.Or(failed, err)
		if same {
			healed = append(healed, damage[i])
		} else {
			left = append(left, damage[i])
		}
	}
	if err := errors.Join(failed, d.mend(ctx, source)); err != nil {
		return healed, left, err
	}
	d.mu.Lock()
	clear(d.hard)
	d.mu.Unlock()
	v.nudge(d)
	return healed, left, nil
}

// endsHealing tells an error of one block behind which others may be healed all the same from
// one that holds for all.
func (d *disk) endsHealing(ctx context.Context, err error) bool {
	if err == nil {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return ctx.Err() != nil || d.usable() != nil || errors.Is(err, vfs.ErrNoSpace) || vfs.Short(err)
}

// HealFound is Heal for the damage that [Vault.Found] tells: it reads no more of the
// source than that. Only after records of the log were lost, the whole head is
// compared.
func (v *Vault) HealFound(ctx context.Context, id replication.DiskID, source replication.Source) (healed, left []Damage, err error) {
	if err := v.writable(); err != nil {
		return nil, nil, err
	}
	d, err := v.findToWrite(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	if err := d.couldBe(source); err != nil {
		return nil, nil, err
	}
	found, told, err := d.assessed(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("heal disk %s: %w", id, err)
	}
	var failed error
	for i, f := range found {
		damage := told[i]
		if d.readsWell(f.badBlock) {
			d.mu.Lock()
			delete(d.damaged, f.location)
			d.mu.Unlock()
			continue
		}
		same, err := d.healBlock(ctx, f.badBlock, damage.Head, source)
		if d.endsHealing(ctx, err) {
			return healed, left, err
		}
		failed = cmp.Or(failed, err)
		if same {
			healed = append(healed, damage)
		} else {
			left = append(left, damage)
		}
	}
	if len(healed) > 0 {
		d.mu.Lock()
		clear(d.hard)
		d.mu.Unlock()
		v.nudge(d)
	}
	return healed, left, errors.Join(failed, d.mend(ctx, source))
}

// readsWell reads a block that was found damaged once more: an error of the storage may have
// passed, and the block is sound then.
func (d *disk) readsWell(b badBlock) bool {
	n := d.named(nil, moves{})
	e := entry{offset: b.row.extent.Offset, length: b.row.extent.Length, sum: b.row.sum, segment: b.segment, position: b.position,
		stored: b.row.stored, plain: uint32(b.row.extent.Length), crc: b.row.crc, codec: b.row.codec, key: b.row.key}
	return errors.Join(n.read(&e), n.blocks.close()) == nil
}

// couldBe refuses a source that cannot be the disk as it is now.
func (d *disk) couldBe(source replication.Source) error {
	d.mu.Lock()
	size := d.disk.Size
	d.mu.Unlock()
	if source.Size() == size {
		return nil
	}
	return &replication.Problem{
		Code:   CodeSourceSize,
		Cause:  fmt.Sprintf("the source has %d bytes, and disk %s %d", source.Size(), d.id, size),
		Effect: "nothing was repaired",
		Action: "give the disk as it is now, not an older or cut-off copy; if it was resized, replicate it first",
		Remedy: replication.Stop,
	}
}

// keepFooter seals the segment that is being written when it is damaged. What its
// damaged records were may be known from its footer only, which is still in memory: the
// next opening would find that records are lost, or not even that.
func (d *disk) keepFooter(ctx context.Context, damaged func(segment uint32) bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.lead(ctx); err != nil {
		return err
	}
	defer d.follow()
	w := d.log.current
	if w == nil || !damaged(w.number) {
		return nil
	}
	d.mu.Unlock()
	err := d.log.seal()
	d.mu.Lock()
	if err != nil {
		return d.failed(err)
	}
	return nil
}

// healBlock mends a damaged block when the source still has its content, and reports
// whether it has. Otherwise a head that needs the block takes what the source has.
func (d *disk) healBlock(ctx context.Context, b badBlock, head bool, source replication.Source) (same bool, err error) {
	same, data, err := d.readSame(source, b.row)
	switch {
	case err != nil:
		return false, fmt.Errorf("heal disk %s: read the source at %s: %w", d.id, b.row.extent, err)
	case same:
		from, err := d.originAt(ctx, b.location)
		if errors.Is(err, errNoOrigin) {
			// It cannot be put into its place for all points; the head can have it.
			if head {
				return false, d.refresh(ctx, b, source)
			}
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("heal disk %s: block %s: %w", d.id, b.row.extent, err)
		}
		if err := d.move(ctx, from, data, b.row.extent); err != nil {
			return false, err
		}
		d.mu.Lock()
		delete(d.damaged, b.location)
		d.mu.Unlock()
	case head:
		return false, d.refresh(ctx, b, source)
	}
	return same, nil
}

// mend makes the head equal to the source when records are lost, and writes down
// that it is.
func (d *disk) mend(ctx context.Context, source replication.Source) error {
	d.mu.Lock()
	if d.trusted("", d.serial) == nil {
		d.mu.Unlock()
		return nil
	}
	w, err := d.view(d.disk.Size, d.serial)
	if err != nil {
		return err
	}
	err = d.compare(ctx, w, source)
	if err := closing(err, w); err != nil {
		return fmt.Errorf("heal disk %s: %w", d.id, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.lead(ctx); err != nil {
		return err
	}
	defer d.follow()
	var e encoder
	e.ranges(d.lost)
	r := newDraft(kindMend, nil, nil, e.p)
	r.head.epoch = d.epoch
	return d.write(r)
}

// compare writes to the head what the source has differently.
func (d *disk) compare(ctx context.Context, w *View, source replication.Source) error {
	if err := d.couldBe(source); err != nil {
		return err
	}
	want, have := make([]byte, replication.MaxBatchBytes), make([]byte, replication.MaxBatchBytes)
	for at := int64(0); at < w.Size(); at += replication.MaxBatchBytes {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		n := min(replication.MaxBatchBytes, w.Size()-at)
		if err := readFull(source, want[:n], at); err != nil {
			return fmt.Errorf("read the source at %d: %w", at, err)
		}
		var changes []replication.Change
		for p := int64(0); p < n; p += blockBytes {
			end := min(p+blockBytes, n)
			// What is damaged differs.
			if err := readFull(w, have[p:end], at+p); err != nil || !bytes.Equal(have[p:end], want[p:end]) {
				changes = append(changes, replication.Change{Extent: replication.Extent{Offset: at + p, Length: end - p}, Data: want[p:end]})
			}
		}
		if err := d.change(ctx, changes); err != nil {
			return err
		}
	}
	return nil
}

// change writes changes of the vault's own to the head.
func (d *disk) change(ctx context.Context, changes []replication.Change) error {
	if len(changes) == 0 {
		return nil
	}
	c, err := d.encode(changes)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.lead(ctx); err != nil {
		return err
	}
	defer d.follow()
	r := newDraft(kindBatch, c.table, c.payload, nil)
	r.head.epoch = d.epoch
	return d.write(r)
}

// readSame reads what the source has in the place of a block, and tells whether it
// is what the block had.
func (d *disk) readSame(source replication.Source, r row) (same bool, data []byte, err error) {
	if r.extent.End() > source.Size() {
		return false, nil, nil
	}
	data = make([]byte, r.extent.Length)
	if err := readFull(source, data, r.extent.Offset); err != nil {
		return false, nil, err
	}
	sum, err := d.keys.sumOf(r.key, r.extent.Offset, data)
	return sum == r.sum, data, err
}

// move stores the content of a block once more and puts the new place into all maps.
func (d *disk) move(ctx context.Context, from origin, data []byte, extent replication.Extent) error {
	c, err := d.encode([]replication.Change{{Extent: extent, Data: data}})
	if err != nil {
		return fmt.Errorf("heal disk %s: %w", d.id, err)
	}
	if len(c.table) != 1 || c.table[0].codec == codecZero {
		return fmt.Errorf("heal disk %s: block %s is not one block", d.id, extent)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.lead(ctx); err != nil {
		return err
	}
	defer d.follow()
	return d.write(newDraft(kindMove, c.table, c.payload, from.append(nil)))
}

// refresh writes what the source has where the head needs a damaged block.
func (d *disk) refresh(ctx context.Context, b badBlock, source replication.Source) error {
	d.mu.Lock()
	w, err := d.view(d.disk.Size, d.serial) // lost records are mended behind this
	if err != nil {
		return err
	}
	list, err := w.resolve(b.row.extent.Offset, min(b.row.extent.End(), w.size))
	if err := closing(err, w); err != nil {
		return err
	}
	var changes []replication.Change
	for i := range list {
		e := &list[i]
		if e.codec == codecZero || e.segment != b.segment || e.position != b.position {
			continue
		}
		data := make([]byte, e.length)
		if err := readFull(source, data, e.offset); err != nil {
			return fmt.Errorf("heal disk %s: read the source at %s: %w", d.id, e.extent(), err)
		}
		changes = append(changes, replication.Change{Extent: e.extent(), Data: data})
	}
	if err := d.change(ctx, changes); err != nil {
		return fmt.Errorf("heal disk %s: %w", d.id, err)
	}
	return nil
}
