package store

import (
	"slices"
	"strings"
	"sync"
)

// Mirror keeps something of every record of one kind, as the records are in the store,
// and follows it: what did not change is not read and decoded again. It is for tables
// that are read as a whole, often, and fit in memory: machines, policies, and what a
// report wants to know of jobs and events.
//
// A change is seen from the moment on at which Update returns.
type Mirror[T, V any] struct {
	store   *Store
	kind    *Kind[T]
	keep    func(*T) V
	changed func() []string // since it was asked last
	cancel  func()

	mu     sync.Mutex // guards the rest
	keys   []string   // in order; values are theirs
	values []V
	whole  bool // values are what the store had when changed was asked last
}

// NewMirror gives the mirror of a kind. It keeps what keep gives of a record, which is
// not to hold on to it. It reads when it is first looked into. Call Close when done.
//
// Of a kind whose changes are told as a whole, such as events, it follows what is added
// and what gives way; such records are not changed.
func NewMirror[T, V any](s *Store, k *Kind[T], keep func(*T) V) *Mirror[T, V] {
	m := &Mirror[T, V]{store: s, kind: k, keep: keep}
	_, m.changed, m.cancel = s.Subscribe()
	return m
}

// Whole keeps all of a record.
func Whole[T any](v *T) T { return *v }

// Close ends the following.
func (m *Mirror[T, V]) Close() { m.cancel() }

// All gives what is kept, in the order of the keys. It is shared: nobody changes the
// slice nor what it points to.
func (m *Mirror[T, V]) All() ([]V, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	names := m.concerning(m.changed())
	if m.whole && len(names) == 0 {
		return m.values, nil
	}
	err := m.store.View(func(tx *Tx) error {
		switch {
		case !m.whole, slices.Contains(names, Everything):
			return m.read(tx)
		case m.kind.single:
			return m.extend(tx)
		}
		return m.follow(tx, names)
	})
	if m.whole = err == nil; err != nil { // the names are lost: the next look reads all
		return nil, err
	}
	return m.values, nil
}

// concerning gives those of the names that are about this kind.
func (m *Mirror[T, V]) concerning(names []string) []string {
	return slices.DeleteFunc(names, func(name string) bool {
		topic, _, _ := strings.Cut(name, "/")
		return name != Everything && topic != m.kind.topic
	})
}

func (m *Mirror[T, V]) read(tx *Tx) error {
	m.keys, m.values = nil, nil // others may still look at those
	return m.add(tx, "")
}

// add reads what lies behind a key.
func (m *Mirror[T, V]) add(tx *Tx, after string) error {
	for v, err := range m.kind.in(tx).walk(after, false) {
		if err != nil {
			return err
		}
		m.keys, m.values = append(m.keys, m.kind.keyOf(&v)), append(m.values, m.keep(&v))
	}
	return nil
}

// follow reads again what changed. What others were given is left as it is.
func (m *Mirror[T, V]) follow(tx *Tx, names []string) error {
	m.values = slices.Clone(m.values)
	for _, name := range names {
		_, key, _ := strings.Cut(name, "/")
		at, known := slices.BinarySearch(m.keys, key)
		v, found, err := m.kind.in(tx).read(key)
		switch {
		case err != nil:
			return err
		case found && known:
			m.values[at] = m.keep(&v)
		case found:
			m.keys, m.values = slices.Insert(m.keys, at, key), slices.Insert(m.values, at, m.keep(&v))
		case known:
			m.keys, m.values = slices.Delete(m.keys, at, at+1), slices.Delete(m.values, at, at+1)
		}
	}
	return nil
}

// extend reads what was added at the end and forgets what gave way at the beginning. If
// the number is not right then, all is read again: something was added in between.
func (m *Mirror[T, V]) extend(tx *Tx) error {
	table := m.kind.in(tx)
	first, err := table.step("", false)
	if err != nil {
		return err
	}
	gone, _ := slices.BinarySearch(m.keys, first)
	if first == "" {
		gone = len(m.keys)
	}
	last := ""
	if len(m.keys) > 0 {
		last = m.keys[len(m.keys)-1]
	}
	// Both only lose their beginning and grow behind what others were given.
	m.keys, m.values = m.keys[gone:], m.values[gone:]
	if err := m.add(tx, last); err != nil {
		return err
	}
	if n, err := table.Count(); err != nil || n != len(m.keys) {
		if err != nil {
			return err
		}
		return m.read(tx)
	}
	return nil
}
