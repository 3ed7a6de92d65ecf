package appliance_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"riparo/appliance"
	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/replication/vault"
	"riparo/replication/vfs"
	"riparo/store"
	"riparo/web/api"
)

// TestAFullVaultIsToldAndReplicationGoesOnByItself: the disk under the vault fills up.
// Health says so, no point is the price, and when there is room again replication goes
// on without anybody.
func TestAFullVaultIsToldAndReplicationGoesOnByItself(t *testing.T) {
	disk := vfs.NewSim(1)
	disk.SetCapacity(256 << 20)
	limits := vault.Limits{Warn: vault.Watermark{Bytes: 64 << 20}, Slow: vault.Watermark{Bytes: 32 << 20}, Stop: vault.Watermark{Bytes: 16 << 20}}
	th, site := labbed(t, appliance.Config{Data: t.TempDir(), FS: disk, Limits: limits}, replication.DefaultPolicy())
	th.until("there are two points", func() bool {
		points, err := th.a.Points(t.Context(), th.id)
		return err == nil && len(points) >= 2
	})
	used := 256<<20 - th.a.Rooms().Vault.Pressure().Free
	disk.SetCapacity(used + 8<<20)                                                                                         // somebody else has filled the file system
	if err := site.Encrypt(t.Context(), th.ref, "vda", replication.Extent{Offset: 1 << 20, Length: 1 << 20}); err != nil { // something to send
		t.Fatal(err)
	}
	th.until("health says that replication waits for room", func() bool {
		f, g := th.finding("vault.room"), th.finding(vault.CodeWatermark)
		return f != nil && g != nil && f.Level == string(store.Critical) && f.Effect != "" && f.Action != ""
	})
	stopped, err := th.a.Points(t.Context(), th.id)
	if err != nil {
		t.Fatal(err)
	}
	raised := len(th.events("vault.room"))
	if raised == 0 {
		t.Error("no event tells of it")
	}
	disk.SetCapacity(256 << 20)
	th.until("a new point is taken", func() bool {
		points, err := th.a.Points(t.Context(), th.id)
		return err == nil && len(points) > len(stopped)
	})
	th.until("health is well again", func() bool { return th.machine().Health.Level == store.Healthy })
	if len(th.events("vault.roomy")) != 1 || len(th.events("vault.room")) != raised {
		t.Errorf("events %+v, %+v: want one that it is over, and no more", th.events("vault.room"), th.events("vault.roomy"))
	}
	points, err := th.a.Points(t.Context(), th.id)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range stopped {
		if !has(points, p.ID) {
			t.Errorf("point %s was the price", p.ID)
		}
	}
}

