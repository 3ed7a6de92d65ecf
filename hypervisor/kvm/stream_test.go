package kvm_test

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"riparo/hypervisor"
	"riparo/replication"
	"riparo/replication/nbd"
)

// copies gives the block-stream jobs of a machine by their names, and what they do.
func (m *idleMachine) copies(t *testing.T, ref hypervisor.Ref) map[string]string {
	t.Helper()
	var jobs []struct {
		ID     string `json:"id"`
		Status string `json:"status"`
	}
	m.Execute(t, ref, "query-jobs", map[string]any{}, &jobs)
	found := map[string]string{}
	for _, j := range jobs {
		found[j.ID] = j.Status
	}
	return found
}

// copied begins a copy and leaves it as an earlier version of this program left it when it
// was ended at the wrong moment: done, and waiting for somebody to look at it.
func (m *idleMachine) copied(t *testing.T, ref hypervisor.Ref, key string) {
	t.Helper()
	m.Execute(t, ref, "block-stream", map[string]any{"job-id": "riparo-stream-" + key, "device": "disk-" + key, "auto-dismiss": false}, nil)
	await(t, "the copy ends", func() bool { return m.copies(t, ref)["riparo-stream-"+key] == "concluded" })
}

func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); !done(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("within a minute it was not so: %s", what)
		}
	}
}

// passes reports whether an error is a problem that is to be tried again.
func passes(err error, code string) bool {
	p, ok := errors.AsType[*replication.Problem](err)
	return ok && p.Code == code && p.Remedy == replication.Retry
}

// A QEMU that still has the job of a copy that ended does not survive the question for its
// nodes. Neither a capture nor the end of the machine may put it; and what the machine
// remembers of its last point outlives both.
func TestACopyThatEndedUnseenKillsNoMachine(t *testing.T) {
	needQEMU(t)
	h := &idleSite{dir: t.TempDir()}
	h.open(t)
	m, s := h.source(t, "web01"), h.site
	start := func() { // the same machine with the bitmaps of its last end
		t.Helper()
		if err := s.Start(t.Context(), m.Ref(), hypervisor.StartOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	start()
	disks := []string{"vda", "vdb"}
	c, err := s.BeginPoint(t.Context(), hypervisor.PointRequest{Ref: m.Ref(), Point: "1", Disks: disks})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.copied(t, m.Ref(), "vdb")
	next := hypervisor.PointRequest{Ref: m.Ref(), Point: "2", Disks: disks, Since: map[string]replication.PointID{"vda": "1", "vdb": "1"}}
	if _, err := s.BeginPoint(t.Context(), next); !passes(err, "kvm.job") {
		t.Errorf("a capture: %v, want a problem that passes", err)
	}
	if err := s.Forget(t.Context(), m.Ref()); !passes(err, "kvm.job") {
		t.Errorf("forget: %v, want a problem that passes", err)
	}
	if outcome, err := s.Stop(t.Context(), m.Ref(), 0); err != nil || outcome != hypervisor.PoweredOff {
		t.Fatalf("stop: %s, %v", outcome, err)
	}
	start()
	if c, err = s.BeginPoint(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	for _, d := range c.Disks() {
		if d.Mode() != hypervisor.Delta {
			t.Errorf("disk %s is read as %s (%s), want delta", d.Key(), d.Mode(), d.Reason())
		}
	}
	if err := c.Rollback(t.Context()); err != nil {
		t.Error(err)
	}
}

// moody is a recovery point that can be read, or cannot.
type moody struct {
	replication.Source
	bad atomic.Bool
}

func (m *moody) ReadAt(p []byte, off int64) (int, error) {
	if m.bad.Load() {
		return 0, fs.ErrInvalid
	}
	return m.Source.ReadAt(p, off)
}

// A copy that cannot read its recovery point is told with the reason and leaves nothing
// behind. The next one goes on, and is not held up by what an earlier process met.
func TestACopyThatFailedIsTriedAgain(t *testing.T) {
	needQEMU(t)
	h := &idleSite{dir: t.TempDir()}
	h.open(t)
	source, s := h.source(t, "web01"), h.site
	opened, err := s.OpenDisk(t.Context(), source.Ref(), "vda", hypervisor.ReadOnly)
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	point := &moody{Source: opened}
	v := serve(t, filepath.Join(t.TempDir(), "v"), point)
	replica, err := s.Create(t.Context(), hypervisor.Spec{Name: "replica", Owner: "m-1/test", CPUs: 1, MemoryMiB: 32, Isolated: true,
		Disks: []hypervisor.DiskSpec{{Key: "vda", Size: opened.Size(), Boot: true, Backing: nbd.URI("unix", v, "vda")}}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Remove(context.Background(), replica.Ref); err != nil {
			t.Error(err)
		}
	}()
	if err := s.Start(t.Context(), replica.Ref, hypervisor.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	point.bad.Store(true)
	if err := s.Flatten(t.Context(), replica.Ref, nil); !passes(err, "kvm.stream") || !strings.Contains(err.Error(), "Input/output error") {
		t.Errorf("flatten from a point that cannot be read: %v, want the reason", err)
	}
	if left := source.copies(t, replica.Ref); len(left) > 0 {
		t.Errorf("the copy that failed is still there: %v", left)
	}
	source.Execute(t, replica.Ref, "block-stream", map[string]any{"job-id": "riparo-stream-vda", "device": "disk-vda", "on-error": "stop"}, nil)
	await(t, "a copy stands", func() bool { return source.copies(t, replica.Ref)["riparo-stream-vda"] == "paused" })
	point.bad.Store(false)
	if err := s.Flatten(t.Context(), replica.Ref, nil); err != nil {
		t.Errorf("flatten when the point can be read again: %v", err)
	}
	if left := h.definition(t, replica.Ref).Disks[0].Backing; left != "" {
		t.Errorf("the definition still names %s below the disk", left)
	}
	var nodes []struct {
		Name string `json:"node-name"`
	}
	source.Execute(t, replica.Ref, "query-named-block-nodes", map[string]any{"flat": true}, &nodes)
	for _, n := range nodes {
		if n.Name == "back-vda" {
			t.Error("the connection to the recovery point is still open")
		}
	}
	if found, err := s.Machine(t.Context(), replica.Ref); err != nil || found.Power != hypervisor.Running {
		t.Errorf("the replica: %+v, %v", found, err)
	}
}

// serve shows a disk vda on a socket until the test ends.
func serve(t *testing.T, socket string, source replication.Source) string {
	t.Helper()
	server := nbd.NewServer(nbd.ServerOptions{})
	if err := server.Add("vda", nbd.Export{Source: source}); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx, listener) }()
	t.Cleanup(func() { cancel(); <-ended })
	return socket
}
