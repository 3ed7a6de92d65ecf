package vault

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"riparo/replication"
)

// erasedName is a file that says: the disk in this folder is gone, only the removal
// of its files did not end.
const erasedName = "erased"

// Erase removes a disk with all its points. It is final as soon as it begins: a
// crash leaves nothing of the disk that could be taken for it. Open views of it
// stop working. Points of other disks that were complete with it stay complete
// without it.
func (v *Vault) Erase(ctx context.Context, id replication.DiskID) error {
	if err := v.writable(); err != nil {
		return err
	}
	d, err := v.findAny(id)
	if err != nil {
		return err
	}
	if err := d.erasable(); err != nil {
		return err
	}
	for _, other := range v.list() {
		if other == d {
			continue
		}
		if other = v.revived(ctx, other); other.sick == nil {
			if err := other.releaseMember(ctx, id); err != nil {
				return fmt.Errorf("erase disk %s: %w", id, err)
			}
		}
	}
	defer d.hurry()()
	if err := d.alone(ctx); err != nil {
		return err
	}
	defer d.release()
	v.mu.RLock()
	closed := v.closed
	v.mu.RUnlock()
	if closed { // meanwhile: the folder may be another's by now
		return closedProblem(v.dir)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.still(ctx); err != nil {
		return err
	}
	if d.erased {
		return fmt.Errorf("disk %s: %w", id, replication.ErrUnknownDisk)
	}
	if d.superseded {
		return d.broken // there is another one of the name by now
	}
	d.leading = true
	d.mu.Unlock()
	err = d.erasable() // nobody locks while this leads
	d.mu.Lock()
	if err != nil {
		d.follow()
		return err
	}
	defer d.follow()
	d.mu.Unlock()
	erased, err := d.erase()
	d.mu.Lock()
	if !erased {
		// The next opening finds the marker or not. Until then nothing may be
		// acknowledged that could be lost with it.
		d.fail(brokenProblem(id, err))
		return fmt.Errorf("erase disk %s: %w", id, err)
	}
	d.erased = true
	d.refuse(fmt.Errorf("disk %s: %w", id, replication.ErrUnknownDisk))
	d.mu.Unlock()
	v.mu.Lock()
	delete(v.disks, id)
	v.mu.Unlock()
	d.mu.Lock()
	if err != nil {
		return fmt.Errorf("disk %s is erased, but not all of its files could be removed yet: %w", id, err)
	}
	return nil
}

// erasable reports the lock that keeps the disk, or nil. Of a disk that could not be
// opened nobody knows its locks.
func (d *disk) erasable() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range d.points {
		if p.locked > d.vault.TrustedTime().UnixNano() {
			return d.heldPoint(p, "erase")
		}
	}
	return nil
}

// releaseMember writes down that the points which are complete do not need another
// disk any more.
func (d *disk) releaseMember(ctx context.Context, member replication.DiskID) error {
	d.mu.Lock()
	points := slices.Clone(d.points)
	d.mu.Unlock()
	b := releaseBody{member: member}
	for _, p := range d.vault.complete(points) {
		if slices.Contains(p.members, member) {
			b.marks = append(b.marks, p.serial)
		}
	}
	if len(b.marks) == 0 {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.lead(ctx); err != nil {
		return err
	}
	defer d.follow()
	r := newDraft(kindRelease, nil, nil, b.encode())
	r.head.epoch = d.epoch
	return d.write(r)
}

// erase destroys the keys of the disk and then removes its files. It reports erased as soon as there is no way
// back. From then on, no view that is closed later may remove a file by its name: a
// new disk may have the same names.
func (d *disk) erase() (erased bool, err error) {
	fsys := d.vault.fs
	marker, err := fsys.Create(filepath.Join(d.folder, erasedName))
	if err == nil {
		err = marker.Close()
	}
	if err == nil {
		err = fsys.SyncDir(d.folder)
	}
	if err != nil {
		return false, err
	}
	d.gone.Store(true)
	errs := []error{d.keys.destroy(), d.log.close()}
	for _, t := range d.tiles {
		errs = append(errs, t.use.close())
	}
	for _, f := range d.folds {
		errs = append(errs, f.use.close())
	}
	return true, errors.Join(append(errs, d.vault.removeFolder(d.folder))...)
}
