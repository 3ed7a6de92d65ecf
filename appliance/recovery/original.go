package recovery

import (
	"context"
	"errors"
	"fmt"

	"riparo/appliance/jobs"
	"riparo/hypervisor"
	"riparo/replication"
	"riparo/store"
)

// originalStamp is kept by a failback: what the original's disks looked like when it was
// done with them. Empty: it is not done, or their site cannot tell.
const originalStamp = "original stamp"

// untouched reports whether nobody wrote to the original's disks since the failback did.
func (r *Recovery) untouched(ctx context.Context, w *jobs.Work, m store.Machine) (bool, error) {
	opener, err := r.sites.DiskOpener(m.Source.Site)
	if err != nil {
		return false, err
	}
	stamp, err := opener.Stamp(ctx, hypervisor.Ref(m.Source.Ref))
	if err != nil {
		return false, fmt.Errorf("look at the disks of %s at site %s: %w", m.Source.Ref, m.Source.Site, err)
	}
	return stamp != "" && stamp == w.Get(originalStamp), nil
}

// restoreDisks makes the original's disks equal to a point: only what changed since
// another point, or everything when since is empty. All of them are open until the last
// one is done, so that nobody starts the original between two of them, and what they look
// like then is kept.
func (r *Recovery) restoreDisks(ctx context.Context, w *jobs.Work, m store.Machine, point replication.RecoveryPoint, since replication.PointID) error {
	opener, err := r.sites.DiskOpener(m.Source.Site)
	if err != nil {
		return err
	}
	w.Set(originalStamp, "")
	if err := w.Save(ctx); err != nil {
		return err
	}
	if err := r.restoreOpened(ctx, w, opener, m, point, since); err != nil {
		return err
	}
	w.Evidence("recovery point", string(point.ID))
	stamp, err := opener.Stamp(ctx, hypervisor.Ref(m.Source.Ref))
	if err != nil {
		return fmt.Errorf("look at the restored disks of %s: %w", m.Name, err)
	}
	w.Set(originalStamp, stamp)
	return nil
}

func (r *Recovery) restoreOpened(ctx context.Context, w *jobs.Work, opener hypervisor.DiskOpener, m store.Machine, point replication.RecoveryPoint, since replication.PointID) (err error) {
	opened := map[replication.DiskID]hypervisor.OpenedDisk{}
	defer func() {
		for _, disk := range opened {
			err = errors.Join(err, disk.Close())
		}
	}()
	for _, d := range m.Disks {
		if d.Excluded || !contains(point.Disks, d.ID) {
			continue
		}
		if opened[d.ID], err = opener.OpenDisk(ctx, hypervisor.Ref(m.Source.Ref), d.Key, hypervisor.ReadWrite); err != nil {
			delete(opened, d.ID)
			return fmt.Errorf("open disk %s of %s: %w", d.Key, m.Name, err)
		}
	}
	for _, d := range m.Disks {
		if opened[d.ID] == nil {
			continue
		}
		did, err := r.restoreDisk(ctx, w, opened[d.ID], d.ID, point.ID, since)
		if err != nil {
			return fmt.Errorf("restore disk %s of %s: %w", d.Key, m.Name, err)
		}
		w.Evidence(d.Key, fmt.Sprintf("compared %d, wrote %d bytes", did.compared, did.written))
	}
	return nil
}

func (r *Recovery) restoreDisk(ctx context.Context, w *jobs.Work, disk hypervisor.OpenedDisk, id replication.DiskID, point, since replication.PointID) (did restored, err error) {
	view, err := r.vault.View(ctx, id, point)
	if err != nil {
		return did, err
	}
	defer func() { err = errors.Join(err, view.Close()) }()
	regions := view.Regions(ctx)
	if since != "" {
		changed, err := r.vault.Changed(ctx, id, since, point)
		if errors.Is(err, replication.ErrUnknownPoint) { // retention has let it go meanwhile
			return restore(ctx, disk, view, regions, w.Progress)
		}
		if err != nil {
			return did, err
		}
		regions = func(yield func(replication.Region, error) bool) {
			for _, region := range changed {
				if !yield(region, nil) {
					return
				}
			}
		}
	}
	return restore(ctx, disk, view, regions, w.Progress)
}
