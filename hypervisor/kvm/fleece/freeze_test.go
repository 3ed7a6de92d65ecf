package fleece

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"riparo/hypervisor/kvm/qga"
)

// fakeAgent is a guest with an agent that may be slow, deaf or mistaken.
type fakeAgent struct {
	mu         sync.Mutex // guards the fields that change
	frozen     bool
	marked     bool
	freezeTime time.Duration // how long a freeze takes to be answered
	refuse     bool          // the agent answers a freeze with an error
	none       bool          // it freezes nothing
	wakes      time.Duration // after which the guest ends a freeze by itself; 0 is never
	thawFails  int           // so many thaws fail
	frozenAt   time.Time
	thaws      int
}

func (a *fakeAgent) Execute(ctx context.Context, command string, _, result any) error {
	if command == "guest-fsfreeze-freeze" && !a.refuse && !a.none {
		a.mu.Lock()
		a.frozen, a.frozenAt = true, time.Now() // the guest freezes, the answer comes later
		a.mu.Unlock()
		select {
		case <-time.After(a.freezeTime):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		*result.(*int) = 2
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.wakes > 0 && a.frozen && time.Since(a.frozenAt) >= a.wakes {
		a.frozen = false
	}
	switch command {
	case "guest-fsfreeze-freeze":
		if a.refuse {
			return &qga.Error{Command: command, Desc: "VSS failed"}
		}
	case "guest-fsfreeze-thaw":
		a.thaws++
		if a.thawFails > 0 {
			a.thawFails--
			return errors.New("the channel was closed")
		}
		a.frozen = false
	case "guest-fsfreeze-status":
		*result.(*string) = map[bool]string{true: "frozen", false: "thawed"}[a.frozen]
	}
	return nil
}

func (a *fakeAgent) isFrozen() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.frozen
}

func (a *fakeAgent) machine() *Machine {
	return &Machine{
		Name:     "web01",
		Agent:    func(context.Context) (qga.Executor, func(), error) { return a, func() {}, nil },
		Freezing: func(_ context.Context, freezing bool) error { a.marked = freezing; return nil },
	}
}

// TestAFreezeIsAlwaysEnded goes through what agents do. Whatever it is, the instant is
// taken, the guest ends up thawed within the limit, and the point is called consistent
// only if the freeze really held.
func TestAFreezeIsAlwaysEnded(t *testing.T) {
	const limit = 10 * time.Second
	for _, c := range []struct {
		name       string
		agent      *fakeAgent
		instant    time.Duration // how long QEMU takes for it
		consistent bool
		warning    string
		stood      time.Duration // at most
	}{
		{name: "all is well", agent: &fakeAgent{freezeTime: time.Second}, instant: time.Second, consistent: true, stood: 2 * time.Second},
		{name: "the agent refuses", agent: &fakeAgent{refuse: true}, warning: "VSS failed", stood: 0},
		{name: "nothing can be frozen", agent: &fakeAgent{none: true}, warning: "no file system", stood: 0},
		{name: "the answer comes too late", agent: &fakeAgent{freezeTime: time.Minute}, warning: "limit of 10s", stood: limit},
		{name: "QEMU is slow", agent: &fakeAgent{freezeTime: time.Second}, instant: time.Minute, warning: "limit of 10s", stood: time.Minute + time.Second},
		{name: "Windows ends the freeze", agent: &fakeAgent{wakes: 3 * time.Second}, instant: 5 * time.Second, warning: "by itself", stood: 5 * time.Second},
		{name: "the first thaws fail", agent: &fakeAgent{thawFails: 3}, instant: time.Second, consistent: true, stood: 2 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			a := c.agent
			taken := false
			var frozenFor time.Duration
			f, err := a.machine().frozen(t.Context(), limit, func() error {
				taken = true
				time.Sleep(c.instant)
				return nil
			})
			frozenFor = f.stood
			if err != nil || !taken {
				t.Errorf("%s: instant taken %t, %v", c.name, taken, err)
			}
			if a.isFrozen() || a.marked {
				t.Errorf("%s: frozen %t, marked %t at the end", c.name, a.isFrozen(), a.marked)
			}
			if f.consistent != c.consistent || c.consistent == (len(f.warnings) > 0) || !strings.Contains(strings.Join(f.warnings, " "), c.warning) {
				t.Errorf("%s: consistent %t with warnings %q: want %t, %q", c.name, f.consistent, f.warnings, c.consistent, c.warning)
			}
			if frozenFor > c.stood {
				t.Errorf("%s: the guest stood still for %s, want at most %s", c.name, frozenFor, c.stood)
			}
		})
	}
}

// TestTheWatchdogThawsWhileQEMUIsBusy: the limit holds even if the instant does not end.
func TestTheWatchdogThawsWhileQEMUIsBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &fakeAgent{}
		began := time.Now()
		_, err := a.machine().frozen(t.Context(), 2*time.Second, func() error {
			time.Sleep(5 * time.Second)
			if a.isFrozen() || time.Since(began) < 5*time.Second {
				t.Error("the guest is still frozen after the limit")
			}
			return errors.New("QEMU refused the transaction")
		})
		if err == nil || !strings.Contains(err.Error(), "transaction") {
			t.Errorf("the instant's error was lost: %v", err)
		}
	})
}

// TestAGuestThatCannotBeThawedIsReported: a person has to know.
func TestAGuestThatCannotBeThawedIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &fakeAgent{thawFails: 1 << 30}
		_, err := a.machine().frozen(t.Context(), time.Second, func() error { return nil })
		if err == nil || !strings.Contains(err.Error(), "frozen") {
			t.Errorf("a guest that stays frozen: %v", err)
		}
		if !a.marked {
			t.Error("the freeze is not marked for the next start")
		}
	})
}
