package kvm

import (
	"context"
	"errors"
	"fmt"
	"os"

	"riparo/hypervisor"
	"riparo/hypervisor/kvm/fleece"
	"riparo/replication"
)

// Flatten lets QEMU copy what the overlays still read from below into them
// (block-stream). The job runs inside QEMU and goes on when this process ends; a
// second call joins it.
func (s *Site) Flatten(ctx context.Context, ref hypervisor.Ref, progress func(done, total int64)) error {
	d, err := s.load(ref)
	if err != nil {
		return err
	}
	monitor, release, err := s.openEither(ctx, d)
	if err != nil {
		return fmt.Errorf("flatten %s: %w", d.Name, err)
	}
	err = s.flatten(ctx, d, monitor, progress)
	if err = errors.Join(err, release()); err != nil {
		return fmt.Errorf("flatten %s: %w", d.Name, err)
	}
	return nil
}

// openEither connects to the QEMU of a machine that runs, or to the storage of one
// that does not.
func (s *Site) openEither(ctx context.Context, d *Definition) (fleece.Monitor, func() error, error) {
	p, release, err := s.hold(ctx, d.Name)
	if err != nil {
		return nil, nil, err
	}
	defer release()
	if p.capture != nil {
		return nil, nil, capturedProblem(d.Name)
	}
	if s.observe(ctx, d.Name) == guestDown {
		if err := s.settle(ctx, d, p); err != nil {
			return nil, nil, err
		}
	}
	if s.observe(ctx, d.Name) == ended {
		st, err := s.openStorage(ctx, d)
		if err != nil {
			return nil, nil, err
		}
		return st.conn, st.release, nil
	}
	return &reconnecting{site: s, name: d.Name}, func() error { return nil }, nil
}

func capturedProblem(name string) error {
	return &replication.Problem{
		Code: "kvm.captured", Cause: fmt.Sprintf("a recovery point of %s is being read", name), Effect: "the copy did not begin",
		Action: "it is tried again when that has ended", Remedy: replication.Retry,
	}
}

// reconnecting is a monitor of a running machine that holds the control socket no
// longer than a command takes: streaming lasts hours.
type reconnecting struct {
	site *Site
	name string
}

func (r *reconnecting) Execute(ctx context.Context, command string, arguments, result any) error {
	conn, err := r.site.dial(ctx, r.name, "control")
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.Execute(ctx, command, arguments, result)
}

func (s *Site) flatten(ctx context.Context, d *Definition, monitor fleece.Monitor, progress func(done, total int64)) error {
	var total, done int64
	sizes := map[string]int64{}
	for _, disk := range d.Disks {
		if disk.Backing != "" {
			size, err := imageSize(s.diskPath(disk), disk.Format)
			if err != nil {
				return err
			}
			sizes[disk.Key] = size
			total += size
		}
	}
	for _, disk := range d.Disks {
		if disk.Backing == "" {
			continue
		}
		report := func(current int64) {
			if progress != nil {
				progress(done+min(current, sizes[disk.Key]), total)
			}
		}
		if err := s.stream(ctx, d.Name, disk.Key, monitor, report); err != nil {
			return fmt.Errorf("disk %s: %w", disk.Key, err)
		}
		done += sizes[disk.Key]
		report(0)
	}
	return nil
}

// dropGoneBackings corrects the definition of a machine that does not run: an image
// whose header names no file below has been flattened, and a crash kept that from
// being noted. The caller holds the machine.
func (s *Site) dropGoneBackings(ctx context.Context, d *Definition) error {
	changed := false
	for i, disk := range d.Disks {
		if disk.Backing == "" {
			continue
		}
		file, err := os.Open(s.diskPath(disk))
		if err != nil {
			return fmt.Errorf("machine %s: disk %s: %w", d.Name, disk.Key, err)
		}
		header, err := readHeader(file)
		file.Close()
		if err != nil {
			return fmt.Errorf("machine %s: disk %s: %w", d.Name, disk.Key, err)
		}
		if !header.backing {
			d.Disks[i].Backing, changed = "", true
		}
	}
	if !changed {
		return nil
	}
	return s.Define(*d)
}
