package protection

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"riparo/replication"
	"riparo/store"
)

// maxPins bounds what a machine can pin: each takes the room of a whole disk's changes.
const maxPins = 100

// Protected are those of the points that are not to be deleted without a second pair of
// eyes: pinned ones, locked ones, which nobody can delete before their time, and the
// last clean one while an alarm stands.
func Protected(m store.Machine, points []replication.RecoveryPoint) []replication.PointID {
	var ids []replication.PointID
	for _, p := range points {
		if p.Pinned || p.Locked || m.Alarm != nil && m.Alarm.LastClean == p.ID {
			ids = append(ids, p.ID)
		}
	}
	return ids
}

// Pin keeps a point of a machine, whatever the retention says.
func (p *Protector) Pin(ctx context.Context, id replication.MachineID, actor string, point replication.PointID, note string) error {
	m, err := p.known(id)
	if err != nil {
		return err
	}
	if err := nameIt(point); err != nil {
		return err
	}
	chosen, err := p.Choose(m, point)
	if err != nil {
		return err
	}
	if len(m.Pins) >= maxPins {
		return replication.Stopf("pin.many", "unpin some first", "%s has %d pinned points already", m.Name, len(m.Pins))
	}
	for _, d := range chosen.Disks {
		if err := p.sink.Pin(ctx, d, point); err != nil {
			return p.takeBack(ctx, id, chosen, fmt.Errorf("pin point %s of disk %s: %w", point, d, err))
		}
	}
	_, err = p.Change(id, func(m *store.Machine) error {
		if m.PinOf(point) != nil {
			return nil
		}
		m.Pins = append(m.Pins, store.Pin{Point: point, By: actor, Since: p.now(), Note: strings.TrimSpace(note)})
		return nil
	}, store.Event{Severity: store.SeverityInfo, Code: "point.pinned", Text: fmt.Sprintf("recovery point %s was pinned by %s", point, actor), Args: map[string]string{"point": string(point), "actor": actor}})
	if err != nil {
		return p.takeBack(ctx, id, chosen, err)
	}
	return nil
}

// takeBack unpins a point whose pin did not come into the record: nobody could lift it.
func (p *Protector) takeBack(ctx context.Context, id replication.MachineID, point replication.RecoveryPoint, why error) error {
	m, err := p.known(id)
	if err != nil || m.PinOf(point.ID) != nil {
		return errors.Join(why, err)
	}
	for _, d := range point.Disks {
		err := p.sink.Unpin(context.WithoutCancel(ctx), d, point.ID)
		if err != nil && !errors.Is(err, replication.ErrUnknownPoint) && !errors.Is(err, replication.ErrUnknownDisk) {
			why = errors.Join(why, fmt.Errorf("unpin it again of disk %s: %w", d, err))
		}
	}
	return why
}

func nameIt(point replication.PointID) error {
	if point != "" && point != "app" && point != "clean" {
		return nil
	}
	return replication.Stopf("point.name", "give the ID of a point", "%q is no recovery point", string(point))
}

// Unpin lets a pinned point go by the rules of retention again.
func (p *Protector) Unpin(ctx context.Context, id replication.MachineID, actor string, point replication.PointID) error {
	m, err := p.Pinned(id, point)
	if err != nil {
		return err
	}
	if err := p.unpin(ctx, m, []replication.PointID{point}); err != nil {
		return err
	}
	_, err = p.Change(id, func(m *store.Machine) error {
		m.Pins = slices.DeleteFunc(m.Pins, func(pin store.Pin) bool { return pin.Point == point })
		return nil
	}, store.Event{Severity: store.SeverityWarning, Code: "point.unpinned", Text: fmt.Sprintf("recovery point %s was unpinned by %s", point, actor), Args: map[string]string{"point": string(point), "actor": actor}})
	return err
}

// unpin takes the vault's pins from points, on every disk that has them.
func (p *Protector) unpin(ctx context.Context, m store.Machine, points []replication.PointID) error {
	for _, d := range m.Disks {
		has, err := p.sink.Points(d.ID)
		if errors.Is(err, replication.ErrUnknownDisk) {
			continue
		}
		if err != nil {
			return err
		}
		var pinned []replication.PointID
		for _, point := range has {
			if point.Pinned && slices.Contains(points, point.ID) {
				pinned = append(pinned, point.ID)
			}
		}
		if err := p.sink.Unpin(ctx, d.ID, pinned...); err != nil {
			return fmt.Errorf("unpin points of disk %s: %w", d.ID, err)
		}
	}
	return nil
}

// Pinned gives the machine of a pinned point, or says that it is not pinned.
func (p *Protector) Pinned(id replication.MachineID, point replication.PointID) (store.Machine, error) {
	m, err := p.known(id)
	if err == nil && m.PinOf(point) == nil {
		err = replication.Stopf("pin.none", "choose one of the pinned points", "recovery point %s of %s is not pinned", point, m.Name)
	}
	return m, err
}

// known is a machine that a person named.
func (p *Protector) known(id replication.MachineID) (store.Machine, error) {
	m, _, err := p.machine(id)
	if errors.Is(err, store.ErrNotFound) {
		return m, replication.Stopf("machine.unknown", "choose one of the protected machines", "there is no protected machine %q", id)
	}
	return m, err
}

