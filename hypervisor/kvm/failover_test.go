package kvm_test

import (
	"context"
	"fmt"
	"iter"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"riparo/hypervisor"
	"riparo/hypervisor/kvm"
	"riparo/hypervisor/kvm/guest"
	"riparo/replication"
	"riparo/replication/nbd"
)

// TestAReplicaRunsFromAPointAloneAndFree boots a point through overlays in an isolated
// network while its source runs on, takes the NBD server away for a moment and then for
// good, and finds that what the replica wrote is a small delta.
func TestAReplicaRunsFromAPointAloneAndFree(t *testing.T) {
	s := newSite(t, kvm.Options{})
	ctx := t.Context()
	port := listen(t)
	ref := s.mixedSource("web01", fmt.Sprintf("port=%d", port))
	r := s.replica(ref)
	s.start(ref, hypervisor.StartOptions{})
	s.await(ref, "SERVING")
	if said, _ := guest.Said(s.console(ref), "NET"); said != "reach" {
		t.Errorf("the source's network is %q, want reach: the proof of isolation needs it", said)
	}
	p := r.take(replication.AppConsistent)

	v := r.serve()
	source, err := s.Machine(ctx, ref)
	if err != nil {
		t.Fatal(err)
	}
	spec := hypervisor.Spec{Name: "web01-test", Owner: "m-web01/test", CPUs: 1, MemoryMiB: 192, Isolated: true, Hardware: source.Hardware}
	for _, d := range source.Disks {
		spec.Disks = append(spec.Disks, hypervisor.DiskSpec{Key: d.Key, Size: d.Size, Boot: d.Boot, Backing: nbd.URI("unix", v.socket, d.Key)})
	}
	m, err := s.Create(ctx, spec)
	if err != nil {
		t.Fatal(err)
	}
	s.start(m.Ref, hypervisor.StartOptions{TrackSince: p.id})
	console := s.await(m.Ref, "SERVING")
	if said, _ := guest.Said(console, "NET"); said != "blocked" {
		t.Errorf("the replica's network is %q, want blocked", said)
	}
	for _, key := range []string{"vda", "vdb"} {
		want := fmt.Sprintf("%d %s", diskBytes, kvm.Serial(spec.Owner, key))
		if said, _ := guest.Said(console, "DISK "+key); said != want {
			t.Errorf("the replica sees disk %s as %q, want %q", key, said, want)
		}
		if _, formatted := guest.Said(console, "FORMATTED "+key); formatted {
			t.Errorf("the replica formatted disk %s with its source's command line", key)
		}
	}
	if said, _ := guest.Said(console, "MOUNTED vda journal"); said != "clean" {
		t.Errorf("the journal of an application-consistent point is %q", said)
	}

	// The appliance restarts: the guest's reads wait meanwhile.
	v.stop()
	v = r.serveAt(v.socket)
	s.awaitCount(m.Ref, s.counter(m.Ref)+1)
	var last int64
	if err := s.Flatten(ctx, m.Ref, func(done, total int64) {
		if done < last || done > total || total != 2*diskBytes {
			t.Errorf("flatten went from %d to %d of %d bytes", last, done, total)
		}
		last = done
	}); err != nil {
		t.Fatal(err)
	}
	v.stop()
	s.awaitCount(m.Ref, s.counter(m.Ref)+3)

	c, err := s.BeginPoint(ctx, hypervisor.PointRequest{Ref: m.Ref, Point: p.id + "x", Disks: []string{"vda", "vdb"},
		Since: map[string]replication.PointID{"vda": p.id, "vdb": p.id}})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range c.Disks() {
		var changed int64
		for region, err := range d.Regions(ctx) {
			if err != nil {
				t.Fatal(err)
			}
			changed += region.Length
		}
		t.Logf("the replica changed %d KiB of disk %s", changed>>10, d.Key())
		if d.Mode() != hypervisor.Delta || changed > diskBytes/5 {
			t.Errorf("disk %s of the replica: %s (%s) with %d bytes: want a small delta", d.Key(), d.Mode(), d.Reason(), changed)
		}
	}
	if err := c.Rollback(ctx); err != nil {
		t.Fatal(err)
	}

	if outcome, err := s.Stop(ctx, m.Ref, bootLimit); err != nil || outcome != hypervisor.ShutDown {
		t.Errorf("stop the replica: %s, %v", outcome, err)
	}
	disk, err := s.OpenDisk(ctx, m.Ref, "vda", hypervisor.ReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(ctx, m.Ref, hypervisor.StartOptions{}); err == nil || !strings.Contains(err.Error(), "open") {
		t.Errorf("a machine with an open disk was started: %v", err)
	}
	if err := disk.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(ctx, m.Ref); err != nil {
		t.Fatal(err)
	}
	if power := s.power(ref); power != hypervisor.Running {
		t.Errorf("the source is %s", power)
	}
	s.awaitCount(ref, s.counter(ref)+1)
}

// listen gives guests something to reach, when their network lets them.
func listen(t *testing.T) (port int) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	})
	t.Cleanup(func() { listener.Close(); accepting.Wait() })
	return listener.Addr().(*net.TCPAddr).Port
}

// view serves the replica's files as an appliance serves a recovery point.
type view struct {
	socket string
	stop   func()
}

func (r *replica) serve() *view { return r.serveAt(filepath.Join(r.s.folder, "view.sock")) }

func (r *replica) serveAt(socket string) *view {
	r.t.Helper()
	server := nbd.NewServer(nbd.ServerOptions{})
	var files []*os.File
	for _, key := range []string{"vda", "vdb"} {
		file, err := os.Open(r.file(key))
		if err != nil {
			r.t.Fatal(err)
		}
		files = append(files, file)
		if err := server.Add(key, nbd.Export{Source: plain{file}}); err != nil {
			r.t.Fatal(err)
		}
	}
	os.Remove(socket)
	listener, err := net.Listen("unix", socket)
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx, listener) }()
	stop := sync.OnceFunc(func() {
		cancel()
		<-ended
		for _, file := range files {
			file.Close()
		}
	})
	r.t.Cleanup(stop)
	return &view{socket, stop}
}

// plain is a file as a disk, all of it data.
type plain struct{ *os.File }

func (p plain) Size() int64 { return diskBytes }

func (p plain) Regions(context.Context) iter.Seq2[replication.Region, error] {
	return func(yield func(replication.Region, error) bool) {
		yield(replication.Region{Extent: replication.Extent{Length: diskBytes}}, nil)
	}
}
