package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"riparo/hypervisor"
	"riparo/replication"
)

// capture is an open instant of a machine. What is overwritten after it is copied
// to a scratch file first, so its reads give the bytes of the instant while the
// machine writes on.
type capture struct {
	m       *machine
	point   replication.PointID
	instant hypervisor.Instant
	disks   []*capturedDisk

	// What follows is guarded by the machine's io.
	scratch *os.File
	used    int64 // bytes of the scratch file
	broken  error // why reads fail now
	ended   bool
	dropped bool // its instant was forgotten when it ended
}

// BeginPoint freezes the disks of a machine at one instant.
func (s *Site) BeginPoint(ctx context.Context, request hypervisor.PointRequest) (hypervisor.Capture, error) {
	m, done, err := s.takeTurn(ctx, request.Ref)
	if err != nil {
		return nil, err
	}
	defer done()
	if request.Point == "" || len(request.Disks) == 0 {
		return nil, fmt.Errorf("capture machine %s: a point needs a name and disks", m.ref)
	}
	warnings, frozen, err := m.freeze(ctx, request)
	if err != nil {
		return nil, fmt.Errorf("capture machine %s: %w", m.ref, err)
	}
	m.io.Lock()
	defer m.io.Unlock()
	defer func() { m.frozen = false }()
	c, err := m.begin(ctx, request)
	if err != nil {
		return nil, fmt.Errorf("capture machine %s: %w", m.ref, err)
	}
	c.instant.Warnings = append(warnings, c.instant.Warnings...)
	if !frozen.IsZero() {
		c.instant.Frozen = m.now().Sub(frozen)
	}
	return c, nil
}

// freeze lets the workload stand still at a boundary, with all disks marked clean,
// if that is wanted and can be had. Otherwise a warning says why not.
func (m *machine) freeze(ctx context.Context, request hypervisor.PointRequest) (warnings []string, since time.Time, err error) {
	if request.Want != replication.AppConsistent {
		return nil, time.Time{}, nil
	}
	m.io.Lock()
	runs := m.branch != nil
	if runs {
		m.frozen = true
	}
	m.io.Unlock()
	switch stopped := !m.definition().Running; {
	case stopped:
		return nil, time.Time{}, nil
	case !runs:
		return []string{"crash-consistent: the guest does not serve and cannot be frozen"}, time.Time{}, nil
	}
	since = m.now()
	m.state.Lock()
	fails, takes := m.faults.freezeFails, m.faults.freezeTakes
	m.state.Unlock()
	why := ""
	if fails {
		why = "crash-consistent: the guest refused to freeze its file systems"
	} else if limit := request.FreezeLimit; limit > 0 && takes > limit {
		takes, why = limit, fmt.Sprintf("crash-consistent: the guest was not frozen within %s", limit)
	}
	if err := wait(ctx, takes); err != nil {
		m.thaw()
		return nil, time.Time{}, err
	}
	if why != "" {
		m.thaw()
		return []string{why}, time.Time{}, nil
	}
	m.io.Lock()
	defer m.io.Unlock()
	if err := m.quiesce(); err != nil {
		m.frozen = false
		return nil, time.Time{}, err
	}
	return nil, since, nil
}

func (m *machine) thaw() {
	m.io.Lock()
	defer m.io.Unlock()
	m.frozen = false
}

// wait is a pause that ctx can end.
func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// begin opens the capture. The caller holds io alone: nothing is under way, so
// this is one instant of all disks.
func (m *machine) begin(ctx context.Context, request hypervisor.PointRequest) (*capture, error) {
	if err := m.rollbackOpen(); err != nil {
		return nil, err
	}
	def := m.definition()
	c := &capture{m: m, point: request.Point}
	for _, key := range request.Disks {
		d := m.disk(key)
		if d == nil {
			return nil, &replication.Problem{
				Code: "lab.no-disk", Cause: fmt.Sprintf("machine %s has no disk %s", def.Name, key),
				Effect: "no recovery point was taken", Action: "discover the machine again", Remedy: replication.Retry,
			}
		}
		if slices.ContainsFunc(c.disks, func(o *capturedDisk) bool { return o.disk == d }) {
			return nil, fmt.Errorf("disk %s was named twice", key)
		}
		one := &capturedDisk{capture: c, disk: d, size: d.size, grains: slices.Clone(d.changes.grains), kept: map[uint32]int64{}}
		one.decide(def, request.Since)
		c.disks = append(c.disks, one)
	}
	scratch, err := os.CreateTemp(m.dir, "scratch-*")
	if err != nil {
		return nil, fmt.Errorf("open a scratch file: %w", err)
	}
	c.scratch = scratch
	c.instant = hypervisor.Instant{Consistency: m.consistency(def), Evidence: map[string]string{}}
	c.instant.NotBefore = m.now()
	// The next generation begins before anything can be written in it, and the
	// instant is remembered before it is known whether the vault will hold it: which
	// of the two the vault has, the next request says.
	err = m.change(func(d *definition) {
		for id, disks := range d.Points {
			for _, one := range c.disks {
				if request.Since[one.disk.key] != id {
					delete(disks, one.disk.key)
				}
			}
			if len(disks) == 0 {
				delete(d.Points, id)
			}
		}
		if d.Points[request.Point] == nil {
			d.Points[request.Point] = map[string]uint32{}
		}
		for _, one := range c.disks {
			d.Points[request.Point][one.disk.key] = d.Generation
		}
		d.Generation++
	})
	if err != nil {
		return nil, errors.Join(err, c.dropScratch())
	}
	m.capture = c
	c.instant.NotAfter = m.now()
	c.instant.Evidence["transaction"] = c.instant.NotAfter.Sub(c.instant.NotBefore).String()
	return c, nil
}

