package recovery

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"riparo/appliance/discovery"
	"riparo/appliance/jobs"
	"riparo/hypervisor"
	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/store"
	"riparo/store/storetest"
)

// far is a place that cannot read the disks of stopped machines. It counts what was asked
// of its only machine; the rest of a provider it has not.
type far struct {
	hypervisor.Provider
	near bool // it can
	gone bool // the machine
	did  []string
}

func (f *far) ReadsStopped() error {
	if f.near {
		return nil
	}
	return &replication.Problem{Code: "test.far", Cause: "it is far away", Effect: "nothing was changed", Action: "go there", Remedy: replication.Stop}
}

func (f *far) Machine(context.Context, hypervisor.Ref) (hypervisor.Machine, error) {
	if f.gone {
		return hypervisor.Machine{}, hypervisor.ErrNoMachine
	}
	if slices.Contains(f.did, "stop") {
		return hypervisor.Machine{Power: hypervisor.Stopped}, nil
	}
	return hypervisor.Machine{Power: hypervisor.Running}, nil
}

func (f *far) Stop(context.Context, hypervisor.Ref, time.Duration) (hypervisor.StopOutcome, error) {
	f.did = append(f.did, "stop")
	return hypervisor.ShutDown, nil
}

func (f *far) Fence(context.Context, hypervisor.Ref, string) error {
	f.did = append(f.did, "fence")
	return nil
}

func (f *far) Unfence(context.Context, hypervisor.Ref) error { return nil }

// still is the replication of machines of which no point can be taken or found.
type still struct{ store *store.Store }

func (still) Hold(context.Context, replication.MachineID) (func(), error) { return func() {}, nil }

func (still) TakePoint(context.Context, replication.MachineID, func(done, total int64)) (replication.RecoveryPoint, []store.Fact, error) {
	return replication.RecoveryPoint{}, nil, errors.New("no point can be taken")
}

func (still) Choose(store.Machine, replication.PointID) (replication.RecoveryPoint, error) {
	return replication.RecoveryPoint{}, replication.Stopf("test.no-point", "take one", "there is no point")
}

func (s still) Change(id replication.MachineID, change func(*store.Machine) error, _ ...store.Event) (m store.Machine, err error) {
	err = s.store.Update(func(tx *store.Tx) error {
		if m, err = tx.Machines().Get(string(id)); err != nil {
			return err
		}
		if err := change(&m); err != nil {
			return err
		}
		return tx.Machines().Put(m)
	})
	return m, err
}

func (still) Nudge(replication.MachineID) {}

// TestWhatCannotBeReadWhenStoppedIsNotStopped: where the last changes of a machine that is
// off cannot be read, no job shuts it down in order to send them.
func TestWhatCannotBeReadWhenStoppedIsNotStopped(t *testing.T) {
	planned, unplanned, failback := string(lifecycle.PlannedFailover), string(lifecycle.UnplannedFailover), string(lifecycle.Failback)
	for _, c := range []struct {
		name           string
		kind           string
		state, after   lifecycle.State
		source, target far
		code           string // of the job's failure
		said, did      string // evidence of the first step, and what the source was asked
	}{
		{name: "planned failover", kind: planned, state: lifecycle.Protected, after: lifecycle.Protected, target: far{near: true}, code: "test.far"},
		{name: "planned failover from a place that can", kind: planned, state: lifecycle.Protected, after: lifecycle.FailingOver, source: far{near: true}, did: "stop fence"},
		{name: "unplanned failover that is to send the last changes", kind: unplanned, state: lifecycle.Protected, after: lifecycle.FailingOver, code: "test.no-point",
			said: "they will not be sent: it is far away", did: "stop fence"},
		{name: "failback to a far place", kind: failback, state: lifecycle.ProtectedReverse, after: lifecycle.ProtectedReverse, target: far{near: true}, code: "test.far"},
		{name: "failback from a far place", kind: failback, state: lifecycle.ProtectedReverse, after: lifecycle.ProtectedReverse, source: far{near: true}, code: "test.far"},
		{name: "failback from a far place whose replica is gone", kind: failback, state: lifecycle.ProtectedReverse, after: lifecycle.FailingBack,
			source: far{near: true}, target: far{gone: true}, code: "test.no-point", did: "stop fence"},
	} {
		t.Run(c.name, func(t *testing.T) {
			st := storetest.Open(t)
			if err := st.Update(func(tx *store.Tx) error {
				return errors.Join(
					tx.Sites().Put(store.Site{Name: "milano", Kind: "test"}), tx.Sites().Put(store.Site{Name: "torino", Kind: "test"}),
					tx.Machines().Put(store.Machine{ID: "m-1", Name: "WEB01", State: c.state, Source: store.Place{Site: "milano", Ref: "1"}, Target: store.Place{Site: "torino", Ref: "2"}}))
			}); err != nil {
				t.Fatal(err)
			}
			synctest.Test(t, func(t *testing.T) {
				open := func(_ context.Context, s store.Site) (hypervisor.Provider, error) {
					if s.Name == "milano" {
						return &c.source, nil
					}
					return &c.target, nil
				}
				r := New(Config{Store: st, Sites: discovery.New(st, open, slog.Default()), Replication: still{st}, Log: slog.Default()})
				engine, err := jobs.New(st, jobs.Options{}, r.Jobs()...)
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() { ended <- engine.Run(ctx) }()
				id, err := engine.Start(t.Context(), jobs.Spec{Kind: c.kind, Machine: "m-1", Name: "WEB01", Params: map[string]string{ParamSyncFirst: "true"}})
				if err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				job, err := store.Get(st, store.Jobs, id)
				if err != nil {
					t.Fatal(err)
				}
				cancel()
				if err := <-ended; err != nil {
					t.Error(err)
				}
				code := ""
				if job.State == store.Failed && job.Error != nil {
					code = job.Error.Code
				}
				if code != c.code {
					t.Errorf("the job is %s (%+v), want it to fail with %q", job.State, job.Error, c.code)
				}
				said := ""
				for _, f := range job.Steps[0].Evidence {
					if f.Name == "last changes" {
						said = f.Value
					}
				}
				if said != c.said {
					t.Errorf("of the last changes it says %q, want %q", said, c.said)
				}
				if did := strings.Join(c.source.did, " "); did != c.did {
					t.Errorf("the source was told to %q, want %q", did, c.did)
				}
				if len(c.target.did) > 0 {
					t.Errorf("the target was told to %v", c.target.did)
				}
				m, err := store.Get(st, store.Machines, "m-1")
				if err != nil || m.State != c.after || (m.Failover != nil) != (c.after == lifecycle.FailingOver) {
					t.Errorf("the machine is %s with the failover %+v (%v), want %s", m.State, m.Failover, err, c.after)
				}
			})
		})
	}
}
