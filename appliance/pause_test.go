package appliance_test

import (
	"errors"
	"fmt"
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

// sending begins the initial replication of a machine whose policy makes it last minutes,
// and waits until it is under way.
func sending(t *testing.T) (th *theater, policy replication.Policy, job string) {
	th = &theater{T: t, primary: "milano", secondary: "torino"}
	th.startWith(appliance.Config{Data: t.TempDir(), KeepBytes: 1 << 20})
	site := th.labSites()
	const size = 32 << 20
	seen, err := site.AddMachine(lab.Spec{Name: "WEB01", Seed: 1, Churn: 4096, Disks: []lab.DiskSpec{{Key: "vda", Size: size, InitialBytes: size}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := site.Start(t.Context(), seen.Ref, hypervisor.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	th.ref = seen.Ref
	policy = replication.DefaultPolicy()
	policy.Name, policy.CopyFrequency, policy.AppConsistentFrequency, policy.BytesPerSecond = "slow", replication.MinCopyFrequency, 0, 64<<10
	if err := th.a.SavePolicy(t.Context(), api.Who{Name: "test"}, policy); err != nil {
		t.Fatal(err)
	}
	if th.id, job, err = th.a.Protect(t.Context(), api.ProtectRequest{Actor: "test", Site: th.primary, Ref: seen.Ref, Target: th.secondary, Policy: policy.Name}); err != nil {
		t.Fatal(err)
	}
	th.until("some of the disk was sent", func() bool {
		b := th.machine().Disks[0].Brought
		return b != nil && b.Offset > 0
	})
	return th, policy, job
}

func (th *theater) asks(verb lifecycle.Verb) {
	th.Helper()
	began := time.Now()
	if _, err := th.a.Ask(th.Context(), api.Request{Actor: "test", Machine: th.id, Verb: verb}); err != nil {
		th.Fatalf("%s: %v", verb, err)
	}
	if took := time.Since(began); took > 10*time.Second {
		th.Errorf("%s took %s", verb, took)
	}
}

func (th *theater) record(job string) store.Job {
	th.Helper()
	j, err := store.Get(th.a.Rooms().Store, store.Jobs, job)
	if err != nil {
		th.Fatal(err)
	}
	return j
}

// pausesUnderWay pauses while a job transfers.
func (th *theater) pausesUnderWay(job string) {
	th.Helper()
	th.asks(lifecycle.Pause)
	th.until("the job waits", func() bool { return th.record(job).State == store.WaitingToRetry })
	j, report := th.record(job), th.a.Report().Machines[th.id]
	if !th.machine().Paused || j.Error == nil || j.Error.Code != protection.CodePaused || j.Attempt != 0 || report.Total != 0 {
		th.Errorf("paused: %t, the job says %+v after %d tries, and the report %+v", th.machine().Paused, j.Error, j.Attempt, report)
	}
}

func TestAPauseInterruptsAnInitialReplicationThatGoesOnWhenResumed(t *testing.T) {
	th, policy, job := sending(t)
	th.pausesUnderWay(job)
	brought := th.machine().Disks[0].Brought
	if brought == nil || brought.Offset == 0 {
		t.Fatalf("what was sent is not kept: %+v", brought)
	}
	policy.BytesPerSecond = 0
	if err := th.a.SavePolicy(t.Context(), api.Who{Name: "test"}, policy); err != nil {
		t.Fatal(err)
	}
	if j := th.record(job); j.State != store.WaitingToRetry { // another nudge is no resume
		t.Errorf("the job is %s while the machine is paused", j.State)
	}
	th.asks(lifecycle.Resume)
	if j := th.record(job); j.State == store.WaitingToRetry && !j.NextTry.IsZero() {
		t.Errorf("resumed, the job waits until %s", j.NextTry)
	}
	ended := th.job(job)
	var compared int64
	sent := evidence(store.Job{Steps: ended.Steps[2:]}, "vda") // the second step tells of the disk too
	if _, err := fmt.Sscanf(sent, "delta: compared %d,", &compared); err != nil {
		t.Fatalf("the job says %q, want a delta that was compared: %v", sent, err)
	}
	if rest := th.machine().Disks[0].Size - brought.Offset; compared > rest+1<<20 {
		t.Errorf("%d bytes were compared, want the %d that were left", compared, rest)
	}
	th.judged("WEB01", replication.PointID(evidence(ended, "recovery point")))
}

func TestAJobThatWaitsForTheEndOfAPauseCanBeCanceled(t *testing.T) {
	th, _, job := sending(t)
	th.pausesUnderWay(job)
	if err := th.a.CancelJob(t.Context(), "test", job); err != nil {
		t.Fatal(err)
	}
	th.until("the job is canceled", func() bool { return th.record(job).State == store.Canceled })
	if _, err := store.Get(th.a.Rooms().Store, store.Machines, string(th.id)); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the machine is there still: %v", err)
	}
}
