package appliance_test

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"riparo/appliance"
	"riparo/replication"
	"riparo/store"
	"riparo/web/api"
)

// TestAClockThatJumpsIsToldAndConfirmedByTwo: a lock is in force and the clock is set
// forward. Health, alerts and events tell it, nobody confirms it alone, and it ends when
// a second administrator approves.
func TestAClockThatJumpsIsToldAndConfirmedByTwo(t *testing.T) {
	var jump atomic.Int64
	th, _ := labbed(t, appliance.Config{Data: t.TempDir(), Clock: func() time.Time { return time.Now().Round(0).Add(time.Duration(jump.Load())) }}, replication.DefaultPolicy())
	th.until("there is a point", func() bool {
		points, err := th.a.Points(t.Context(), th.id)
		return err == nil && len(points) > 0
	})
	vault := th.a.Rooms().Vault
	disk := vault.Disks()[0].Disk.ID
	points, err := vault.Points(disk)
	if err != nil {
		t.Fatal(err)
	}
	if err := vault.Lock(t.Context(), disk, []replication.PointID{points[0].ID}, time.Now().Add(72*time.Hour)); err != nil {
		t.Fatal(err)
	}
	usage := func() api.VaultUsage {
		u, err := th.a.Vault(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	anna, ugo := api.Who{Name: "anna", Person: "anna"}, api.Who{Name: "ugo", Person: "ugo"}
	if u := usage(); u.Clock != nil {
		t.Fatalf("before the jump: %+v", u.Clock)
	}
	explained(t, th.a.ConfirmClock(t.Context(), anna), "not ahead")

	jump.Store(int64(14 * 24 * time.Hour))
	f := usage().Clock
	if f == nil || f.Code != "clock.ahead" || !strings.Contains(f.Cause, "336h") || f.Effect == "" || f.Action == "" {
		t.Fatalf("after the jump: %+v, want a finding with cause, effect and remedy", f)
	}
	th.until("the jump is an event", func() bool { return len(th.events("clock.ahead")) == 1 })
	if f := usage().Clock; f.Since.IsZero() {
		t.Error("the finding does not say since when")
	}
	th.until("the jump is an alert", func() bool {
		var active []store.Alert
		err := th.a.Rooms().Store.View(func(tx *store.Tx) error {
			for a, err := range tx.ActiveAlerts().All() {
				if err != nil {
					return err
				}
				active = append(active, a)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(active, func(a store.Alert) bool { return a.Kind == "clock.ahead" && a.Cause != "" })
	})

	// Alone nobody confirms it, also where there is nobody else.
	th.administrators("anna")
	explained(t, th.a.ConfirmClock(t.Context(), anna), "only one")
	th.administrators("ugo")
	needsApproval(t, th.a.ConfirmClock(t.Context(), anna))
	if usage().Clock == nil {
		t.Fatal("it was confirmed by one")
	}
	id := th.request().ID
	explained(t, th.a.Approve(t.Context(), anna.Person, id), "cannot approve")
	// What was asked for is what is approved: not a clock that was set on meanwhile.
	jump.Store(int64(5 * 365 * 24 * time.Hour))
	explained(t, th.a.Approve(t.Context(), ugo.Person, id), "336h")
	if usage().Clock == nil {
		t.Fatal("another clock than the one that was asked for was confirmed")
	}
	jump.Store(int64(14 * 24 * time.Hour))
	needsApproval(t, th.a.ConfirmClock(t.Context(), anna))
	id = th.request().ID
	if err := th.a.Approve(t.Context(), ugo.Person, id); err != nil {
		t.Fatal(err)
	}
	if f := usage().Clock; f != nil {
		t.Errorf("confirmed: %+v", f)
	}
	if ahead, right, confirmed := th.events("clock.ahead"), th.events("clock.right"), th.events("clock.confirmed"); len(ahead) != 1 || len(right) != 1 || len(confirmed) != 1 {
		t.Errorf("events %+v, %+v, %+v: want one of each", ahead, right, confirmed)
	}
}

// TestAClockIsConfirmedByOneWhereNothingIsLocked: it ends no lock.
func TestAClockIsConfirmedByOneWhereNothingIsLocked(t *testing.T) {
	var jump atomic.Int64
	th, _ := labbed(t, appliance.Config{Data: t.TempDir(), Clock: func() time.Time { return time.Now().Round(0).Add(time.Duration(jump.Load())) }}, replication.DefaultPolicy())
	th.administrators("anna")
	jump.Store(int64(14 * 24 * time.Hour))
	if u, err := th.a.Vault(t.Context()); err != nil || u.Clock == nil {
		t.Fatalf("after the jump: %+v, %v", u.Clock, err)
	}
	if err := th.a.ConfirmClock(t.Context(), api.Who{Name: "anna", Person: "anna"}); err != nil {
		t.Fatal(err)
	}
	if u, err := th.a.Vault(t.Context()); err != nil || u.Clock != nil {
		t.Errorf("confirmed: %+v, %v", u.Clock, err)
	}
}
