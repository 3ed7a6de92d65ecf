package kvm

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"riparo/hypervisor"
	"riparo/hypervisor/kvm/fleece"
	"riparo/hypervisor/kvm/qmp"
	"riparo/replication"
)

// Start powers a machine on and waits until it executes. QEMU is started paused, so
// that bitmaps are in place before the first instruction.
func (s *Site) Start(ctx context.Context, ref hypervisor.Ref, options hypervisor.StartOptions) error {
	d, err := s.load(ref)
	if err != nil {
		return err
	}
	p, release, err := s.hold(ctx, d.Name)
	if err != nil {
		return err
	}
	defer release()
	if d, err = s.load(ref); err != nil { // it may have been fenced meanwhile
		return err
	}
	if d.Fenced {
		return &replication.Problem{
			Code: "kvm.fenced", Cause: fmt.Sprintf("machine %s is fenced: %s", d.Name, d.FenceReason), Effect: "it was not started",
			Action: "fail back to it, or lift the fence once the other copy is gone for good", Remedy: replication.Stop, Err: hypervisor.ErrFenced,
		}
	}
	state, why := s.observeOr(ctx, d.Name)
	switch state {
	case running:
		return nil
	case guestDown:
		if err := s.settle(ctx, d, p); err != nil {
			return err
		}
	case paused, unclear:
		if errors.Is(why, errLost) {
			return why
		}
		return &replication.Problem{
			Code: "kvm.paused", Cause: fmt.Sprintf("machine %s is paused, or QEMU does not answer", d.Name), Effect: "it was not started anew",
			Action: "let it continue, or stop it first", Remedy: replication.Retry,
		}
	}
	unlock, err := s.lockDisks(ctx, d.Name)
	if err != nil {
		return err
	}
	// QEMU locks the images itself from here on; this lock is for what other parts
	// of Riparo do to the disks of stopped machines.
	defer unlock()
	if s.observe(ctx, d.Name) == ended {
		if err := s.run(ctx, d); err != nil {
			return err
		}
	}
	return s.release(ctx, d, options)
}

// run starts a QEMU that waits for its first instruction.
func (s *Site) run(ctx context.Context, d *Definition) error {
	accelerator, err := s.chooseAccelerator(ctx)
	if err != nil {
		return err
	}
	if err := s.dropGoneBackings(ctx, d); err != nil {
		return err
	}
	arguments, err := s.arguments(d, accelerator)
	if err != nil {
		return fmt.Errorf("start machine %s: %w", d.Name, err)
	}
	if err := s.removeSockets(d.Name); err != nil {
		return fmt.Errorf("start machine %s: %w", d.Name, err)
	}
	if err := launch(ctx, s.options.Emulator, arguments); err != nil {
		return &replication.Problem{
			Code: "kvm.start", Cause: fmt.Sprintf("QEMU did not start machine %s: %v", d.Name, err), Effect: "the machine is off",
			Action: "check its definition, and that nobody else uses its disks", Remedy: replication.Retry, Err: err,
		}
	}
	return nil
}

// removeSockets removes what a QEMU that was killed left behind: a new one would
// not mind, but a client could take the old socket for a machine that runs.
func (s *Site) removeSockets(name string) error {
	var err error
	for _, file := range []string{"control.qmp", "status.qmp", "events.qmp", "agent.sock", "nbd.sock", longestSocket} {
		if e := os.Remove(s.socket(name, file)); e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// release lets a QEMU that waits for its first instruction execute.
func (s *Site) release(ctx context.Context, d *Definition, options hypervisor.StartOptions) error {
	conn, err := s.dial(ctx, d.Name, "control")
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	defer conn.Close()
	err = s.letRun(ctx, d, conn, options)
	if err != nil {
		// A machine that could not be prepared as asked must not run by accident.
		return errors.Join(err, s.quit(ctx, d.Name, "pid", "status.qmp", conn))
	}
	return nil
}

func (s *Site) letRun(ctx context.Context, d *Definition, conn *qmp.Conn, options hypervisor.StartOptions) error {
	r, err := s.readRecord(d.Name)
	if err != nil {
		return err
	}
	if err := s.loadBitmaps(ctx, d, &r, conn); err != nil {
		return err
	}
	// The same point a second time means that the machine ran since: whatever its
	// bitmaps are worth now, new and empty ones would lie.
	if point := options.TrackSince; point != "" && point != r.Tracked {
		if err := fleece.Track(ctx, s.machineOf(d, conn), point); err != nil {
			return err
		}
		r.Tracked = point
	}
	r.Started, r.BootID, r.Ended = time.Now(), rand.Text(), ""
	if err := s.writeRecord(d.Name, r); err != nil {
		return err
	}
	if err := conn.Execute(ctx, "cont", nil, nil); err != nil {
		return fmt.Errorf("start machine %s: %w", d.Name, err)
	}
	state, err := queryState(ctx, conn)
	if err != nil {
		return fmt.Errorf("start machine %s: %w", d.Name, err)
	}
	if state != running && state != guestDown {
		return &replication.Problem{
			Code: "kvm.start", Cause: fmt.Sprintf("machine %s was started and does not execute", d.Name), Effect: "it was powered off again",
			Action: "check the storage of its disks", Remedy: replication.Retry,
		}
	}
	return nil
}

// machineOf is what package fleece needs to know of a machine whose QEMU runs,
// reached over an open connection.
func (s *Site) machineOf(d *Definition, conn fleece.Monitor) fleece.Machine {
	m := s.fleeceMachine(d)
	m.Connect = func(context.Context) (fleece.Monitor, func(), error) { return conn, func() {}, nil }
	return m
}
