package appliance_test

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"riparo/appliance"
	"riparo/hypervisor"
	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/store"
	"riparo/web/api"
)

// acts are a life of a machine of the lab, and where each of them leads.
var acts = []struct {
	verb  lifecycle.Verb
	state lifecycle.State
	drill lifecycle.Drill
}{
	{lifecycle.EnableProtection, lifecycle.Protected, lifecycle.NoDrill},
	{lifecycle.TestFailover, lifecycle.Protected, lifecycle.DrillRunning},
	{lifecycle.CleanupTest, lifecycle.Protected, lifecycle.NoDrill},
	{lifecycle.Resynchronize, lifecycle.Protected, lifecycle.NoDrill},
	{lifecycle.PlannedFailover, lifecycle.CommitPending, lifecycle.NoDrill},
	{lifecycle.Commit, lifecycle.Committed, lifecycle.NoDrill},
	{lifecycle.ReverseReplicate, lifecycle.ProtectedReverse, lifecycle.NoDrill},
	{lifecycle.Failback, lifecycle.Protected, lifecycle.NoDrill},
	{lifecycle.UnplannedFailover, lifecycle.CommitPending, lifecycle.NoDrill},
	{lifecycle.ChangePoint, lifecycle.CommitPending, lifecycle.NoDrill},
	{lifecycle.Commit, lifecycle.Committed, lifecycle.NoDrill},
	{lifecycle.ReverseReplicate, lifecycle.ProtectedReverse, lifecycle.NoDrill},
	{lifecycle.Failback, lifecycle.Protected, lifecycle.NoDrill},
}

// TestEachActCanBeCanceledAtAnyMoment asks for each act of a life again and again, and
// cancels it one change of the store later each time, until it is done before. A canceled
// one leaves the machine where it was: the same copy of it runs, and no other.
func TestEachActCanBeCanceledAtAnyMoment(t *testing.T) {
	type trap struct {
		left           atomic.Int64 // changes until the cancel
		strike, struck chan struct{}
	}
	var set atomic.Pointer[trap]
	th, _ := labbed(t, appliance.Config{Data: t.TempDir(), StepsTwice: true, Committed: func([]string) {
		if now := set.Load(); now != nil && now.left.Add(-1) == 0 {
			close(now.strike)
			select { // who made the change does not go on before it is canceled
			case <-now.struck:
			case <-time.After(50 * time.Millisecond): // it is the change that starts the job
			}
		}
	}}, replication.DefaultPolicy())
	for _, act := range acts[1:] {
		canceled, ran := 0, th.running()
		step := int64(1)
		if act.verb == lifecycle.Resynchronize {
			step = 3 // each takes until the next cycle
		}
		for at := step; ; at += step {
			before := th.machine()
			now := &trap{strike: make(chan struct{}), struck: make(chan struct{})}
			now.left.Store(at)
			set.Store(now)
			id, err := th.a.Ask(t.Context(), api.Request{Actor: "test", Machine: th.id, Verb: act.verb, Confirm: before.Name})
			if err != nil {
				t.Fatalf("%s, canceled %d times: %v", act.verb, canceled, err)
			}
			over := make(chan struct{})
			var canceler sync.WaitGroup
			canceler.Go(func() {
				defer close(now.struck)
				select {
				case <-now.strike:
					th.a.CancelJob(t.Context(), "test", id) // refused where it cannot be taken back
				case <-over:
				}
			})
			job := th.ended(id)
			close(over)
			canceler.Wait()
			set.Store(nil)
			m := th.machine()
			if job.State == store.Succeeded {
				if m.State != act.state || m.Drill != act.drill {
					t.Fatalf("%s: the machine is %s, drill %q; want %s, drill %q", act.verb, m.State, m.Drill, act.state, act.drill)
				}
				break
			}
			canceled++
			if job.State != store.Canceled {
				t.Fatalf("%s, canceled at change %d, is %s: %+v; steps %+v", act.verb, at, job.State, job.Error, job.Steps)
			}
			if act.verb == lifecycle.CleanupTest { // what is removed does not come back
				if m.Drill == lifecycle.NoDrill {
					break
				}
				continue
			}
			if m.Drill == lifecycle.DrillUnhealthy { // the test machine is left for a look
				th.ask(api.Request{Verb: lifecycle.CleanupTest})
				m = th.machine()
			}
			if m.State == lifecycle.Resyncing { // what is doubted is compared all the same, without a job
				th.a.Rooms().Protection.Nudge(th.id)
				th.until("the machine is compared", func() bool { m = th.machine(); return m.State == lifecycle.Protected })
			}
			if m.State != before.State || m.Drill != before.Drill || m.Direction != before.Direction {
				t.Fatalf("%s, canceled at change %d, left the machine %s, drill %q, %s; it was %s, drill %q, %s",
					act.verb, at, m.State, m.Drill, m.Direction, before.State, before.Drill, before.Direction)
			}
			// Another point makes the replica again, and who reverses gives the source up.
			runs, fewer := th.running(), act.verb == lifecycle.ChangePoint || act.verb == lifecycle.ReverseReplicate
			if !slices.Equal(runs, ran) && !(fewer && len(runs) == 1 && slices.Contains(ran, runs[0])) {
				t.Fatalf("%s, canceled at change %d: %v runs; before it was %v", act.verb, at, runs, ran)
			}
		}
		t.Logf("%s was canceled %d times", act.verb, canceled)
	}
	th.bothEndsAreEqual()
}

// running are the machines that run, at both sites.
func (th *theater) running() (list []string) {
	th.Helper()
	for _, site := range []string{th.primary, th.secondary} {
		seen, err := th.provider(site).Discover(th.Context())
		if err != nil {
			th.Fatal(err)
		}
		for _, m := range seen {
			if m.Power == hypervisor.Running {
				list = append(list, site+"/"+m.Name)
			}
		}
	}
	return list
}

// ended waits for the end of a job.
func (th *theater) ended(id string) (job store.Job) {
	th.Helper()
	th.until("the job ends", func() bool {
		if err := th.a.Rooms().Store.View(func(tx *store.Tx) (err error) { job, err = tx.Jobs().Get(id); return err }); err != nil {
			th.Fatal(err)
		}
		return job.State.Ended()
	})
	return job
}
