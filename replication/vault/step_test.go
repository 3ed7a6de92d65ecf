package vault

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"riparo/replication"
	"riparo/replication/vfs"
)

// step does one thing that a vault is asked for.
func (l *life) step() error {
	r := l.random
	id := replication.DiskID([]string{"a", "b"}[r.IntN(2)])
	d := l.model.disks[id]
	if d == nil {
		return l.prepare(id, 1)
	}
	l.faults["steps"]++
	if l.vault.keys != nil && r.IntN(30) == 0 {
		return l.turnKeys(id)
	}
	if r.IntN(100) < l.habits.maintain {
		l.note("maintain %s", id)
		err := l.upkeep(id, func() error { return l.vault.disks[id].maintain(l.ctx) })
		return errors.Join(err, l.look())
	}
	if r.IntN(100) < l.habits.compact {
		err := l.upkeep(id, func() error { return l.compact(id) })
		return errors.Join(err, l.look())
	}
	switch n := r.IntN(100); {
	case n < 45:
		return l.write(id, 1+r.IntN(4))
	case n < 65:
		return l.mark(id)
	case n < 70:
		return l.prepare(id, d.state.Epoch+replication.Epoch(r.IntN(2)))
	case n < 75:
		return l.rewind(id)
	case n < 83:
		return errors.Join(l.drop(id), l.look())
	case n < 85:
		l.note("maintain")
		err := l.upkeep(id, func() error { return l.vault.disks[id].maintain(l.ctx) })
		return errors.Join(err, l.look())
	case n < 88:
		err := l.upkeep(id, func() error { return l.compact(id) })
		return errors.Join(err, l.look())
	case n < 90:
		return l.reopen()
	case n < 93:
		return l.hold(id)
	case n < 95:
		return l.full(id)
	case n < 97:
		return l.another(id)
	case n < 98 && slices.ContainsFunc(d.points, func(p modelPoint) bool { return p.locked }):
		return l.refused("erase "+string(id), func() error { return l.vault.Erase(l.ctx, id) })
	case n < 98:
		released := l.model.clone()
		released.release(id)
		l.later = append(l.later, released)
		next := released.clone()
		delete(next.disks, id)
		return l.try("erase "+string(id), next, func() error { return l.vault.Erase(l.ctx, id) })
	case n < 99:
		return l.keep(id)
	default:
		return l.release()
	}
}

// keep locks points, or pins or unpins them. Locks end long after all lives.
func (l *life) keep(id replication.DiskID) error {
	r := l.random
	var points []replication.PointID
	for _, p := range l.model.disks[id].points {
		if r.IntN(3) == 0 {
			points = append(points, p.id)
		}
	}
	next := l.model.clone()
	switch r.IntN(4) {
	case 0:
		next.keep(id, points, func(p *modelPoint) { p.locked = true })
		until := l.clock.AddDate(50, 0, 0)
		return l.try(fmt.Sprintf("lock %s %v", id, points), next, func() error { return l.vault.Lock(l.ctx, id, points, until) })
	case 1:
		next.keep(id, points, func(p *modelPoint) { p.pinned = false })
		return l.try(fmt.Sprintf("unpin %s %v", id, points), next, func() error { return l.vault.Unpin(l.ctx, id, points...) })
	default:
		next.keep(id, points, func(p *modelPoint) { p.pinned = true })
		return l.try(fmt.Sprintf("pin %s %v", id, points), next, func() error { return l.vault.Pin(l.ctx, id, points...) })
	}
}

// refused asks for what a lock or a pin forbids.
func (l *life) refused(what string, operation func() error) error {
	l.note("%s, which is forbidden", what)
	l.faults["refused"]++
	if err := operation(); !hasCode(err, CodeImmutable) {
		return fmt.Errorf("%w: %s: %w, want %s", errViolation, what, err, CodeImmutable)
	}
	return nil
}

func (l *life) prepare(id replication.DiskID, epoch replication.Epoch) error {
	size := int64(l.random.IntN(30_000))
	if l.random.IntN(8) == 0 {
		size += 150_000
	}
	disk := replication.Disk{ID: id, Machine: "m", Size: size}
	next := l.model.clone()
	next.prepare(disk, epoch)
	return l.try(fmt.Sprintf("prepare %s %d bytes, epoch %d", id, size, epoch), next, func() error {
		_, err := l.vault.Prepare(l.ctx, disk, epoch)
		return err
	})
}

