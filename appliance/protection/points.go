package protection

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"riparo/replication"
	"riparo/store"
)

// Points are a machine's recovery points, newest first. They are what the vault
// has, in its order, never what a record remembers: a clock that was set back makes no
// point older than those before it. Disks come and go, so a point may be of some of the
// disks only.
func (p *Protector) Points(m store.Machine) ([]replication.RecoveryPoint, error) {
	var all []replication.RecoveryPoint // oldest first, as in the vault
	var unknown error
	for _, d := range m.Disks {
		points, err := p.sink.Points(d.ID)
		if errors.Is(err, replication.ErrUnknownDisk) {
			unknown = fmt.Errorf("points of disk %s: %w", d.ID, err)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("points of disk %s: %w", d.ID, err)
		}
		all = merge(all, points)
	}
	if len(all) == 0 && unknown != nil {
		return nil, unknown
	}
	slices.Reverse(all)
	damage, err := p.damageOf(context.Background(), m)
	if err != nil {
		return nil, err
	}
	quarantine(all, damage)
	mark(all, m)
	return all, nil
}

// merge makes one list of two disks' points, each in the vault's order. A complete point
// is listed by each of its members, and says what lies before and behind it in both
// lists; what lies between two such points is ordered by time.
func merge(a, b []replication.RecoveryPoint) []replication.RecoveryPoint {
	if len(a) == 0 {
		return b
	}
	inA, inB := idsOf(a), idsOf(b)
	all := make([]replication.RecoveryPoint, 0, max(len(a), len(b)))
	for len(a) > 0 && len(b) > 0 {
		from := &a
		switch {
		case a[0].ID == b[0].ID:
			b = b[1:]
		case inB[a[0].ID], !inA[b[0].ID] && a[0].Later(b[0]):
			from = &b
		}
		delete(inA, (*from)[0].ID)
		delete(inB, (*from)[0].ID)
		all, *from = append(all, (*from)[0]), (*from)[1:]
	}
	all = append(append(all, a...), b...)
	// Two orders that contradict each other, as those of members that changed while a clock
	// was set back, would name a point twice.
	seen := make(map[replication.PointID]bool, len(all))
	return slices.DeleteFunc(all, func(p replication.RecoveryPoint) bool {
		before := seen[p.ID]
		seen[p.ID] = true
		return before
	})
}

func idsOf(points []replication.RecoveryPoint) map[replication.PointID]bool {
	ids := make(map[replication.PointID]bool, len(points))
	for _, point := range points {
		ids[point.ID] = true
	}
	return ids
}

// Choose finds a point by its ID; "" is the newest one, "app" the newest
// application-consistent one, "clean" the newest one that is not suspect, of those that
// are whole.
func (p *Protector) Choose(m store.Machine, wanted replication.PointID) (replication.RecoveryPoint, error) {
	points, err := p.Points(m)
	if err != nil {
		return replication.RecoveryPoint{}, err
	}
	damaged := 0
	for _, point := range points {
		switch {
		case wanted == point.ID:
			return point, nil
		case len(point.Damage) > 0:
			damaged++
		case wanted == "clean" && point.Suspect:
		case wanted == "", wanted == "clean", wanted == "app" && point.Consistency == replication.AppConsistent:
			return point, nil
		}
	}
	what := fmt.Sprintf("no recovery point %q", wanted)
	switch wanted {
	case "":
		what = "no recovery point"
	case "clean":
		what = "no recovery point from before the alarm"
	case "app":
		what = "no application-consistent recovery point"
	}
	if damaged > 0 && (wanted == "" || wanted == "app") {
		what += fmt.Sprintf(" that is whole; %d are damaged in the vault", damaged)
	}
	return replication.RecoveryPoint{}, &replication.Problem{Code: "point.unknown",
		Cause: fmt.Sprintf("%s has %s", m.Name, what), Action: "choose one of the points that are listed", Remedy: replication.Stop, Err: replication.ErrUnknownPoint}
}

// pruneEvery is how often retention is applied. Points that are due wait no
// longer than this; dropping costs a merge of maps per disk.
const pruneEvery = time.Minute

// Prune drops the points of a machine that its policy lets go, but for those that are
// kept.
func (p *Protector) Prune(ctx context.Context, id replication.MachineID) error {
	m, policy, err := p.machine(id)
	if err != nil {
		return err
	}
	drop, err := p.due(m, policy)
	if err != nil || len(drop) == 0 {
		return err
	}
	return p.drop(ctx, m, drop)
}

// due are the points of a machine that its policy lets go, but for those that are kept.
func (p *Protector) due(m store.Machine, policy replication.Policy) ([]replication.PointID, error) {
	points, err := p.Points(m)
	if err != nil {
		return nil, err
	}
	// A clock that was set forward makes no point older than it is: the vault knows how
	// much time has passed.
	now := p.now()
	if trusted := p.sink.TrustedTime(); trusted.Before(now) {
		now = trusted
	}
	drop := policy.Retention.Drop(points, now)
	return slices.DeleteFunc(drop, func(point replication.PointID) bool { return kept(m, points, point) }), nil
}

