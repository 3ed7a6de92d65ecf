//go:build unix

package notify

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"riparo/replication"
	"riparo/store"
)

// sitesLost is how many sites go away, one after the other, while the notifier is
// killed.
const sitesLost = 200

func TestMain(m *testing.M) {
	if folder := os.Getenv("RIPARO_TEST_NOTIFIER"); folder != "" {
		if err := victim(folder, os.Getenv("RIPARO_TEST_HOOK")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// victim is a notifier whose world loses site after site. It goes on where it was
// killed, and ends when everything was sent.
func victim(folder, hook string) error {
	st, err := store.Open(filepath.Join(folder, "state.db"), store.Options{})
	if err != nil {
		return err
	}
	defer st.Close()
	secret, err := OpenSecret(filepath.Join(folder, "key"))
	if err != nil {
		return err
	}
	lost := 0
	n, err := New(Config{Store: st, Log: slog.New(slog.DiscardHandler), Secret: secret, Now: time.Now, RetryUnit: 20 * time.Millisecond,
		Name: func() string { return "" }, URL: func() string { return "" }, Zone: func() *time.Location { return time.UTC },
		Look: func(w *World) {
			for i := range lost {
				w.Sites = append(w.Sites, Site{Name: fmt.Sprintf("site %03d", i), Problem: &replication.Problem{Cause: "away"}})
			}
		},
		Proxy: func(*http.Request) (*url.URL, error) { return nil, nil }})
	if err != nil {
		return err
	}
	err = st.Update(func(tx *store.Tx) error {
		count, err := tx.ActiveAlerts().Count()
		lost = count
		if err != nil {
			return err
		}
		return tx.SetSetting(store.SettingNotify, store.Notifications{Rules: store.AlertRules{VaultWarn: 100, VaultBad: 100, NoProgress: time.Hour, Gather: time.Millisecond},
			Hooks: []store.Hook{{ID: "h", URL: hook, Severity: store.SeverityInfo}}})
	})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	var sender sync.WaitGroup
	sender.Go(func() { n.send(ctx) })
	defer func() { stop(); sender.Wait() }()
	for lost < sitesLost {
		lost++
		if err := n.Watch(); err != nil {
			return err
		}
	}
	for {
		waiting := 0
		if err := st.View(func(tx *store.Tx) (err error) { waiting, err = tx.WaitingDeliveries().Count(); return err }); err != nil || waiting == 0 {
			return err
		}
		n.nudge()
		time.Sleep(5 * time.Millisecond)
	}
}

func TestKilledAtAnyMomentNoMessageIsLost(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 4))
	var mu sync.Mutex // guards got and losses
	got := map[string]map[string]bool{}
	losses := rand.New(rand.NewPCG(seed, 5))
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		var p payload
		if err := json.Unmarshal(text, &p); err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		for _, a := range p.Alerts {
			if got[a.Name] == nil {
				got[a.Name] = map[string]bool{}
			}
			got[a.Name][p.ID] = true
		}
		if losses.IntN(5) == 0 { // taken, and the answer is lost
			w.WriteHeader(http.StatusBadGateway)
		}
	}))
	defer hook.Close()
	folder := t.TempDir()
	kills, done := 0, false
	for limit := time.Now().Add(2 * time.Minute); !done; {
		if time.Now().After(limit) {
			t.Fatalf("seed %d: not done after %d kills", seed, kills)
		}
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), "RIPARO_TEST_NOTIFIER="+folder, "RIPARO_TEST_HOOK="+hook.URL)
		child.Stderr = os.Stderr
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- child.Wait() }()
		// Later each time, so that it gets through at last.
		wait := time.Duration(random.Int64N(int64(100+10*kills))) * time.Millisecond
		select {
		case err := <-ended:
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			done = true
		case <-time.After(wait):
			child.Process.Kill()
			<-ended
			kills++
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if kills < 5 {
		t.Fatalf("seed %d: killed %d times only: the test shows nothing", seed, kills)
	}
	for i := range sitesLost {
		name := fmt.Sprintf("site %03d", i)
		if ids := got[name]; len(ids) != 1 {
			t.Errorf("seed %d, %d kills: %s was told by messages %v, want one and its copies", seed, kills, name, ids)
		}
	}
	t.Logf("seed %d: %d kills", seed, kills)
}
