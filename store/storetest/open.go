package storetest

import (
	"errors"
	"path/filepath"
	"testing"

	"riparo/store"
)

// Open opens a fresh store. When the test ends the store is checked and closed.
// Changes survive the death of the process but are not forced to the disk: tests
// are many and disks are slow.
func Open(t testing.TB) *store.Store {
	t.Helper()
	return Reopen(t, filepath.Join(t.TempDir(), "state.db"))
}

// Reopen opens the store at path as Open does. The one before must be closed.
func Reopen(t testing.TB, path string) *store.Store {
	t.Helper()
	st, err := store.Open(path, store.Options{NoSync: true})
	if err != nil {
		t.Fatalf("open the store: %v", err)
	}
	t.Cleanup(func() {
		if err := st.Check(); err != nil && !errors.Is(err, store.ErrClosed) {
			t.Errorf("check of the store after the test: %v", err)
		}
		if err := st.Close(); err != nil {
			t.Errorf("close the store: %v", err)
		}
	})
	return st
}