// batch makes a random batch for a disk that is not empty.
func (l *life) batch(id replication.DiskID, d *modelDisk, sequence replication.Sequence) replication.Batch {
	r := l.random
	b := replication.Batch{Disk: id, Epoch: d.state.Epoch, Sequence: sequence}
	size := d.state.Disk.Size
	at := r.Int64N(size)
	if r.IntN(2) == 0 {
		at = 0
	}
	changes, longest := 1+r.IntN(3), int64(5000)
	if r.IntN(8) == 0 { // a table of several sectors
		changes, longest = 40, 40
	}
	for range changes {
		if at >= size {
			break
		}
		offset := at + r.Int64N(min(size-at, 4*longest))
		length := 1 + r.Int64N(min(size-offset, longest))
		c := replication.Change{Extent: replication.Extent{Offset: offset, Length: length}}
		switch n := r.IntN(10); {
		case n < l.habits.zeroes:
		case n < l.habits.zeroes+2: // noise
			c.Data = make([]byte, length)
			for i := range c.Data {
				c.Data[i] = byte(r.Uint32())
			}
		default:
			c.Data = make([]byte, length)
			fill := byte(r.Uint32())
			for i := range c.Data {
				c.Data[i] = fill + byte(i/256)
			}
		}
		b.Changes = append(b.Changes, c)
		at = c.End()
	}
	return b
}

// write sends n batches at once, sometimes with a mark behind them. Those after the
// first wait for it, so that one append takes them all.
func (l *life) write(id replication.DiskID, n int) error {
	d := l.model.disks[id]
	if d.state.Disk.Size == 0 {
		return nil
	}
	var batches []replication.Batch
	next := l.model
	for i := range n {
		next = next.clone()
		b := l.batch(id, d, d.state.Sequence+replication.Sequence(i)+1)
		next.write(b)
		l.later = append(l.later, next)
		batches = append(batches, b)
	}
	var mark *replication.Mark
	if n > 1 && l.random.IntN(3) == 0 {
		m := l.nextMark(id, id)
		m.Sequence += replication.Sequence(n)
		next = next.clone()
		next.mark(m)
		l.later = append(l.later, next)
		mark = &m
	}
	l.note("write %s %d batches from %d, mark %v", id, n, batches[0].Sequence, mark != nil)
	if !l.calm && l.random.IntN(l.habits.whole) == 0 {
		l.disk.CutPower(l.random.IntN(2)) // data that is torn is the most common case
		l.torn = n > 1
	}
	var err error
	if n == 1 {
		err = l.vault.Write(l.ctx, batches[0])
	} else {
		err = l.vault.writeTogether(l.ctx, batches, mark)
	}
	if err != nil {
		return err
	}
	l.model, l.later = next, nil
	return nil
}

