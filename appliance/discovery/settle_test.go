package discovery

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"riparo/hypervisor"
	"riparo/store"
)

// settling is a site in which something is left that cannot be ended at first.
type settling struct {
	hypervisor.Provider
	began time.Time
	tries []time.Duration
}

func (p *settling) Discover(context.Context) ([]hypervisor.Machine, error) { return nil, nil }

func (p *settling) Networks(context.Context) ([]hypervisor.Network, error) { return nil, nil }

func (p *settling) Close() error { return nil }

func (p *settling) Settle(context.Context) error {
	p.tries = append(p.tries, time.Since(p.began))
	if len(p.tries) == 1 {
		return errors.New("QEMU does not answer")
	}
	return nil
}

// TestWhatAnEarlierRunLeftIsEndedAtFirstContact, and tried again soon. A site that is only
// tried out is left alone: another provider of this appliance may work there.
func TestWhatAnEarlierRunLeftIsEndedAtFirstContact(t *testing.T) {
	st, err := store.Open(filepath.Join(t.TempDir(), "state"), store.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	record := store.Site{Name: "north", Kind: "kvm-qmp", Address: "/machines"}
	if err := st.Update(func(tx *store.Tx) error { return tx.Sites().Put(record) }); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		p := &settling{began: time.Now()}
		s := New(st, func(context.Context, store.Site) (hypervisor.Provider, error) { return p, nil }, slog.New(slog.DiscardHandler))
		if err := s.Check(t.Context(), record); err != nil || len(p.tries) > 0 {
			t.Errorf("a site that was tried out: %v, settled %d times", err, len(p.tries))
		}
		ctx, cancel := context.WithTimeout(t.Context(), settleEvery+time.Second)
		defer cancel()
		if err := s.Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("run: %v", err)
		}
		if len(p.tries) != 2 || p.tries[0] > time.Second || p.tries[1] > settleEvery+time.Second {
			t.Errorf("settled after %v: want at once, and again after %s", p.tries, settleEvery)
		}
	})
}
