package appliance_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"riparo/appliance"
	"riparo/hypervisor"
	"riparo/hypervisor/lab"
	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/store"
	"riparo/web/api"
)

// TestAFailbackNoticesAnOriginalThatRanBetweenItsSteps: somebody lifts the fence, starts the
// original and stops it again, in each of the moments in which the failback does not hold
// its disks. What that boot wrote is either gone afterwards or part of the machine.
func TestAFailbackNoticesAnOriginalThatRanBetweenItsSteps(t *testing.T) {
	for _, c := range []struct {
		after string // the step
		told  int
	}{
		{"bring the original disks up to date", 1},
		{"send the last changes", 1},
		{"apply the last changes", 0}, // it ran from the last point on, as it would have anyway
		{"take ownership", 0},
	} {
		t.Run(c.after, func(t *testing.T) {
			var th *theater
			var site *lab.Site
			var set, over atomic.Bool
			committed := func([]string) {
				if !set.Load() || !th.stepIsOver(lifecycle.Failback, c.after) || !over.CompareAndSwap(false, true) {
					return
				}
				ctx := context.Background()
				err := errors.Join(site.Unfence(ctx, th.ref), site.Start(ctx, th.ref, hypervisor.StartOptions{}),
					site.Encrypt(ctx, th.ref, "vda", replication.Extent{Offset: 5 << 20, Length: 1 << 20}))
				_, stopped := site.Stop(ctx, th.ref, 0)
				if err = errors.Join(err, stopped); err != nil {
					t.Error(err)
				}
			}
			th, site = labbed(t, appliance.Config{Data: t.TempDir(), StepsTwice: true, Committed: committed}, replication.DefaultPolicy())
			th.away()
			set.Store(true)
			th.ask(api.Request{Verb: lifecycle.Failback})
			if !over.Load() {
				t.Fatal("nobody came between")
			}
			if told := th.events("original.ran"); len(told) != c.told {
				t.Errorf("that the original ran was told %d times, want %d", len(told), c.told)
			}
			th.bothEndsAreEqual()
		})
	}
}

// TestAFailbackWhoseStartingPointWentIsComparedAsAWhole: retention may let it go while room
// is short, and both machines are off by then.
func TestAFailbackWhoseStartingPointWentIsComparedAsAWhole(t *testing.T) {
	var th *theater
	var set, over atomic.Bool
	committed := func([]string) {
		if !set.Load() || !th.stepIsOver(lifecycle.Failback, "send the last changes") || !over.CompareAndSwap(false, true) {
			return
		}
		v := th.a.Rooms().Vault
		for _, d := range v.Disks() {
			points, err := v.Points(d.Disk.ID)
			if err != nil || len(points) < 2 {
				t.Errorf("points %v, %v", points, err)
				continue
			}
			var drop []replication.PointID
			for _, p := range points[:len(points)-1] {
				drop = append(drop, p.ID)
			}
			if err := v.Drop(context.Background(), d.Disk.ID, drop); err != nil {
				t.Error(err)
			}
		}
	}
	th, _ = labbed(t, appliance.Config{Data: t.TempDir(), Committed: committed}, replication.DefaultPolicy())
	th.away()
	set.Store(true)
	th.ask(api.Request{Verb: lifecycle.Failback})
	if !over.Load() {
		t.Fatal("nobody let go of it")
	}
	if told := th.events("job.retrying"); len(told) > 0 {
		t.Errorf("a step failed, and waited while both machines are off: %v", told)
	}
	th.bothEndsAreEqual()
}

// stepIsOver looks whether the newest job is of a kind and a step of it is done.
func (th *theater) stepIsOver(verb lifecycle.Verb, step string) bool {
	over := false
	err := th.a.Rooms().Store.View(func(tx *store.Tx) error {
		newest, err := tx.JobsOf(th.id).Page("", 1, true)
		over = err == nil && len(newest) > 0 && newest[0].Kind == string(verb) &&
			slices.ContainsFunc(newest[0].Steps, func(s store.Step) bool { return s.Name == step && s.State == store.Succeeded })
		return err
	})
	if err != nil {
		th.Error(err)
	}
	return over
}

