package web_test

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"riparo/replication"
	"riparo/store"
	"riparo/web/api"
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

// kept gives the house machines that are not protected, and of which the vault keeps points:
// one that can be erased, one that is locked, one that cannot be read, and one on whose maps
// work failed.
func (h *house) kept() {
	h.Helper()
	now := h.appliance.now()
	h.appliance.mu.Lock()
	defer h.appliance.mu.Unlock()
	h.appliance.kept = []api.Kept{
		{ID: "m-0b0b0b0b", Name: "OLD <01>", Since: now.Add(-48 * time.Hour), By: "anna", Points: 12, Pinned: 2, Newest: now.Add(-49 * time.Hour), StoredBytes: 3 << 20, Disks: []api.KeptDisk{{ID: "m-0b0b0b0b.vda"}, {ID: "m-0b0b0b0b.vdb"}}},
		{ID: "m-0c0c0c0c", Name: "m-0c0c0c0c", Points: 1, Newest: now.Add(-time.Minute), LockedUntil: now.Add(time.Hour), StoredBytes: 212 << 30, Disks: []api.KeptDisk{{ID: "m-0c0c0c0c.vda"}}},
		{ID: "m-0d0d0d0d", Name: "sql-archive-02", Since: now.Add(-400 * 24 * time.Hour), Points: 3, Newest: now.Add(-400 * 24 * time.Hour), Disks: []api.KeptDisk{{ID: "m-0d0d0d0d.vda"}, {ID: "m-0d0d0d0d.vdb", Trouble: "it cannot be opened", Unread: true}}},
		{ID: "web01", Name: "web01", Points: 0, Disks: []api.KeptDisk{{ID: "web01", Trouble: "its maps are old"}}},
	}
}

// keptRows are the rows of what is kept on the page of the infrastructure by identifier, and
// the whole section by none.
func keptRows(t *testing.T, page reply) (rows map[string]string) {
	t.Helper()
	_, rest, found := strings.Cut(page.body, `id="infrastructure-kept"`)
	if page.status != http.StatusOK || !found {
		t.Fatalf("status %d, and a section for what is kept: %v", page.status, found)
	}
	section, _, _ := strings.Cut(rest, "</section>")
	rows = map[string]string{"": section}
	for _, row := range strings.Split(section, "<tr>")[1:] {
		for _, id := range []string{"m-0b0b0b0b", "m-0c0c0c0c", "m-0d0d0d0d", "web01"} {
			if strings.Contains(row, id) {
				rows[id] = row
			}
		}
	}
	return rows
}

// TestWhatIsKeptIsShownAndErased: points of machines that are not protected are listed with
// the vault; a locked one can only be looked at, and so can one that nobody can read.
func TestWhatIsKeptIsShownAndErased(t *testing.T) {
	h := newHouse(t, true).claimed()
	b := h.signedIn("")
	if rows := keptRows(t, b.get("/infrastructure")); strings.Contains(rows[""], "Kept in the vault") {
		t.Error("a list of nothing is shown")
	}
	h.kept()
	rows := keptRows(t, b.get("/infrastructure"))
	if !strings.Contains(rows[""], "Kept in the vault") {
		t.Error("the list has no heading")
	}
	for id, wants := range map[string]map[string]bool{
		"m-0b0b0b0b": {"OLD &lt;01&gt;": true, "2 disks": true, "2 pinned": true, "locked until": false, "cannot be read": false, "not known here": false, "/infrastructure/kept/m-0b0b0b0b/erase": true},
		"m-0c0c0c0c": {"locked until": true, "pinned": false, "not known here": true, "/erase": false},
		"m-0d0d0d0d": {"sql-archive-02": true, "cannot be read": true, "/erase": false},
		"web01":      {"one disk": true, "cannot be read": false, "/infrastructure/kept/web01/erase": true},
	} {
		for want, there := range wants {
			if strings.Contains(rows[id], want) != there {
				t.Errorf("the row of %s has %q: %v, want %v", id, want, !there, there)
			}
		}
	}
	if ask := b.get("/infrastructure/kept/m-0b0b0b0b/erase"); ask.status != http.StatusOK || !strings.Contains(ask.body, "12 recovery points, 3 MiB") || !strings.Contains(ask.body, `data-confirm="OLD &lt;01&gt;"`) {
		t.Errorf("status %d: what is asked lacks what goes, or what to type", ask.status)
	}
	if got := b.get("/infrastructure/kept/m-1/erase"); got.status != http.StatusNotFound {
		t.Errorf("of nothing: status %d, want 404", got.status)
	}
	if got := b.post("/infrastructure/kept/m-0b0b0b0b/erase", "confirm", "OLD <01>"); got.status != http.StatusSeeOther {
		t.Errorf("status %d, want 303", got.status)
	}
	c := h.client(store.Administrator)
	if list, err := c.Kept(t.Context()); err != nil || len(list) != 4 || list[0].Pinned != 2 || !list[2].Disks[1].Unread {
		t.Errorf("kept %+v, %v", list, err)
	}
	if err := c.EraseKept(t.Context(), "web01", "x"); err != nil {
		t.Error(err)
	}
	if want := []string{"erase anna m-0b0b0b0b OLD <01>", "erase anna web01 x"}; !slices.Equal(h.appliance.guarded, want) {
		t.Errorf("the appliance was asked %q, want %q", h.appliance.guarded, want)
	}
	if err := h.client(store.Operator).EraseKept(t.Context(), "web01", "x"); err == nil {
		t.Error("an operator erases what is kept")
	}
}

