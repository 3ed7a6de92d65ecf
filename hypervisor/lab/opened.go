package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"

	"riparo/hypervisor"
	"riparo/replication"
)

// openedDisk is the disk of a stopped machine. While it is open the machine does
// not start.
type openedDisk struct {
	m      *machine
	d      *disk
	mode   hypervisor.OpenMode
	closed bool // guarded by the machine's io
}

var errClosedDisk = errors.New("the disk was closed")

// OpenDisk opens a disk of a stopped machine.
func (s *Site) OpenDisk(ctx context.Context, ref hypervisor.Ref, key string, mode hypervisor.OpenMode) (hypervisor.OpenedDisk, error) {
	m, done, err := s.takeTurn(ctx, ref)
	if err != nil {
		return nil, err
	}
	defer done()
	m.io.Lock()
	defer m.io.Unlock()
	def := m.definition()
	if def.Running {
		return nil, &replication.Problem{
			Code: "lab.running", Cause: fmt.Sprintf("machine %s is running", def.Name),
			Effect: fmt.Sprintf("its disk %s was not opened", key), Action: "stop the machine first", Remedy: replication.Stop,
		}
	}
	d := m.disk(key)
	if d == nil {
		return nil, fmt.Errorf("machine %s has no disk %s", def.Name, key)
	}
	o := &openedDisk{m: m, d: d, mode: mode}
	m.opened[o] = struct{}{}
	return o, nil
}

// Stamp tells what the disks of a stopped machine look like.
func (s *Site) Stamp(ctx context.Context, ref hypervisor.Ref) (string, error) {
	m, done, err := s.takeTurn(ctx, ref)
	if err != nil {
		return "", err
	}
	defer done()
	m.io.Lock()
	defer m.io.Unlock()
	if m.definition().Running {
		return "", nil
	}
	if m.definition().Stamp == "" { // nothing was written yet
		if err := m.restamp(); err != nil {
			return "", err
		}
	}
	m.stamped = false
	stamp := m.definition().Stamp
	for _, d := range m.definition().Disks {
		stamp += fmt.Sprintf(" %s %d", d.Key, d.Size)
	}
	return stamp, nil
}

func (o *openedDisk) Size() int64 { return o.d.size }

func (o *openedDisk) ReadAt(p []byte, offset int64) (int, error) {
	if offset < 0 || offset > o.d.size {
		return 0, fmt.Errorf("read disk %s at %d: it has %d bytes", o.d.key, offset, o.d.size)
	}
	n := int(min(int64(len(p)), o.d.size-offset))
	if err := o.m.disturb(o.d.key, replication.Extent{Offset: offset, Length: int64(n)}); err != nil {
		return 0, err
	}
	o.m.io.RLock()
	defer o.m.io.RUnlock()
	if o.closed {
		return 0, errClosedDisk
	}
	if n > 0 {
		if err := o.d.read(o.m.site.world.life, p[:n], offset); err != nil {
			return 0, err
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Regions yields the whole disk with its holes.
func (o *openedDisk) Regions(ctx context.Context) iter.Seq2[replication.Region, error] {
	return func(yield func(replication.Region, error) bool) {
		o.m.io.RLock()
		grains := slices.Clone(o.d.changes.grains)
		o.m.io.RUnlock()
		for region := range regions(grains, o.d.size, false, 0) {
			if err := ctx.Err(); err != nil {
				yield(replication.Region{}, err)
				return
			}
			if !yield(region, nil) {
				return
			}
		}
	}
}

func (o *openedDisk) WriteAt(p []byte, offset int64) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := o.change(replication.Extent{Offset: offset, Length: int64(len(p))}, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Zero makes an extent all zero and gives its space back.
func (o *openedDisk) Zero(e replication.Extent) error { return o.change(e, nil) }

func (o *openedDisk) change(e replication.Extent, data []byte) error {
	o.m.io.Lock()
	defer o.m.io.Unlock()
	switch {
	case o.closed:
		return errClosedDisk
	case o.mode != hypervisor.ReadWrite:
		return fmt.Errorf("write disk %s: it was opened for reading", o.d.key)
	}
	// What a guest had left clean is not that any more.
	if o.m.definition().ShutDown {
		if err := o.m.change(func(d *definition) { d.ShutDown = false }); err != nil {
			return err
		}
	}
	return o.m.write(o.m.site.world.life, o.d, e, data)
}

// Sync hands what was written to the medium.
func (o *openedDisk) Sync() error {
	o.m.io.RLock()
	defer o.m.io.RUnlock()
	if o.closed {
		return errClosedDisk
	}
	errs := []error{o.d.file.Sync(), o.d.changes.file.Sync()}
	if o.d.overlay != nil {
		errs = append(errs, o.d.overlay.file.Sync())
	}
	return errors.Join(errs...)
}

// Close lets the machine start again. Closing twice is harmless.
func (o *openedDisk) Close() error {
	o.m.io.Lock()
	defer o.m.io.Unlock()
	o.closed = true
	delete(o.m.opened, o)
	return nil
}
