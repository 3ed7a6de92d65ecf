package appliance_test

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"time"

	"riparo/hypervisor"
	"riparo/hypervisor/kvm/guest"
	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/web/api"
)

// story is the whole life of a protected guest.
func (th *theater) story() {
	th.protect()
	th.everyPointBoots()
	th.testFailover()
	th.unplannedAndBack()
	th.plannedAndBack()
}

func (th *theater) protect() {
	th.Helper()
	primary := th.provider(th.primary)
	if err := primary.Start(th.Context(), th.ref, hypervisor.StartOptions{}); err != nil {
		th.Fatal(err)
	}
	th.await(th.primary, th.ref, "NET reach") // the control: the source can reach out
	th.await(th.primary, th.ref, " C 3")
	th.watch(th.Context())
	policy := replication.DefaultPolicy()
	policy.Name, policy.CopyFrequency, policy.AppConsistentFrequency = "often", replication.MinCopyFrequency, 10*time.Second
	if err := th.a.SavePolicy(th.Context(), api.Who{Name: "test"}, policy); err != nil {
		th.Fatal(err)
	}
	id, job, err := th.a.Protect(th.Context(), api.ProtectRequest{Actor: "test", Site: th.primary, Ref: th.ref, Target: th.secondary, Policy: policy.Name, Network: th.production(), BootSign: "SERVING"})
	if err != nil {
		th.Fatal(err)
	}
	th.id = id
	th.job(job)
}

// production is the network of a real failover at the secondary site.
func (th *theater) production() string {
	networks, err := th.provider(th.secondary).Networks(th.Context())
	if err != nil {
		th.Fatal(err)
	}
	for _, n := range networks {
		if !n.Isolated {
			return n.Name
		}
	}
	return ""
}

func (th *theater) everyPointBoots() {
	th.Helper()
	points := th.points(6)
	kinds := map[replication.Consistency]int{}
	for _, p := range points[:6] {
		th.verify(p)
		kinds[p.Consistency]++
	}
	if kinds[replication.AppConsistent] == 0 || kinds[replication.CrashConsistent] == 0 {
		th.Errorf("points by consistency: %v, want both kinds", kinds)
	}
}

// testFailover: isolated, quick, and the source does not notice.
func (th *theater) testFailover() {
	th.Helper()
	before, _ := guest.Counter(th.console(th.primary, th.ref))
	asked := time.Now()
	points := th.points(1)
	job := th.ask(api.Request{Verb: lifecycle.TestFailover, Point: points[0].ID})
	m := th.machine()
	said := th.await(th.secondary, hypervisor.Ref(m.Test.Ref), "NET ")
	if !bytes.Contains(said, []byte("NET blocked")) || bytes.Contains(said, []byte("NET reach")) {
		th.Errorf("the test machine is not isolated; it said %s", said)
	}
	th.Logf("test failover: start after %s, up after %s, whole %s", evidence(job, "started after"), evidence(job, "up after"), time.Since(asked).Round(time.Millisecond))
	if took, err := time.ParseDuration(evidence(job, "started after")); err != nil || took > 15*time.Second {
		th.Errorf("the test machine began to boot after %q, want it within 15 s on a slow and busy machine", evidence(job, "started after"))
	}
	th.ask(api.Request{Verb: lifecycle.CleanupTest, Notes: "seen"})
	machines, err := th.provider(th.secondary).Discover(th.Context())
	if err != nil || len(machines) != 0 {
		th.Errorf("after the cleanup the secondary site has %d machines, %v; want none", len(machines), err)
	}
	source, err := th.provider(th.primary).Machine(th.Context(), th.ref)
	after, _ := guest.Counter(th.console(th.primary, th.ref))
	if err != nil || source.Power != hypervisor.Running || after <= before {
		th.Errorf("the source is %s (%v), counted from %d to %d; want it running and counting on", source.Power, err, before, after)
	}
	if th.machine().LastDrill == nil || !th.machine().LastDrill.Passed {
		th.Errorf("the drill's result: got %+v, want passed", th.machine().LastDrill)
	}
}

// unplannedAndBack loses the source, goes to an older point, changes it, and
// returns by a delta.
func (th *theater) unplannedAndBack() {
	th.Helper()
	points := th.points(7)
	older, oldest := points[len(points)/2], points[1]
	primary := th.provider(th.primary)
	if _, err := primary.Stop(th.Context(), th.ref, 0); err != nil { // the plug is pulled
		th.Fatal(err)
	}
	th.ask(api.Request{Verb: lifecycle.UnplannedFailover, Point: older.ID})
	th.continuesFrom(older)
	th.ask(api.Request{Verb: lifecycle.ChangePoint, Point: oldest.ID})
	th.continuesFrom(oldest)
	th.ask(api.Request{Verb: lifecycle.Commit})
	th.reverse()
	th.failback()
}

// continuesFrom sees the replica count on from a point.
func (th *theater) continuesFrom(p replication.RecoveryPoint) {
	th.Helper()
	low, high := th.bracket(p.Time)
	first, _ := started(th.console(th.secondary, hypervisor.Ref(th.machine().Target.Ref)))
	if first < low || first > high+1 {
		th.Errorf("the replica began to count at %d, want %d to %d of point %s", first, low, high+1, p.ID)
	}
}

