package lab_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"riparo/hypervisor"
	"riparo/hypervisor/lab"
	"riparo/replication"
	"riparo/replication/nbd"
)

// served is disks behind an NBD server, as the appliance shows recovery points.
type served struct {
	t      testing.TB
	socket string
	disks  map[string]replication.Source
	stop   func()
}

func serve(t testing.TB, disks map[string]replication.Source) *served {
	t.Helper()
	v := &served{t: t, socket: filepath.Join(t.TempDir(), "nbd.sock"), disks: disks}
	v.start()
	t.Cleanup(func() { v.stop() })
	return v
}

func (v *served) start() {
	v.t.Helper()
	server := nbd.NewServer(nbd.ServerOptions{})
	for key, disk := range v.disks {
		if err := server.Add(key, nbd.Export{Source: disk}); err != nil {
			v.t.Fatal(err)
		}
	}
	listener, err := net.Listen("unix", v.socket)
	if err != nil {
		v.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx, listener) }()
	v.stop = func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			v.t.Errorf("the NBD server ended with %v", err)
		}
		v.stop = func() {}
	}
}

// overlays are disks to create on what is served.
func (v *served) overlays() []hypervisor.DiskSpec {
	var out []hypervisor.DiskSpec
	for _, key := range []string{"vda", "vdb"} {
		out = append(out, hypervisor.DiskSpec{
			Key: key, Size: v.disks[key].Size(), Boot: key == "vda",
			Backing: fmt.Sprintf("nbd+unix:///%s?socket=%s", key, v.socket),
		})
	}
	return out
}

// point captures a machine, applies the capture to copies and judges them.
func point(t testing.TB, w *lab.World, s *lab.Site, ref hypervisor.Ref, c *copies, name, since replication.PointID) (lab.Verdict, hypervisor.Instant, int64) {
	t.Helper()
	request := hypervisor.PointRequest{Ref: ref, Point: name, Disks: []string{"vda", "vdb"}}
	if since != "" {
		request.Since = map[string]replication.PointID{"vda": since, "vdb": since}
	}
	capture := begin(t, s, request)
	for _, d := range capture.Disks() {
		if since != "" && d.Mode() != hypervisor.Delta {
			t.Errorf("the capture of disk %s since %s is %s (%s): want a delta", d.Key(), since, d.Mode(), d.Reason())
		}
	}
	read := c.apply(t, capture)
	if err := capture.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	v := judge(t, w, "WEB01", c.sources(t))
	if !v.OK {
		t.Fatalf("point %s is no instant of the machine: %s", name, v.Why)
	}
	return v, capture.Instant(), read
}

// mustServe reads the console of a machine that should have booted.
func mustServe(t testing.TB, s *lab.Site, ref hypervisor.Ref, lines ...string) {
	t.Helper()
	console, err := s.Console(t.Context(), ref, 4096)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range append(lines, "serving") {
		if !strings.Contains("\n"+string(console), "\n"+line+"\n") {
			t.Fatalf("the console says %q: want the line %q", console, line)
		}
	}
}

func start(t testing.TB, s *lab.Site, ref hypervisor.Ref, since replication.PointID) {
	t.Helper()
	if err := s.Start(t.Context(), ref, hypervisor.StartOptions{TrackSince: since}); err != nil {
		t.Fatal(err)
	}
}

// writeAll brings the disks of a stopped machine to what copies show.
func writeAll(t testing.TB, s *lab.Site, ref hypervisor.Ref, c *copies) (written int64) {
	t.Helper()
	for key, source := range c.sources(t) {
		d, err := s.OpenDisk(t.Context(), ref, key, hypervisor.ReadWrite)
		if err != nil {
			t.Fatal(err)
		}
		have, want := make([]byte, lab.BlockSize), make([]byte, lab.BlockSize)
		for at := int64(0); at < source.Size(); at += lab.BlockSize {
			if _, err := d.ReadAt(have, at); err != nil {
				t.Fatal(err)
			}
			if _, err := source.ReadAt(want, at); err != nil {
				t.Fatal(err)
			}
			switch {
			case bytes.Equal(have, want):
				continue
			case bytes.Equal(want, make([]byte, lab.BlockSize)):
				err = d.Zero(replication.Extent{Offset: at, Length: lab.BlockSize})
			default:
				_, err = d.WriteAt(want, at)
			}
			if err != nil {
				t.Fatal(err)
			}
			written += lab.BlockSize
		}
		if err := errors.Join(d.Sync(), d.Close()); err != nil {
			t.Fatal(err)
		}
	}
	return written
}

