package lab

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"riparo/hypervisor"
	"riparo/replication"
)

// Start powers a machine on: it boots from what is on its disks. A machine that
// does not find itself there runs all the same, says so on its console, and does
// not serve.
func (s *Site) Start(ctx context.Context, ref hypervisor.Ref, options hypervisor.StartOptions) error {
	m, done, err := s.takeTurn(ctx, ref)
	if err != nil {
		return err
	}
	defer done()
	def := m.definition()
	switch {
	case def.Running:
		return nil
	case def.Fenced != "":
		return &replication.Problem{
			Code: "lab.fenced", Cause: fmt.Sprintf("machine %s is fenced: %s", def.Name, def.Fenced),
			Effect: "it was not started", Action: "fail back to it, or lift the fence if the other copy is gone",
			Remedy: replication.Stop, Err: hypervisor.ErrFenced,
		}
	}
	m.io.Lock()
	defer m.io.Unlock()
	if len(m.opened) > 0 {
		return &replication.Problem{
			Code: "lab.disk-open", Cause: fmt.Sprintf("a disk of machine %s is open", def.Name),
			Effect: "it was not started", Action: "wait until the disk is closed", Remedy: replication.Retry,
		}
	}
	if err := m.clearConsole(); err != nil {
		return fmt.Errorf("start machine %s: %w", def.Name, err)
	}
	err = m.change(func(d *definition) {
		d.Running, d.Booting, d.ShutDown = true, true, false
		d.BootID, d.Started = rand.Text(), m.now()
		d.Identity, d.Branch = "", 0
		if options.TrackSince == "" {
			return
		}
		// What is on the disks now is the point; the first write has a newer
		// generation. A start that was interrupted has written something already:
		// then what it remembered stays.
		if d.Points[options.TrackSince] == nil {
			remembered := map[string]uint32{}
			for _, disk := range d.Disks {
				remembered[disk.Key] = d.Generation
			}
			d.Points[options.TrackSince] = remembered
		}
		d.Lost = ""
		d.Generation++
	})
	if err != nil {
		return fmt.Errorf("start machine %s: %w", def.Name, err)
	}
	return m.boot(ctx, m.definition())
}

// Stop powers a machine off.
func (s *Site) Stop(ctx context.Context, ref hypervisor.Ref, grace time.Duration) (hypervisor.StopOutcome, error) {
	m, done, err := s.takeTurn(ctx, ref)
	if err != nil {
		return "", err
	}
	defer done()
	m.state.Lock()
	takes := m.faults.shutdownTakes
	m.state.Unlock()
	if def := m.definition(); def.Running && grace > 0 && takes > 0 {
		time.AfterFunc(takes, func() { s.endBoot(ref, def.BootID) })
		if err := wait(ctx, min(takes, grace)); err != nil {
			return "", fmt.Errorf("stop machine %s: %w", def.Name, err)
		}
	}
	return m.stop(ctx, grace)
}

// endBoot ends a boot of a machine that was asked to shut down, whoever waits for it.
func (s *Site) endBoot(ref hypervisor.Ref, boot string) {
	ctx := context.Background()
	m, done, err := s.takeTurn(ctx, ref)
	if err != nil {
		return // its site is closed or away
	}
	defer done()
	if m.definition().BootID == boot {
		_, _ = m.stop(ctx, 1) // without who asked, nobody is told
	}
}

// stop powers the machine off. The caller holds its turn.
func (m *machine) stop(ctx context.Context, grace time.Duration) (hypervisor.StopOutcome, error) {
	def := m.definition()
	if !def.Running {
		return hypervisor.AlreadyStopped, nil
	}
	m.state.Lock()
	deaf := m.faults.ignoreShutdown
	m.state.Unlock()
	// A guest that does not serve has nothing that could answer.
	asked := grace > 0 && !deaf && def.Identity != ""
	if grace > 0 && deaf {
		if err := wait(ctx, grace); err != nil {
			return "", fmt.Errorf("stop machine %s: %w", def.Name, err)
		}
	}
	m.io.Lock()
	defer m.io.Unlock()
	if asked {
		if err := m.quiesce(); err != nil {
			return "", fmt.Errorf("stop machine %s: %w", def.Name, err)
		}
	}
	err := m.change(func(d *definition) {
		d.Running, d.ShutDown = false, asked
		d.BootID, d.Started, d.Identity, d.Branch = "", time.Time{}, "", 0
	})
	if err != nil {
		return "", fmt.Errorf("stop machine %s: %w", def.Name, err)
	}
	m.record, m.branch, m.numbers = nil, nil, nil
	if asked {
		return hypervisor.ShutDown, nil
	}
	return hypervisor.PoweredOff, nil
}

// Fence keeps a machine from being started.
func (s *Site) Fence(ctx context.Context, ref hypervisor.Ref, reason string) error {
	m, err := s.machine(ctx, ref)
	if err != nil {
		return err
	}
	if reason == "" {
		reason = "another copy owns its identity"
	}
	return m.change(func(d *definition) { d.Fenced = reason })
}

// Unfence lets it start again.
func (s *Site) Unfence(ctx context.Context, ref hypervisor.Ref) error {
	m, err := s.machine(ctx, ref)
	if err != nil {
		return err
	}
	return m.change(func(d *definition) { d.Fenced = "" })
}

// Console returns the last bytes that the machine printed since it was started.
func (s *Site) Console(ctx context.Context, ref hypervisor.Ref, limit int) ([]byte, error) {
	m, err := s.machine(ctx, ref)
	if err != nil {
		return nil, err
	}
	m.state.Lock()
	defer m.state.Unlock()
	text := m.console
	if limit >= 0 && len(text) > limit {
		text = text[len(text)-limit:]
	}
	return append([]byte(nil), text...), nil
}
