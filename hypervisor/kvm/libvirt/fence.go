package libvirt

import (
	"context"
	"encoding/xml"
	"fmt"

	rpc "github.com/digitalocean/go-libvirt"

	"riparo/hypervisor"
)

// Fence keeps a domain from being started, as far as its host allows: Start refuses
// it, and it does not start by itself with the host any more.
func (h *Host) Fence(ctx context.Context, ref hypervisor.Ref, reason string) error {
	return h.setFence(ctx, ref, true, reason)
}

// Unfence lets it start again. Autostart stays off: whether it was on before is for a
// person to know.
func (h *Host) Unfence(ctx context.Context, ref hypervisor.Ref) error {
	return h.setFence(ctx, ref, false, "")
}

func (h *Host) setFence(ctx context.Context, ref hypervisor.Ref, fenced bool, reason string) error {
	_, release, err := h.hold(ctx, ref)
	if err != nil {
		return err
	}
	defer release()
	dom, err := h.find(ctx, ref)
	if err != nil {
		return err
	}
	d, err := h.describe(ctx, dom, rpc.DomainXMLInactive)
	if err != nil {
		return err
	}
	if fenced {
		if err := do(ctx, h, func(l *rpc.Libvirt) error { return l.DomainSetAutostart(dom, 0) }); err != nil {
			return fmt.Errorf("fence %s: switch autostart off: %w", d.Name, err)
		}
	}
	m := d.marked()
	m.Fenced, m.Reason = fenced, reason
	if err := h.setMark(ctx, dom, m); err != nil {
		return fmt.Errorf("fence %s: %w", d.Name, err)
	}
	return nil
}

// setMark stores Riparo's mark with a domain, in force at once and after a restart.
func (h *Host) setMark(ctx context.Context, dom rpc.Domain, m mark) error {
	text, err := xml.Marshal(m)
	if err != nil {
		return err
	}
	flags := rpc.DomainAffectConfig
	if state, _, err := h.power(ctx, dom); err != nil {
		return err
	} else if powerOf(state) != hypervisor.Stopped {
		flags |= rpc.DomainAffectLive
	}
	return do(ctx, h, func(l *rpc.Libvirt) error {
		return l.DomainSetMetadata(dom, int32(rpc.DomainMetadataElement), rpc.OptString{string(text)}, rpc.OptString{"riparo"}, rpc.OptString{Namespace}, flags)
	})
}