// TestAMachineIsJudgedWhereverItRuns follows one machine through a test failover,
// an unplanned failover to an older point, reverse replication and failback.
func TestAMachineIsJudgedWhereverItRuns(t *testing.T) {
	w := openWorld(t, t.TempDir())
	primary, secondary := site(t, w, "primary"), site(t, w, "secondary")
	source := startWeb01(t, primary, web01(21))
	step(t, primary, source, 400)
	older, newer := newCopies(t), newCopies(t)
	v1, _, _ := point(t, w, primary, source, older, "p1", "")
	step(t, primary, source, 400)
	point(t, w, primary, source, newer, "p2", "")
	view := serve(t, older.sources(t))

	// A test beside the running original.
	test, err := secondary.Create(t.Context(), hypervisor.Spec{Name: "WEB01-test", Owner: "m-1/test", Disks: view.overlays(), Isolated: true})
	if err != nil {
		t.Fatal(err)
	}
	start(t, secondary, test.Ref, "")
	mustServe(t, secondary, test.Ref, "riparo-lab: boot WEB01 disks vda,vdb identity ok", fmt.Sprintf("counter %d", v1.Sequence), "network isolated")
	step(t, secondary, test.Ref, 200)
	step(t, primary, source, 200)
	if v, _, _ := point(t, w, secondary, test.Ref, newCopies(t), "t1", ""); v.Branch == v1.Branch || v.Sequence != v1.Sequence+202 {
		t.Errorf("the test shows sequence %d of branch %d: want %d of a branch of its own", v.Sequence, v.Branch, v1.Sequence+202)
	}
	if v := judge(t, w, "WEB01", older.sources(t)); !v.OK || v.Sequence != v1.Sequence {
		t.Errorf("the recovery point under the test is at sequence %d now (%s): it was at %d", v.Sequence, v.Why, v1.Sequence)
	}
	if v, _, _ := point(t, w, primary, source, newer, "p3", "p2"); v.Branch != v1.Branch {
		t.Errorf("the original is on branch %d: want %d, whatever its test does", v.Branch, v1.Branch)
	}
	if err := secondary.Remove(t.Context(), test.Ref); err != nil {
		t.Fatal(err)
	}

	// The primary is lost; the machine goes on from the older point.
	if _, err := primary.Stop(t.Context(), source, 0); err != nil {
		t.Fatal(err)
	}
	if err := primary.Fence(t.Context(), source, "failed over"); err != nil {
		t.Fatal(err)
	}
	replica, err := secondary.Create(t.Context(), hypervisor.Spec{Name: "WEB01", Owner: "m-1/failover", Disks: view.overlays(), Network: lab.Production})
	if err != nil {
		t.Fatal(err)
	}
	start(t, secondary, replica.Ref, "p1")
	mustServe(t, secondary, replica.Ref, fmt.Sprintf("counter %d", v1.Sequence), "network production reachable nobody")
	step(t, secondary, replica.Ref, 150)
	var progressed int64
	err = secondary.Flatten(t.Context(), replica.Ref, func(done, total int64) {
		progressed = done
		step(t, secondary, replica.Ref, 5)
	})
	if err != nil || progressed != 20*mib {
		t.Fatalf("flattened %d bytes: %v", progressed, err)
	}
	view.stop()
	if copies := w.Copies("WEB01"); len(copies) != 1 || copies[0].Site != "secondary" || copies[0].Isolated {
		t.Errorf("WEB01 runs as %v: want one copy, at the secondary", copies)
	}

	// Back as deltas to what the vault holds, and from there to the old disks.
	v2, _, read := point(t, w, secondary, replica.Ref, older, "q1", "p1")
	if read > 10*mib {
		t.Errorf("the first reverse delta read %d bytes of a machine of %d", read, 20*mib)
	}
	if v2.Branch <= v1.Branch {
		t.Errorf("the replica writes on branch %d: want a new one", v2.Branch)
	}
	writeAll(t, primary, source, older)
	step(t, secondary, replica.Ref, 100)
	if outcome, err := secondary.Stop(t.Context(), replica.Ref, time.Second); err != nil || outcome != hypervisor.ShutDown {
		t.Fatalf("stopping the replica gave %q, %v", outcome, err)
	}
	v3, instant, _ := point(t, w, secondary, replica.Ref, older, "q2", "q1")
	if instant.Consistency != replication.Clean || !v3.Clean {
		t.Errorf("the last point is %s (clean on disk: %t): want clean", instant.Consistency, v3.Clean)
	}
	writeAll(t, primary, source, older)
	if err := primary.Unfence(t.Context(), source); err != nil {
		t.Fatal(err)
	}
	start(t, primary, source, "q2")
	mustServe(t, primary, source, fmt.Sprintf("counter %d", v3.Sequence))
	step(t, primary, source, 100)
	v4, _, _ := point(t, w, primary, source, older, "r1", "q2")
	if v4.Sequence != v3.Sequence+102 || v4.Branch <= v3.Branch {
		t.Errorf("at home again the machine is at sequence %d of branch %d: want %d of a branch after %d", v4.Sequence, v4.Branch, v3.Sequence+102, v3.Branch)
	}
}

