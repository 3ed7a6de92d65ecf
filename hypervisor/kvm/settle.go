package kvm

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"riparo/hypervisor"
	"riparo/hypervisor/kvm/fleece"
)

// Settle ends what a process that is gone left under way in machines: captures, a stand
// still because of them, freezes. A machine that somebody works with is left alone.
func (s *Site) Settle(ctx context.Context) error {
	names, err := s.names()
	if err != nil {
		return fmt.Errorf("settle the machines of %s: %w", s.folder, err)
	}
	failed := make([]error, len(names))
	var group errgroup.Group
	group.SetLimit(discoverAtOnce)
	for i, name := range names {
		group.Go(func() error {
			failed[i] = s.settleIfLeft(ctx, name)
			return nil
		})
	}
	return errors.Join(group.Wait(), errors.Join(failed...))
}

// settleIfLeft looks first, without taking part in anything.
func (s *Site) settleIfLeft(ctx context.Context, name string) error {
	d, err := s.load(hypervisor.Ref(name))
	if err != nil {
		return nil // discovery tells of it
	}
	m := s.fleeceMachine(d)
	if left, err := m.Left(ctx); err != nil || !left && !exists(s.runFile(name, freezeMark)) {
		return err
	}
	p := s.seat(name)
	select {
	case <-p.lock:
	default:
		return nil
	}
	defer func() { p.lock <- struct{}{} }()
	unlock, ok, err := tryLock(s.runFile(name, "lock"))
	if err != nil || !ok {
		return err
	}
	defer unlock()
	if p.capture != nil {
		if !p.capture.abandoned.Load() {
			return nil
		}
		p.capture.supersede()
		p.capture = nil
	}
	// A guest that stands still thaws nothing: the captures first.
	if err := fleece.Settle(ctx, m); err != nil {
		return err
	}
	return s.thawIfMarked(ctx, d, &m, (*fleece.Machine).TryThaw)
}

// settleLeft ends what is left before a new capture. The caller holds the machine.
func (s *Site) settleLeft(ctx context.Context, d *Definition) error {
	m := s.fleeceMachine(d)
	if err := fleece.Settle(ctx, m); err != nil {
		return err
	}
	return s.thawIfMarked(ctx, d, &m, func(m *fleece.Machine, ctx context.Context) error {
		// An agent that does not answer says nothing of a freeze, and may never answer
		// again: there are points without it, and Settle goes on asking.
		if !m.AgentAnswers(ctx) {
			return nil
		}
		return m.Thaw(ctx)
	})
}

// thawIfMarked thaws a guest if it is noted that it may be frozen. The caller says how
// patiently.
func (s *Site) thawIfMarked(ctx context.Context, d *Definition, m *fleece.Machine, thaw func(*fleece.Machine, context.Context) error) error {
	if !exists(s.runFile(d.Name, freezeMark)) {
		return nil
	}
	switch state, why := s.observeOr(ctx, d.Name); {
	case state == unclear: // its guest may be frozen, whatever is in the way
		return why
	case d.GuestAgent && (state == running || state == paused):
		return thaw(m, ctx)
	}
	return s.markFreeze(d.Name, false) // a freeze ends with its guest
}
