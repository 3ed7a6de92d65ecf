package store

import (
	"maps"
	"slices"
	"sync"
)

// Everything is told in place of single names when a subscriber has not looked
// for so long that they became too many.
const Everything = "*"

// maxChanged bounds what is remembered for one subscriber: more names than this
// are no quicker to look at one by one than everything at once.
const maxChanged = 4096

// changes tells subscribers what changed. Each has a set of names and a channel
// with one slot: a slow reader finds one nudge and the sum of what happened, and
// nobody ever waits for it.
type changes struct {
	mu          sync.Mutex // guards subscribers
	subscribers map[*subscriber]struct{}
}

type subscriber struct {
	nudge chan struct{}
	mu    sync.Mutex // guards names
	names map[string]struct{}
}

// Subscribe gives a channel that is nudged when something changed, and a function
// that takes the set of what did, sorted: "machine/ID", "job/ID", "event",
// "site/NAME", "policy/NAME", "export/NAME", "user/NAME", "token/ID",
// "setting/NAME" or [Everything]. Call cancel when done.
func (s *Store) Subscribe() (nudge <-chan struct{}, changed func() []string, cancel func()) {
	sub := &subscriber{nudge: make(chan struct{}, 1), names: map[string]struct{}{}}
	s.changes.mu.Lock()
	defer s.changes.mu.Unlock()
	if s.changes.subscribers == nil {
		s.changes.subscribers = map[*subscriber]struct{}{}
	}
	s.changes.subscribers[sub] = struct{}{}
	return sub.nudge, sub.take, func() {
		s.changes.mu.Lock()
		defer s.changes.mu.Unlock()
		delete(s.changes.subscribers, sub)
	}
}

// Touch tells subscribers that something changed which is not in the store: the
// progress of a job, the speed of a machine.
func (s *Store) Touch(names ...string) { s.changes.add(names) }

func (c *changes) add(names []string) {
	if len(names) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for sub := range c.subscribers {
		sub.add(names)
	}
}

func (s *subscriber) add(names []string) {
	s.mu.Lock()
	for _, name := range names {
		s.names[name] = struct{}{}
	}
	if _, all := s.names[Everything]; all || len(s.names) > maxChanged {
		s.names = map[string]struct{}{Everything: {}}
	}
	s.mu.Unlock()
	select {
	case s.nudge <- struct{}{}:
	default: // the nudge before this one was not taken yet
	}
}

func (s *subscriber) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := slices.Sorted(maps.Keys(s.names))
	clear(s.names)
	return names
}
