package appliance_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"riparo/appliance"
	"riparo/appliance/protection"
	"riparo/hypervisor"
	"riparo/hypervisor/lab"
	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/store"
	"riparo/web/api"
)

// begin asks for a verb and does not wait for its job.
func (th *theater) begin(r api.Request) (job string) {
	th.Helper()
	r.Actor, r.Machine, r.Confirm = "test", th.id, th.machine().Name
	job, err := th.a.Ask(th.Context(), r)
	if err != nil {
		th.Fatalf("%s: %v", r.Verb, err)
	}
	return job
}

// untilStep waits until a step of a job is in a state.
func (th *theater) untilStep(id, step string, state store.JobState) {
	th.Helper()
	th.until("the step "+step+" is "+string(state), func() bool {
		job, err := store.Get(th.a.Rooms().Store, store.Jobs, id)
		if err != nil {
			th.Fatal(err)
		}
		for _, s := range job.Steps {
			if s.Name == step {
				return s.State == state
			}
		}
		th.Fatalf("job %s has no step %q", job.Kind, step)
		return false
	})
}

// cancel cancels a job and waits until it is canceled.
func (th *theater) cancel(id string) {
	th.Helper()
	if err := th.a.CancelJob(th.Context(), "test", id); err != nil {
		th.Fatal(err)
	}
	if job := th.ended(id); job.State != store.Canceled {
		th.Fatalf("job %s is %s: %+v", job.Kind, job.State, job.Error)
	}
}

func (th *theater) powerOf(site string, ref hypervisor.Ref) hypervisor.Power {
	th.Helper()
	seen, err := th.provider(site).Machine(th.Context(), ref)
	if err != nil {
		th.Fatal(err)
	}
	return seen.Power
}

// away is where the machine is protected in reverse.
func (th *theater) away() (replica hypervisor.Ref, secondary *lab.Site) {
	th.Helper()
	th.ask(api.Request{Verb: lifecycle.PlannedFailover})
	th.ask(api.Request{Verb: lifecycle.Commit})
	th.ask(api.Request{Verb: lifecycle.ReverseReplicate})
	return th.replica()
}

func (th *theater) replica() (hypervisor.Ref, *lab.Site) {
	th.Helper()
	world, err := th.a.Lab()
	if err != nil {
		th.Fatal(err)
	}
	site, err := world.Site(th.secondary)
	if err != nil {
		th.Fatal(err)
	}
	return hypervisor.Ref(th.machine().Target.Ref), site
}

// slowly is how long a guest shuts down in tests.
const slowly = 1500 * time.Millisecond

// TestACancelWhileTheGuestShutsDownLeavesItRunning: a guest that was asked to shut down
// does so, whatever becomes of the job that asked. The undo sees it down before it starts
// it, and does not take one for running that is about to end.
func TestACancelWhileTheGuestShutsDownLeavesItRunning(t *testing.T) {
	th, site := labbed(t, appliance.Config{Data: t.TempDir()}, replication.DefaultPolicy())
	canceled := func(verb lifecycle.Verb, step string, at *lab.Site, name string, ref hypervisor.Ref) {
		t.Helper()
		if err := at.SlowShutdown(ref, slowly); err != nil {
			t.Fatal(err)
		}
		job := th.begin(api.Request{Verb: verb})
		th.untilStep(job, step, store.InProgress)
		time.Sleep(slowly / 5) // it is on its way down; the lab has no virtual time
		th.cancel(job)
		time.Sleep(slowly) // by now it would be off
		if power := th.powerOf(name, ref); power != hypervisor.Running {
			t.Errorf("after the canceled %s the machine is %s", verb, power)
		}
		if err := at.SlowShutdown(ref, 0); err != nil {
			t.Fatal(err)
		}
	}
	canceled(lifecycle.PlannedFailover, "shut down the source", site, th.primary, th.ref)
	replica, secondary := th.away()
	canceled(lifecycle.Failback, "shut down the replica", secondary, th.secondary, replica)
	th.ask(api.Request{Verb: lifecycle.Failback})
	th.bothEndsAreEqual()
}

