package libvirt

import (
	"context"
	"fmt"

	"riparo/hypervisor"
)

// Watch reports libvirt's lifecycle events until ctx ends or the connection is lost.
// It has a connection of its own, so that a slow listener holds up nobody's calls.
func (h *Host) Watch(ctx context.Context, changed func(hypervisor.Ref)) error {
	connection, err := h.handshake()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events, err := connection.LifecycleEvents(ctx)
	if err != nil {
		connection.Disconnect()
		return fmt.Errorf("watch %s: %w", h.address, err)
	}
	defer func() {
		// The library's goroutine ends with ctx, and may be waiting to hand over an
		// event until then.
		cancel()
		for range events {
		}
		connection.Disconnect()
	}()
	for {
		select {
		case event, ok := <-events:
			if !ok {
				return fmt.Errorf("watch %s: the connection to libvirt was lost", h.address)
			}
			changed(refOf(event.Dom))
		case <-connection.Disconnected():
			return fmt.Errorf("watch %s: the connection to libvirt was lost", h.address)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
