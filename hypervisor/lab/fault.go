package lab

import (
	"context"
	"errors"
	"fmt"
	"time"

	"riparo/hypervisor"
	"riparo/replication"
)

// faults are what tests and demonstrations break on purpose. They last until they
// are taken back or the site is closed, and are never stored.
type faults struct {
	freezeFails    bool
	freezeTakes    time.Duration
	ignoreShutdown bool
	shutdownTakes  time.Duration
	slow           map[string]time.Duration
	unreadable     map[string][]replication.Extent
}

// SetUnreachable makes every call to the site fail as if its network were down.
// Machines run on.
func (s *Site) SetUnreachable(on bool) {
	s.mu.Lock()
	s.unreachable = on
	s.mu.Unlock()
	s.watchers.breakOff()
}

// SetAccountRefused makes every call to the site fail as if the password were wrong.
func (s *Site) SetAccountRefused(on bool) {
	s.mu.Lock()
	s.refused = on
	s.mu.Unlock()
	s.watchers.breakOff()
}

// FailFreeze makes freezing the guest fail: captures become crash-consistent.
func (s *Site) FailFreeze(ref hypervisor.Ref, on bool) error {
	return s.fault(ref, func(f *faults) { f.freezeFails = on })
}

// SlowFreeze makes freezing the guest take that long.
func (s *Site) SlowFreeze(ref hypervisor.Ref, takes time.Duration) error {
	return s.fault(ref, func(f *faults) { f.freezeTakes = takes })
}

// IgnoreShutdown makes the guest deaf to being asked to shut down.
func (s *Site) IgnoreShutdown(ref hypervisor.Ref, on bool) error {
	return s.fault(ref, func(f *faults) { f.ignoreShutdown = on })
}

// SlowShutdown makes the guest take that long to shut down. Once it was asked to it does,
// also when whoever asked waits no more.
func (s *Site) SlowShutdown(ref hypervisor.Ref, takes time.Duration) error {
	return s.fault(ref, func(f *faults) { f.shutdownTakes = takes })
}

// SlowDisk makes every read of a disk, by a capture or an opened disk, take that
// much longer; 0 takes it back.
func (s *Site) SlowDisk(ref hypervisor.Ref, key string, by time.Duration) error {
	return s.fault(ref, func(f *faults) {
		if f.slow == nil {
			f.slow = map[string]time.Duration{}
		}
		f.slow[key] = by
	})
}

// FailRead makes reads that touch an extent of a disk fail. An extent without a
// length heals the disk.
func (s *Site) FailRead(ref hypervisor.Ref, key string, e replication.Extent) error {
	return s.fault(ref, func(f *faults) {
		if f.unreadable == nil {
			f.unreadable = map[string][]replication.Extent{}
		}
		if e.Length <= 0 {
			delete(f.unreadable, key)
			return
		}
		f.unreadable[key] = append(f.unreadable[key], e)
	})
}

// LoseTracking makes the site forget every instant that it remembers of a machine,
// as a hypervisor does whose bitmaps became inconsistent.
func (s *Site) LoseTracking(ref hypervisor.Ref) error {
	m, err := s.lookup(ref)
	if err != nil {
		return err
	}
	return m.change(func(d *definition) {
		d.Points = nil
		d.Lost = "change tracking of the machine was lost"
	})
}

func (s *Site) fault(ref hypervisor.Ref, set func(*faults)) error {
	m, err := s.lookup(ref)
	if err != nil {
		return err
	}
	m.state.Lock()
	defer m.state.Unlock()
	set(&m.faults)
	return nil
}

// Encrypt writes what does not compress over a place of a disk, as somebody does who
// takes the machine hostage. The machine's record does not know of it: its disks are
// judged wrong from then on.
func (s *Site) Encrypt(ctx context.Context, ref hypervisor.Ref, key string, e replication.Extent) error {
	m, err := s.lookup(ref)
	if err != nil {
		return err
	}
	m.io.Lock()
	defer m.io.Unlock()
	for _, d := range m.disks {
		if d.key != key {
			continue
		}
		for at := e.Offset; at < e.End(); at += BlockSize {
			if err := ctx.Err(); err != nil {
				return err
			}
			block := make([]byte, min(BlockSize, e.End()-at))
			fillNoise(block, uint64(at))
			if err := m.write(ctx, d, replication.Extent{Offset: at, Length: int64(len(block))}, block); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("machine %s has no disk %s", ref, key)
}

// errMedium is what a damaged place on a disk answers.
var errMedium = errors.New("medium error")

// disturb lets the faults of a disk have their way with a read.
func (m *machine) disturb(key string, e replication.Extent) error {
	m.state.Lock()
	slow := m.faults.slow[key]
	var err error
	for _, bad := range m.faults.unreadable[key] {
		if bad.Overlaps(e) {
			err = fmt.Errorf("read disk %s at %d: %w", key, max(bad.Offset, e.Offset), errMedium)
			break
		}
	}
	m.state.Unlock()
	return errors.Join(err, wait(m.site.world.life, slow))
}
