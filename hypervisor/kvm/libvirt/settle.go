package libvirt

import (
	"context"
	"errors"
	"fmt"
	"time"

	rpc "github.com/digitalocean/go-libvirt"
	"golang.org/x/sync/errgroup"

	"riparo/hypervisor"
	"riparo/hypervisor/kvm/fleece"
	"riparo/hypervisor/kvm/qga"
)

// freezeMark is a file among the scratch files, there while a guest is or may be frozen.
const freezeMark = "frozen"

// Settle ends what a process that is gone left under way in domains: captures, a stand
// still because of them, freezes. Whether there is something to end is told by the scratch
// folder: nothing is asked of a domain that no capture was made of, which its QEMU and its
// agent would remember as a taint.
func (h *Host) Settle(ctx context.Context) error {
	list, err := call(ctx, h, func(l *rpc.Libvirt) ([]rpc.Domain, error) {
		list, _, err := l.ConnectListAllDomains(1, 0)
		return list, err
	})
	if err != nil {
		return fmt.Errorf("settle the machines of %s: %w", h.address, err)
	}
	failed := make([]error, len(list))
	var group errgroup.Group
	group.SetLimit(discoverAtOnce)
	for i, dom := range list {
		group.Go(func() error {
			if err := h.settleIfLeft(ctx, dom); err != nil && !errors.Is(err, hypervisor.ErrNoMachine) {
				failed[i] = fmt.Errorf("%s: %w", dom.Name, err)
			}
			return nil
		})
	}
	return errors.Join(group.Wait(), errors.Join(failed...))
}

func (h *Host) settleIfLeft(ctx context.Context, dom rpc.Domain) error {
	p := h.seat(refOf(dom))
	select {
	case <-p.lock:
	default: // somebody works with it
		return nil
	}
	defer func() { p.lock <- struct{}{} }()
	if p.capture != nil && p.capture.abandoned.Load() {
		p.capture.supersede()
		p.capture, p.settled = nil, false
	}
	if p.capture != nil || p.settled {
		return nil
	}
	d, err := h.describe(ctx, dom, 0)
	if err != nil {
		return err
	}
	machine := h.machineOf(dom, d)
	if err := fleece.Settle(ctx, machine); err != nil {
		return err
	}
	if err := h.thawIfMarked(ctx, &machine, p, (*fleece.Machine).TryThaw); err != nil {
		return err
	}
	p.settled = true
	return nil
}

// settleLeft ends what is left before a new capture. The caller holds the domain and says
// how patiently it is thawed.
func (h *Host) settleLeft(ctx context.Context, m *fleece.Machine, p *seat, thaw func(*fleece.Machine, context.Context) error) error {
	if !p.settled {
		// A guest that stands still thaws nothing: that first.
		if err := fleece.Settle(ctx, *m); err != nil {
			return err
		}
		// An agent that does not answer says nothing of a freeze, and may never answer
		// again: there are points without it, and Settle goes on asking.
		if err := h.thawIfMarked(ctx, m, p, thaw); err != nil && m.AgentAnswers(ctx) {
			return err
		}
	}
	if p.thawed || m.Agent == nil {
		return nil
	}
	var err error
	p.thawed, err = thawLeftover(ctx, m)
	return err
}

// thawIfMarked thaws a guest if it is noted that it may be frozen.
func (h *Host) thawIfMarked(ctx context.Context, m *fleece.Machine, p *seat, thaw func(*fleece.Machine, context.Context) error) error {
	marked, err := m.Scratch.Left(ctx, []string{freezeMark})
	if err != nil || !marked {
		return err
	}
	_, release, err := m.Connect(ctx)
	if errors.Is(err, fleece.ErrEnded) || err == nil && m.Agent == nil {
		return m.Scratch.Remove(ctx, []string{freezeMark}) // a freeze ends with its guest
	}
	if err != nil {
		return err
	}
	release()
	if err := thaw(m, ctx); err != nil {
		return err
	}
	p.thawed = true
	return nil
}

// askLimit is how long an agent may take to say whether a freeze is in force.
const askLimit = 3 * time.Second

// thawLeftover thaws a guest that an earlier process of ours left frozen without a note,
// as versions before this one did. It reports whether none can be in force: an agent that
// does not answer may be about to freeze, or not be there at all.
func thawLeftover(ctx context.Context, m *fleece.Machine) (bool, error) {
	asking, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	agent, release, err := m.Agent(asking)
	if err != nil {
		return false, nil
	}
	defer release()
	frozen, err := qga.Frozen(asking, agent)
	if err != nil {
		return false, nil
	}
	if !frozen {
		return true, nil
	}
	err = m.Thaw(ctx)
	return err == nil, err
}

// tellLimit is how long libvirt may take to hear from QEMU that a guest stands.
const tellLimit = 5 * time.Second

// goOn lets a domain go on that QEMU stopped after an I/O error. libvirt does it, and not
// its QEMU by itself: the leases on the disks that it gave up meanwhile are taken again. It
// hears of the stop a moment later than one who asks QEMU.
func (h *Host) goOn(ctx context.Context, dom rpc.Domain) error {
	ctx, cancel := context.WithTimeoutCause(ctx, tellLimit, fmt.Errorf("after %s libvirt does not know that QEMU stopped it", tellLimit))
	defer cancel()
	tick := time.NewTicker(stopLook)
	defer tick.Stop()
	for {
		state, reason, err := h.powerWhy(ctx, dom)
		switch {
		case err != nil:
			return err
		case state == rpc.DomainPaused && rpc.DomainPausedReason(reason) == rpc.DomainPausedIoerror:
			return do(ctx, h, func(l *rpc.Libvirt) error { return l.DomainResume(dom) })
		case state != rpc.DomainRunning: // a person's doing
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
