package libvirt

import (
	"context"
	"fmt"
	"time"

	rpc "github.com/digitalocean/go-libvirt"

	"riparo/hypervisor"
	"riparo/hypervisor/kvm/fleece"
	"riparo/replication"
)

// Start powers a domain on. With TrackSince it is started paused, so that bitmaps are
// in place before the first instruction.
func (h *Host) Start(ctx context.Context, ref hypervisor.Ref, options hypervisor.StartOptions) error {
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
	m := d.marked()
	if m.Fenced {
		return &replication.Problem{
			Code: "kvm.fenced", Cause: fmt.Sprintf("machine %s is fenced: %s", d.Name, m.Reason), Effect: "it was not started",
			Action: "fail back to it, or lift the fence once the other copy is gone for good", Remedy: replication.Stop, Err: hypervisor.ErrFenced,
		}
	}
	state, _, err := h.power(ctx, dom)
	if err != nil {
		return err
	}
	switch powerOf(state) {
	case hypervisor.Running:
		return nil
	case hypervisor.Suspended:
		// Paused by an interrupted Start of ours it has not executed anything yet.
		if !h.begun(ctx, dom) {
			return h.letRun(ctx, dom, d, options)
		}
		return &replication.Problem{
			Code: "kvm.paused", Cause: fmt.Sprintf("machine %s is paused", d.Name), Effect: "it was not started anew",
			Action: "let it continue, or stop it first", Remedy: replication.Retry,
		}
	}
	err = do(ctx, h, func(l *rpc.Libvirt) error {
		_, err := l.DomainCreateWithFlags(dom, uint32(rpc.DomainStartPaused))
		return err
	})
	if err != nil {
		return &replication.Problem{
			Code: "kvm.start", Cause: fmt.Sprintf("libvirt did not start machine %s: %v", d.Name, err), Effect: "the machine is off",
			Action: "check its definition, its network, and that nobody else uses its disks", Remedy: replication.Retry, Err: err,
		}
	}
	if err := h.letRun(ctx, dom, d, options); err != nil {
		// A machine that could not be prepared as asked must not run by accident.
		cleaning, cancel := context.WithTimeout(context.WithoutCancel(ctx), endLimit)
		defer cancel()
		_ = do(cleaning, h, func(l *rpc.Libvirt) error { return l.DomainDestroy(dom) })
		return fmt.Errorf("start machine %s: %w", d.Name, err)
	}
	return nil
}

// endLimit bounds clean-up.
const endLimit = 30 * time.Second

// begun reports whether a paused domain has executed since it was started.
func (h *Host) begun(ctx context.Context, dom rpc.Domain) bool {
	var reply struct {
		Status string `json:"status"`
	}
	err := monitor{h, dom}.Execute(ctx, "query-status", nil, &reply)
	return err != nil || reply.Status != "prelaunch"
}

// letRun lets a domain that was started paused execute.
func (h *Host) letRun(ctx context.Context, dom rpc.Domain, d *domain, options hypervisor.StartOptions) error {
	m := d.marked()
	// The same point a second time means that the machine ran since: whatever its
	// bitmaps are worth now, new and empty ones would lie.
	if point := options.TrackSince; point != "" && string(point) != m.Tracked {
		live, err := h.describe(ctx, dom, 0)
		if err != nil {
			return err
		}
		machine, err := h.fleeceMachine(ctx, dom, live)
		if err != nil {
			return err
		}
		if err := fleece.Track(ctx, machine, point); err != nil {
			return err
		}
		m.Tracked = string(point)
		if err := h.setMark(ctx, dom, m); err != nil {
			return err
		}
	}
	if err := do(ctx, h, func(l *rpc.Libvirt) error { return l.DomainResume(dom) }); err != nil {
		return err
	}
	state, _, err := h.power(ctx, dom)
	if err == nil && powerOf(state) != hypervisor.Running {
		err = fmt.Errorf("it does not execute (state %d)", state)
	}
	return err
}