func TestAnOverlayOutlivesTheServerUnderIt(t *testing.T) {
	dir := t.TempDir()
	w, err := lab.OpenWorld(dir, lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	primary, secondary := site(t, w, "primary"), site(t, w, "secondary")
	source := startWeb01(t, primary, web01(22))
	step(t, primary, source, 100)
	base := newCopies(t)
	point(t, w, primary, source, base, "p1", "")
	view := serve(t, base.sources(t))
	replica, err := secondary.Create(t.Context(), hypervisor.Spec{Name: "WEB01-test", Owner: "m-1/test", Disks: view.overlays()})
	if err != nil {
		t.Fatal(err)
	}
	start(t, secondary, replica.Ref, "p1")
	for range 3 {
		step(t, secondary, replica.Ref, 50)
		view.stop()
		step(t, secondary, replica.Ref, 50) // writes need no backing
		view.start()
		point(t, w, secondary, replica.Ref, newCopies(t), "x", "")
	}
	// The process that runs the machine may end as well.
	if err := w.Abandon(); err != nil {
		t.Fatal(err)
	}
	again := openWorld(t, dir)
	secondary = site(t, again, "secondary")
	step(t, secondary, replica.Ref, 50)
	v, _, _ := point(t, again, secondary, replica.Ref, newCopies(t), "y", "")
	if err := secondary.Flatten(t.Context(), replica.Ref, nil); err != nil {
		t.Fatal(err)
	}
	view.stop()
	if _, err := secondary.Stop(t.Context(), replica.Ref, 0); err != nil {
		t.Fatal(err)
	}
	start(t, secondary, replica.Ref, "")
	mustServe(t, secondary, replica.Ref, fmt.Sprintf("counter %d", v.Sequence))
}

func TestAFlattenThatWasInterruptedGoesOn(t *testing.T) {
	w := openWorld(t, t.TempDir())
	s := site(t, w, "primary")
	source := startWeb01(t, s, web01(23))
	base := newCopies(t)
	v, _, _ := point(t, w, s, source, base, "p1", "")
	view := serve(t, base.sources(t))
	replica, err := s.Create(t.Context(), hypervisor.Spec{Name: "WEB01-test", Owner: "m-1/test", Disks: view.overlays()})
	if err != nil {
		t.Fatal(err)
	}
	interrupted := errors.New("interrupted")
	for stopAt := int64(5 * mib); ; stopAt += 9 * mib {
		ctx, cancel := context.WithCancelCause(t.Context())
		err := s.Flatten(ctx, replica.Ref, func(done, _ int64) {
			if done >= stopAt {
				cancel(interrupted)
			}
		})
		cancel(nil)
		if err == nil {
			break
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	view.stop()
	start(t, s, replica.Ref, "")
	mustServe(t, s, replica.Ref, fmt.Sprintf("counter %d", v.Sequence))
	if v, _, _ := point(t, w, s, replica.Ref, newCopies(t), "x", ""); v.Sequence == 0 {
		t.Error("the flattened machine shows nothing")
	}
	if err := s.Flatten(t.Context(), replica.Ref, nil); err != nil {
		t.Errorf("flattening what has no backing: %v", err)
	}
}

// reading is a disk that lets something happen before each of its reads, once armed.
type reading struct {
	replication.Source
	before atomic.Pointer[func()]
}

func (r *reading) ReadAt(p []byte, offset int64) (int, error) {
	if happen := r.before.Load(); happen != nil {
		(*happen)()
	}
	return r.Source.ReadAt(p, offset)
}

// What the machine writes while a block of its backing is on the way is newer than
// that block.
func TestFlattenNeverOverwritesTheMachine(t *testing.T) {
	w := openWorld(t, t.TempDir())
	s := site(t, w, "primary")
	source := startWeb01(t, s, small(25))
	base := newCopies(t)
	point(t, w, s, source, base, "p1", "")
	disks := map[string]replication.Source{}
	hooks := map[string]*reading{}
	for key, disk := range base.sources(t) {
		hooks[key] = &reading{Source: disk}
		disks[key] = hooks[key]
	}
	view := serve(t, disks)
	replica, err := s.Create(t.Context(), hypervisor.Spec{Name: "WEB01-test", Owner: "m-1/test", Disks: view.overlays()})
	if err != nil {
		t.Fatal(err)
	}
	start(t, s, replica.Ref, "")
	write := func() { step(t, s, replica.Ref, 100) }
	for _, hook := range hooks {
		hook.before.Store(&write)
	}
	if err := s.Flatten(t.Context(), replica.Ref, nil); err != nil {
		t.Fatal(err)
	}
	mustBeInstant(t, w, s, replica.Ref)
}

func TestAnUnbootableDiskDoesNotServe(t *testing.T) {
	w := openWorld(t, t.TempDir())
	s := site(t, w, "primary")
	source := startWeb01(t, s, web01(24))
	step(t, s, source, 50)
	disks := captured(t, s, source, "p1")
	late := captured(t, s, source, "p2")
	clear(late["vdb"].bytes[:lab.BlockSize])
	empty := map[string]*memory{"vda": {bytes: make([]byte, mib)}, "vdb": {bytes: make([]byte, mib)}}
	damaged := map[string]*memory{"vda": {bytes: bytes.Clone(disks["vda"].bytes)}, "vdb": disks["vdb"]}
	damaged["vda"].bytes[40] ^= 1
	for name, c := range map[string]struct {
		disks map[string]*memory
		says  string
	}{
		"swapped":  {map[string]*memory{"vda": disks["vdb"], "vdb": disks["vda"]}, "holds disk vdb"},
		"empty":    {empty, "no superblock"},
		"damaged":  {damaged, "damaged superblock"},
		"half new": {map[string]*memory{"vda": disks["vda"], "vdb": late["vdb"]}, "disk vdb: no superblock"},
	} {
		t.Run(name, func(t *testing.T) {
			view := serve(t, asSources(c.disks))
			m, err := s.Create(t.Context(), hypervisor.Spec{Name: "replica", Owner: "m-1/test", Disks: view.overlays()})
			if err != nil {
				t.Fatal(err)
			}
			start(t, s, m.Ref, "")
			console, err := s.Console(t.Context(), m.Ref, 4096)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(console), c.says) || !strings.HasSuffix(string(console), "not serving\n") {
				t.Errorf("the console says %q: want %q and that it does not serve", console, c.says)
			}
			if m, err := s.Machine(t.Context(), m.Ref); err != nil || m.Power != hypervisor.Running {
				t.Errorf("the machine is %s, %v: want running, as a machine that hangs", m.Power, err)
			}
		})
	}
}
