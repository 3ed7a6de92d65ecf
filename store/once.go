package store

// The functions of this file are transactions of one record, for the many places
// that need no more.

// Get gives the record of this key, or ErrNotFound.
func Get[T any](s *Store, kind *Kind[T], key string) (v T, err error) {
	err = s.View(func(tx *Tx) error {
		v, err = kind.in(tx).Get(key)
		return err
	})
	return v, err
}

// List gives all records in the order of their keys. It is for kinds that stay
// few; use [Range.Page] for jobs and events.
func List[T any](s *Store, kind *Kind[T]) (all []T, err error) {
	err = s.View(func(tx *Tx) error {
		for v, err := range kind.in(tx).All() {
			if err != nil {
				return err
			}
			all = append(all, v)
		}
		return nil
	})
	return all, err
}

// Put writes v under its key.
func Put[T any](s *Store, kind *Kind[T], v T) error {
	return s.Update(func(tx *Tx) error { return kind.in(tx).Put(v) })
}

// Delete removes the record of this key.
func Delete[T any](s *Store, kind *Kind[T], key string) error {
	return s.Update(func(tx *Tx) error { return kind.in(tx).Delete(key) })
}

// Change reads a record, lets change work on it and writes it back, all in one
// transaction. It gives the record as written. An error of change leaves it as it
// was.
func Change[T any](s *Store, kind *Kind[T], key string, change func(v *T) error) (v T, err error) {
	err = s.Update(func(tx *Tx) error {
		if v, err = kind.in(tx).Get(key); err != nil {
			return err
		}
		if err := change(&v); err != nil {
			return err
		}
		return kind.in(tx).Put(v)
	})
	return v, err
}