// TestWhatIsKeptIsToldWhatKeepsIt: who may not erase sees the list alone, in every language;
// a refusal comes with the form, and what fails takes no page with it.
func TestWhatIsKeptIsToldWhatKeepsIt(t *testing.T) {
	h := newHouse(t, true).claimed()
	h.kept()
	rows := keptRows(t, h.signedIn(store.Viewer).get("/infrastructure"))
	if !strings.Contains(rows["m-0b0b0b0b"], "OLD &lt;01&gt;") || strings.Contains(rows[""], "/erase") {
		t.Error("a viewer sees no list of what is kept, or can have it erased")
	}
	b := h.signedIn("")
	h.appliance.keeps = replication.Stopf("kept.unread", "see under Infrastructure why, and ask for it anew when it can be read", "disk m-0b0b0b0b.vdb of OLD <01> cannot be read: nobody knows whether its points are locked")
	for lang, wants := range map[string][]string{
		"en": {"Disk m-0b0b0b0b.vdb of OLD &lt;01&gt; cannot be read: nobody knows", "See under Infrastructure why"},
		"it": {"Il disco m-0b0b0b0b.vdb di OLD &lt;01&gt; non si legge: nessuno sa", "Vedere il motivo in Infrastruttura"},
	} {
		if err := h.identity.SetLanguage(user, lang); err != nil {
			t.Fatal(err)
		}
		got := b.post("/infrastructure/kept/m-0b0b0b0b/erase", "confirm", "OLD <01>")
		if got.status != http.StatusConflict || !strings.Contains(got.body, `action="/infrastructure/kept/m-0b0b0b0b/erase"`) {
			t.Errorf("%s: a refusal is status %d, want 409 and the form", lang, got.status)
		}
		for _, want := range wants {
			if !strings.Contains(got.body, want) {
				t.Errorf("%s: the refusal lacks %q", lang, want)
			}
		}
	}
	if err := h.identity.SetLanguage(user, "it"); err != nil {
		t.Fatal(err)
	}
	rows = keptRows(t, b.get("/infrastructure"))
	for id, want := range map[string]string{"": "Conservati nel vault", "m-0b0b0b0b": "2 fissati", "m-0d0d0d0d": "non si legge"} {
		if !strings.Contains(rows[id], want) {
			t.Errorf("the Italian page lacks %q", want)
		}
	}
	h.appliance.kept, h.appliance.unkept = nil, errors.New("the list of machines is torn")
	rows = keptRows(t, b.get("/infrastructure"))
	if !strings.Contains(rows[""], "Conservati nel vault") || !strings.Contains(rows[""], "The list of machines is torn") {
		t.Errorf("what keeps the list from being shown is not told: %s", rows[""])
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
