package appliance_test

import (
	"testing"

	"riparo/appliance"
	"riparo/hypervisor"
	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/web/api"
)

// TestEachStepOfALifeCanRunAgain lives a whole life in which the daemon, as it were, ends
// after each step, just before it is saved that the step is done.
func TestEachStepOfALifeCanRunAgain(t *testing.T) {
	th, site := labbed(t, appliance.Config{Data: t.TempDir(), StepsTwice: true}, replication.DefaultPolicy())
	points, err := th.a.Points(t.Context(), th.id)
	if err != nil || len(points) == 0 {
		t.Fatalf("got %d points, %v; want some", len(points), err)
	}
	is := func(want lifecycle.State, drill lifecycle.Drill) {
		t.Helper()
		if m := th.machine(); m.State != want || m.Drill != drill {
			t.Fatalf("the machine is %s, drill %q; want %s, drill %q", m.State, m.Drill, want, drill)
		}
	}
	th.ask(api.Request{Verb: lifecycle.TestFailover})
	is(lifecycle.Protected, lifecycle.DrillRunning)
	th.ask(api.Request{Verb: lifecycle.CleanupTest, Notes: "seen"})
	is(lifecycle.Protected, lifecycle.NoDrill)
	if last := th.machine().LastDrill; last == nil || !last.Passed {
		t.Errorf("the drill's result: got %+v, want passed", last)
	}
	if told := th.events("drill.finished"); len(told) != 1 {
		t.Errorf("the end of the drill is told %d times, want once", len(told))
	}
	th.ask(api.Request{Verb: lifecycle.Resynchronize})
	is(lifecycle.Protected, lifecycle.NoDrill)
	th.ask(api.Request{Verb: lifecycle.PlannedFailover})
	is(lifecycle.CommitPending, lifecycle.NoDrill)
	th.ask(api.Request{Verb: lifecycle.ChangePoint, Point: points[0].ID})
	th.ask(api.Request{Verb: lifecycle.Commit})
	is(lifecycle.Committed, lifecycle.NoDrill)
	th.ask(api.Request{Verb: lifecycle.ReverseReplicate})
	is(lifecycle.ProtectedReverse, lifecycle.NoDrill)
	th.ask(api.Request{Verb: lifecycle.Failback})
	is(lifecycle.Protected, lifecycle.NoDrill)
	if _, err := site.Stop(t.Context(), th.ref, 0); err != nil {
		t.Fatal(err)
	}
	th.ask(api.Request{Verb: lifecycle.UnplannedFailover})
	is(lifecycle.CommitPending, lifecycle.NoDrill)
	if seen, err := th.provider(th.secondary).Machine(t.Context(), hypervisor.Ref(th.machine().Target.Ref)); err != nil || seen.Power != hypervisor.Running {
		t.Errorf("after the failover the replica is %+v, %v; want it running", seen, err)
	}
	th.ask(api.Request{Verb: lifecycle.Commit})
	th.ask(api.Request{Verb: lifecycle.DisableProtection})
	if seen, err := th.provider(th.secondary).Discover(t.Context()); err != nil || len(seen) != 1 {
		t.Errorf("after protection ended the secondary site has %d machines, %v; want the one that was failed over", len(seen), err)
	}
}