// TestACanceledFailbackEndsWithoutItsReplica: a site that is lost keeps nobody from acting
// again.
func TestACanceledFailbackEndsWithoutItsReplica(t *testing.T) {
	var th *theater
	var secondary *lab.Site
	var set, lost atomic.Bool
	committed := func([]string) {
		if set.Load() && th.stepIsOver(lifecycle.Failback, "shut down the replica") && lost.CompareAndSwap(false, true) {
			secondary.SetUnreachable(true)
		}
	}
	th, _ = labbed(t, appliance.Config{Data: t.TempDir(), Committed: committed}, replication.DefaultPolicy())
	_, secondary = th.away()
	set.Store(true)
	job := th.begin(api.Request{Verb: lifecycle.Failback})
	th.until("the site is lost", lost.Load)
	th.cancel(job)
	if m := th.machine(); m.State != lifecycle.ProtectedReverse || m.Direction != lifecycle.Reverse {
		t.Errorf("the machine is %s, %s; want it protected in reverse", m.State, m.Direction)
	}
	if told := th.events("replica.not-started"); len(told) != 1 {
		t.Errorf("that the replica is down was told %d times, want once", len(told))
	}
	if power := th.powerOf(th.primary, th.ref); power != hypervisor.Stopped {
		t.Errorf("the original is %s; both copies could run", power)
	}
	secondary.SetUnreachable(false)
	th.ask(api.Request{Verb: lifecycle.Failback})
	th.bothEndsAreEqual()
}

// TestACanceledFailbackKeepsTheOnlyCopyThatRuns: the original is not stopped as long as the
// replica's site is lost.
func TestACanceledFailbackKeepsTheOnlyCopyThatRuns(t *testing.T) {
	th, _ := labbed(t, appliance.Config{Data: t.TempDir()}, replication.DefaultPolicy())
	replica, secondary := th.away()
	job := th.unseen(lifecycle.Failback)
	secondary.SetUnreachable(true)
	if err := th.a.CancelJob(t.Context(), "test", job); err != nil {
		t.Fatal(err)
	}
	th.until("the undo was tried often", func() bool {
		j, err := store.Get(th.a.Rooms().Store, store.Jobs, job)
		if err != nil {
			t.Fatal(err)
		}
		if j.State == store.Canceled {
			t.Fatal("the failback is canceled, and neither copy runs")
		}
		return j.Attempt > 4
	})
	if power := th.powerOf(th.primary, th.ref); power != hypervisor.Running {
		t.Errorf("the original is %s; no copy runs", power)
	}
	secondary.SetUnreachable(false)
	if j := th.ended(job); j.State != store.Canceled {
		t.Fatalf("job %s is %s: %+v", j.Kind, j.State, j.Error)
	}
	if of, rf := th.powerOf(th.primary, th.ref), th.powerOf(th.secondary, replica); of != hypervisor.Stopped || rf != hypervisor.Running {
		t.Errorf("the original is %s and the replica %s; want stopped and running", of, rf)
	}
}

// TestACanceledFailbackWithoutItsReplicaIsDone: there is nothing to go back to, and the
// original is the only copy.
func TestACanceledFailbackWithoutItsReplicaIsDone(t *testing.T) {
	th, _ := labbed(t, appliance.Config{Data: t.TempDir()}, replication.DefaultPolicy())
	replica, secondary := th.away()
	job := th.unseen(lifecycle.Failback)
	if err := secondary.Remove(t.Context(), replica); err != nil {
		t.Fatal(err)
	}
	th.cancel(job)
	if m := th.machine(); m.Direction != lifecycle.Forward {
		t.Errorf("the machine is %s, %s; want it protected forward", m.State, m.Direction)
	}
	if power := th.powerOf(th.primary, th.ref); power != hypervisor.Running {
		t.Errorf("the original is %s; no copy runs", power)
	}
}