// Stop powers a domain off: it presses the power button, asks the guest agent too when
// half of grace has passed, and pulls the plug after grace.
func (h *Host) Stop(ctx context.Context, ref hypervisor.Ref, grace time.Duration) (hypervisor.StopOutcome, error) {
	p, release, err := h.hold(ctx, ref)
	if err != nil {
		return "", err
	}
	defer release()
	dom, err := h.find(ctx, ref)
	if err != nil {
		return "", err
	}
	outcome, err := h.stop(ctx, dom, p, grace)
	if err != nil {
		return "", fmt.Errorf("stop machine %s: %w", dom.Name, err)
	}
	return outcome, nil
}

func (h *Host) stop(ctx context.Context, dom rpc.Domain, p *seat, grace time.Duration) (hypervisor.StopOutcome, error) {
	state, _, err := h.power(ctx, dom)
	if err != nil {
		return "", err
	}
	if powerOf(state) == hypervisor.Stopped {
		return hypervisor.AlreadyStopped, nil
	}
	if powerOf(state) == hypervisor.Running && grace > 0 {
		down, err := h.askToShutDown(ctx, dom, grace)
		if err != nil {
			return "", err
		}
		if down {
			return hypervisor.ShutDown, nil
		}
	}
	if p.capture != nil {
		p.capture.supersede()
		p.capture = nil
	}
	h.clearViews(ctx, dom)
	// Gracefully lets QEMU write its caches and bitmaps.
	err = do(ctx, h, func(l *rpc.Libvirt) error { return l.DomainDestroyFlags(dom, rpc.DomainDestroyGraceful) })
	if err != nil && !hasCode(err, rpc.ErrOperationInvalid) {
		err = do(ctx, h, func(l *rpc.Libvirt) error { return l.DomainDestroy(dom) })
	}
	if err != nil && !hasCode(err, rpc.ErrOperationInvalid) {
		return "", err
	}
	if state, _, err = h.power(ctx, dom); err != nil {
		return "", err
	}
	if powerOf(state) != hypervisor.Stopped {
		return "", fmt.Errorf("it was powered off and is in state %d", state)
	}
	return hypervisor.PoweredOff, nil
}

// clearViews takes a capture's filters out of a domain that is about to end, so that
// QEMU saves its bitmaps. What fails here the next capture finds.
func (h *Host) clearViews(ctx context.Context, dom rpc.Domain) {
	live, err := h.describe(ctx, dom, 0)
	if err != nil {
		return
	}
	if machine, err := h.fleeceMachine(ctx, dom, live); err == nil {
		_ = fleece.Clear(ctx, machine)
	}
}

// stopLook is how often a domain that shuts down is looked at.
const stopLook = 100 * time.Millisecond

// askToShutDown reports whether the guest went down within grace.
func (h *Host) askToShutDown(ctx context.Context, dom rpc.Domain, grace time.Duration) (bool, error) {
	ask := func(how rpc.DomainShutdownFlagValues) error {
		return do(ctx, h, func(l *rpc.Libvirt) error { return l.DomainShutdownFlags(dom, how) })
	}
	if err := ask(rpc.DomainShutdownAcpiPowerBtn); err != nil && !hasCode(err, rpc.ErrOperationInvalid) {
		return false, err
	}
	over := time.NewTimer(grace)
	defer over.Stop()
	halfway := time.NewTimer(grace / 2)
	defer halfway.Stop()
	tick := time.NewTicker(stopLook)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-halfway.C:
			// A second try for guests that do not listen to the power button. If it
			// fails, the plug is pulled at the end of grace.
			_ = ask(rpc.DomainShutdownGuestAgent)
		case <-over.C:
			return false, nil
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
		state, reason, err := h.power(ctx, dom)
		if err != nil {
			return false, err
		}
		if powerOf(state) == hypervisor.Stopped {
			if reason == rpc.DomainShutoffShutdown {
				return true, nil
			}
			return false, fmt.Errorf("somebody else ended it (reason %d)", reason)
		}
	}
}
