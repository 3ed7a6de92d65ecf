package libvirt

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"sync/atomic"

	rpc "github.com/digitalocean/go-libvirt"

	"riparo/hypervisor"
	"riparo/hypervisor/kvm/fleece"
	"riparo/hypervisor/kvm/qga"
	"riparo/replication"
)

// BeginPoint freezes the disks of a domain at one instant; see package fleece. Those of
// a domain that is off are opened without it.
func (h *Host) BeginPoint(ctx context.Context, request hypervisor.PointRequest) (hypervisor.Capture, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p, release, err := h.hold(ctx, request.Ref)
	if err != nil {
		return nil, err
	}
	defer release()
	dom, err := h.find(ctx, request.Ref)
	if err != nil {
		return nil, err
	}
	if p.capture != nil {
		p.capture.supersede()
		p.capture = nil
	}
	state, reason, err := h.power(ctx, dom)
	if err != nil {
		return nil, err
	}
	d, err := h.describe(ctx, dom, 0)
	if err != nil {
		return nil, err
	}
	c := &capture{host: h, ref: request.Ref}
	if powerOf(state) == hypervisor.Stopped {
		c.inner, err = h.beginStopped(ctx, d, request, reason == rpc.DomainShutoffShutdown)
	} else {
		c.inner, err = h.beginRunning(ctx, dom, d, request, p)
	}
	if err != nil {
		return nil, err
	}
	p.capture = c
	return c, nil
}

func (h *Host) beginRunning(ctx context.Context, dom rpc.Domain, d *domain, request hypervisor.PointRequest, p *seat) (hypervisor.Capture, error) {
	machine, err := h.fleeceMachine(ctx, dom, d)
	if err != nil {
		return nil, err
	}
	for _, key := range request.Disks {
		k, ok := d.disk(key)
		if !ok {
			return nil, noDisk(d.Name, key, replication.Retry) // it may have gone just now
		}
		if why := obstacle(k); why != "" {
			return nil, &replication.Problem{
				Code: "kvm.obstacle", Cause: fmt.Sprintf("disk %s of %s %s", key, d.Name, why), Effect: "no recovery point was taken",
				Action: "remove the obstacle, or leave the disk out", Remedy: replication.Stop,
			}
		}
	}
	if err := h.settleLeft(ctx, &machine, p, (*fleece.Machine).Thaw); err != nil {
		return nil, err
	}
	p.settled = false // until this one is known to have ended
	return fleece.Begin(ctx, machine, request)
}

// Forget removes everything that captures left on a domain.
func (h *Host) Forget(ctx context.Context, ref hypervisor.Ref) error {
	p, release, err := h.hold(ctx, ref)
	if err != nil {
		return err
	}
	defer release()
	dom, err := h.find(ctx, ref)
	if errors.Is(err, hypervisor.ErrNoMachine) {
		return nil
	}
	if err != nil {
		return err
	}
	if p.capture != nil {
		p.capture.supersede()
		p.capture = nil
	}
	state, _, err := h.power(ctx, dom)
	if err != nil {
		return err
	}
	d, err := h.describe(ctx, dom, 0)
	if err != nil {
		return err
	}
	if powerOf(state) == hypervisor.Stopped {
		return h.forgetStopped(ctx, d)
	}
	machine, err := h.fleeceMachine(ctx, dom, d)
	if err != nil {
		return err
	}
	if err := h.settleLeft(ctx, &machine, p, (*fleece.Machine).Thaw); err != nil {
		return err
	}
	return fleece.Forget(ctx, machine)
}

// fleeceMachine is what package fleece needs to know of a domain that runs.
func (h *Host) fleeceMachine(ctx context.Context, dom rpc.Domain, d *domain) (fleece.Machine, error) {
	m := h.machineOf(dom, d)
	all, err := h.drives(ctx, dom)
	if err != nil {
		return m, err
	}
	disks := m.Disks
	m.Disks = nil
	for _, k := range d.disks() {
		if b, ok := all.of(k); ok && slices.Contains(disks, fleece.Disk{Key: k.Target.Device}) {
			m.Disks = append(m.Disks, fleece.Disk{Key: k.Target.Device, Device: b.Device})
		}
	}
	return m, nil
}

// machineOf is that as far as it can be known without asking the domain's QEMU: disks
// have keys only.
func (h *Host) machineOf(dom rpc.Domain, d *domain) fleece.Machine {
	scratch := h.place.scratch(path.Join(h.options.Folder, "scratch", d.UUID), d.owner())
	m := fleece.Machine{
		Name: d.Name, Reserve: h.options.ScratchReserve, Limit: h.options.ScratchLimit, Dial: h.place.dial,
		Scratch: scratch,
		Socket:  path.Join(h.options.Folder, "scratch", d.UUID, "nbd"),
		Connect: func(ctx context.Context) (fleece.Monitor, func(), error) {
			state, _, err := h.power(ctx, dom)
			if err == nil && powerOf(state) == hypervisor.Stopped {
				err = fmt.Errorf("machine %s: %w", d.Name, fleece.ErrEnded)
			}
			if err != nil {
				return nil, nil, err
			}
			return monitor{h, dom}, func() {}, nil
		},
		Continue: func(ctx context.Context) error { return h.goOn(ctx, dom) },
	}
	for _, k := range d.disks() {
		if len(k.Target.Device) <= fleece.MaxKeyLength {
			m.Disks = append(m.Disks, fleece.Disk{Key: k.Target.Device})
		}
	}
	if d.agent() {
		m.Agent = func(ctx context.Context) (qga.Executor, func(), error) {
			// Nothing is frozen before an agent is known to answer.
			a := agent{h, dom}
			return a, func() {}, a.Execute(ctx, "guest-ping", nil, nil)
		}
		m.Freezing = func(ctx context.Context, freezing bool) error {
			if freezing {
				return scratch.Make(ctx, freezeMark, nil, 0)
			}
			// A note that stays costs one more thaw, and no point.
			_ = scratch.Remove(ctx, []string{freezeMark})
			return nil
		}
	}
	return m
}

// superseder is a capture that can be told that a newer one begins.
type superseder interface{ Supersede() }

// capture takes its turn among the operations on a domain.
type capture struct {
	host  *Host
	ref   hypervisor.Ref
	inner hypervisor.Capture
	// abandoned is set when nobody comes back to end it: Settle does.
	abandoned atomic.Bool
}

func (c *capture) Instant() hypervisor.Instant        { return c.inner.Instant() }
func (c *capture) Disks() []hypervisor.CapturedDisk   { return c.inner.Disks() }
func (c *capture) Commit(ctx context.Context) error   { return c.end(ctx, c.inner.Commit) }
func (c *capture) Rollback(ctx context.Context) error { return c.end(ctx, c.inner.Rollback) }
func (c *capture) supersede() {
	if s, ok := c.inner.(superseder); ok {
		s.Supersede()
	}
}

func (c *capture) end(ctx context.Context, how func(context.Context) error) error {
	p, release, err := c.host.hold(ctx, c.ref)
	if err != nil {
		c.abandoned.Store(true)
		return err
	}
	defer release()
	if err := how(ctx); err != nil {
		// Nobody watches over what is open of it any more: Settle ends that.
		if p.capture == c {
			c.supersede()
			p.capture = nil
			p.settled = false
		}
		return err
	}
	if p.capture == c {
		p.capture = nil
	}
	return nil
}
