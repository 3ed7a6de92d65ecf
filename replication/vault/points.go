package vault

import (
	"slices"
	"time"

	"riparo/replication"
)

// DiskInfo is what a vault holds of one disk.
type DiskInfo struct {
	replication.DiskState
	Points       int   // recovery points that are complete
	LogicalBytes int64 // of the head that hold data: not zero, not a hole
	StoredBytes  int64 // that the disk takes in the vault, with everything
	Damaged      int   // blocks found damaged by reading since the vault was opened
	Trouble      error // why it could not be opened, or why work on its maps failed last; else nil
}

// State tells what is durable of a disk; of one that was opened without room, also what
// a crash left in doubt. The error wraps ErrUnknownDisk.
func (v *Vault) State(id replication.DiskID) (replication.DiskState, error) {
	d, err := v.find(id)
	if err != nil {
		return replication.DiskState{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.report(), nil
}

// Points lists the recovery points of a disk that are complete: all members hold
// their marks. The oldest comes first.
func (v *Vault) Points(id replication.DiskID) ([]replication.RecoveryPoint, error) {
	d, err := v.find(id)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	points := slices.Clone(d.points)
	d.mu.Unlock()
	now := v.TrustedTime().UnixNano()
	complete := v.complete(points)
	var list []replication.RecoveryPoint
	if len(complete) > 0 { // there may be tens of thousands
		list = make([]replication.RecoveryPoint, 0, len(complete))
	}
	for _, p := range complete {
		list = append(list, replication.RecoveryPoint{
			ID: p.id, Time: p.time, Consistency: p.consistency, Disks: slices.Clone(p.members), Tag: p.tag,
			ChangedBytes: p.changed, StoredBytes: p.stored, Pinned: p.pinned,
		})
		if p.locked > 0 {
			n := len(list) - 1
			list[n].LockedUntil, list[n].Locked = time.Unix(0, p.locked).UTC(), p.locked > now
		}
	}
	return list, nil
}

// complete gives those of the points whose marks all members hold.
func (v *Vault) complete(points []*point) []*point {
	members := map[replication.DiskID]bool{}
	for i, p := range points {
		if i > 0 && slices.Equal(p.members, points[i-1].members) {
			continue
		}
		for _, id := range p.members {
			members[id] = true
		}
	}
	lacking := map[*point]bool{}
	for id := range members {
		d, err := v.find(id)
		if err != nil {
			d = nil // there is no such disk
		}
		if d != nil {
			d.mu.Lock()
		}
		for _, p := range points {
			if slices.Contains(p.members, id) && (d == nil || d.byID[p.id] == nil) {
				lacking[p] = true
			}
		}
		if d != nil {
			d.mu.Unlock()
		}
	}
	return slices.DeleteFunc(slices.Clone(points), func(p *point) bool { return lacking[p] })
}
