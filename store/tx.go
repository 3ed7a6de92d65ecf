package store

import (
	"errors"
	"runtime/debug"

	bolt "go.etcd.io/bbolt"
)

// Tx is a transaction. It is good until the function it was given to returns, and
// for one goroutine.
type Tx struct {
	bolt    *bolt.Tx
	path    string
	changed []string
}

// View runs fn in a transaction that sees the store as it is now and cannot
// change it. It returns what fn returns.
func (s *Store) View(fn func(tx *Tx) error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	b, err := s.db.Begin(false)
	if err != nil {
		return problem(s.path, err)
	}
	defer func() { err = errors.Join(err, rollback(b)) }()
	return fn(&Tx{bolt: b, path: s.path})
}

// Update runs fn in a transaction that can change the store. When fn returns nil
// its changes are made durable, all together; when it returns an error, or
// panics, none of them happen.
func (s *Store) Update(fn func(tx *Tx) error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	if f := s.failed.Load(); f != nil {
		return f.err
	}
	b, err := s.db.Begin(true)
	if err != nil {
		return problem(s.path, err)
	}
	done := false
	defer func() {
		if !done {
			err = errors.Join(err, rollback(b))
		}
	}()
	tx := &Tx{bolt: b, path: s.path}
	if err := fn(tx); err != nil {
		return err
	}
	if f := s.failed.Load(); f != nil { // of the change that was made while we waited
		return f.err
	}
	done = true
	if err := commit(b); err != nil {
		return s.commitFailed(err)
	}
	if s.committed != nil {
		s.committed(tx.changed)
	}
	s.changes.add(tx.changed)
	return nil
}

// commitFailed tells a full disk, after which the store is what it was before,
// from everything else, after which nobody knows.
func (s *Store) commitFailed(err error) error {
	if p := knownProblem(s.path, err); p != nil && p.Code == "store.full" {
		return p
	}
	f := &failure{err: unconfirmed(s.path, err)}
	s.failed.CompareAndSwap(nil, f)
	return f.err
}

func commit(b *bolt.Tx) (err error) {
	defer catch(&err)
	return b.Commit()
}

func rollback(b *bolt.Tx) (err error) {
	defer catch(&err)
	return b.Rollback()
}

// note remembers what subscribers are told after the commit.
func (tx *Tx) note(name string) {
	if name != "" {
		tx.changed = append(tx.changed, name)
	}
}
