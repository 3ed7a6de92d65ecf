package web_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"riparo/store"
)

// TestAClockThatIsAheadIsShownEverywhere: on the overview, with the vault, in the API and
// in the figures, and from where it is confirmed.
func TestAClockThatIsAheadIsShownEverywhere(t *testing.T) {
	h := newHouse(t, true).claimed()
	b := h.signedIn("")
	const cause = "the clock of the appliance is 72h0m0s ahead of the time that the vault trusts"
	shown := func() (overview, vault, figures bool) {
		return strings.Contains(b.get("/").body, "ahead of the time that the vault trusts"), strings.Contains(b.get("/infrastructure").body, "/infrastructure/clock"),
			strings.Contains(b.get("/metrics").body, "\nriparo_vault_clock_ahead 1\n")
	}
	if o, v, f := shown(); o || v || f {
		t.Errorf("a clock that is right: overview %v, vault %v, figures %v", o, v, f)
	}
	h.appliance.clock = &store.Finding{Code: "clock.ahead", Level: string(store.Warning), Cause: cause, Effect: "locks last longer", Action: "set the clock right", Since: time.Now()}
	if o, v, f := shown(); !o || !v || !f {
		t.Errorf("a clock that is ahead: overview %v, vault %v, figures %v; want it everywhere", o, v, f)
	}
	if got := b.post("/infrastructure/clock"); got.status != http.StatusSeeOther {
		t.Errorf("confirmed with %d, want 303", got.status)
	}
	c := h.client(store.Administrator)
	u, err := c.Vault(t.Context())
	if err != nil || u.Clock == nil || u.Clock.Cause != cause {
		t.Errorf("the API tells %+v, %v", u.Clock, err)
	}
	if err := c.ConfirmClock(t.Context()); err != nil {
		t.Error(err)
	}
	if want := []string{"clock anna", "clock anna"}; !slices.Equal(h.appliance.guarded, want) {
		t.Errorf("the appliance was asked %q, want %q", h.appliance.guarded, want)
	}
	if err := h.client(store.Operator).ConfirmClock(t.Context()); err == nil {
		t.Error("an operator confirms the clock")
	}
}