// TestACanceledFailoverTurnsNothingOnThatWasOff: who has shut the machine down before finds
// it off afterwards.
func TestACanceledFailoverTurnsNothingOnThatWasOff(t *testing.T) {
	th, site := labbed(t, appliance.Config{Data: t.TempDir()}, replication.DefaultPolicy())
	if _, err := site.Stop(t.Context(), th.ref, time.Second); err != nil {
		t.Fatal(err)
	}
	th.cancel(th.unseen(lifecycle.PlannedFailover))
	if power := th.powerOf(th.primary, th.ref); power != hypervisor.Stopped {
		t.Errorf("after the canceled failover the source is %s; it was off before", power)
	}
	if err := site.Start(t.Context(), th.ref, hypervisor.StartOptions{}); err != nil {
		t.Errorf("it cannot be started any more: %v", err)
	}
}

// TestACanceledFailoverEndsWithoutItsSource: a source that is lost keeps nobody from trying
// another recovery point.
func TestACanceledFailoverEndsWithoutItsSource(t *testing.T) {
	for _, verb := range []lifecycle.Verb{lifecycle.UnplannedFailover, lifecycle.PlannedFailover} {
		t.Run(string(verb), func(t *testing.T) {
			th, site := labbed(t, appliance.Config{Data: t.TempDir()}, replication.DefaultPolicy())
			job := th.unseen(verb)
			site.SetUnreachable(true)
			th.cancel(job)
			if m := th.machine(); m.State != lifecycle.Protected || m.Target.Ref != "" {
				t.Errorf("the machine is %s with the replica %q; want it protected without one", m.State, m.Target.Ref)
			}
			if told := th.events("source.down"); len(told) != 1 {
				t.Errorf("that the source is down was told %d times, want once", len(told))
			}
			job = th.begin(api.Request{Verb: lifecycle.UnplannedFailover})
			th.untilStep(job, "see it boot", store.InProgress)
			site.SetUnreachable(false)
			th.cancel(job)
		})
	}
}

// TestACanceledFailoverFindsAReplicaThatTheRecordDoesNotName: it was made just before a
// crash, and nobody could note what it is called.
func TestACanceledFailoverFindsAReplicaThatTheRecordDoesNotName(t *testing.T) {
	th, _ := labbed(t, appliance.Config{Data: t.TempDir()}, replication.DefaultPolicy())
	job := th.unseen(lifecycle.PlannedFailover)
	if _, err := th.a.Rooms().Protection.Change(th.id, func(m *store.Machine) error { m.Target.Ref = ""; return nil }); err != nil {
		t.Fatal(err)
	}
	th.cancel(job)
	if seen, err := th.provider(th.secondary).Discover(t.Context()); err != nil || len(seen) != 0 {
		t.Errorf("after the cancel the secondary site has %+v, %v", seen, err)
	}
}

// unseen begins a failover whose replica is never seen to boot.
func (th *theater) unseen(verb lifecycle.Verb) (job string) {
	th.Helper()
	_, err := th.a.Rooms().Protection.Change(th.id, func(m *store.Machine) error { m.BootSign = "never said"; return nil })
	if err != nil {
		th.Fatal(err)
	}
	job = th.begin(api.Request{Verb: verb, SyncFirst: verb == lifecycle.UnplannedFailover})
	th.untilStep(job, "see it boot", store.InProgress)
	return job
}

// TestAFailbackWhoseReplicaIsGoneBringsItsNewestPoint: it cannot wait for what does not
// exist any more.
func TestAFailbackWhoseReplicaIsGoneBringsItsNewestPoint(t *testing.T) {
	th, _ := labbed(t, appliance.Config{Data: t.TempDir()}, replication.DefaultPolicy())
	replica, secondary := th.away()
	release, err := th.a.Rooms().Protection.Hold(t.Context(), th.id)
	if err != nil {
		t.Fatal(err)
	}
	_, err = secondary.Stop(t.Context(), replica, 0)
	if err = errors.Join(err, secondary.Remove(t.Context(), replica)); err != nil {
		t.Fatal(err)
	}
	release()
	th.ask(api.Request{Verb: lifecycle.Failback})
	if told := th.events("replica.gone"); len(told) != 1 {
		t.Errorf("that the replica is gone was told %d times, want once", len(told))
	}
	if m := th.machine(); m.State != lifecycle.Protected || m.Direction != lifecycle.Forward {
		t.Errorf("the machine is %s, %s", m.State, m.Direction)
	}
	if power := th.powerOf(th.primary, th.ref); power != hypervisor.Running {
		t.Errorf("the original is %s", power)
	}
	th.bothEndsAreEqual()
}