// TestAMachineThatWaitedForRoomGoesOnAtOnce: its next try would be hours away. When there
// is room again, nobody has to wait for that.
func TestAMachineThatWaitedForRoomGoesOnAtOnce(t *testing.T) {
	disk := vfs.NewSim(1)
	disk.SetCapacity(256 << 20)
	limits := vault.Limits{Warn: vault.Watermark{Bytes: 64 << 20}, Slow: vault.Watermark{Bytes: 32 << 20}, Stop: vault.Watermark{Bytes: 16 << 20}}
	const unit = 3 * time.Hour
	th, site := labbed(t, appliance.Config{Data: t.TempDir(), FS: disk, Limits: limits, RetryUnit: unit}, replication.DefaultPolicy())
	used := 256<<20 - th.a.Rooms().Vault.Pressure().Free
	disk.SetCapacity(used + 8<<20)
	if err := site.Encrypt(t.Context(), th.ref, "vda", replication.Extent{Offset: 1 << 20, Length: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	th.until("the machine waits for room", func() bool { return th.finding(vault.CodeWatermark) != nil && th.finding("vault.room") != nil })
	if next := th.machine().NextTry; time.Until(next) < unit/2 {
		t.Fatalf("the next try is at %s: too soon to tell it from one that room brought", next)
	}
	before := th.machine().LastPoint.ID
	disk.SetCapacity(256 << 20)
	th.within(soon, "a point is taken as soon as there is room", func() bool { return th.machine().LastPoint.ID != before })
	th.until("nothing is left of the wait", func() bool { return th.machine().Failures == 0 && th.machine().Health.Level == store.Healthy })
}

func has(points []replication.RecoveryPoint, id replication.PointID) bool {
	for _, p := range points {
		if p.ID == id {
			return true
		}
	}
	return false
}

// TestAFailedSyncEndsTheVaultsUseUntilItIsOpenedAgain: after an fsync failed nothing is
// acknowledged; the appliance begins again by itself and reads the vault anew.
func TestAFailedSyncEndsTheVaultsUseUntilItIsOpenedAgain(t *testing.T) {
	disk := vfs.NewSim(1)
	data := t.TempDir()
	config := appliance.Config{Data: data, Listen: "127.0.0.1:0", RetryUnit: 200 * time.Millisecond, FS: disk}
	a, err := appliance.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	th := &theater{T: t, a: a, data: data, primary: "milano", secondary: "torino"}
	ctx, cancel := context.WithTimeout(t.Context(), guestLimit)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	th.furnish(replication.DefaultPolicy())
	before, err := a.Points(t.Context(), th.id)
	if err != nil {
		t.Fatal(err)
	}
	disk.FailSync(1)
	if err := <-ended; !errors.Is(err, appliance.ErrRestart) {
		t.Fatalf("the appliance ended with %v, want that it begins again", err)
	}
	m := th.machine()
	if len(m.Health.Findings) == 0 || !strings.HasPrefix(m.Health.Findings[0].Code, vault.CodeBroken) || m.Health.Findings[0].Effect == "" {
		t.Errorf("health %+v: want what failed, what that means and what to do", m.Health)
	}
	if err := a.Close(); err != nil {
		t.Logf("close: %v", err) // the disk failed
	}
	if a, err = appliance.Open(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	th.a = a
	again, stop := context.WithCancel(context.Background())
	go func() { ended <- a.Run(again) }()
	defer func() {
		stop()
		if err := errors.Join(<-ended, a.Close()); err != nil {
			t.Errorf("the appliance ended with: %v", err)
		}
	}()
	th.until("a new point is taken and health is well", func() bool {
		points, err := a.Points(t.Context(), th.id)
		return err == nil && len(points) > len(before) && th.machine().Health.Level == store.Healthy
	})
}

// TestALockedPointOutlivesTwoAdministrators: nobody deletes it before its time, and the
// machine is not disabled with its points either.
func TestALockedPointOutlivesTwoAdministrators(t *testing.T) {
	policy := replication.DefaultPolicy()
	policy.LockFor = time.Hour
	th, _ := labbed(t, appliance.Config{Data: t.TempDir()}, policy)
	th.administrators("anna", "ugo")
	th.until("there are two points", func() bool {
		points, err := th.a.Points(t.Context(), th.id)
		return err == nil && len(points) >= 2
	})
	points, err := th.a.Points(t.Context(), th.id)
	if err != nil {
		t.Fatal(err)
	}
	oldest := points[len(points)-1]
	if !oldest.Locked || time.Until(oldest.LockedUntil) < 50*time.Minute {
		t.Errorf("point %+v: want it locked for an hour", oldest)
	}
	anna := api.Who{Name: "anna", Person: "anna"}
	explained(t, th.a.DeletePoints(t.Context(), anna, th.id, []replication.PointID{oldest.ID}), "locked until")
	_, err = th.a.Ask(t.Context(), api.Request{Actor: "anna", Person: "anna", Verb: lifecycle.DisableProtection, Machine: th.id, Confirm: "WEB01"})
	explained(t, err, "locked until")
	if n := len(waiting(t, th)); n != 0 {
		t.Errorf("%d requests wait: a lock is not a matter of approval", n)
	}
	unlocked := policy
	unlocked.Name, unlocked.CopyFrequency, unlocked.AppConsistentFrequency = "quick", replication.MinCopyFrequency, 0
	unlocked.LockFor = policy.LockFor / 2 // for the points from then on
	needsApproval(t, th.a.SavePolicy(t.Context(), anna, unlocked))
	for id := range waiting(t, th) {
		if err := th.a.Refuse(t.Context(), "ugo", id); err != nil {
			t.Fatal(err)
		}
	}
	shorter := policy
	shorter.Name, shorter.CopyFrequency, shorter.AppConsistentFrequency = "quick", replication.MinCopyFrequency, 0
	shorter.Retention = replication.Retention{{Until: time.Nanosecond}}
	// What was asked for before somebody else changed the policy would undo that.
	longer := shorter
	longer.Retention, longer.LockFor = policy.Retention, 2*time.Hour
	needsApproval(t, th.a.SavePolicy(t.Context(), anna, shorter))
	if err := th.a.SavePolicy(t.Context(), api.Who{Name: "ugo", Person: "ugo"}, longer); err != nil {
		t.Fatal(err)
	}
	for id := range waiting(t, th) {
		explained(t, th.a.Approve(t.Context(), "ugo", id), "was changed after")
	}
	if now, err := store.Get(th.a.Rooms().Store, store.Policies, "quick"); err != nil || now.LockFor != longer.LockFor {
		t.Errorf("the policy locks for %s, %v; want %s", now.LockFor, err, longer.LockFor)
	}
	shorter.LockFor = longer.LockFor
	needsApproval(t, th.a.SavePolicy(t.Context(), anna, shorter))
	for id := range waiting(t, th) {
		if err := th.a.Approve(t.Context(), "ugo", id); err != nil {
			t.Fatal(err)
		}
	}
	if err := th.a.Rooms().Protection.Prune(t.Context(), th.id); err != nil {
		t.Fatal(err)
	}
	if points, err = th.a.Points(t.Context(), th.id); err != nil || !has(points, oldest.ID) {
		t.Errorf("a locked point was let go by retention: %v", err)
	}
}
