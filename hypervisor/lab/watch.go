package lab

import (
	"context"
	"sync"

	"riparo/hypervisor"
)

// watchers hold what changed for each that watches: a set, not a queue, so a slow
// watcher costs nothing.
type watchers struct {
	mu  sync.Mutex // guards what follows
	all map[*watcher]struct{}
}

type watcher struct {
	changed map[hypervisor.Ref]struct{}
	nudge   chan struct{} // one slot
}

func (w *watchers) tell(ref hypervisor.Ref) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for one := range w.all {
		one.changed[ref] = struct{}{}
		one.wake()
	}
}

// breakOff wakes all watchers so that they notice the site is away.
func (w *watchers) breakOff() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for one := range w.all {
		one.wake()
	}
}

func (w *watcher) wake() {
	select {
	case w.nudge <- struct{}{}:
	default:
	}
}

// Watch tells of machines that appeared, vanished or changed, until ctx ends or
// the site cannot be reached.
func (s *Site) Watch(ctx context.Context, changed func(hypervisor.Ref)) error {
	one := &watcher{changed: map[hypervisor.Ref]struct{}{}, nudge: make(chan struct{}, 1)}
	s.watchers.mu.Lock()
	if s.watchers.all == nil {
		s.watchers.all = map[*watcher]struct{}{}
	}
	s.watchers.all[one] = struct{}{}
	s.watchers.mu.Unlock()
	defer func() {
		s.watchers.mu.Lock()
		delete(s.watchers.all, one)
		s.watchers.mu.Unlock()
	}()
	for {
		if err := s.reach(ctx); err != nil {
			return err
		}
		s.watchers.mu.Lock()
		refs := one.changed
		one.changed = map[hypervisor.Ref]struct{}{}
		s.watchers.mu.Unlock()
		for ref := range refs {
			changed(ref)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-one.nudge:
		}
	}
}