// Deletable says which of the points that a person wants to delete are protected. It
// refuses what can never be deleted by hand: the newest whole point, and what a failover
// or a drill stands on.
func (p *Protector) Deletable(id replication.MachineID, wanted []replication.PointID) (store.Machine, []replication.PointID, error) {
	m, err := p.known(id)
	if err != nil {
		return m, nil, err
	}
	if len(wanted) == 0 {
		return m, nil, nameIt("")
	}
	points, err := p.Points(m)
	if err != nil {
		return m, nil, err
	}
	newest, err := p.Choose(m, "")
	if err != nil {
		return m, nil, err
	}
	for _, w := range wanted {
		if i := slices.IndexFunc(points, func(point replication.RecoveryPoint) bool { return point.ID == w }); i >= 0 && points[i].Locked {
			return m, nil, lockedProblem(m.Name, points[i])
		}
		switch {
		case !slices.ContainsFunc(points, func(point replication.RecoveryPoint) bool { return point.ID == w }):
			return m, nil, replication.Stopf("point.unknown", "choose one of the points that are listed", "%s has no recovery point %q", m.Name, w)
		case w == newest.ID || w == points[0].ID:
			return m, nil, replication.Stopf("point.newest", "choose older ones, or disable the protection", "%s is the newest recovery point of %s", w, m.Name)
		case m.Failover != nil && m.Failover.Point == w || m.Test != nil && m.Test.Point == w:
			return m, nil, replication.Stopf("point.in-use", "end the failover or the test first", "a failover of %s stands on recovery point %s", m.Name, w)
		}
	}
	protected := Protected(m, points)
	return m, slices.DeleteFunc(protected, func(id replication.PointID) bool { return !slices.Contains(wanted, id) }), nil
}

// DeletePoints deletes points of a machine now. Protected ones only if the caller has
// made sure that four eyes saw it.
func (p *Protector) DeletePoints(ctx context.Context, id replication.MachineID, actor string, wanted []replication.PointID, approved bool) error {
	m, protected, err := p.Deletable(id, wanted)
	if err != nil {
		return err
	}
	if len(protected) > 0 && !approved {
		return replication.Stopf("point.protected", "ask for a second administrator's approval", "%d of these points of %s are protected", len(protected), m.Name)
	}
	if err := p.unpin(ctx, m, wanted); err != nil {
		return err
	}
	if err := p.drop(ctx, m, wanted); err != nil {
		return err
	}
	lastErr := p.dropLast(ctx, m, wanted)
	left, err := p.Points(m)
	if err != nil {
		return errors.Join(lastErr, err)
	}
	there := idsOf(left)
	if n := len(wanted); slices.ContainsFunc(wanted, func(w replication.PointID) bool { return there[w] }) {
		wanted = slices.DeleteFunc(slices.Clone(wanted), func(w replication.PointID) bool { return there[w] })
		lastErr = errors.Join(lastErr, replication.Stopf("point.last", "try again later, or leave it to the retention", "%d of these points of %s are the last of a disk, which could not be erased just now", n-len(wanted), m.Name))
		if len(wanted) == 0 {
			return lastErr
		}
	}
	_, err = p.Change(id, func(m *store.Machine) error {
		m.Pins = slices.DeleteFunc(m.Pins, func(pin store.Pin) bool { return slices.Contains(wanted, pin.Point) })
		if m.Alarm != nil && slices.Contains(wanted, m.Alarm.LastClean) {
			m.Alarm.LastClean = ""
		}
		return nil
	}, store.Event{Severity: store.SeverityWarning, Code: "points.deleted", Text: fmt.Sprintf("%d recovery points were deleted by %s: %s", len(wanted), actor, named(len(wanted), func(i int) string { return string(wanted[i]) })),
		Args: map[string]string{"count": fmt.Sprint(len(wanted)), "actor": actor}})
	return errors.Join(lastErr, err)
}

// dropLast erases the disks of m that have no other points than those wanted away: the last
// point of a disk goes with it.
func (p *Protector) dropLast(ctx context.Context, m store.Machine, wanted []replication.PointID) error {
	last := func(d store.Disk) bool {
		points, err := p.sink.Points(d.ID)
		return d.Excluded && err == nil && len(points) > 0 && allIn(wanted, points)
	}
	if !slices.ContainsFunc(m.Disks, last) {
		return nil
	}
	release, err := p.Hold(ctx, m.ID)
	if err != nil {
		return err
	}
	defer release()
	if m, err = p.known(m.ID); err != nil {
		return err
	}
	// It may have waited for long.
	points, err := p.Points(m)
	if err != nil {
		return err
	}
	stays := func(point replication.RecoveryPoint) bool {
		return point.Locked || point.Pinned || m.Failover != nil && m.Failover.Point == point.ID || m.Test != nil && m.Test.Point == point.ID
	}
	points = slices.DeleteFunc(points, func(point replication.RecoveryPoint) bool { return stays(point) })
	there := idsOf(points)
	return p.eraseWithout(ctx, m, slices.DeleteFunc(slices.Clone(wanted), func(w replication.PointID) bool { return !there[w] }))
}

// lockedProblem is a point that nobody can delete before its time.
func lockedProblem(name string, point replication.RecoveryPoint) error {
	return replication.Stopf("point.locked", "wait until then: nobody can lift a lock, two administrators neither",
		"recovery point %s of %s is locked until %s", point.ID, name, point.LockedUntil.UTC().Format("2006-01-02 15:04 UTC"))
}

// Locked says that the points of the machine of that name cannot be erased yet, or nil.
func Locked(name string, points []replication.RecoveryPoint) error {
	var last *replication.RecoveryPoint
	for i, point := range points {
		if point.Locked && (last == nil || point.LockedUntil.After(last.LockedUntil)) {
			last = &points[i]
		}
	}
	if last == nil {
		return nil
	}
	return lockedProblem(name, *last)
}
