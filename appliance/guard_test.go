package appliance_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"riparo/appliance"
	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/store"
	"riparo/web/api"
)

// TestAnEncryptedMachineRaisesTheAlarmAndKeepsItsLastCleanPoint: a running machine that
// was quiet is encrypted. The alarm is raised, replication goes on, points are marked,
// and the last clean one outlives a retention that would have let it go.
func TestAnEncryptedMachineRaisesTheAlarmAndKeepsItsLastCleanPoint(t *testing.T) {
	policy := replication.DefaultPolicy()
	policy.Retention = replication.Retention{{Until: 12 * time.Second}}
	th, site := labbed(t, appliance.Config{Data: t.TempDir()}, policy)
	th.until("there are two points, and the machine is watched", func() bool {
		points, err := th.a.Points(t.Context(), th.id)
		return err == nil && len(points) >= 2 && len(th.machine().Noise) > 0
	})
	if m := th.machine(); m.Alarm != nil || len(m.Noise) == 0 {
		t.Fatalf("alarm %+v, state %+v: want a machine that is watched and quiet", m.Alarm, m.Noise)
	}
	before := time.Now()
	if err := site.Encrypt(t.Context(), th.ref, "vda", replication.Extent{Offset: 1 << 20, Length: 14 << 20}); err != nil {
		t.Fatal(err)
	}
	th.until("the alarm is raised", func() bool { return th.machine().Alarm != nil })
	alarm := *th.machine().Alarm
	t.Logf("raised %s after the attack; %d bytes lost; last clean point %s", alarm.Raised.Sub(before).Round(time.Millisecond), alarm.LostBytes, alarm.LastClean)
	if f := th.finding("ransomware.suspected"); f == nil || f.Level != string(store.Warning) || !strings.Contains(f.Effect, string(alarm.LastClean)) || f.Action == "" {
		t.Errorf("finding %+v: want a warning that names the last clean point and what to do", f)
	}
	if e := th.events("ransomware.suspected"); len(e) != 1 || e[0].Severity != store.SeverityCritical {
		t.Errorf("events %+v: want one that is critical", e)
	}
	if alarm.LastClean == "" {
		t.Fatal("no clean point is known")
	}
	// The retention of 12 s would let it go; new points come all the while.
	th.until("the retention has passed over the last clean point", func() bool {
		points, err := th.a.Points(t.Context(), th.id)
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(points, func(p replication.RecoveryPoint) bool { return p.ID == alarm.LastClean })
		if i < 0 {
			t.Fatalf("the last clean point %s is gone", alarm.LastClean)
		}
		for _, p := range points {
			if p.LastClean != (p.ID == alarm.LastClean) || p.Suspect != p.Time.After(alarm.After) || p.LastClean && p.Suspect {
				t.Fatalf("point %+v: wrong about clean or suspect; the alarm is %+v", p, alarm)
			}
		}
		if time.Since(points[i].Time) < 20*time.Second {
			return false
		}
		_, pruneErr := points, th.a.Rooms().Protection.Prune(t.Context(), th.id)
		if pruneErr != nil {
			t.Fatal(pruneErr)
		}
		points, err = th.a.Points(t.Context(), th.id)
		return err == nil && slices.ContainsFunc(points, func(p replication.RecoveryPoint) bool { return p.LastClean })
	})
	clean, err := th.a.Rooms().Protection.Choose(th.machine(), "clean")
	if err != nil || clean.ID != alarm.LastClean {
		t.Errorf("the clean point is %s, %v; want %s", clean.ID, err, alarm.LastClean)
	}
	if err := th.a.DismissAlarm(t.Context(), api.Who{Name: "anna", Person: "anna"}, th.id, "a test"); err != nil {
		t.Fatal(err)
	}
	if m := th.machine(); m.Alarm != nil || th.finding("ransomware.suspected") != nil {
		t.Errorf("after it was dismissed: %+v, %+v", m.Alarm, m.Health)
	}
	if err := th.a.Rooms().Protection.Prune(t.Context(), th.id); err != nil {
		t.Fatal(err)
	}
	points, err := th.a.Points(t.Context(), th.id)
	if err != nil || slices.ContainsFunc(points, func(p replication.RecoveryPoint) bool { return p.ID == alarm.LastClean || p.Suspect }) {
		t.Errorf("after it was dismissed: %+v, %v; want ordinary points, and the old one gone", points, err)
	}
	explained(t, th.a.DismissAlarm(t.Context(), api.Who{}, th.id, ""), "no alarm")
}

