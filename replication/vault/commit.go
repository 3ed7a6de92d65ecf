package vault

import (
	"context"
	"fmt"

	"riparo/replication"
)

const (
	// window is how many batches may wait for their predecessors: more would hold
	// memory without making the disk faster.
	window = 16
	// maxAhead is how far a sequence may lie ahead of what is durable and still be
	// believed; a sender has far fewer calls under way.
	maxAhead = 1 << 16
	// commitBytes is the most that one append takes, if not one batch alone is more:
	// disks are near their full rate there.
	commitBytes = appendBytes - 128<<10
)

// pending is a batch or mark that waits for its turn.
type pending struct {
	*draft
	taken  bool // the leader has it
	staged bool // it is copied for the next append; see stage.go
	done   bool
	err    error
}

// submit brings a record of the sender into the log, in the order of sequences. The
// calls that wait have no writer behind them: whoever finds the next record there
// and nobody leading takes the lead, appends all that can be appended at once and
// syncs once for all of them. Meanwhile the others put the next append together.
//
// make builds the record; it is called without mu when the record's turn is near.
func (d *disk) submit(ctx context.Context, sequence replication.Sequence, epoch replication.Epoch, known func() error, make func() (*draft, error)) error {
	d.vault.traffic.Add(1) // the scrub gives way
	defer d.vault.traffic.Add(-1)
	d.mu.Lock()
	defer d.mu.Unlock()
	if durable, err := d.admit(ctx, sequence, epoch, known); durable || err != nil {
		return err
	}
	turn := d.turn
	d.mu.Unlock()
	r, err := make()
	d.mu.Lock()
	if err != nil {
		return err
	}
	r.head.sequence, r.head.epoch = sequence, epoch
	// The world may have moved on while the record was made.
	if durable, err := d.admit(ctx, sequence, epoch, known); durable || err != nil {
		return err
	}
	if d.turn != turn {
		return d.preparedAnew()
	}
	p := d.queue[sequence]
	mine := p == nil // otherwise the same batch is sent twice at once
	if mine {
		p = &pending{draft: r}
		d.queue[sequence] = p
	}
	d.fillStage()
	for !p.done {
		if d.queue[d.sequence+1] != nil && !d.leading {
			d.commit()
			continue
		}
		if p.taken {
			// It is being written: that does not take long, and cannot be called back.
			if err := d.wait(context.WithoutCancel(ctx)); err != nil {
				return err
			}
			continue
		}
		if err := d.wait(ctx); err != nil && !p.taken && !p.done {
			if mine {
				p.finish(d, d.gap(sequence, err))
				d.wake()
			}
			return d.gap(sequence, err)
		}
	}
	return p.err
}

// admit waits until the sequence is near its turn. It reports durable when it was
// written before. The caller holds mu.
func (d *disk) admit(ctx context.Context, sequence replication.Sequence, epoch replication.Epoch, known func() error) (durable bool, err error) {
	for {
		if err := d.usable(); err != nil {
			return false, err
		}
		switch {
		case epoch < d.epoch:
			return false, staleEpoch(d.id, epoch, d.epoch)
		case epoch > d.epoch:
			return false, fmt.Errorf("disk %s is owned by epoch %d, and epoch %d was not prepared: %w", d.id, d.epoch, epoch, replication.ErrSequence)
		case sequence == 0 || sequence > d.sequence+maxAhead:
			return false, fmt.Errorf("disk %s is at sequence %d, got %d: %w", d.id, d.sequence, sequence, replication.ErrSequence)
		case sequence <= d.sequence:
			return true, known()
		case sequence <= d.sequence+window:
			return false, d.room()
		}
		if err := d.wait(ctx); err != nil {
			return false, d.gap(sequence, err)
		}
	}
}

// maxUnwritten is how many times its limit memory may hold while it cannot be
// written to a map file.
const maxUnwritten = 4

// room refuses new data when memory is full and cannot be written. The caller holds
// mu.
func (d *disk) room() error {
	if d.trouble == nil || d.memory.entries < maxUnwritten*d.vault.options.memoryEntries {
		return nil
	}
	if d.leading { // by whoever tries it just now, or makes it worse
		return writeProblem(d.id, d.trouble)
	}
	d.leading = true
	d.mu.Unlock()
	err := d.grown()
	d.mu.Lock()
	d.trouble = err
	d.follow()
	if err != nil {
		return writeProblem(d.id, err)
	}
	return nil
}

// gap is the error of a call that gave up waiting for the ones before it.
func (d *disk) gap(sequence replication.Sequence, err error) error {
	return fmt.Errorf("disk %s is at sequence %d, and what leads up to %d did not come: %w: %w", d.id, d.sequence, sequence, replication.ErrSequence, err)
}