// TestAReverseReplicationAfterACanceledOneSendsEverything: the vault returns to the point
// of the failover each time, and what was brought before is not there any more.
func TestAReverseReplicationAfterACanceledOneSendsEverything(t *testing.T) {
	th := &theater{T: t, primary: "milano", secondary: "torino"}
	th.startWith(appliance.Config{Data: t.TempDir(), KeepBytes: 1 << 20})
	th.furnishWith(replication.DefaultPolicy(), 64<<20, 16<<10)
	th.ask(api.Request{Verb: lifecycle.PlannedFailover})
	th.ask(api.Request{Verb: lifecycle.Commit})
	replica, secondary := th.replica()
	// The guest writes wherever the comparison will have been.
	if err := secondary.Encrypt(t.Context(), replica, "vda", replication.Extent{Offset: 1 << 20, Length: 24 << 20}); err != nil {
		t.Fatal(err)
	}
	if err := secondary.LoseTracking(replica); err != nil {
		t.Fatal(err)
	}
	if err := secondary.SlowDisk(replica, "vda", 250*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	job := th.begin(api.Request{Verb: lifecycle.ReverseReplicate})
	th.within(soon, "a part was brought", func() bool { b := th.machine().Disks[0].Brought; return b != nil && b.Offset >= 8<<20 })
	th.cancel(job)
	if err := secondary.SlowDisk(replica, "vda", 0); err != nil {
		t.Fatal(err)
	}
	th.ask(api.Request{Verb: lifecycle.ReverseReplicate})

	release, err := th.a.Rooms().Protection.Hold(t.Context(), th.id)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if _, err := secondary.Stop(t.Context(), replica, guestLimit); err != nil {
		t.Fatal(err)
	}
	point, _, err := th.a.Rooms().Protection.TakePoint(t.Context(), th.id, func(int64, int64) {})
	if err != nil {
		t.Fatal(err)
	}
	th.pointIsDisk(point.ID, th.secondary, replica)
}

// pointIsDisk compares the first disk of a point with that of a machine that is off.
func (th *theater) pointIsDisk(point replication.PointID, site string, ref hypervisor.Ref) {
	th.Helper()
	d := th.machine().Disks[0]
	view, err := th.a.Rooms().Vault.View(th.Context(), d.ID, point)
	if err != nil {
		th.Fatal(err)
	}
	defer view.Close()
	disk, err := th.provider(site).(hypervisor.DiskOpener).OpenDisk(th.Context(), ref, d.Key, hypervisor.ReadOnly)
	if err != nil {
		th.Fatal(err)
	}
	defer disk.Close()
	if err := equal(disk, view); err != nil {
		th.Errorf("the point and the disk: %v", err)
	}
}

// TestAResynchronizeThatWasCanceledComparesAllTheSame: what was doubted stays so until it
// was looked at.
func TestAResynchronizeThatWasCanceledComparesAllTheSame(t *testing.T) {
	th := &theater{T: t, primary: "milano", secondary: "torino"}
	th.startWith(appliance.Config{Data: t.TempDir()})
	site := th.furnishWith(replication.DefaultPolicy(), 16<<20, 0)
	site.SetUnreachable(true) // the job waits
	job := th.begin(api.Request{Verb: lifecycle.Resynchronize})
	th.untilStep(job, "compare and send what differs", store.WaitingToRetry)
	th.cancel(job)
	// Nobody wrote there: only a comparison reads it.
	place := replication.Extent{Offset: 3 << 20, Length: 64 << 10}
	if err := site.FailRead(th.ref, "vda", place); err != nil {
		t.Fatal(err)
	}
	site.SetUnreachable(false)
	th.within(soon, "the comparison met what cannot be read", func() bool {
		return slices.ContainsFunc(th.machine().Health.Findings, func(f store.Finding) bool { return strings.Contains(f.Cause, "medium error") })
	})
	if err := site.FailRead(th.ref, "vda", replication.Extent{}); err != nil {
		t.Fatal(err)
	}
	th.within(soon, "it was compared", func() bool { m := th.machine(); return !m.Compare && m.State == lifecycle.Protected })
}

// TestATestFailoverKeepsItsPointInACrash: a step that runs again chooses no other point than
// the machine's record names, also when there is a newer one.
func TestATestFailoverKeepsItsPointInACrash(t *testing.T) {
	var th *theater
	var newer bool
	config := appliance.Config{Data: t.TempDir(), StepsTwice: true}
	config.Committed = func([]string) {
		if th == nil || newer || th.machine().Test == nil {
			return
		}
		newer = true
		release, err := th.a.Rooms().Protection.Hold(context.Background(), th.id)
		if err != nil {
			t.Error(err)
			return
		}
		defer release()
		if _, _, err := th.a.Rooms().Protection.TakePoint(context.Background(), th.id, func(int64, int64) {}); err != nil {
			t.Error(err)
		}
	}
	made, _ := labbed(t, config, replication.DefaultPolicy())
	th = made
	job := th.ask(api.Request{Verb: lifecycle.TestFailover})
	m := th.machine()
	if !newer || m.LastPoint.ID == m.Test.Point {
		t.Fatal("no newer point came between")
	}
	if got := job.Data["point"]; got != string(m.Test.Point) {
		t.Errorf("the test machine stands on %s, the record names %s", got, m.Test.Point)
	}
}

// TestWhatWasBroughtIsOfNoUseToAVaultThatLostIt: the first transfer is cut off, and the
// vault then lacks what it had acknowledged, as one that was put back to an older state.
func TestWhatWasBroughtIsOfNoUseToAVaultThatLostIt(t *testing.T) {
	th := &theater{T: t, primary: "milano", secondary: "torino"}
	th.startWith(appliance.Config{Data: t.TempDir(), KeepBytes: 1 << 20})
	site := th.labSites()
	seen, err := site.AddMachine(lab.Spec{Name: "WEB01", Seed: 1, Churn: 16 << 10, Disks: []lab.DiskSpec{{Key: "vda", Size: 32 << 20, InitialBytes: 32 << 20}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(site.Start(t.Context(), seen.Ref, hypervisor.StartOptions{}),
		site.FailRead(seen.Ref, "vda", replication.Extent{Offset: 24 << 20, Length: 1 << 20})); err != nil {
		t.Fatal(err)
	}
	id, job, err := th.a.Protect(t.Context(), api.ProtectRequest{Actor: "test", Site: th.primary, Ref: seen.Ref, Target: th.secondary})
	if err != nil {
		t.Fatal(err)
	}
	th.ref, th.id = seen.Ref, id
	th.within(soon, "a part was brought", func() bool { b := th.machine().Disks[0].Brought; return b != nil && b.Offset >= 8<<20 })
	release, err := th.a.Rooms().Protection.Hold(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(th.a.Rooms().Vault.Erase(t.Context(), th.machine().Disks[0].ID), site.FailRead(th.ref, "vda", replication.Extent{})); err != nil {
		t.Fatal(err)
	}
	release()
	if ended := th.ended(job); ended.State != store.Succeeded {
		t.Fatalf("the job is %s: %+v", ended.State, ended.Error)
	}
	th.bothEndsAreEqual()
}

// TestADiskThatGrowsWhileItIsFrozenIsComparedAsAWhole: what was brought of the smaller disk
// is no base of a delta.
func TestADiskThatGrowsWhileItIsFrozenIsComparedAsAWhole(t *testing.T) {
	th := &theater{T: t, primary: "milano", secondary: "torino"}
	th.startWith(appliance.Config{Data: t.TempDir(), KeepBytes: 1 << 20})
	site := th.furnishWith(replication.DefaultPolicy(), 32<<20, 16<<10)
	protection := th.a.Rooms().Protection
	release, err := protection.Hold(t.Context(), th.id)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if err := errors.Join(site.Encrypt(t.Context(), th.ref, "vda", replication.Extent{Offset: 1 << 20, Length: 30 << 20}), site.LoseTracking(th.ref),
		site.FailRead(th.ref, "vda", replication.Extent{Offset: 24 << 20, Length: 64 << 10})); err != nil {
		t.Fatal(err)
	}
	if _, err := protection.Take(t.Context(), th.id, protectionOptions(nil)); err == nil {
		t.Fatal("a point was made of a disk that cannot be read")
	}
	if b := th.machine().Disks[0].Brought; b == nil || b.Offset < 4<<20 {
		t.Fatalf("of the disk was brought %+v; want a part", b)
	}
	if err := site.FailRead(th.ref, "vda", replication.Extent{}); err != nil {
		t.Fatal(err)
	}
	grown := false
	_, err = protection.Take(t.Context(), th.id, protectionOptions(func(activity string) {
		if activity == "freezing the disks at one instant" && !grown {
			grown = true
			if err := site.GrowDisk(t.Context(), th.ref, "vda", 48<<20); err != nil {
				t.Error(err)
			}
		}
	}))
	if err != nil || !grown {
		t.Fatalf("grown: %v, %v", grown, err)
	}
	release()
	th.bothEndsAreEqual()
}

func protectionOptions(doing func(activity string)) protection.CycleOptions {
	return protection.CycleOptions{Want: replication.CrashConsistent, Progress: func(activity string, _, _ int64) {
		if doing != nil {
			doing(activity)
		}
	}}
}

// TestAFailbackWithoutItsReplicaLeavesNothingOfItBehind: a cycle that was cut off has sent
// blocks of the replica that belong to no point. Forward points must not have them.
func TestAFailbackWithoutItsReplicaLeavesNothingOfItBehind(t *testing.T) {
	th := &theater{T: t, primary: "milano", secondary: "torino"}
	th.startWith(appliance.Config{Data: t.TempDir(), KeepBytes: 1 << 20})
	th.furnishWith(replication.DefaultPolicy(), 64<<20, 16<<10)
	replica, secondary := th.away()
	if err := errors.Join(secondary.SlowDisk(replica, "vda", 250*time.Millisecond),
		secondary.Encrypt(t.Context(), replica, "vda", replication.Extent{Offset: 1 << 20, Length: 60 << 20})); err != nil {
		t.Fatal(err)
	}
	disk := th.machine().Disks[0].ID
	th.within(soon, "a part of a cycle is in the vault", func() bool {
		state, err := th.a.Rooms().Vault.State(disk)
		return err == nil && state.Unmarked
	})
	release, err := th.a.Rooms().Protection.Hold(t.Context(), th.id)
	if err != nil {
		t.Fatal(err)
	}
	_, err = secondary.Stop(t.Context(), replica, 0)
	if err = errors.Join(err, secondary.Remove(t.Context(), replica)); err != nil {
		t.Fatal(err)
	}
	if state, err := th.a.Rooms().Vault.State(disk); err != nil || !state.Unmarked {
		t.Fatalf("the cycle ended before it was cut off: %v", err)
	}
	release()
	th.ask(api.Request{Verb: lifecycle.Failback})
	th.bothEndsAreEqual()
}

// TestWhatACutOffCycleLeftIsReadFromTheSourceAgain: the head has blocks after the last
// point that the source has lost since, without its tracking, as when its storage was put
// back. The next delta does not name them, nor is the disk compared.
func TestWhatACutOffCycleLeftIsReadFromTheSourceAgain(t *testing.T) {
	th := &theater{T: t, primary: "milano", secondary: "torino"}
	th.startWith(appliance.Config{Data: t.TempDir()})
	site := th.furnishWith(replication.DefaultPolicy(), 32<<20, 16<<10)
	rooms := th.a.Rooms()
	release, err := rooms.Protection.Hold(t.Context(), th.id)
	if err != nil {
		t.Fatal(err)
	}
	disk := th.machine().Disks[0].ID
	state, err := rooms.Vault.State(disk)
	if err != nil {
		t.Fatal(err)
	}
	left := replication.Batch{Disk: disk, Epoch: state.Epoch, Sequence: state.Sequence + 1}
	for _, at := range []int64{3 << 20, 9<<20 + 4096, 31 << 20} {
		left.Changes = append(left.Changes, replication.Change{Extent: replication.Extent{Offset: at, Length: 64 << 10}, Data: bytes.Repeat([]byte{0x5a}, 64<<10)})
	}
	if err := rooms.Vault.Write(t.Context(), left); err != nil {
		t.Fatal(err)
	}
	// Nobody wrote there: only a comparison reads it.
	if err := site.FailRead(th.ref, "vda", replication.Extent{Offset: 20 << 20, Length: 64 << 10}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := rooms.Protection.TakePoint(t.Context(), th.id, func(int64, int64) {}); err != nil {
		t.Fatal(err)
	}
	if err := site.FailRead(th.ref, "vda", replication.Extent{}); err != nil {
		t.Fatal(err)
	}
	release()
	th.bothEndsAreEqual()
}

// TestWhatASecondCutOffLeftBelowIsReadFromTheSourceAgain: a transfer that goes on where one
// was cut off, and is cut off as well, has sent blocks of another instant. The source may
// have lost them since, without its tracking.
func TestWhatASecondCutOffLeftBelowIsReadFromTheSourceAgain(t *testing.T) {
	th := &theater{T: t, primary: "milano", secondary: "torino"}
	th.startWith(appliance.Config{Data: t.TempDir(), KeepBytes: 1 << 20})
	site := th.furnishWith(replication.DefaultPolicy(), 32<<20, 16<<10)
	rooms := th.a.Rooms()
	release, err := rooms.Protection.Hold(t.Context(), th.id)
	if err != nil {
		t.Fatal(err)
	}
	take := func(fails bool) {
		t.Helper()
		if _, _, err := rooms.Protection.TakePoint(t.Context(), th.id, func(int64, int64) {}); (err != nil) != fails {
			t.Fatalf("a cycle ended with %v; want that it fails: %t", err, fails)
		}
	}
	if err := site.LoseTracking(th.ref); err != nil {
		t.Fatal(err)
	}
	if err := site.FailRead(th.ref, "vda", replication.Extent{Offset: 20 << 20, Length: 64 << 10}); err != nil {
		t.Fatal(err)
	}
	take(true)
	first := th.machine().Disks[0].Brought
	if first == nil || first.Offset < 8<<20 || first.Again {
		t.Fatalf("the first cut-off brought %+v", first)
	}
	// The second one comes no further.
	if err := site.FailRead(th.ref, "vda", replication.Extent{Offset: first.Offset, Length: 64 << 10}); err != nil {
		t.Fatal(err)
	}
	take(true)
	if second := th.machine().Disks[0].Brought; second == nil || second.Point != first.Point || !second.Again {
		t.Fatalf("the second cut-off left %+v, want it to be noted at %+v", second, first)
	}
	disk := th.machine().Disks[0].ID
	state, err := rooms.Vault.State(disk)
	if err != nil {
		t.Fatal(err)
	}
	left := replication.Batch{Disk: disk, Epoch: state.Epoch, Sequence: state.Sequence + 1, Changes: []replication.Change{
		{Extent: replication.Extent{Offset: 3 << 20, Length: 64 << 10}, Data: bytes.Repeat([]byte{0x5a}, 64<<10)}}}
	if err := rooms.Vault.Write(t.Context(), left); err != nil {
		t.Fatal(err)
	}
	if err := site.FailRead(th.ref, "vda", replication.Extent{}); err != nil {
		t.Fatal(err)
	}
	take(false)
	release()
	th.bothEndsAreEqual()
}