// writeTogether does what several calls of Write do when all wait for the first one:
// without goroutines, whose order no seed decides.
func (v *Vault) writeTogether(ctx context.Context, batches []replication.Batch, mark *replication.Mark) error {
	d, err := v.findToWrite(ctx, batches[0].Disk)
	if err != nil {
		return err
	}
	var list []*pending
	for _, b := range batches {
		r, err := d.draftBatch(b)
		if err != nil {
			return err
		}
		r.head.sequence, r.head.epoch = b.Sequence, b.Epoch
		list = append(list, &pending{draft: r})
	}
	if mark != nil {
		r := draftMark(*mark)
		r.head.sequence, r.head.epoch = mark.Sequence, mark.Epoch
		list = append(list, &pending{draft: r})
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.usable(); err != nil {
		return err
	}
	for _, p := range list {
		d.queue[p.head.sequence] = p
	}
	for d.queue[d.sequence+1] != nil {
		d.commit()
	}
	var errs []error
	for _, p := range list {
		errs = append(errs, p.err)
	}
	return errors.Join(errs...)
}

// nextMark makes the mark of a new point.
func (l *life) nextMark(id replication.DiskID, members ...replication.DiskID) replication.Mark {
	d := l.model.disks[id]
	l.points++
	return replication.Mark{
		Disk: id, Epoch: d.state.Epoch, Sequence: d.state.Sequence + 1, Size: d.state.Disk.Size,
		Point: replication.PointID(fmt.Sprintf("p%04d", l.points)), Time: l.clock, Consistency: replication.CrashConsistent,
		Members: members,
	}
}

func (l *life) mark(id replication.DiskID) error {
	m := l.nextMark(id, id)
	other := replication.DiskID("ab"[1-slices.Index([]replication.DiskID{"a", "b"}, id):][:1])
	both := l.random.IntN(3) == 0 && l.model.disks[other] != nil
	if both {
		m.Members = []replication.DiskID{"a", "b"}
	}
	next := l.model.clone()
	next.mark(m)
	if err := l.try(fmt.Sprintf("mark %s %s", id, m.Point), next, func() error { return l.vault.Mark(l.ctx, m) }); err != nil {
		return err
	}
	if !both || l.random.IntN(4) == 0 {
		return nil // sometimes the second mark never comes
	}
	o := l.model.disks[other]
	m.Disk, m.Epoch, m.Sequence, m.Size = other, o.state.Epoch, o.state.Sequence+1, o.state.Disk.Size
	next = l.model.clone()
	next.mark(m)
	return l.try(fmt.Sprintf("mark %s %s", other, m.Point), next, func() error { return l.vault.Mark(l.ctx, m) })
}

func (l *life) rewind(id replication.DiskID) error {
	d := l.model.disks[id]
	if len(d.points) == 0 {
		return nil
	}
	to := d.points[len(d.points)-1-l.random.IntN(min(3, len(d.points)))].id
	epoch := d.state.Epoch + replication.Epoch(l.random.IntN(2))
	if slices.ContainsFunc(d.points[d.index(to)+1:], func(p modelPoint) bool { return p.held() }) {
		return l.refused("rewind "+string(id), func() error { return l.vault.Rewind(l.ctx, id, to, epoch) })
	}
	next := l.model.clone()
	next.rewind(id, to, epoch)
	return l.try(fmt.Sprintf("rewind %s to %s", id, to), next, func() error { return l.vault.Rewind(l.ctx, id, to, epoch) })
}

func (l *life) drop(id replication.DiskID) error {
	var gone []replication.PointID
	for _, p := range l.model.droppable(id) {
		if l.random.IntN(2) == 0 {
			gone = append(gone, p)
		}
	}
	for _, p := range l.model.older(id) {
		if p.held() && l.random.IntN(4) == 0 {
			return l.refused("drop "+string(id), func() error { return l.vault.Drop(l.ctx, id, append(gone, p.id)) })
		}
	}
	next := l.model.clone()
	next.drop(id, gone)
	return l.try(fmt.Sprintf("drop %s %v", id, gone), next, func() error { return l.vault.Drop(l.ctx, id, gone) })
}

// compact moves what points need out of segments that have little of it. Sometimes it
// is ended between two appends.
func (l *life) compact(id replication.DiskID) error {
	l.note("compact %s", id)
	if l.random.IntN(2) == 0 {
		// Compaction takes what map files know.
		if err := l.vault.disks[id].flush(l.ctx); err != nil {
			return err
		}
	}
	left := l.random.IntN(12)
	did, err := l.vault.disks[id].compact(l.ctx, func(context.Context, int64) error {
		if left--; left < 0 {
			return errEnough
		}
		return nil
	})
	if did {
		l.faults["compactions"]++
	}
	if errors.Is(err, errEnough) {
		l.faults["compactions ended"]++
		return nil
	}
	return err
}

var errEnough = errors.New("enough")

// reopen closes the vault in good order and opens it again.
func (l *life) reopen() error {
	l.note("close and open")
	for _, h := range l.held {
		if err := h.view.Close(); err != nil {
			return err
		}
	}
	l.held = nil
	v := l.vault
	l.vault = nil
	if err := v.Close(); err != nil {
		if l.disk.PowerIsCut() || errors.Is(err, vfs.ErrIO) {
			return err
		}
		return fmt.Errorf("close: %w", err)
	}
	v, err := Open(l.ctx, l.disk, "v", l.options())
	if err != nil {
		return err
	}
	l.vault = v
	return v.failedOpening()
}

// hold opens a view and keeps it.
func (l *life) hold(id replication.DiskID) error {
	d := l.model.disks[id]
	point, want := replication.PointID(""), d.head
	if n := len(d.points); n > 0 && l.random.IntN(3) > 0 {
		p := d.points[l.random.IntN(n)]
		point, want = p.id, p.content
	}
	l.note("hold a view of %s %q", id, point)
	w, err := l.vault.View(l.ctx, id, point)
	if err != nil {
		return err
	}
	l.held = append(l.held, heldView{w, slices.Clone(want)})
	return nil
}

// release looks at the oldest view that was kept.
func (l *life) release() error {
	if len(l.held) == 0 {
		return nil
	}
	h := l.held[0]
	l.held = l.held[1:]
	if l.model.disks[h.view.disk.id] == nil || l.vault.disks[h.view.disk.id] != h.view.disk {
		return h.view.Close() // the disk was erased under it
	}
	l.note("look at the kept view of %s", h.view.disk.id)
	if err := viewShows(h.view, h.want); err != nil && !l.disk.PowerIsCut() {
		return fmt.Errorf("%w: a view that was kept: %w", errViolation, err)
	}
	return h.view.Close()
}

// look reads all views that were kept.
func (l *life) look() error {
	for _, h := range l.held {
		if l.vault.disks[h.view.disk.id] != h.view.disk {
			continue // the disk was erased under it
		}
		if err := viewShows(h.view, h.want); err != nil && !l.disk.PowerIsCut() {
			return fmt.Errorf("%w: a view that was kept: %w", errViolation, err)
		}
	}
	return nil
}

// another makes the disk full while several batches are written, and then writes
// others of the same size in their place.
func (l *life) another(id replication.DiskID) error {
	d := l.model.disks[id]
	size := d.state.Disk.Size
	if size < 4000 {
		return nil
	}
	space, err := l.disk.Space("v")
	if err != nil {
		return err
	}
	l.note("full disk, then other data")
	for _, room := range []int64{2*vfs.Sector + int64(l.random.IntN(vfs.Sector)), 0} {
		var batches []replication.Batch
		next := l.model
		for i := range 3 {
			next = next.clone()
			// With header and table, a record of one sector: a write that loses the
			// second one leaves there what was written first.
			noise := make([]byte, vfs.Sector-recordHeaderSize-blockRowSize-sealedExtra)
			fillNoise(noise, l.random.Uint64())
			b := replication.Batch{Disk: id, Epoch: d.state.Epoch, Sequence: d.state.Sequence + replication.Sequence(i) + 1}
			b.Changes = []replication.Change{{Extent: replication.Extent{Offset: int64(i) * 1000, Length: int64(len(noise))}, Data: noise}}
			next.write(b)
			l.later = append(l.later, next)
			batches = append(batches, b)
		}
		capacity := int64(0)
		if room > 0 {
			capacity = space.Total - space.Free + room
		}
		l.disk.SetCapacity(capacity)
		err := l.vault.writeTogether(l.ctx, batches, nil)
		l.disk.SetCapacity(0)
		if room > 0 && hasCode(err, CodeFull) {
			l.faults["full"]++
			if !l.calm && l.random.IntN(2) == 0 {
				l.disk.CutPower(l.random.IntN(3)) // what follows is the place to look at
			}
			continue
		}
		if err == nil {
			l.model, l.later = next, nil
		}
		return err
	}
	return nil
}

// full makes the disk full for one write, which must leave everything as it was.
func (l *life) full(id replication.DiskID) error {
	d := l.model.disks[id]
	if d.state.Disk.Size == 0 {
		return nil
	}
	space, err := l.disk.Space("v")
	if err != nil {
		return err
	}
	l.note("full disk")
	l.disk.SetCapacity(space.Total - space.Free + int64(l.random.IntN(5000)))
	next := l.model.clone()
	b := l.batch(id, d, d.state.Sequence+1)
	next.write(b)
	l.later = append(l.later, next)
	err = l.vault.Write(l.ctx, b)
	l.disk.SetCapacity(0)
	if hasCode(err, CodeFull) {
		l.faults["full"]++
		err = l.vault.Write(l.ctx, b)
	}
	if err != nil {
		return err
	}
	l.model, l.later = next, nil
	return nil
}
