package lab

import (
	"context"
	"errors"
	"fmt"
	"os"

	"riparo/hypervisor"
	"riparo/replication"
)

// flattenStep is how much is copied at a time: the machine waits for no more.
const flattenStep = 1 << 20

// Flatten copies into the overlays of a machine what they still read from their
// backing, then lets go of it. The machine may run meanwhile. What was copied
// stays copied, so an interrupted Flatten goes on when it is repeated.
func (s *Site) Flatten(ctx context.Context, ref hypervisor.Ref, progress func(done, total int64)) error {
	m, err := s.machine(ctx, ref)
	if err != nil {
		return err
	}
	select {
	case m.flattening <- struct{}{}:
		defer func() { <-m.flattening }()
	case <-ctx.Done():
		return ctx.Err()
	}
	m.io.RLock()
	var overlays []*disk
	var done, total int64
	for _, d := range m.disks {
		if d.overlay != nil {
			overlays = append(overlays, d)
			total += d.size
		}
	}
	m.io.RUnlock()
	if progress == nil {
		progress = func(int64, int64) {}
	}
	for _, d := range overlays {
		copied := func(n int64) {
			done += n
			progress(done, total)
		}
		if err := m.flatten(ctx, d, copied); err != nil {
			return fmt.Errorf("flatten disk %s of machine %s: %w", d.key, ref, err)
		}
	}
	return nil
}

// flatten makes one disk independent.
func (m *machine) flatten(ctx context.Context, d *disk, copied func(int64)) error {
	m.io.RLock()
	o := d.overlay
	m.io.RUnlock()
	buffer := make([]byte, flattenStep)
	for offset := int64(0); offset < d.size; offset += flattenStep {
		e := replication.Extent{Offset: offset, Length: min(flattenStep, d.size-offset)}
		if err := m.copyUp(ctx, d, o, e, buffer[:e.Length]); err != nil {
			return err
		}
		copied(e.Length)
	}
	m.io.Lock()
	defer m.io.Unlock()
	if m.removed {
		return hypervisor.ErrNoMachine
	}
	// What has no backing in its definition must have all its bytes.
	if err := d.file.Sync(); err != nil {
		return err
	}
	err := m.change(func(def *definition) {
		for i := range def.Disks {
			if def.Disks[i].Key == d.key {
				def.Disks[i].Backing = ""
			}
		}
	})
	if err != nil {
		return err
	}
	d.overlay = nil
	if err := errors.Join(o.close(), os.Remove(overlayFile(m.dir, d.key))); err != nil {
		return fmt.Errorf("let go of the backing: %w", err)
	}
	return nil
}

// copyUp copies what an extent of the file lacks. The backing does not change, so
// it is read while the machine goes on.
func (m *machine) copyUp(ctx context.Context, d *disk, o *overlay, e replication.Extent, buffer []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var missing []replication.Extent
	list := func() error {
		missing = missing[:0]
		return o.runs(e.Offset, e.Length, func(part replication.Extent, own bool) error {
			if !own && !d.empty(part) {
				missing = append(missing, part)
			}
			return nil
		})
	}
	m.io.RLock()
	err := list()
	m.io.RUnlock()
	if err != nil {
		return err
	}
	for _, part := range missing {
		if err := o.backing.read(ctx, buffer[part.Offset-e.Offset:part.End()-e.Offset], part.Offset); err != nil {
			return err
		}
	}
	m.io.Lock()
	defer m.io.Unlock()
	if m.removed {
		return hypervisor.ErrNoMachine
	}
	// The machine may have written some of it meanwhile: that is newer.
	if err := list(); err != nil {
		return err
	}
	for _, part := range missing {
		if _, err := d.file.WriteAt(buffer[part.Offset-e.Offset:part.End()-e.Offset], part.Offset); err != nil {
			return err
		}
	}
	return o.take(o.blocks(e))
}

// empty reports whether an extent lies in grains that were never anything but zero.
func (d *disk) empty(e replication.Extent) bool {
	for g := e.Offset / grainSize; g*grainSize < e.End(); g++ {
		if d.changes.grains[g] != never {
			return false
		}
	}
	return true
}
