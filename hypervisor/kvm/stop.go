package kvm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"riparo/hypervisor"
	"riparo/hypervisor/kvm/fleece"
	"riparo/hypervisor/kvm/qga"
	"riparo/hypervisor/kvm/qmp"
)

// Stop powers a machine off: it presses the power button, asks the guest agent too
// when half of grace has passed, and pulls the plug after grace.
func (s *Site) Stop(ctx context.Context, ref hypervisor.Ref, grace time.Duration) (hypervisor.StopOutcome, error) {
	d, err := s.load(ref)
	if err != nil {
		return "", err
	}
	p, release, err := s.hold(ctx, d.Name)
	if err != nil {
		return "", err
	}
	defer release()
	return s.stop(ctx, d, p, grace)
}

func (s *Site) stop(ctx context.Context, d *Definition, p *seat, grace time.Duration) (hypervisor.StopOutcome, error) {
	switch before := s.observe(ctx, d.Name); before {
	case ended:
		return hypervisor.AlreadyStopped, nil
	case guestDown:
		return hypervisor.AlreadyStopped, s.settle(ctx, d, p)
	case running, unclear:
		// That it could not be seen just now is no reason to pull the plug of a guest
		// that may run well; one that does not answer here either has only that left. One
		// whose sockets are gone runs well for all that is known: a person can ask it.
		if grace > 0 {
			if err := s.askToShutDown(ctx, d, grace); err != nil && (before == running || ctx.Err() != nil || errors.Is(err, errLost)) {
				return "", fmt.Errorf("stop machine %s: %w", d.Name, err)
			}
		}
	}
	if err := s.settle(ctx, d, p); err != nil {
		return "", err
	}
	if r, err := s.readRecord(d.Name); err != nil || r.Ended == hypervisor.ShutDown {
		return hypervisor.ShutDown, err
	}
	return hypervisor.PoweredOff, nil
}

// askToShutDown returns when the guest is down or grace is over.
func (s *Site) askToShutDown(ctx context.Context, d *Definition, grace time.Duration) error {
	waiting, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	conn, err := s.dial(ctx, d.Name, "control")
	if errors.Is(err, fleece.ErrEnded) {
		return nil
	}
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.Execute(ctx, "system_powerdown", nil, nil); err != nil {
		return err
	}
	halfway := time.NewTimer(grace / 2)
	defer halfway.Stop()
	tick := time.NewTicker(stopLook)
	defer tick.Stop()
	for {
		select {
		case <-conn.Events(): // SHUTDOWN is among them
		case <-tick.C:
		case <-halfway.C:
			if d.GuestAgent {
				s.askAgentToShutDown(waiting, d.Name)
			}
			continue
		case <-waiting.Done():
			return ctx.Err()
		}
		state, err := queryState(ctx, conn)
		if state == guestDown || errors.Is(err, qmp.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// stopLook is how often a machine that shuts down is looked at, beside events.
const stopLook = 200 * time.Millisecond

// askAgentToShutDown is a second try for guests that do not listen to the power
// button. That it fails says nothing new: the plug is pulled at the end of grace.
func (s *Site) askAgentToShutDown(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	agent, err := qga.Dial(ctx, s.socket(name, "agent.sock"))
	if err != nil {
		return
	}
	defer agent.Close()
	_ = qga.Shutdown(ctx, agent)
}

// settle ends the QEMU of a machine that is down or is to be powered off, and keeps
// what must outlive it: how it ended, and the bitmaps of raw disks.
func (s *Site) settle(ctx context.Context, d *Definition, p *seat) error {
	// What QEMU has in memory is saved also if the caller loses patience.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*quitLimit)
	defer cancel()
	if p.capture != nil {
		p.capture.supersede()
		p.capture = nil
	}
	r, err := s.readRecord(d.Name)
	if err != nil {
		return err
	}
	conn, err := s.dial(ctx, d.Name, "control")
	if errors.Is(err, fleece.ErrEnded) {
		return nil
	}
	if err != nil {
		// It does not answer: only force is left, and nothing can be saved.
		return errors.Join(s.writeRecord(d.Name, r), s.quit(ctx, d.Name, "pid", "status.qmp", nil))
	}
	defer conn.Close()
	state, err := queryState(ctx, conn)
	if err == nil && state != guestDown && state != prelaunch {
		// Stopped between two instructions, as when the plug is pulled; bitmaps that
		// are saved from here on are complete.
		err = conn.Execute(ctx, "stop", nil, nil)
	}
	if err != nil {
		return errors.Join(err, s.quit(ctx, d.Name, "pid", "status.qmp", nil))
	}
	r.Ended = hypervisor.PoweredOff
	if state == guestDown {
		r.Ended = hypervisor.ShutDown
	}
	if err := endStreams(ctx, conn); err != nil {
		// One waits for a recovery point that is not served: QEMU would wait with it.
		return errors.Join(s.writeRecord(d.Name, r), s.quit(ctx, d.Name, "pid", "status.qmp", nil))
	}
	if err := fleece.Clear(ctx, s.machineOf(d, conn)); err != nil {
		return err
	}
	saved := s.saveBitmaps(ctx, d, &r, conn)
	if err := s.quit(ctx, d.Name, "pid", "status.qmp", conn); err != nil {
		return err
	}
	s.stampBitmaps(d, &r, saved)
	return s.writeRecord(d.Name, r)
}

// settleIfIdle settles a machine that powered down by itself unless somebody works
// with it: its open capture is still being read.
func (s *Site) settleIfIdle(ctx context.Context, d *Definition) {
	p := s.seat(d.Name)
	select {
	case <-p.lock:
	default:
		return
	}
	defer func() { p.lock <- struct{}{} }()
	unlock, ok, err := tryLock(s.runFile(d.Name, "lock"))
	if err != nil || !ok {
		return
	}
	defer unlock()
	if p.capture == nil && s.observe(ctx, d.Name) == guestDown {
		// What fails here is tried again by the next look, and by Start.
		_ = s.settle(ctx, d, p)
	}
}