// TestACanceledFailbackEndsWhenTheSiteIsLostInItsMidst: after the original was stopped the
// replica's site is lost. Neither copy runs, which is told, and the cancel ends.
func TestACanceledFailbackEndsWhenTheSiteIsLostInItsMidst(t *testing.T) {
	var th *theater
	var secondary *lab.Site
	var set atomic.Bool
	committed := func([]string) {
		if !set.Load() {
			return
		}
		err := th.a.Rooms().Store.View(func(tx *store.Tx) error {
			newest, err := tx.JobsOf(th.id).Page("", 1, true)
			if err == nil && len(newest) > 0 && newest[0].Data["original started"] == "false" {
				secondary.SetUnreachable(true)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	th, _ = labbed(t, appliance.Config{Data: t.TempDir(), Committed: committed}, replication.DefaultPolicy())
	_, secondary = th.away()
	job := th.unseen(lifecycle.Failback)
	set.Store(true)
	th.cancel(job)
	if told := th.events("replica.not-started"); len(told) != 1 {
		t.Errorf("that the replica is down was told %d times, want once", len(told))
	}
	if m := th.machine(); m.State != lifecycle.ProtectedReverse {
		t.Errorf("the machine is %s; want it protected in reverse", m.State)
	}
}

// TestAReverseReplicationKeepsTheLastCleanPoint: while an alarm stands, it goes by nobody's
// word but by two administrators'.
func TestAReverseReplicationKeepsTheLastCleanPoint(t *testing.T) {
	th, _ := labbed(t, appliance.Config{Data: t.TempDir()}, replication.DefaultPolicy())
	var points []replication.RecoveryPoint
	th.until("there are three points", func() (enough bool) {
		var err error
		points, err = th.a.Points(t.Context(), th.id)
		return err == nil && len(points) >= 3
	})
	clean, older := points[0].ID, points[len(points)-1].ID
	if _, err := th.a.Rooms().Protection.Change(th.id, func(m *store.Machine) error {
		m.Alarm = &store.Alarm{LastClean: clean}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	th.ask(api.Request{Verb: lifecycle.UnplannedFailover, Point: older})
	th.ask(api.Request{Verb: lifecycle.Commit})
	th.ask(api.Request{Verb: lifecycle.ReverseReplicate})
	if points, err := th.a.Points(t.Context(), th.id); err != nil || !has(points, clean) {
		t.Errorf("point %s, the last clean one, is gone: %v", clean, err)
	}
}

// TestAReverseReplicationKeepsLockedPointsThatCameLater: a failover to a point before those
// that are locked is what locks are for. They stay, and the replica is compared.
func TestAReverseReplicationKeepsLockedPointsThatCameLater(t *testing.T) {
	policy := replication.DefaultPolicy()
	policy.LockFor = time.Hour
	th, _ := labbed(t, appliance.Config{Data: t.TempDir()}, policy)
	var points []replication.RecoveryPoint
	th.until("there are three points", func() (enough bool) {
		var err error
		points, err = th.a.Points(t.Context(), th.id)
		return err == nil && len(points) >= 3
	})
	newest, older := points[0], points[len(points)-1]
	th.ask(api.Request{Verb: lifecycle.UnplannedFailover, Point: older.ID})
	th.ask(api.Request{Verb: lifecycle.Commit})
	th.ask(api.Request{Verb: lifecycle.ReverseReplicate})
	if m := th.machine(); m.State != lifecycle.ProtectedReverse || m.Compare {
		t.Fatalf("the machine is %s, to be compared: %v", m.State, m.Compare)
	}
	if told := th.events("tracking.lost"); len(told) > 0 {
		t.Errorf("told that tracking was lost: %+v", told)
	}
	if points, err := th.a.Points(t.Context(), th.id); err != nil || !has(points, newest.ID) {
		t.Errorf("point %s, which is locked, is gone: %v", newest.ID, err)
	}
	replica, secondary := th.replica()
	release, err := th.a.Rooms().Protection.Hold(t.Context(), th.id)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := secondary.Stop(t.Context(), replica, guestLimit); err != nil {
		t.Fatal(err)
	}
	point, _, err := th.a.Rooms().Protection.TakePoint(t.Context(), th.id, func(int64, int64) {})
	if err != nil {
		t.Fatal(err)
	}
	th.pointIsDisk(point.ID, th.secondary, replica)
	if err := secondary.Start(t.Context(), replica, hypervisor.StartOptions{TrackSince: point.ID}); err != nil {
		t.Fatal(err)
	}
	release()
	th.ask(api.Request{Verb: lifecycle.Failback})
	th.bothEndsAreEqual()
}
