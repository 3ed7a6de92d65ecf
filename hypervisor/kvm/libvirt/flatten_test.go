//go:build linux

package libvirt_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"riparo/hypervisor"
	"riparo/hypervisor/kvm/fleece"
	"riparo/hypervisor/kvm/kvmtest"
	"riparo/replication/nbd"
)

// A copy that has ended is dismissed by libvirt some milliseconds later, and meanwhile
// QEMU does not survive the question for its nodes. Here the job stays for as long as the
// test likes: it is one that libvirt does not know. Whoever looks at the machine then, or
// captures it, must not kill it.
func TestWhoLooksAtAMachineWhoseCopyEndedKillsItNot(t *testing.T) {
	s := newSession(t)
	h := s.host(t)
	defer h.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	ref, size := s.overlay(t, ctx, h)
	before, err := h.Machine(ctx, ref)
	if err != nil {
		t.Fatal(err)
	}
	var drives []struct {
		Inserted struct {
			Node string `json:"node-name"`
		} `json:"inserted"`
	}
	s.monitor(t, ref, "query-block", map[string]any{}, &drives)
	s.monitor(t, ref, "block-stream", map[string]any{"job-id": "ours", "device": drives[0].Inserted.Node, "auto-dismiss": false}, nil)
	var jobs []struct {
		Status string `json:"status"`
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for len(jobs) != 1 || jobs[0].Status != "concluded" {
		select {
		case <-tick.C:
			s.monitor(t, ref, "query-jobs", map[string]any{}, &jobs)
		case <-ctx.Done():
			t.Fatalf("the copy does not end: %v", jobs)
		}
	}

	found, err := h.Machine(ctx, ref)
	if err != nil {
		t.Fatal(err)
	}
	if len(found.Obstacles) > 0 || len(found.Disks) != 1 || found.Disks[0].Size != size {
		t.Errorf("the machine is reported with disks %+v and obstacles %q, want one of %d bytes", found.Disks, found.Obstacles, size)
	}
	if _, err := h.Discover(ctx); err != nil {
		t.Error(err)
	}
	if _, err := h.BeginPoint(ctx, hypervisor.PointRequest{Ref: ref, Point: "1", Disks: []string{"vda"}}); !errors.Is(err, fleece.ErrStreaming) {
		t.Errorf("a capture: %v, want ErrStreaming", err)
	}
	if err := h.Forget(ctx, ref); !errors.Is(err, fleece.ErrStreaming) {
		t.Errorf("forget: %v, want ErrStreaming", err)
	}
	s.monitor(t, ref, "job-dismiss", map[string]any{"id": "ours"}, nil)
	if err := h.Flatten(ctx, ref, nil); err != nil {
		t.Error(err)
	}
	if found, err = h.Machine(ctx, ref); err != nil || found.Power != hypervisor.Running || found.BootID != before.BootID {
		t.Errorf("the machine after all that: %+v, %v; want it to run since %s", found, err, before.BootID)
	}
}

// overlay runs a machine on an overlay of an image that is served, and gives the size of
// its disk.
func (s *session) overlay(t *testing.T, ctx context.Context, h hypervisor.Provider) (hypervisor.Ref, int64) {
	t.Helper()
	path := filepath.Join(s.folder, "point")
	kvmtest.Image(t, path, "raw", kvmtest.Disks()["vda"])
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	server := nbd.NewServer(nbd.ServerOptions{})
	if err := server.Add("vda", nbd.Export{Source: plain{file, info.Size()}}); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(s.folder, "v")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	serving, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(serving, listener) }()
	t.Cleanup(func() { stop(); <-ended; file.Close() })

	m, err := h.Create(ctx, hypervisor.Spec{Name: "replica", Owner: "m-1/test", CPUs: 1, MemoryMiB: 32, Isolated: true,
		Disks: []hypervisor.DiskSpec{{Key: "vda", Size: info.Size(), Boot: true, Backing: nbd.URI("unix", socket, "vda")}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Start(ctx, m.Ref, hypervisor.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	return m.Ref, info.Size()
}
