package web_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"riparo/replication"
	"riparo/store"
)

func TestWhatIsKnownAboutPointsIsShownAndActedOn(t *testing.T) {
	h := newHouse(t, true).claimed()
	const id = replication.MachineID("m-4f7c21aa")
	points := h.guarded(id)
	b := h.signedIn("")
	page := b.get("/machines/" + string(id))
	for _, want := range []string{"seems to be being encrypted", string(points[1].ID), "last clean", "suspect", "pinned", "damaged in one place",
		"/machines/m-4f7c21aa/dismiss-alarm", "/points/" + string(points[2].ID) + "/unpin", "/points/" + string(points[0].ID) + "/pin", `pt crash suspect`} {
		if !strings.Contains(page.body, want) {
			t.Errorf("the machine's page lacks %q", want)
		}
	}
	// What is damaged is not offered as the latest, and the last clean one is proposed.
	points[0].Damage = points[3].Damage
	ask := b.get("/machines/" + string(id) + "/unplanned-failover")
	if !strings.Contains(ask.body, "Last clean before the alarm") {
		t.Error("a failover does not offer the last clean point")
	}
	if i, j := strings.Index(ask.body, `<option value=""`), strings.Index(ask.body, "Latest · "); i < 0 || j < 0 {
		t.Error("a failover does not offer the latest point")
	}
	policies := b.get("/policies")
	for want, there := range map[string]bool{"/approvals/r-1/approve": true, "/approvals/r-1/refuse": true, "/approvals/r-2/approve": false, "/approvals/r-2/refuse": true} {
		if strings.Contains(policies.body, want) != there {
			t.Errorf("the approvals have %s: %v, want %v", want, !there, there)
		}
	}
	if page := b.get("/infrastructure"); !strings.Contains(page.body, "65,536 bytes at 65,536 of m-web.vda are damaged") {
		t.Error("the infrastructure page does not tell what the scrub found")
	}
	for _, path := range []string{"/machines/m-4f7c21aa/dismiss-alarm", "/machines/m-4f7c21aa/points/p9/pin", "/machines/m-4f7c21aa/points/p9/unpin",
		"/approvals/r-1/approve", "/approvals/r-2/refuse", "/infrastructure/scrub"} {
		if got := b.post(path, "notes", "a drill"); got.status != http.StatusSeeOther {
			t.Errorf("%s: got %d, want 303", path, got.status)
		}
	}
	c, ctx := h.client(store.Administrator), t.Context()
	for _, do := range []func() error{
		func() error { return c.DismissAlarm(ctx, id, "n") }, func() error { return c.Pin(ctx, id, "p", "n") }, func() error { return c.Unpin(ctx, id, "p") },
		func() error { return c.DeletePoints(ctx, id, []replication.PointID{"p", "q"}) }, func() error { return c.Approve(ctx, "r") }, func() error { return c.Refuse(ctx, "r") },
		func() error { return c.ScrubNow(ctx) },
	} {
		if err := do(); err != nil {
			t.Error(err)
		}
	}
	// A token asks in the name of the person who made it.
	want := []string{"dismiss anna m-4f7c21aa a drill", "pin anna m-4f7c21aa p9", "unpin anna m-4f7c21aa p9", "approve anna r-1", "refuse anna r-2", "scrub",
		"dismiss anna m-4f7c21aa n", "pin anna m-4f7c21aa p", "unpin anna m-4f7c21aa p", "delete anna m-4f7c21aa [p q]", "approve anna r", "refuse anna r", "scrub"}
	if !slices.Equal(h.appliance.guarded, want) {
		t.Errorf("the appliance was asked %q,\nwant %q", h.appliance.guarded, want)
	}
	if s, err := c.Scrub(ctx); err != nil || len(s.Findings) != 1 || s.Passes != 3 {
		t.Errorf("scrub %+v, %v", s, err)
	}
	if list, err := c.Approvals(ctx); err != nil || len(list) != 2 || list[0].ID != "r-2" {
		t.Errorf("approvals %+v, %v", list, err)
	} else if r := list[1]; len(r.SignOn.Sealed) > 0 || r.User.PasswordHash != "" {
		t.Errorf("the API tells the secrets of %+v, %+v", r.SignOn, r.User)
	}
	if _, err := h.client(store.Operator).Approvals(ctx); err == nil {
		t.Error("an operator sees the approvals")
	}
}

// guarded gives a machine an alarm, points of every kind, and requests that wait for
// another administrator.
func (h *house) guarded(id replication.MachineID) []replication.RecoveryPoint {
	h.Helper()
	points := h.appliance.points[id]
	points[0].Suspect, points[1].LastClean, points[2].Pinned = true, true, true
	points[3].Damage = []replication.Damage{{Disk: "d", Offset: 65536, Length: 65536}}
	err := h.store.Update(func(tx *store.Tx) error {
		m, err := tx.Machines().Get(string(id))
		if err != nil {
			return err
		}
		m.Alarm = &store.Alarm{Raised: time.Now(), Disks: []string{"vda"}, After: points[1].Time, LastClean: points[1].ID, LostBytes: 33 << 20}
		if err := tx.Machines().Put(m); err != nil {
			return err
		}
		for _, r := range []store.Approval{{ID: "r-1", RequestedBy: "ugo", Requested: time.Now().Add(-time.Hour), Text: "unpin recovery point x of web01", State: store.ApprovalWaiting,
			SignOn: &store.SignOnRequest{Service: "openid", Settings: "{}", Sealed: []byte("a secret")}, User: &store.UserRequest{PasswordHash: "$argon2id$"}},
			{ID: "r-2", RequestedBy: user, Requested: time.Now().Add(-2 * time.Hour), Text: "delete recovery points of web01: 1, protected among them: 1", State: store.ApprovalWaiting}} {
			if err := tx.Approvals().Put(r); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		h.Fatal(err)
	}
	return points
}
