package protection

import (
	"context"
	"fmt"
	"iter"
	"sync"

	"riparo/hypervisor"
	"riparo/replication"
	"riparo/replication/processserver"
	"riparo/replication/resync"
	"riparo/store"
)

// keepBytes is how much of a disk a transfer passes before it keeps in the record how far
// it came: what is read again after a kill takes a second or so, and the record is
// written a few thousand times for 1 TiB.
const keepBytes = 256 << 20

// bringer follows the transfer of a disk that is read as a whole, so that it can go on
// where it was cut off.
type bringer struct {
	keep  func(store.Brought) // in the machine's record
	every int64               // bytes
	// floor is where the earlier transfer came to that this one goes on with. What is kept
	// of that one is worth more until this one has passed it.
	floor int64

	mu       sync.Mutex // guards what follows
	at       store.Brought
	saved    int64 // offset
	compared int64 // everything below was compared; -1 if it is only copied
	yielded  int64 // end of the last region that is to be sent
	durable  int64 // everything that was to be sent below is at the sink
}

// advance notes progress, and keeps it if that is due, or in any case.
func (b *bringer) advance(note func(), always bool) {
	b.mu.Lock()
	note()
	offset := b.durable
	if b.compared >= 0 && b.durable >= b.yielded {
		offset = b.compared
	}
	due := offset > b.floor && (offset-b.saved >= b.every || always && offset > b.saved)
	if due {
		b.at.Offset, b.saved = offset, offset
	}
	at := b.at
	b.mu.Unlock()
	if due {
		b.keep(at)
	}
}

// carried is told by the process server, comparedTo by the comparison.
func (b *bringer) carried(p processserver.Progress) {
	b.advance(func() {
		b.durable = max(b.durable, p.Offset)
		b.at.Sequence = max(b.at.Sequence, p.Sequence) // a head without it lacks something
	}, false)
}

func (b *bringer) comparedTo(p resync.Progress) {
	b.advance(func() { b.compared = p.Offset }, false)
}

// cutOff keeps where the transfer ended before its end.
func (b *bringer) cutOff() { b.advance(func() {}, true) }

// ended keeps that all of the disk was brought, up to a sequence: the head is of this
// instant now, whatever was kept of earlier ones.
func (b *bringer) ended(size int64, sequence replication.Sequence) {
	b.mu.Lock()
	b.at.Offset, b.at.Sequence, b.saved = size, sequence, size
	at := b.at
	b.mu.Unlock()
	b.keep(at)
}

// source notes which regions of a comparison are to be sent.
func (b *bringer) source(s replication.Source) replication.Source {
	b.compared = 0
	return &broughtSource{s, b}
}

type broughtSource struct {
	replication.Source
	bringer *bringer
}

// Regions implements replication.Source.
func (s *broughtSource) Regions(ctx context.Context) iter.Seq2[replication.Region, error] {
	return func(yield func(replication.Region, error) bool) {
		for region, err := range s.Source.Regions(ctx) {
			if err == nil {
				s.bringer.mu.Lock()
				s.bringer.yielded = region.End()
				s.bringer.mu.Unlock()
			}
			if !yield(region, err) {
				return
			}
		}
	}
}

// newBringer follows the transfer of disk i of m in the capture of a point.
func (p *Protector) newBringer(m *store.Machine, i int, point replication.PointID, state replication.DiskState, resumed bool) *bringer {
	b := &bringer{every: p.keepBytes, compared: -1, at: store.Brought{
		Point: point, Since: state.Point, Size: state.Disk.Size, Epoch: m.Epoch, Sequence: state.Sequence,
	}}
	// Before the first point all that the head has got is compared again: what is kept of
	// that is worth more from its beginning.
	if old := m.Disks[i].Brought; resumed && !(old.Again && state.Point == "") {
		b.floor = old.Offset
	}
	key := m.Disks[i].Key
	var turn sync.Mutex // comparison and transfer keep at the same time
	b.keep = func(at store.Brought) {
		turn.Lock()
		defer turn.Unlock()
		if old := m.Disks[i].Brought; old != nil && old.Point == point && old.Offset > at.Offset {
			return
		}
		m.Disks[i].Brought = &at
		if err := p.keepBrought(m.ID, key, &at); err != nil {
			p.log.Warn("how far a disk was brought is not kept; cut off, its transfer begins anew", "machine", m.ID, "disk", key, "error", err)
		}
	}
	return b
}