// administrators makes people who may decide.
func (th *theater) administrators(names ...string) {
	th.Helper()
	err := th.a.Rooms().Store.Update(func(tx *store.Tx) error {
		var errs []error
		for _, n := range names {
			errs = append(errs, tx.Users().Put(store.User{Name: n, Role: store.Administrator}))
		}
		return errors.Join(errs...)
	})
	if err != nil {
		th.Fatal(err)
	}
}

// request gives the one request that waits.
func (th *theater) request() store.Approval {
	th.Helper()
	var waiting []store.Approval
	err := th.a.Rooms().Store.View(func(tx *store.Tx) error {
		for r, err := range tx.Approvals().All() {
			if err != nil {
				return err
			}
			if r.State == store.ApprovalWaiting {
				waiting = append(waiting, r)
			}
		}
		return nil
	})
	if err != nil || len(waiting) != 1 {
		th.Fatalf("%d requests wait, %v; want one", len(waiting), err)
	}
	return waiting[0]
}

func needsApproval(t *testing.T, err error) {
	t.Helper()
	p := replication.AsProblem(err)
	if p == nil || p.Code != "approval.needed" || p.Action == "" {
		t.Fatalf("got %v, want that a second administrator is needed", err)
	}
}

func TestProtectedPointsGoOnlyUnderFourEyes(t *testing.T) {
	th, _ := labbed(t, appliance.Config{Data: t.TempDir()}, replication.DefaultPolicy())
	th.until("there are four points", func() bool {
		points, err := th.a.Points(t.Context(), th.id)
		return err == nil && len(points) >= 4
	})
	points, err := th.a.Points(t.Context(), th.id)
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(points)
	anna, ugo := api.Who{Name: "anna", Person: "anna"}, api.Who{Name: "token of ugo", Person: "ugo"}
	th.administrators("anna", "ugo")
	oldest, second := points[0].ID, points[1].ID
	has := func(id replication.PointID) bool {
		list, err := th.a.Points(t.Context(), th.id)
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(list, func(p replication.RecoveryPoint) bool { return p.ID == id })
	}
	if err := th.a.Pin(t.Context(), anna, th.id, oldest, "before the migration"); err != nil {
		t.Fatal(err)
	}
	explained(t, th.a.Pin(t.Context(), anna, th.id, "nowhere", ""), "nowhere")
	explained(t, th.a.Unpin(t.Context(), anna, th.id, second), "not pinned")

	// What is not protected goes at once; the newest never.
	if err := th.a.DeletePoints(t.Context(), anna, th.id, []replication.PointID{second}); err != nil || has(second) {
		t.Fatalf("%v; the point is there: %v", err, has(second))
	}
	latest, err := th.a.Rooms().Protection.Choose(th.machine(), "")
	if err != nil {
		t.Fatal(err)
	}
	explained(t, th.a.DeletePoints(t.Context(), anna, th.id, []replication.PointID{latest.ID}), "newest")

	// A pinned one waits for another administrator, however often it is asked for.
	for range 2 {
		needsApproval(t, th.a.DeletePoints(t.Context(), anna, th.id, []replication.PointID{oldest}))
	}
	r := th.request()
	if !has(oldest) {
		t.Fatal("a protected point went without approval")
	}
	explained(t, th.a.Approve(t.Context(), "anna", r.ID), "cannot approve")
	explained(t, th.a.Approve(t.Context(), "ANNA", r.ID), "cannot approve")
	explained(t, th.a.Approve(t.Context(), "token of ugo", r.ID), "not a person")
	explained(t, th.a.Approve(t.Context(), "", r.ID), "not a person")
	if err := th.a.Refuse(t.Context(), "ugo", r.ID); err != nil {
		t.Fatal(err)
	}
	explained(t, th.a.Approve(t.Context(), "ugo", r.ID), "already")
	if !has(oldest) {
		t.Fatal("a refused request was done")
	}
	// A token that no person stands behind asks for nothing.
	explained(t, th.a.DeletePoints(t.Context(), api.Who{Name: "token x"}, th.id, []replication.PointID{oldest}), "not a person")

	// Disabling would erase it, a shorter retention may: both wait too.
	_, err = th.a.Ask(t.Context(), api.Request{Actor: "anna", Person: "anna", Verb: lifecycle.DisableProtection, Machine: th.id, Confirm: "WEB01"})
	needsApproval(t, err)
	if err := th.a.Refuse(t.Context(), "anna", th.request().ID); err != nil { // taken back
		t.Fatal(err)
	}
	shorter := replication.DefaultPolicy()
	shorter.Name, shorter.CopyFrequency, shorter.AppConsistentFrequency = "quick", replication.MinCopyFrequency, 0
	shorter.Retention = replication.Retention{{Until: time.Minute}}
	needsApproval(t, th.a.SavePolicy(t.Context(), anna, shorter))
	if err := th.a.Approve(t.Context(), "ugo", th.request().ID); err != nil {
		t.Fatal(err)
	}
	err = th.a.Rooms().Store.View(func(tx *store.Tx) error {
		p, err := tx.Policies().Get("quick")
		if err == nil && p.Retention.String() != shorter.Retention.String() {
			err = fmt.Errorf("retention %s, want what was approved", p.Retention)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}

	needsApproval(t, th.a.Unpin(t.Context(), anna, th.id, oldest))
	expire(t, th)
	explained(t, th.a.Approve(t.Context(), "ugo", lastRequest(t, th).ID), "expired")
	needsApproval(t, th.a.Unpin(t.Context(), ugo, th.id, oldest))
	var id string
	for r := range waiting(t, th) {
		id = r
	}
	if err := th.a.Approve(t.Context(), "anna", id); err != nil {
		t.Fatal(err)
	}
	if m := th.machine(); len(m.Pins) != 0 {
		t.Errorf("pins %+v after it was approved", m.Pins)
	}
	for _, code := range []string{"approval.requested", "approval.granted", "approval.refused", "point.pinned", "point.unpinned", "points.deleted"} {
		if len(th.events(code)) == 0 {
			t.Errorf("no event %s", code)
		}
	}
}

// expire lets the request that waits be a day old.
func expire(t *testing.T, th *theater) {
	t.Helper()
	r := th.request()
	r.Expires = time.Now().Add(-time.Second)
	if err := th.a.Rooms().Store.Update(func(tx *store.Tx) error { return tx.Approvals().Put(r) }); err != nil {
		t.Fatal(err)
	}
}

func lastRequest(t *testing.T, th *theater) (last store.Approval) {
	t.Helper()
	err := th.a.Rooms().Store.View(func(tx *store.Tx) error {
		page, err := tx.Approvals().Page("", 1, true)
		if err == nil && len(page) == 1 {
			last = page[0]
		}
		return err
	})
	if err != nil || last.ID == "" {
		t.Fatalf("%+v, %v", last, err)
	}
	return last
}

// waiting are the requests that can still be decided about.
func waiting(t *testing.T, th *theater) map[string]bool {
	t.Helper()
	ids := map[string]bool{}
	err := th.a.Rooms().Store.View(func(tx *store.Tx) error {
		for r, err := range tx.Approvals().All() {
			if err != nil {
				return err
			}
			if r.State == store.ApprovalWaiting && time.Now().Before(r.Expires) {
				ids[r.ID] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return ids
}
