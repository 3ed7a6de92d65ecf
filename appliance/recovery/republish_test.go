package recovery

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"riparo/replication"
	"riparo/store"
)

// balky serves what it is not told to refuse.
type balky struct {
	mu      sync.Mutex
	refuses map[string]bool
	served  []string
}

func (b *balky) Publish(_ context.Context, name string, _ replication.DiskID, _ replication.PointID) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.refuses[name] {
		return "", errors.New("the disk is full")
	}
	b.served = append(b.served, name)
	return "nbd:" + name, nil
}

func (b *balky) Withdraw(string) error { return nil }

// TestWhatCannotBeServedAtTheStartIsTriedAgain: a replica that production writes to waits
// for it, and gives up after half an hour.
func TestWhatCannotBeServedAtTheStartIsTriedAgain(t *testing.T) {
	s, err := store.Open(filepath.Join(t.TempDir(), "state.db"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Update(func(tx *store.Tx) error {
		for _, name := range []string{"a", "b", "c"} {
			if err := tx.Exports().Put(store.Export{Name: name, Owner: "m/failover", Disk: replication.DiskID(name), Point: "p"}); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		p := &balky{refuses: map[string]bool{"b": true, "c": true}}
		r := New(Config{Store: s, Publisher: p, Log: slog.Default()})
		if err := r.Republish(t.Context()); err != nil || !slices.Equal(p.served, []string{"a"}) {
			t.Fatalf("served %v, %v: want what can be", p.served, err)
		}
		ended := make(chan error, 1)
		go func() { ended <- r.KeepPublished(t.Context()) }()
		time.Sleep(time.Minute)
		synctest.Wait()
		p.mu.Lock()
		if len(p.served) != 1 {
			t.Errorf("served %v", p.served)
		}
		p.mu.Unlock()
		// One is withdrawn, the other has room again.
		if err := s.Update(func(tx *store.Tx) error { return tx.Exports().Delete("c") }); err != nil {
			t.Fatal(err)
		}
		p.mu.Lock()
		p.refuses = nil
		p.mu.Unlock()
		time.Sleep(2 * republishEvery)
		if err := <-ended; err != nil || !slices.Equal(p.served, []string{"a", "b"}) {
			t.Errorf("served %v, %v: want what was not withdrawn", p.served, err)
		}
	})
	codes := map[string]int{}
	if err := s.View(func(tx *store.Tx) error {
		for e, err := range tx.Events().All() {
			if err != nil {
				return err
			}
			codes[e.Code]++
		}
		return nil
	}); err != nil || codes["export.unserved"] != 2 || codes["export.served"] != 1 {
		t.Errorf("told %v, %v", codes, err)
	}
}
