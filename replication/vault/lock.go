package vault

import (
	"context"
	"fmt"
	"slices"
	"time"

	"riparo/replication"
)

// CodeImmutable is the problem of who asks for what a lock or a pin forbids.
const CodeImmutable = "vault.immutable"

// Lock makes points immutable: until the given time nobody can drop them, rewind the
// disk to a moment before them, or erase the disk. It is durable when Lock returns. A
// lock can be prolonged, never shortened or lifted; the time that counts is that of
// [Vault.TrustedTime]. Errors wrap ErrUnknownDisk and ErrUnknownPoint.
func (v *Vault) Lock(ctx context.Context, id replication.DiskID, points []replication.PointID, until time.Time) error {
	if err := v.writable(); err != nil {
		return err
	}
	// What is known of the time must not be less after a restart.
	now := v.TrustedTime()
	if err := v.clock.save(now, true); err != nil {
		return writeProblem(id, err)
	}
	v.clock.locked()
	return v.hold(ctx, id, points, func(d *disk, held []*point) (*draft, error) {
		for _, p := range held {
			if until.UnixNano() < p.locked {
				return nil, &replication.Problem{
					Code:   CodeImmutable,
					Cause:  fmt.Sprintf("point %s of disk %s is locked until %s, which is later than %s", p.id, id, lockTime(p.locked), lockTime(until.UnixNano())),
					Effect: "the lock stays as it is",
					Action: "choose a later time: a lock can be prolonged, never shortened",
					Remedy: replication.Stop,
				}
			}
		}
		return newDraft(kindLock, nil, nil, lockBody{until: until, made: now, marks: serials(held)}.encode()), nil
	})
}

// Pin keeps points until Unpin: no rule and no drop lets them go, and the disk cannot
// be rewound to a moment before them. It is a person's "keep this", and durable when
// it returns. Unlike a lock it can be lifted, and a disk can be erased with it.
func (v *Vault) Pin(ctx context.Context, id replication.DiskID, points ...replication.PointID) error {
	return v.hold(ctx, id, points, func(_ *disk, held []*point) (*draft, error) {
		return newDraft(kindPin, nil, nil, pinBody{pinned: true, marks: serials(held)}.encode()), nil
	})
}

// Unpin lifts Pin.
func (v *Vault) Unpin(ctx context.Context, id replication.DiskID, points ...replication.PointID) error {
	return v.hold(ctx, id, points, func(_ *disk, held []*point) (*draft, error) {
		return newDraft(kindPin, nil, nil, pinBody{marks: serials(held)}.encode()), nil
	})
}

// hold writes a record about points that must all be there.
func (v *Vault) hold(ctx context.Context, id replication.DiskID, points []replication.PointID, make func(*disk, []*point) (*draft, error)) error {
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
	var held []*point
	for _, name := range points {
		p := d.byID[name]
		if p == nil {
			return fmt.Errorf("point %s of disk %s: %w", name, id, replication.ErrUnknownPoint)
		}
		held = append(held, p)
	}
	if len(held) == 0 {
		return nil
	}
	r, err := make(d, held)
	if err != nil {
		return err
	}
	r.head.epoch = d.epoch
	return d.write(r)
}

func serials(points []*point) []serial {
	var list []serial
	for _, p := range points {
		list = append(list, p.serial)
	}
	return list
}

// lockBody is the body of kindLock.
type lockBody struct {
	until time.Time
	made  time.Time // the trusted time when it was written
	marks []serial
}

func (b lockBody) encode() []byte {
	var e encoder
	e.stamp(b.until)
	e.stamp(b.made)
	return append(e.p, encodeDrop(b.marks)...)
}

func parseLockBody(p []byte) (lockBody, error) {
	d := decoder{p: p}
	b := lockBody{until: d.stamp(), made: d.stamp()}
	if d.err != nil {
		return b, d.err
	}
	var err error
	b.marks, err = parseDropBody(d.p)
	return b, err
}

// pinBody is the body of kindPin.
type pinBody struct {
	pinned bool
	marks  []serial
}

func (b pinBody) encode() []byte {
	var e encoder
	e.flag(b.pinned)
	return append(e.p, encodeDrop(b.marks)...)
}

func parsePinBody(p []byte) (pinBody, error) {
	d := decoder{p: p}
	b := pinBody{pinned: d.flag()}
	if d.err != nil {
		return b, d.err
	}
	var err error
	b.marks, err = parseDropBody(d.p)
	return b, err
}

// alter changes points. Points that were handed out are not changed.
func (s *state) alter(marks []serial, change func(*point)) {
	chosen := make(map[serial]bool, len(marks))
	for _, m := range marks {
		chosen[m] = true
	}
	s.points = slices.Clone(s.points)
	for i, p := range s.points {
		if chosen[p.serial] {
			fresh := *p
			change(&fresh)
			s.points[i] = &fresh
			s.byID[p.id] = &fresh
		}
	}
}

// lock applies kindLock.
func (s *state) lock(b lockBody) {
	s.lockedAt = max(s.lockedAt, b.made.UnixNano())
	s.alter(b.marks, func(p *point) { p.locked = max(p.locked, b.until.UnixNano()) })
}

// heldPoint is the problem of a point that must stay, nil if it need not. The caller
// holds mu.
func (d *disk) heldPoint(p *point, what string) error {
	problem := &replication.Problem{Code: CodeImmutable, Effect: "nothing was changed", Remedy: replication.Stop}
	switch {
	case p.locked > d.vault.TrustedTime().UnixNano():
		problem.Cause = fmt.Sprintf("%s: point %s of disk %s is locked until %s", what, p.id, d.id, lockTime(p.locked))
		problem.Action = "wait until then: nobody can lift a lock"
	case p.pinned:
		problem.Cause = fmt.Sprintf("%s: point %s of disk %s is pinned", what, p.id, d.id)
		problem.Action = "unpin it first if it need not be kept"
	default:
		return nil
	}
	return problem
}

func lockTime(nanoseconds int64) string {
	return time.Unix(0, nanoseconds).UTC().Format(time.RFC3339)
}
