package vault

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"riparo/replication"
)

// Drop lets recovery points go. Their maps are merged into the next newer ones; what
// no remaining point needs becomes dead. The newest point and the newest complete one
// cannot be dropped, nor can a locked or pinned one: then nothing is. Points that the disk does not have are passed over, so that a
// drop can be repeated. Marks that never became a complete point and never will,
// because a later point is complete, go with any drop.
func (v *Vault) Drop(ctx context.Context, id replication.DiskID, points []replication.PointID) error {
	if err := v.writable(); err != nil {
		return err
	}
	d, err := v.findToWrite(ctx, id)
	if err != nil {
		return err
	}
	complete, err := v.Points(id)
	if err != nil {
		return err
	}
	whole := make(map[replication.PointID]bool, len(complete))
	for _, p := range complete {
		whole[p.ID] = true
	}
	// The marks of a disk that could not be opened are not known.
	sick := slices.ContainsFunc(v.list(), func(d *disk) bool { return d.sick != nil })
	if err := d.dropPoints(ctx, points, whole, sick); err != nil {
		return err
	}
	// The drop is done. That its space comes back may take another try, or wait for a
	// compaction that is under way.
	maintain := d.maintain
	if d.compacting.Load() > 0 {
		maintain = d.maintainNow
	}
	if err := maintain(ctx); !errors.Is(err, errMaintained) {
		d.mu.Lock()
		d.trouble = err
		d.mu.Unlock()
	}
	v.nudge(d)
	if err := v.clock.keep(false, true); err != nil { // last: it needs room, which a drop may give
		return writeProblem(id, err)
	}
	return nil
}

// dropPoints drops points; whole are the complete ones, and with sick that is not
// certain of the others.
func (d *disk) dropPoints(ctx context.Context, points []replication.PointID, whole map[replication.PointID]bool, sick bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.lead(ctx); err != nil {
		return err
	}
	defer d.follow()
	wanted := make(map[replication.PointID]bool, len(points))
	for _, p := range points {
		wanted[p] = true
	}
	var marks []serial
	newer := false // a complete point that is newer than the one looked at
	for i := len(d.points) - 1; i >= 0; i-- {
		p := d.points[i]
		newest := i == len(d.points)-1 || whole[p.id] && !newer
		abandoned := !whole[p.id] && newer && !sick
		switch {
		case wanted[p.id] && newest:
			return fmt.Errorf("drop point %s of disk %s: it is the newest one", p.id, d.id)
		case wanted[p.id] || abandoned:
			held := d.heldPoint(p, "drop")
			if held == nil {
				marks = append(marks, p.serial)
			} else if wanted[p.id] {
				return held
			}
		}
		newer = newer || whole[p.id]
	}
	if len(marks) == 0 {
		return nil
	}
	return d.write(newDraft(kindDrop, nil, nil, encodeDrop(marks)))
}
