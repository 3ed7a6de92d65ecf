package kvm

import (
	"context"
	"errors"
	"os"
	"sync/atomic"

	"riparo/hypervisor"
	"riparo/hypervisor/kvm/fleece"
	"riparo/hypervisor/kvm/qga"
)

// BeginPoint freezes the disks of a machine at one instant; see package fleece. The
// disks of a stopped machine are opened without it.
func (s *Site) BeginPoint(ctx context.Context, request hypervisor.PointRequest) (hypervisor.Capture, error) {
	d, err := s.load(request.Ref)
	if err != nil {
		return nil, err
	}
	p, release, err := s.hold(ctx, d.Name)
	if err != nil {
		return nil, err
	}
	defer release()
	if p.capture != nil {
		p.capture.supersede()
		p.capture = nil
	}
	if err := s.settleLeft(ctx, d); err != nil {
		return nil, err
	}
	c := &capture{site: s, name: d.Name, seat: p}
	var m fleece.Machine
	switch s.observe(ctx, d.Name) {
	case ended:
		if c.storage, err = s.openStorage(ctx, d); err != nil {
			return nil, err
		}
		m = c.storage.machine()
	default:
		m = s.fleeceMachine(d)
		m.Clean = s.observe(ctx, d.Name) == guestDown
	}
	if c.Capture, err = fleece.Begin(ctx, m, request); err != nil {
		if c.storage != nil {
			err = errors.Join(err, c.storage.release())
		}
		return nil, err
	}
	p.capture = c
	return c, nil
}

// Forget removes everything that captures left on a machine.
func (s *Site) Forget(ctx context.Context, ref hypervisor.Ref) error {
	d, err := s.load(ref)
	if errors.Is(err, hypervisor.ErrNoMachine) {
		return nil
	}
	if err != nil {
		return err
	}
	p, release, err := s.hold(ctx, d.Name)
	if err != nil {
		return err
	}
	defer release()
	if p.capture != nil {
		p.capture.supersede()
		p.capture = nil
	}
	if err := s.settleLeft(ctx, d); err != nil {
		return err
	}
	if s.observe(ctx, d.Name) != ended {
		conn, err := s.dial(ctx, d.Name, "control")
		if err != nil {
			return err
		}
		defer conn.Close()
		return fleece.Forget(ctx, s.machineOf(d, conn))
	}
	st, err := s.openStorage(ctx, d)
	if err != nil {
		return err
	}
	return errors.Join(fleece.Forget(ctx, st.machine()), st.release())
}

// capture is a fleece.Capture that takes its turn among the operations on a machine.
type capture struct {
	*fleece.Capture
	site *Site
	name string
	seat *seat
	// abandoned is set when nobody comes back to end it: Settle does.
	abandoned atomic.Bool
	storage   *storage // the open disks of a stopped machine, or nil
}

// Commit ends the capture and lets changes count from it.
func (c *capture) Commit(ctx context.Context) error { return c.end(ctx, c.Capture.Commit) }

// Rollback ends the capture as if it had not been.
func (c *capture) Rollback(ctx context.Context) error { return c.end(ctx, c.Capture.Rollback) }

func (c *capture) end(ctx context.Context, how func(context.Context) error) error {
	p, release, err := c.site.hold(ctx, c.name)
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
		}
		return err
	}
	if p.capture == c {
		p.capture = nil
	}
	return c.closeStorage()
}

// supersede is called with the machine held, before another capture begins or its
// QEMU ends.
func (c *capture) supersede() {
	c.Capture.Supersede()
	// What the storage still holds is put in order by whoever opens it next.
	_ = c.closeStorage()
}

func (c *capture) closeStorage() error {
	if c.storage == nil {
		return nil
	}
	st := c.storage
	c.storage = nil
	return st.release()
}

// fleeceMachine is what package fleece needs to know of a running machine.
func (s *Site) fleeceMachine(d *Definition) fleece.Machine {
	m := fleece.Machine{
		Name: d.Name, Scratch: fleece.Folder(s.scratch(d.Name)), Socket: s.socket(d.Name, "nbd.sock"),
		Reserve: s.options.ScratchReserve, Limit: s.options.ScratchLimit,
		Connect: func(ctx context.Context) (fleece.Monitor, func(), error) {
			conn, err := s.dial(ctx, d.Name, "control")
			if err != nil {
				return nil, nil, err
			}
			return conn, func() { conn.Close() }, nil
		},
	}
	for _, disk := range d.Disks {
		m.Disks = append(m.Disks, fleece.Disk{Key: disk.Key, Device: d.devicePath(disk.Key), Node: diskNode(disk.Key)})
	}
	if d.GuestAgent {
		m.Agent = func(ctx context.Context) (qga.Executor, func(), error) {
			agent, err := qga.Dial(ctx, s.socket(d.Name, "agent.sock"))
			if err != nil {
				return nil, nil, err
			}
			return agent, func() { agent.Close() }, nil
		}
		m.Freezing = func(_ context.Context, freezing bool) error { return s.markFreeze(d.Name, freezing) }
	}
	return m
}

// freezeMark is there while a guest is or may be frozen.
const freezeMark = "frozen"

func (s *Site) markFreeze(name string, freezing bool) error {
	path := s.runFile(name, freezeMark)
	if freezing {
		return os.WriteFile(path, nil, 0o600)
	}
	if err := os.Remove(path); err != nil && exists(path) {
		return err
	}
	return nil
}