func staleEpoch(id replication.DiskID, got, want replication.Epoch) error {
	return fmt.Errorf("disk %s is owned by epoch %d, and epoch %d wrote: %w", id, want, got, replication.ErrStaleEpoch)
}

// commit appends the records that are next in order. The caller holds mu, and
// nobody leads.
func (d *disk) commit() {
	d.leading = true
	defer d.follow()
	if d.broken != nil {
		d.refuse(d.broken)
		return
	}
	now := d.vault.now().UnixNano()
	var group []*pending
	var drafts []*draft
	size := int64(0)
	marks := d.marks()
	staged := d.takeStage()
	for next := d.sequence + 1; ; next++ {
		p := d.queue[next]
		if p == nil || len(group) > 0 && size+p.size() > commitBytes {
			break
		}
		if err := marks.admit(p.mark); err != nil {
			p.finish(d, err)
			break
		}
		size += p.size()
		p.taken = true
		p.head.time = now
		group = append(group, p)
		drafts = append(drafts, p.draft)
		d.reach = next
	}
	if len(group) == 0 {
		return
	}
	d.mu.Unlock()
	err := d.log.append(drafts, staged)
	if err != nil && !isFinal(err) && !carriesData(drafts) && d.vault.spend(err) {
		err = d.log.append(drafts, nil) // marks: what they close is durable
	}
	d.mu.Lock()
	d.reach = 0
	if err != nil {
		err = d.failed(err)
	}
	for _, p := range group {
		if err == nil {
			if err = d.apply(&p.record); err != nil {
				d.fail(brokenProblem(d.id, err))
				err = d.broken
			}
		}
		p.finish(d, err)
	}
	if d.broken != nil {
		return
	}
	if !d.memoryFull() {
		d.trouble = nil
		return
	}
	d.wake() // those who are done need not wait for what follows
	d.mu.Unlock()
	err = d.grown()
	d.mu.Lock()
	d.trouble = err
}

// grown writes memory to a map file if it has grown too large. The caller leads, and
// does not hold mu. If it cannot, memory grows on until it cannot any more: see room.
func (d *disk) grown() error {
	before := d.mapped
	if err := d.spill(false); err != nil {
		return err
	}
	if d.mapped == before {
		return nil
	}
	if err := d.writeCatalog(); err != nil {
		return err
	}
	d.vault.nudge(d)
	return nil
}

// finish ends the wait for p. The caller holds mu.
func (p *pending) finish(d *disk, err error) {
	p.done, p.err = true, err
	if p.staged {
		d.unstage().leave()
	}
	returnPayload(p.draft.payload)
	p.draft.payload = nil
	delete(d.queue, p.head.sequence)
}

// refuse ends the waits of all records that are not under way: they were meant for
// the disk as it was before, or for a log that takes no more. The caller holds mu.
func (d *disk) refuse(err error) {
	d.turn++
	for _, p := range d.queue {
		if !p.taken {
			p.finish(d, err)
		}
	}
	d.wake()
}

func (d *disk) preparedAnew() error {
	return fmt.Errorf("disk %s was prepared anew: %w", d.id, replication.ErrSequence)
}

// marks foresees the state while a commit is put together, as far as a mark depends
// on it.
type marks struct {
	state    *state
	newest   replication.PointID
	unmarked bool
	taken    map[replication.PointID]bool // in this commit
}

func (s *state) marks() marks {
	m := marks{state: s, unmarked: s.unmarked}
	if n := len(s.points); n > 0 {
		m.newest = s.points[n-1].id
	}
	return m
}

// admit checks the mark that comes next; nil stands for a batch.
func (m *marks) admit(mark *replication.Mark) error {
	if mark == nil {
		m.unmarked = true
		return nil
	}
	if mark.Size != m.state.disk.Size {
		return fmt.Errorf("mark %d of disk %s says %d bytes, and the disk has %d", mark.Sequence, mark.Disk, mark.Size, m.state.disk.Size)
	}
	if m.state.byID[mark.Point] != nil || m.taken[mark.Point] {
		if mark.Point == m.newest && !m.unmarked {
			return nil // repeated
		}
		return fmt.Errorf("mark %d of disk %s: point %s was taken before: %w", mark.Sequence, mark.Disk, mark.Point, replication.ErrSequence)
	}
	if m.taken == nil {
		m.taken = map[replication.PointID]bool{}
	}
	m.taken[mark.Point], m.newest, m.unmarked = true, mark.Point, false
	return nil
}