// goOn is what a transfer of disk i of m that was cut off goes on with. Where one has gone
// on from there before and was cut off as well, what the head has got is looked at too.
func (p *Protector) goOn(ctx context.Context, m *store.Machine, i int, captured replication.Source, state replication.DiskState) (replication.Source, error) {
	disk := &m.Disks[i]
	source := resync.Resumed(captured, disk.Brought.Offset)
	if disk.Brought.Again {
		return p.withLeft(ctx, m, *disk, captured, source, state)
	}
	again := *disk.Brought
	again.Again = true
	if err := p.keepBrought(m.ID, disk.Key, &again); err != nil {
		return nil, fmt.Errorf("keep that the transfer of disk %s goes on: %w", disk.Key, err)
	}
	disk.Brought = &again
	return source, nil
}

// withLeft adds to a source what cycles that were cut off have left in the vault.
func (p *Protector) withLeft(ctx context.Context, m *store.Machine, disk store.Disk, captured, source replication.Source, state replication.DiskState) (replication.Source, error) {
	sent, err := p.sink.Changed(ctx, disk.ID, state.Point, "")
	switch {
	case err == nil:
		return resync.Also(source, sent), nil
	case ofDamage(err):
		// A damaged vault is healed behind a point, so there has to be one.
		p.log.Warn("what a cut-off cycle has left in the vault is not known: the disk is read as a whole", "machine", m.ID, "name", m.Name, "disk", disk.ID, "error", err)
		return resync.Resumed(captured, 0), nil
	}
	return nil, fmt.Errorf("see what a cut-off cycle has left of disk %s: %w", disk.Key, err)
}

// keepBrought writes how far a disk was brought to the record; nil forgets it.
func (p *Protector) keepBrought(id replication.MachineID, key string, at *store.Brought) error {
	_, err := p.Change(id, func(m *store.Machine) error {
		for i := range m.Disks {
			if m.Disks[i].Key == key {
				m.Disks[i].Brought = at
			}
		}
		return nil
	})
	return err
}

// suspend ends a capture that was cut off. If all of its disks were read as a whole, and
// what was brought of one is of this instant, the source goes on remembering the instant:
// what it remembered before is of no use to any of them. Otherwise it forgets it, and what
// was brought with it.
func (p *Protector) suspend(ctx context.Context, m *store.Machine, capture hypervisor.Capture, point replication.PointID) error {
	worth, whole := false, true
	for _, captured := range capture.Disks() {
		brought := broughtAt(m, captured.Key(), point)
		worth = worth || brought
		whole = whole && (brought || captured.Mode() != hypervisor.Delta)
	}
	if worth && whole {
		return capture.Commit(ctx)
	}
	for i := range m.Disks {
		if broughtAt(m, m.Disks[i].Key, point) {
			m.Disks[i].Brought = nil
			if err := p.keepBrought(m.ID, m.Disks[i].Key, nil); err != nil {
				p.log.Warn("what was brought of a disk is not forgotten; the source will not know of it", "machine", m.ID, "disk", m.Disks[i].Key, "error", err)
			}
		}
	}
	return capture.Rollback(ctx)
}

func broughtAt(m *store.Machine, key string, point replication.PointID) bool {
	for _, d := range m.Disks {
		if d.Key == key {
			return d.Brought != nil && d.Brought.Point == point
		}
	}
	return false
}
