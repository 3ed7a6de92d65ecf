package notify

import (
	"log/slog"
	"net/http"
	"net/url"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"riparo/store"
	"riparo/store/storetest"
)

var noon = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

// stage is a notifier with a clock of its own and a world to look at.
type stage struct {
	*testing.T
	*Notifier
	mu    sync.Mutex // guards what follows
	now   time.Time
	world World
}

func newStage(t *testing.T) *stage {
	t.Helper()
	return stageOn(t, storetest.Open(t))
}

func stageOn(t *testing.T, st *store.Store) *stage {
	t.Helper()
	s := &stage{T: t, now: noon}
	secret, err := OpenSecret(filepath.Join(t.TempDir(), "key"))
	if err != nil {
		t.Fatal(err)
	}
	s.Notifier, err = New(Config{Store: st, Log: slog.New(slog.DiscardHandler), Secret: secret, Now: s.clock,
		Name: func() string { return "Milano 1" }, URL: func() string { return "https://milano.example:9443/" }, Zone: func() *time.Location { return time.UTC },
		Proxy: func(*http.Request) (*url.URL, error) { return nil, nil },
		Look: func(w *World) {
			s.mu.Lock()
			defer s.mu.Unlock()
			w.Sites, w.Stored, w.Free, w.Certificate = append([]Site(nil), s.world.Sites...), s.world.Stored, s.world.Free, s.world.Certificate
		}})
	if err != nil {
		t.Fatal(err)
	}
	s.world.Free = -1
	return s
}

func (s *stage) clock() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

// pass lets time pass in steps of watchEvery, and everything happen that is due.
func (s *stage) pass(d time.Duration) {
	s.Helper()
	for end := s.clock().Add(d); s.clock().Before(end); {
		s.mu.Lock()
		s.now = s.now.Add(min(watchEvery, end.Sub(s.now)))
		s.mu.Unlock()
		if err := s.Watch(); err != nil {
			s.Fatal(err)
		}
		if _, err := s.Flush(s.Context()); err != nil {
			s.Fatal(err)
		}
	}
}

func (s *stage) save(n store.Notifications) {
	s.Helper()
	if n.Rules.Gather == 0 {
		n.Rules = store.DefaultRules()
	}
	if err := s.Store.Update(func(tx *store.Tx) error { return tx.SetSetting(store.SettingNotify, n) }); err != nil {
		s.Fatal(err)
	}
}

func (s *stage) put(change func(tx *store.Tx) error) {
	s.Helper()
	if err := s.Store.Update(change); err != nil {
		s.Fatal(err)
	}
}

// alerts are all there are, and those that stand.
func (s *stage) alerts() (all, active []store.Alert) {
	s.Helper()
	err := s.Store.View(func(tx *store.Tx) error {
		for a, err := range tx.Alerts().All() {
			if err != nil {
				return err
			}
			all = append(all, a)
		}
		for a, err := range tx.ActiveAlerts().All() {
			if err != nil {
				return err
			}
			active = append(active, a)
		}
		return nil
	})
	if err != nil {
		s.Fatal(err)
	}
	return all, active
}

// messages are all that were written, oldest first.
func (s *stage) messages() (all []store.Delivery) {
	s.Helper()
	err := s.Store.View(func(tx *store.Tx) error {
		for d, err := range tx.Deliveries().All() {
			if err != nil {
				return err
			}
			all = append(all, d)
		}
		return nil
	})
	if err != nil {
		s.Fatal(err)
	}
	return all
}
