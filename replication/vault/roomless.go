package vault

import (
	"context"
	"errors"
	"fmt"

	"riparo/replication"
	"riparo/replication/vfs"
)

// A disk that was opened without room for what its recovery has to write can be read,
// and takes nothing. As soon as there is more room it is opened once more, by whoever
// wants to write to it: the vault need not be opened again. Views keep it as it is until
// they are closed, for they read what the recovery will write over.

// noteRoom remembers that a recovery ended for want of space, if err says so.
func (d *disk) noteRoom(err error) {
	if !errors.Is(err, vfs.ErrNoSpace) {
		return
	}
	d.roomless = true
	if s, err := d.vault.fs.Space(d.vault.dir); err == nil {
		d.free = s.Free
	}
}

// findToWrite gives a disk that exists and could be opened, once more if there is room
// now for what there was none before.
func (v *Vault) findToWrite(ctx context.Context, id replication.DiskID) (*disk, error) {
	d, err := v.findAny(id)
	if err != nil {
		return nil, err
	}
	if d = v.revived(ctx, d); d.sick != nil {
		return nil, d.sick
	}
	return d, nil
}

// revived opens a disk once more if that is worth it, and gives what there is then.
func (v *Vault) revived(ctx context.Context, d *disk) *disk {
	if !d.roomless || v.options.ReadOnly {
		return d
	}
	v.reviving.Lock() // it waits for a recovery, as Open does
	defer v.reviving.Unlock()
	v.mu.RLock()
	now := v.disks[d.id]
	v.mu.RUnlock()
	if now != d {
		if now == nil {
			return d // the vault was closed, or the disk erased
		}
		return now
	}
	if s, err := v.fs.Space(v.dir); err != nil || s.Free <= d.free || !d.supersede() {
		return d
	}
	defer d.release()
	fresh := newDisk(v, d.id)
	// Once begun it goes to its end: the next one who asks has no other disk to go back to.
	if err := v.openDisk(context.WithoutCancel(ctx), fresh); err != nil && fresh.sick == nil {
		fresh.sick = err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed || v.disks[d.id] != d {
		_ = fresh.forget() // it wrote what any opening would
		return d
	}
	v.disks[d.id] = fresh
	v.nudge(fresh)
	return fresh
}

// supersede ends the use of a disk that is about to be opened once more, if nobody reads
// it. Then the caller has its token of maintenance.
func (d *disk) supersede() bool {
	select {
	case d.maintaining <- struct{}{}:
	default:
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.pins) > 0 || d.leading || d.erased {
		<-d.maintaining
		if p, ok := errors.AsType[*replication.Problem](d.broken); ok && len(d.pins) > 0 {
			held := *p // room is not what it lacks any more
			held.Cause = fmt.Sprintf("disk %s was opened when the vault was full, and cannot be opened again while something reads its points", d.id)
			held.Action = "clean up the test failover that reads them, or commit the failover; it goes on by itself then, or when the appliance is started again"
			d.broken = &held
		}
		return false
	}
	d.superseded = true
	if d.broken == nil {
		d.broken = d.sick
	}
	for _, t := range d.tiles {
		_ = t.use.close() // it was only read
	}
	for _, f := range d.folds {
		_ = f.use.close()
	}
	return true
}
