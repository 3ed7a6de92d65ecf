package vault

import (
	"context"
	"fmt"
	"slices"

	"riparo/replication"
)

// Prepare implements replication.Sink. Cutting a disk counts as a change of its
// head: bytes that a later growth brings back read as zero.
func (v *Vault) Prepare(ctx context.Context, want replication.Disk, epoch replication.Epoch) (replication.DiskState, error) {
	if err := v.writable(); err != nil {
		return replication.DiskState{}, err
	}
	if err := want.ID.Check(); err != nil {
		return replication.DiskState{}, err
	}
	if want.Size < 0 {
		return replication.DiskState{}, fmt.Errorf("prepare disk %s: a size of %d bytes", want.ID, want.Size)
	}
	d, err := v.findOrCreate(want.ID)
	if d != nil {
		d = v.revived(ctx, d)
		err = d.sick
	}
	if err != nil {
		return replication.DiskState{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.lead(ctx); err != nil {
		return replication.DiskState{}, err
	}
	defer d.follow()
	if epoch < d.epoch {
		return replication.DiskState{}, staleEpoch(d.id, epoch, d.epoch)
	}
	if d.serial > 0 && epoch == d.epoch && d.disk == want {
		return d.report(), nil
	}
	if d.serial == 0 {
		d.mu.Unlock()
		err := v.emptyFolder(d.folder)
		if err == nil {
			err = d.keys.create()
		}
		d.mu.Lock()
		if err != nil {
			return replication.DiskState{}, writeProblem(d.id, fmt.Errorf("make folder %s: %w", d.folder, err))
		}
	}
	var table []row
	if want.Size < d.disk.Size {
		cut := replication.Extent{Offset: want.Size, Length: d.disk.Size - want.Size}
		table = append(table, row{extent: cut, codec: codecZero})
	}
	r := newDraft(kindDisk, table, nil, diskBody{id: want.ID, machine: want.Machine, size: want.Size}.encode())
	r.head.epoch = epoch
	before := d.epoch
	if err := d.write(r); err != nil {
		return replication.DiskState{}, err
	}
	if epoch > before {
		d.refuse(staleEpoch(d.id, before, epoch))
	} else {
		d.refuse(d.preparedAnew())
	}
	return d.report(), nil
}

// Write implements replication.Sink.
func (v *Vault) Write(ctx context.Context, b replication.Batch) error {
	if err := v.writable(); err != nil {
		return err
	}
	d, err := v.findToWrite(ctx, b.Disk)
	if err != nil {
		return err
	}
	leave, err := v.enter(ctx, d, &b)
	if err != nil {
		return err
	}
	known := func() error {
		if p := d.pointAt(b.Sequence); p != nil {
			return fmt.Errorf("disk %s: sequence %d is the mark of point %s: %w", d.id, b.Sequence, p.id, replication.ErrSequence)
		}
		return nil
	}
	err = d.submit(ctx, b.Sequence, b.Epoch, known, func() (*draft, error) {
		r, err := d.draftBatch(b)
		if err == nil && b.Taken != nil {
			b.Taken()
		}
		return r, err
	})
	leave(err == nil)
	return err
}

// draftBatch makes the record of a batch.
func (d *disk) draftBatch(b replication.Batch) (*draft, error) {
	d.mu.Lock()
	size := d.disk.Size
	d.mu.Unlock()
	if err := b.Check(size); err != nil {
		return nil, err
	}
	if err := disjoint(b); err != nil {
		return nil, err
	}
	c, err := d.encode(b.Changes)
	if err != nil {
		return nil, fmt.Errorf("batch %d of disk %s: %w", b.Sequence, b.Disk, err)
	}
	return newDraft(kindBatch, c.table, c.payload, nil), nil
}

// disjoint reports changes of a batch that overlap.
func disjoint(b replication.Batch) error {
	ascending := true
	for i := 1; i < len(b.Changes) && ascending; i++ {
		ascending = b.Changes[i-1].End() <= b.Changes[i].Offset
	}
	if ascending {
		return nil
	}
	sorted := make([]replication.Extent, len(b.Changes))
	for i, c := range b.Changes {
		sorted[i] = c.Extent
	}
	slices.SortFunc(sorted, func(x, y replication.Extent) int {
		if x.Offset < y.Offset {
			return -1
		}
		return 1
	})
	for i := 1; i < len(sorted); i++ {
		if sorted[i-1].End() > sorted[i].Offset {
			return fmt.Errorf("batch %d of disk %s: changes %s and %s overlap", b.Sequence, b.Disk, sorted[i-1], sorted[i])
		}
	}
	return nil
}

// Mark implements replication.Sink. The mark of the point that is the newest one
// already, with nothing written since, takes its sequence and changes nothing else.
func (v *Vault) Mark(ctx context.Context, m replication.Mark) error {
	if err := v.writable(); err != nil {
		return err
	}
	d, err := v.findToWrite(ctx, m.Disk)
	if err != nil {
		return err
	}
	known := func() error {
		if p := d.pointAt(m.Sequence); p != nil && p.id != m.Point {
			return fmt.Errorf("disk %s: sequence %d is the mark of point %s, not of %s: %w", d.id, m.Sequence, p.id, m.Point, replication.ErrSequence)
		}
		return nil
	}
	return d.submit(ctx, m.Sequence, m.Epoch, known, func() (*draft, error) {
		if err := checkMark(m); err != nil {
			return nil, err
		}
		return draftMark(m), nil
	})
}

// draftMark makes the record of a mark.
func draftMark(m replication.Mark) *draft {
	members := m.Members
	if len(members) == 0 {
		members = []replication.DiskID{m.Disk}
	}
	var e encoder
	e.point(&point{id: m.Point, time: m.Time, consistency: m.Consistency, size: m.Size, members: members, tag: m.Tag})
	r := newDraft(kindMark, nil, nil, e.p)
	r.mark = &m
	return r
}

// Limits of a mark, so that no sender can make a record that does not fit.
const (
	maxPointIDBytes = 128
	maxMembers      = 1024
	maxTagBytes     = 4096
)

func checkMark(m replication.Mark) error {
	switch {
	case m.Point == "" || len(m.Point) > maxPointIDBytes:
		return fmt.Errorf("mark %d of disk %s: point name %q: want 1 to %d characters", m.Sequence, m.Disk, string(m.Point), maxPointIDBytes)
	case len(m.Members) > maxMembers:
		return fmt.Errorf("mark %d of disk %s: %d members: limit %d", m.Sequence, m.Disk, len(m.Members), maxMembers)
	case len(m.Tag) > maxTagBytes:
		return fmt.Errorf("mark %d of disk %s: a tag of %d bytes: limit %d", m.Sequence, m.Disk, len(m.Tag), maxTagBytes)
	case len(m.Members) > 0 && !slices.Contains(m.Members, m.Disk):
		return fmt.Errorf("mark %d of disk %s: the disk is not among the members of point %s", m.Sequence, m.Disk, m.Point)
	}
	for _, id := range m.Members {
		if err := id.Check(); err != nil {
			return fmt.Errorf("mark %d of disk %s: %w", m.Sequence, m.Disk, err)
		}
	}
	return nil
}

// pointAt is the point whose mark has the sequence. The caller holds mu.
func (d *disk) pointAt(sequence replication.Sequence) *point {
	i, ok := slices.BinarySearchFunc(d.points, sequence, func(p *point, s replication.Sequence) int {
		switch {
		case p.sequence < s:
			return -1
		case p.sequence > s:
			return 1
		}
		return 0
	})
	if !ok {
		return nil
	}
	return d.points[i]
}
