package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"riparo/store"
	"riparo/store/storetest"
)

func TestABackupIsAStoreOfOneInstant(t *testing.T) {
	st := storetest.Open(t)
	// Two records that always say the same.
	pair := func(i int) {
		update(t, st, func(tx *store.Tx) error {
			return errors.Join(
				tx.Sites().Put(store.Site{Name: "left", Address: fmt.Sprint(i)}),
				tx.Sites().Put(store.Site{Name: "right", Address: fmt.Sprint(i)}),
				tx.AddEvent(store.Event{Text: strings.Repeat("x", 500)}))
		})
	}
	pair(0)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for i := 1; ; i++ {
			select {
			case <-stop:
				return
			default:
				pair(i)
			}
		}
	}()
	for range 5 {
		var copied bytes.Buffer
		if err := st.Backup(&copied); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "state.db")
		if err := os.WriteFile(path, copied.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		other := storetest.Reopen(t, path)
		left, err1 := store.Get(other, store.Sites, "left")
		right, err2 := store.Get(other, store.Sites, "right")
		if err1 != nil || err2 != nil || left.Address != right.Address {
			t.Errorf("left %s, right %s: %v, %v", left.Address, right.Address, err1, err2)
		}
	}
	close(stop)
	<-stopped
	alone(t, st.Path())
}

// blocked is a network connection on which nothing moves until it is opened.
type blocked struct{ open chan struct{} }

func (b *blocked) Write(p []byte) (int, error) {
	<-b.open
	return 0, io.ErrClosedPipe
}

func TestASlowReceiverOfABackupHoldsNobodyUp(t *testing.T) {
	st := storetest.Open(t)
	w := &blocked{open: make(chan struct{})}
	result := make(chan error)
	go func() { result <- st.Backup(w) }()
	for i := range 200 { // enough for the file to grow and be mapped again
		if err := store.Put(st, store.Sites, store.Site{Name: fmt.Sprint(i), Address: strings.Repeat("x", 10_000)}); err != nil {
			t.Fatal(err)
		}
	}
	close(w.open)
	if err := <-result; !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v, want the receiver's error", err)
	}
	alone(t, st.Path())
}

// alone checks that nothing was left beside the file.
func alone(t *testing.T, path string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("beside the state file: %v, %v", entries, err)
	}
}