// consistency is what an instant taken now shows. The caller holds io.
func (m *machine) consistency(def definition) replication.Consistency {
	switch {
	case !def.Running && def.ShutDown:
		return replication.Clean
	case m.frozen:
		return replication.AppConsistent
	}
	return replication.CrashConsistent
}

// Forget removes everything that captures left on the machine.
func (s *Site) Forget(ctx context.Context, ref hypervisor.Ref) error {
	m, done, err := s.takeTurn(ctx, ref)
	if err != nil {
		return err
	}
	defer done()
	m.io.Lock()
	defer m.io.Unlock()
	if err := m.rollbackOpen(); err != nil {
		return err
	}
	return m.change(func(d *definition) { d.Points, d.Lost = nil, "" })
}

func (c *capture) Instant() hypervisor.Instant { return c.instant }

func (c *capture) Disks() []hypervisor.CapturedDisk {
	out := make([]hypervisor.CapturedDisk, len(c.disks))
	for i, d := range c.disks {
		out[i] = d
	}
	return out
}

// Commit ends the capture; its instant stays remembered.
func (c *capture) Commit(context.Context) error {
	c.m.io.Lock()
	defer c.m.io.Unlock()
	switch {
	case c.dropped:
		return fmt.Errorf("commit point %s: its capture was rolled back, by a newer one or on purpose", c.point)
	case c.ended:
		return nil
	}
	if c.m.definition().Lost != "" {
		if err := c.m.change(func(d *definition) { d.Lost = "" }); err != nil {
			return err
		}
	}
	return c.m.endCapture()
}

// Rollback ends the capture and forgets its instant.
func (c *capture) Rollback(context.Context) error {
	c.m.io.Lock()
	defer c.m.io.Unlock()
	if c.ended {
		return nil
	}
	return c.m.rollbackOpen()
}

// rollbackOpen rolls back the machine's open capture, if there is one.
func (m *machine) rollbackOpen() error {
	c := m.capture
	if c == nil {
		return nil
	}
	c.dropped = true
	if err := m.endCapture(); err != nil {
		return err
	}
	return m.change(func(d *definition) { delete(d.Points, c.point) })
}

// endCapture closes the machine's open capture. The caller holds io alone.
func (m *machine) endCapture() error {
	c := m.capture
	if c == nil {
		return nil
	}
	m.capture, c.ended = nil, true
	if c.broken == nil {
		c.broken = errors.New("the capture has ended")
	}
	return c.dropScratch()
}

func (c *capture) dropScratch() error {
	if err := errors.Join(c.scratch.Close(), os.Remove(c.scratch.Name())); err != nil {
		return fmt.Errorf("remove the scratch file: %w", err)
	}
	return nil
}

// keep copies what an extent holds before it is changed. When that fails the
// capture is broken; the machine goes on.
func (c *capture) keep(ctx context.Context, d *disk, e replication.Extent) {
	for _, one := range c.disks {
		if one.disk == d && c.broken == nil {
			c.broken = one.keep(ctx, e)
		}
	}
}

// removeScratch clears away scratch files of captures that a crash ended.
func removeScratch(dir string) error {
	left, err := filepath.Glob(filepath.Join(dir, "scratch-*"))
	for _, path := range left {
		err = errors.Join(err, os.Remove(path))
	}
	if err != nil {
		return fmt.Errorf("clear away the rest of a capture: %w", err)
	}
	return nil
}
