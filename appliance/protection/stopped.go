package protection

import (
	"context"
	"errors"
	"fmt"
	"time"

	"riparo/hypervisor"
	"riparo/replication"
)

// stoppedCapture is the capture of a stopped machine from its opened disks, for
// providers that cannot read changes without a running machine. Nothing writes to
// the disks while they are open, so they are their own instant.
type stoppedCapture struct {
	instant hypervisor.Instant
	disks   []hypervisor.CapturedDisk
}

// stoppedDisk is an opened disk whose changes are unknown.
type stoppedDisk struct {
	hypervisor.OpenedDisk
	key string
}

func (d stoppedDisk) Key() string                  { return d.key }
func (d stoppedDisk) Mode() hypervisor.CaptureMode { return hypervisor.Unknown }
func (d stoppedDisk) Reason() string               { return "the machine is shut down" }

func openStopped(ctx context.Context, opener hypervisor.DiskOpener, r hypervisor.PointRequest, now func() time.Time) (hypervisor.Capture, error) {
	c := &stoppedCapture{instant: hypervisor.Instant{
		Consistency: replication.Clean, NotBefore: now(), NotAfter: now(),
		Evidence: map[string]string{"machine": "stopped; its disks were opened"},
	}}
	for _, key := range r.Disks {
		d, err := opener.OpenDisk(ctx, r.Ref, key, hypervisor.ReadOnly)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("open disk %s: %w", key, err), c.close())
		}
		c.disks = append(c.disks, stoppedDisk{d, key})
	}
	return c, nil
}

func (c *stoppedCapture) Instant() hypervisor.Instant      { return c.instant }
func (c *stoppedCapture) Disks() []hypervisor.CapturedDisk { return c.disks }
func (c *stoppedCapture) Commit(context.Context) error     { return c.close() }
func (c *stoppedCapture) Rollback(context.Context) error   { return c.close() }

func (c *stoppedCapture) close() error {
	var errs []error
	for _, d := range c.disks {
		errs = append(errs, d.(stoppedDisk).Close())
	}
	c.disks = nil
	return errors.Join(errs...)
}
