//go:build linux

package libvirt_test

import (
	"context"
	"fmt"
	"iter"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	rpc "github.com/digitalocean/go-libvirt"

	"riparo/hypervisor"
	"riparo/hypervisor/kvm"
	"riparo/hypervisor/kvm/guest"
	"riparo/hypervisor/kvm/libvirt"
	"riparo/replication"
	"riparo/replication/nbd"
)

// bootLimit is how long a guest may take to come to a line of its console. It takes
// 3 s on a quiet machine without virtualization.
const bootLimit = 2 * time.Minute

// theater is a daemon with a real guest, and what a vault would hold of it.
type theater struct {
	*session
	t      *testing.T
	h      *libvirt.Host
	kit    guest.Kit
	ref    hypervisor.Ref
	held   map[string]replication.PointID
	points int
}

func newTheater(t *testing.T) *theater {
	t.Helper()
	need(t)
	kit := guest.Kit{Kernel: os.Getenv(envKernel), Initrd: os.Getenv(envInitrd)}
	if kit.Kernel == "" {
		if missing := guest.Missing(); len(missing) > 0 {
			need(t, missing...)
		}
		var err error
		if kit, err = guest.Build(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	s := newSession(t)
	th := &theater{session: s, t: t, h: s.host(t), kit: kit, held: map[string]replication.PointID{}}
	t.Cleanup(func() {
		if err := th.h.Close(); err != nil {
			t.Error(err)
		}
	})
	return th
}

// boot defines and starts a machine on images, by key.
func (th *theater) boot(name, mode string, formats map[string]string, images map[string]string) hypervisor.Ref {
	th.t.Helper()
	disks := ""
	for _, key := range []string{"vda", "vdb"} {
		disks += fmt.Sprintf(`<disk type='file' device='disk'><driver name='qemu' type='%s' discard='unmap'/><source file='%s'/><target dev='%s' bus='virtio'/></disk>`, formats[key], images[key], key)
	}
	ref := th.define(th.t, fmt.Sprintf(`<domain type='qemu'><name>%s</name><memory unit='MiB'>192</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='q35'>hvm</type><kernel>%s</kernel><initrd>%s</initrd><cmdline>%s</cmdline></os><features><acpi/></features><cpu mode='maximum'/><devices>%s
<interface type='user'><model type='virtio'/></interface>
<serial type='file'><source path='%s/%s.serial'/><target port='0'/></serial>
<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel><memballoon model='none'/></devices></domain>`,
		name, th.kit.Kernel, th.kit.Initrd, mode, disks, th.folder, name))
	if err := th.h.Start(th.t.Context(), ref, hypervisor.StartOptions{}); err != nil {
		th.t.Fatal(err)
	}
	return ref
}

func (th *theater) console(ref hypervisor.Ref) []byte {
	console, err := th.h.Console(th.t.Context(), ref, 1<<20)
	if err != nil {
		th.t.Fatal(err)
	}
	return console
}

func (th *theater) await(ref hypervisor.Ref, substring string) []byte {
	th.t.Helper()
	ctx, cancel := context.WithTimeout(th.t.Context(), bootLimit)
	defer cancel()
	console, err := guest.WaitLine(ctx, func() []byte { return th.console(ref) }, substring)
	if err != nil {
		th.t.Fatal(err)
	}
	return console
}

func (th *theater) count(ref hypervisor.Ref) int {
	n, _ := guest.Counter(th.console(ref))
	return n
}

func (th *theater) image(key string) string { return filepath.Join(th.folder, "replica-"+key) }

// take captures the machine and brings the replica's files forward.
func (th *theater) take(want replication.Consistency, mode hypervisor.CaptureMode) (instant hypervisor.Instant, before, after int) {
	th.t.Helper()
	th.points++
	point := replication.PointID(fmt.Sprintf("20261123T1000%02d.000Z-lv", th.points))
	before = th.count(th.ref)
	c, err := th.h.BeginPoint(th.t.Context(), hypervisor.PointRequest{Ref: th.ref, Point: point, Disks: []string{"vda", "vdb"}, Since: th.held, Want: want})
	if err != nil {
		th.t.Fatal(err)
	}
	after = th.count(th.ref) + 1
	for _, d := range c.Disks() {
		if d.Mode() != mode {
			th.t.Errorf("point %s: disk %s is %s (%s): want %s", point, d.Key(), d.Mode(), d.Reason(), mode)
		}
		if err := bringForward(th.t.Context(), d, th.image(d.Key())); err != nil {
			th.t.Fatal(err)
		}
		th.held[d.Key()] = point
	}
	if err := c.Commit(th.t.Context()); err != nil {
		th.t.Fatal(err)
	}
	instant = c.Instant()
	th.t.Logf("point %s: %s, frozen %s, %v %v", point, instant.Consistency, instant.Frozen, instant.Evidence, instant.Warnings)
	return instant, before, after
}

func bringForward(ctx context.Context, source replication.Source, path string) error {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := file.Truncate(source.Size()); err != nil {
		return err
	}
	for region, err := range source.Regions(ctx) {
		if err != nil {
			return err
		}
		piece := make([]byte, region.Length)
		if !region.Zero {
			if _, err := source.ReadAt(piece, region.Offset); err != nil {
				return err
			}
		}
		if _, err := file.WriteAt(piece, region.Offset); err != nil {
			return err
		}
	}
	return nil
}

// TestARealGuestIsCarriedOver protects a guest that writes to a qcow2 disk and a raw
// disk, boots points of it, fails it over onto an overlay in an isolated network, makes
// that independent, and follows what it wrote there.
func TestARealGuestIsCarriedOver(t *testing.T) {
	th := newTheater(t)
	// Something for the guests to reach, if their network lets them.
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
	defer accepting.Wait()
	defer listener.Close()
	port := listener.Addr().(*net.TCPAddr).Port
	formats := map[string]string{"vda": "qcow2", "vdb": "raw"}
	images := map[string]string{}
	for key, format := range formats {
		images[key] = filepath.Join(th.folder, "source-"+key)
		if out, err := exec.Command("qemu-img", "create", "-q", "-f", format, images[key], "96M").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	th.ref = th.boot("web01", guest.Append(guest.Count, fmt.Sprintf("port=%d", port)), formats, images)
	th.await(th.ref, "SERVING")
	if said, _ := guest.Said(th.console(th.ref), "NET"); said != "reach" {
		t.Errorf("the source's network: %q, want reach", said)
	}

	th.take(replication.CrashConsistent, hypervisor.Full)
	th.await(th.ref, fmt.Sprintf(" C %d", th.count(th.ref)+2))
	instant, before, after := th.take(replication.CrashConsistent, hypervisor.Delta)
	th.judge("check1", instant, before, after)
	instant, before, after = th.take(replication.AppConsistent, hypervisor.Delta)
	if instant.Consistency != replication.AppConsistent {
		t.Errorf("the point is %s: %v", instant.Consistency, instant.Warnings)
	}
	th.judge("check2", instant, before, after)

	replica := th.failover(port, after)
	if outcome, err := th.h.Stop(t.Context(), replica, bootLimit); err != nil || outcome != hypervisor.ShutDown {
		t.Errorf("stop the replica: %s, %v", outcome, err)
	}
	if err := th.h.Remove(t.Context(), replica); err != nil {
		t.Error(err)
	}

	// A killed QEMU: the qcow2 bitmap is inconsistent, the raw one is gone.
	if err := th.client.DomainDestroy(th.domain(t, th.ref)); err != nil {
		t.Fatal(err)
	}
	if err := th.h.Start(t.Context(), th.ref, hypervisor.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	th.await(th.ref, "SERVING")
	point := replication.PointID("20261123T110000.000Z-lv")
	c, err := th.h.BeginPoint(t.Context(), hypervisor.PointRequest{Ref: th.ref, Point: point, Disks: []string{"vda", "vdb"}, Since: th.held})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range c.Disks() {
		if d.Key() == "vdb" && (d.Mode() != hypervisor.Unknown || d.Reason() == "") {
			t.Errorf("after QEMU ended the raw disk is %s (%q)", d.Mode(), d.Reason())
		}
	}
	if err := c.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// judge boots copies of the replica's files.
func (th *theater) judge(name string, instant hypervisor.Instant, before, after int) {
	th.t.Helper()
	images, raw := map[string]string{}, map[string]string{"vda": "raw", "vdb": "raw"}
	for key := range raw {
		images[key] = filepath.Join(th.folder, name+"-"+key)
		if out, err := exec.Command("cp", "--sparse=always", th.image(key), images[key]).CombinedOutput(); err != nil {
			th.t.Fatalf("%v: %s", err, out)
		}
	}
	ref := th.boot(name, guest.Append(guest.Verify), raw, images)
	f := guest.ReadFindings(th.await(ref, "DONE"))
	for key := range raw {
		n, ok := f.Counters[key]
		if !ok || n < before || n > after+1 || f.Fsck[key] != 0 {
			th.t.Errorf("%s: disk %s: counter %d, want %d to %d, fsck %d", name, key, n, before, after+1, f.Fsck[key])
		}
		if instant.Consistency == replication.AppConsistent && (f.Recovered[key] || f.RawFsck[key] != 0) {
			th.t.Errorf("%s: disk %s of an application-consistent point needed its journal", name, key)
		}
	}
	if f.Bad != 0 || f.Files == 0 {
		th.t.Errorf("%s: %d of %d files differ", name, f.Bad, f.Files)
	}
	if outcome, err := th.h.Stop(th.t.Context(), ref, bootLimit); err != nil || outcome == hypervisor.PoweredOff {
		th.t.Errorf("%s: %s, %v", name, outcome, err)
	}
}

// failover boots the replica's files through overlays.
func (th *theater) failover(port, after int) hypervisor.Ref {
	th.t.Helper()
	t, ctx := th.t, th.t.Context()
	server := nbd.NewServer(nbd.ServerOptions{})
	socket := filepath.Join(th.folder, "view")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	serving, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(serving, listener) }()
	spec := hypervisor.Spec{Name: "web01-test", Owner: "m-web01/test", CPUs: 1, MemoryMiB: 192, Isolated: true}
	source, err := th.h.Machine(ctx, th.ref)
	if err != nil {
		t.Fatal(err)
	}
	spec.Hardware = source.Hardware
	for _, d := range source.Disks {
		file, err := os.Open(th.image(d.Key))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if err := server.Add(d.Key, nbd.Export{Source: plain{file, d.Size}}); err != nil {
			t.Fatal(err)
		}
		spec.Disks = append(spec.Disks, hypervisor.DiskSpec{Key: d.Key, Size: d.Size, Boot: d.Boot, Backing: nbd.URI("unix", socket, d.Key)})
	}
	m, err := th.h.Create(ctx, spec)
	if err != nil {
		t.Fatal(err)
	}
	point := th.held["vda"]
	if err := th.h.Start(ctx, m.Ref, hypervisor.StartOptions{TrackSince: point}); err != nil {
		t.Fatal(err)
	}
	console := th.await(m.Ref, "SERVING")
	if said, _ := guest.Said(console, "NET"); said != "blocked" {
		t.Errorf("the replica's isolated network: %q, want blocked", said)
	}
	for _, key := range []string{"vda", "vdb"} {
		want := fmt.Sprintf("%d %s", m.Disks[0].Size, kvm.Serial(spec.Owner, key))
		if said, _ := guest.Said(console, "DISK "+key); said != want {
			t.Errorf("the replica sees disk %s as %q, want %q", key, said, want)
		}
	}
	if _, formatted := guest.Said(console, "FORMATTED vda"); formatted {
		t.Error("the replica formatted a disk of its source")
	}
	if n, ok := guest.Counter(console); !ok || n > after+2 {
		t.Errorf("the replica counts %d, want to go on from at most %d", n, after+1)
	}
	if err := th.h.Flatten(ctx, m.Ref, nil); err != nil {
		t.Fatal(err)
	}
	stop()
	<-ended
	n := th.count(m.Ref)
	th.await(m.Ref, fmt.Sprintf(" C %d", n+3))

	// What it wrote is a delta, much smaller than the disk.
	c, err := th.h.BeginPoint(ctx, hypervisor.PointRequest{Ref: m.Ref, Point: point + "x", Disks: []string{"vda", "vdb"},
		Since: map[string]replication.PointID{"vda": point, "vdb": point}})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range c.Disks() {
		changed := int64(0)
		for region, err := range d.Regions(ctx) {
			if err != nil {
				t.Fatal(err)
			}
			changed += region.Length
		}
		if d.Mode() != hypervisor.Delta || changed > d.Size()/5 {
			t.Errorf("disk %s after the failover: %s (%s), %d of %d bytes", d.Key(), d.Mode(), d.Reason(), changed, d.Size())
		}
	}
	if err := c.Rollback(ctx); err != nil {
		t.Fatal(err)
	}
	text, err := th.client.DomainGetXMLDesc(th.domain(t, m.Ref), rpc.DomainXMLInactive)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(text, "protocol='nbd'") {
		t.Errorf("after flattening the definition still names the recovery point: %s", text)
	}
	return m.Ref
}

// plain is a file as a disk, all of it data.
type plain struct {
	*os.File
	size int64
}

func (p plain) Size() int64 { return p.size }

func (p plain) Regions(context.Context) iter.Seq2[replication.Region, error] {
	return func(yield func(replication.Region, error) bool) {
		yield(replication.Region{Extent: replication.Extent{Length: p.size}}, nil)
	}
}
