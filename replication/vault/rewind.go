package vault

import (
	"context"
	"fmt"

	"riparo/replication"
)

// Rewind makes a point the newest one: later points and what arrived since are no
// more part of the disk, and what is written next continues on that point. It is
// durable when Rewind returns. epoch takes ownership as in Prepare, so that whoever
// wrote the discarded future is refused from now on. Errors wrap ErrUnknownDisk,
// ErrUnknownPoint and ErrStaleEpoch. A locked or pinned point is never discarded.
func (v *Vault) Rewind(ctx context.Context, id replication.DiskID, to replication.PointID, epoch replication.Epoch) error {
	if err := v.writable(); err != nil {
		return err
	}
	d, err := v.findToWrite(ctx, id)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.lead(ctx); err != nil {
		return err
	}
	defer d.follow()
	if epoch < d.epoch {
		return staleEpoch(d.id, epoch, d.epoch)
	}
	p := d.byID[to]
	if p == nil {
		return fmt.Errorf("rewind disk %s to point %s: %w", id, to, replication.ErrUnknownPoint)
	}
	for _, later := range d.points[d.indexAfter(p.serial):] {
		if err := d.heldPoint(later, "rewind to point "+string(to)); err != nil {
			return err
		}
	}
	r := newDraft(kindRewind, nil, nil, rewindBody{to: to, at: p.serial}.encode())
	r.head.epoch = epoch
	if err := d.write(r); err != nil {
		return err
	}
	d.refuse(d.preparedAnew())
	v.nudge(d)
	return nil
}