// reverse sends what the replica wrote: a small part of the disks.
func (th *theater) reverse() {
	th.Helper()
	job := th.ask(api.Request{Verb: lifecycle.ReverseReplicate})
	sent, err := strconv.ParseInt(evidence(job, "sent bytes"), 10, 64)
	if err != nil || sent > 2*diskBytes/10 {
		th.Errorf("reverse replication sent %d bytes of %d (%v), want less than 10 %%", sent, 2*diskBytes, err)
	}
	for _, key := range []string{"vda", "vdb"} {
		if how := evidence(job, key); len(how) < 5 || how[:5] != "delta" {
			th.Errorf("disk %s was sent in reverse as %q, want a delta", key, how)
		}
	}
	th.Logf("reverse replication sent %d bytes, %.1f %% of the disks", sent, float64(sent)*100/(2*diskBytes))
}

// failback returns, and the original counts on from where the replica ended.
func (th *theater) failback() {
	th.Helper()
	replica := hypervisor.Ref(th.machine().Target.Ref)
	ctx, cancel := context.WithCancel(th.Context())
	defer cancel()
	last := make(chan []byte, 1)
	reader := th.provider(th.secondary).(hypervisor.ConsoleReader)
	go func() { // the replica is removed at the end of the job: read what it says meanwhile
		var said []byte
		for ctx.Err() == nil {
			// While it is removed, its console may be gone before the machine is.
			if now, err := reader.Console(ctx, replica, 4<<10); err == nil && len(now) > 0 {
				said = now
			}
			time.Sleep(20 * time.Millisecond)
		}
		last <- said
	}()
	job := th.ask(api.Request{Verb: lifecycle.Failback})
	cancel()
	farewell := <-last
	_, bye := started(farewell)
	first, _ := started(th.await(th.primary, th.ref, "SERVING"))
	if first != bye || bye < 0 {
		th.Errorf("the original began to count at %d, want %d, where the replica (%s) ended; it said %s", first, bye, evidence(job, "replica"), farewell)
	}
	m := th.machine()
	if m.State != lifecycle.Protected || m.Direction != lifecycle.Forward {
		th.Errorf("after the failback the machine is %s, %s; want protected, forward", m.State, m.Direction)
	}
}

// plannedAndBack shuts the source down: nothing is lost, and at the end the disks
// at both ends are equal.
func (th *theater) plannedAndBack() {
	th.Helper()
	before := len(th.points(1))
	th.points(before + 1) // forward replication goes on
	th.ask(api.Request{Verb: lifecycle.PlannedFailover})
	_, last := started(th.console(th.primary, th.ref))
	first, _ := started(th.console(th.secondary, hypervisor.Ref(th.machine().Target.Ref)))
	if first != last || last < 0 {
		th.Errorf("the replica began to count at %d, want %d, the last number of the source", first, last)
	}
	th.ask(api.Request{Verb: lifecycle.Commit})
	th.reverse()
	th.failback()
	th.bothEndsAreEqual()
}

// bothEndsAreEqual shuts the source down, takes a last point and compares it with
// the disks, byte by byte.
func (th *theater) bothEndsAreEqual() {
	th.Helper()
	rooms := th.a.Rooms()
	release, err := rooms.Protection.Hold(th.Context(), th.id)
	if err != nil {
		th.Fatal(err)
	}
	defer release()
	if _, err := th.provider(th.primary).Stop(th.Context(), th.ref, guestLimit); err != nil {
		th.Fatal(err)
	}
	point, _, err := rooms.Protection.TakePoint(th.Context(), th.id, func(int64, int64) {})
	if err != nil {
		th.Fatal(err)
	}
	opener := th.provider(th.primary).(hypervisor.DiskOpener)
	for _, d := range th.machine().Disks {
		view, err := rooms.Vault.View(th.Context(), d.ID, point.ID)
		if err != nil {
			th.Fatal(err)
		}
		disk, err := opener.OpenDisk(th.Context(), th.ref, d.Key, hypervisor.ReadOnly)
		if err != nil {
			th.Fatal(err)
		}
		if err := equal(disk, view); err != nil {
			th.Errorf("disk %s and its replica: %v", d.Key, err)
		}
		if err := disk.Close(); err != nil {
			th.Error(err)
		}
		if err := view.Close(); err != nil {
			th.Error(err)
		}
	}
}

func equal(a, b replication.Source) error {
	if a.Size() != b.Size() {
		return fmt.Errorf("sizes %d and %d", a.Size(), b.Size())
	}
	const piece = 1 << 20
	x, y := make([]byte, piece), make([]byte, piece)
	for at := int64(0); at < a.Size(); at += piece {
		n := min(piece, a.Size()-at)
		if _, err := a.ReadAt(x[:n], at); err != nil {
			return err
		}
		if _, err := b.ReadAt(y[:n], at); err != nil {
			return err
		}
		if !bytes.Equal(x[:n], y[:n]) {
			return fmt.Errorf("they differ within [%d+%d]", at, n)
		}
	}
	return nil
}
