package libvirt

import (
	"context"
	"fmt"

	"riparo/hypervisor"
	"riparo/replication"
)

// Console returns the end of what the domain's first serial port was logged as.
func (h *Host) Console(ctx context.Context, ref hypervisor.Ref, limit int) ([]byte, error) {
	dom, err := h.find(ctx, ref)
	if err != nil {
		return nil, err
	}
	d, err := h.describe(ctx, dom, 0)
	if err != nil {
		return nil, err
	}
	file := d.consoleFile()
	if file == "" {
		return nil, &replication.Problem{
			Code: "libvirt.console", Cause: fmt.Sprintf("the serial port of %s is not written to a file", d.Name), Effect: "its console cannot be read",
			Action: "give its serial port a log file (<log file='…'/>)", Remedy: replication.Stop,
		}
	}
	said, err := h.place.end(ctx, file, limit)
	if err != nil {
		return nil, fmt.Errorf("console of %s: %w", d.Name, err)
	}
	return said, nil
}