// eraseLeft erases the disks that left the machine, or are excluded, once retention lets go
// of the last point that has them, which cannot be dropped as others are: no point can bring
// them back. No cycle of m may be under way, which could have taken one of them in again.
func (p *Protector) eraseLeft(ctx context.Context, m store.Machine, policy replication.Policy) error {
	if !slices.ContainsFunc(m.Disks, func(d store.Disk) bool { return d.Excluded }) {
		return nil
	}
	going, err := p.due(m, policy)
	if err != nil {
		going = nil // whoever retention goes for, it is not known now
	}
	return p.eraseWithout(ctx, m, going)
}

// eraseWithout erases the disks of m that are not protected and that no point has but those
// that are going.
func (p *Protector) eraseWithout(ctx context.Context, m store.Machine, going []replication.PointID) error {
	var left []store.Disk
	for _, d := range m.Disks {
		points, err := p.sink.Points(d.ID)
		switch {
		case errors.Is(err, replication.ErrUnknownDisk):
		case err != nil:
			return nil // nobody knows which points are complete
		case d.Excluded && allIn(going, points):
			left = append(left, d)
		case !d.Excluded && len(points) == 0:
			return nil // the first point that is without them is still to come
		}
	}
	var problems []error
	for _, d := range left {
		if err := p.sink.Erase(ctx, d.ID); err != nil {
			problems = append(problems, fmt.Errorf("erase disk %s, which no point has any more: %w", d.ID, err))
			continue
		}
		event := store.Event{Severity: store.SeverityInfo, Code: "disk.erased", Args: map[string]string{"disk": d.Key},
			Text: fmt.Sprintf("no point has disk %s any more, which is not protected: what was kept of it is erased", d.Key)}
		if err := p.store.Update(func(tx *store.Tx) error { return p.putEvent(tx, m, event) }); err != nil {
			problems = append(problems, fmt.Errorf("tell that disk %s was erased: %w", d.ID, err))
		}
	}
	return errors.Join(problems...)
}

// allIn is whether all points are among those named.
func allIn(names []replication.PointID, points []replication.RecoveryPoint) bool {
	return !slices.ContainsFunc(points, func(p replication.RecoveryPoint) bool { return !slices.Contains(names, p.ID) })
}

// drop lets points of a machine go on all its disks.
func (p *Protector) drop(ctx context.Context, m store.Machine, drop []replication.PointID) error {
	var problems []error // of one disk; the others are thinned all the same
	failed := func(disk replication.DiskID, err error) {
		problems = append(problems, fmt.Errorf("drop points of disk %s: %w", disk, err))
	}
	// All disks are asked first: what one of them has let go is no point of any.
	held := map[replication.DiskID][]replication.PointID{}
	for _, d := range m.Disks {
		points, err := p.held(d.ID, drop)
		switch {
		case errors.Is(err, replication.ErrUnknownDisk):
		case err != nil:
			failed(d.ID, err)
		default:
			held[d.ID] = points
		}
	}
	for _, d := range m.Disks {
		points, known := held[d.ID]
		if !known {
			continue
		}
		// Also when it holds none: what an earlier drop did not come to goes with any.
		if err := p.sink.Drop(ctx, d.ID, points); err != nil {
			failed(d.ID, err)
		}
	}
	p.changed("machine/" + string(m.ID))
	return errors.Join(problems...)
}

// kept reports whether a point stays whatever the rules of retention say: a failover or
// a drill stands on it, it may be the last clean one, a person pinned it, or every newer
// one is damaged.
func kept(m store.Machine, points []replication.RecoveryPoint, id replication.PointID) bool {
	switch {
	case m.Failover != nil && m.Failover.Point == id, m.Test != nil && m.Test.Point == id,
		m.Alarm != nil && m.Alarm.LastClean == id, m.CleanPoint == id, m.PinOf(id) != nil:
		return true
	}
	for _, p := range points { // newest first
		if len(p.Damage) == 0 {
			return p.ID == id
		}
	}
	return false
}

// held gives those of the points that a disk has and may lose: a disk that left the
// machine, or came later, lacks some of them, and the newest of each disk stays.
func (p *Protector) held(disk replication.DiskID, points []replication.PointID) ([]replication.PointID, error) {
	has, err := p.sink.Points(disk)
	if err != nil {
		return nil, err
	}
	known := make(map[replication.PointID]bool, len(has))
	for i, point := range has {
		known[point.ID] = i < len(has)-1
	}
	return slices.DeleteFunc(slices.Clone(points), func(id replication.PointID) bool { return !known[id] }), nil
}
