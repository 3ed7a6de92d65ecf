package lab_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"riparo/hypervisor"
	"riparo/hypervisor/lab"
	"riparo/replication"
)

func TestEveryCallSaysWhyTheSiteDoesNotAnswer(t *testing.T) {
	w := openWorld(t, t.TempDir())
	s := site(t, w, "primary")
	ref := startWeb01(t, s, small(81))
	ctx := t.Context()
	calls := map[string]func() error{
		"Discover": func() error { _, err := s.Discover(ctx); return err },
		"Machine":  func() error { _, err := s.Machine(ctx, ref); return err },
		"Start":    func() error { return s.Start(ctx, ref, hypervisor.StartOptions{}) },
		"Stop":     func() error { _, err := s.Stop(ctx, ref, 0); return err },
		"Create":   func() error { _, err := s.Create(ctx, hypervisor.Spec{Name: "x", Owner: "o"}); return err },
		"Remove":   func() error { return s.Remove(ctx, ref) },
		"Networks": func() error { _, err := s.Networks(ctx); return err },
		"BeginPoint": func() error {
			_, err := s.BeginPoint(ctx, hypervisor.PointRequest{Ref: ref, Point: "p", Disks: []string{"vda"}})
			return err
		},
		"Forget":   func() error { return s.Forget(ctx, ref) },
		"Flatten":  func() error { return s.Flatten(ctx, ref, nil) },
		"OpenDisk": func() error { _, err := s.OpenDisk(ctx, ref, "vda", hypervisor.ReadOnly); return err },
		"Console":  func() error { _, err := s.Console(ctx, ref, 1); return err },
		"Fence":    func() error { return s.Fence(ctx, ref, "x") },
		"Unfence":  func() error { return s.Unfence(ctx, ref) },
		"Watch":    func() error { return s.Watch(ctx, func(hypervisor.Ref) {}) },
	}
	for _, fault := range []struct {
		set    func(bool)
		code   string
		remedy replication.Remedy
	}{
		{s.SetUnreachable, "lab.unreachable", replication.Retry},
		{s.SetAccountRefused, "lab.account", replication.Stop},
	} {
		fault.set(true)
		for name, call := range calls {
			p, ok := errors.AsType[*replication.Problem](call())
			if !ok || p.Code != fault.code || p.Remedy != fault.remedy || p.Effect == "" || p.Action == "" {
				t.Errorf("%s at a site with %s: %+v", name, fault.code, p)
			}
		}
		step(t, s, ref, 5) // the machine runs on
		fault.set(false)
		if _, err := s.Machine(ctx, ref); err != nil {
			t.Errorf("after %s was taken back: %v", fault.code, err)
		}
	}
}

func TestAWatchEndsWhenTheSiteGoesAway(t *testing.T) {
	w := openWorld(t, t.TempDir())
	s := site(t, w, "primary")
	ended := make(chan error)
	go func() { ended <- s.Watch(t.Context(), func(hypervisor.Ref) {}) }()
	s.SetUnreachable(true)
	if p := replication.AsProblem(<-ended); p.Code != "lab.unreachable" {
		t.Errorf("the watch ended with %v", p)
	}
}

func TestAReadErrorIsTheErrorOfItsPlace(t *testing.T) {
	w := openWorld(t, t.TempDir())
	s := site(t, w, "primary")
	ref := startWeb01(t, s, small(82))
	bad := replication.Extent{Offset: 512 << 10, Length: 4096}
	if err := s.FailRead(ref, "vda", bad); err != nil {
		t.Fatal(err)
	}
	c := begin(t, s, hypervisor.PointRequest{Ref: ref, Point: "p", Disks: []string{"vda", "vdb"}})
	p := make([]byte, 4096)
	for _, d := range c.Disks() {
		for _, at := range []int64{0, bad.Offset - 4096, bad.Offset - 1, bad.Offset, bad.End() - 1, bad.End()} {
			_, err := d.ReadAt(p, at)
			hit := d.Key() == "vda" && bad.Overlaps(replication.Extent{Offset: at, Length: 4096})
			if (err != nil) != hit {
				t.Errorf("reading disk %s at %d, with %s of vda unreadable: %v", d.Key(), at, bad, err)
			}
		}
	}
	if err := s.FailRead(ref, "vda", replication.Extent{}); err != nil {
		t.Fatal(err)
	}
	if v := judge(t, w, "WEB01", sources(c)); !v.OK {
		t.Errorf("the healed disk: %s", v.Why)
	}
	if err := s.SlowDisk(ref, "vda", time.Millisecond); err != nil {
		t.Fatal(err)
	}
	before := time.Now()
	if _, err := c.Disks()[0].ReadAt(p, 0); err != nil || time.Since(before) < time.Millisecond {
		t.Errorf("a read of a disk that is slower by 1 ms took %s: %v", time.Since(before), err)
	}
}

func TestAFullScratchBreaksTheCaptureAndNotTheMachine(t *testing.T) {
	w, err := lab.OpenWorld(t.TempDir(), lab.Options{ScratchBytes: 10 * lab.BlockSize})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	s := site(t, w, "primary")
	ref := startWeb01(t, s, small(83))
	c := begin(t, s, hypervisor.PointRequest{Ref: ref, Point: "p1", Disks: []string{"vda", "vdb"}})
	step(t, s, ref, 200)
	_, err = c.Disks()[0].ReadAt(make([]byte, 4096), 0)
	if p := replication.AsProblem(err); p == nil || p.Code != "lab.scratch-full" || p.Remedy != replication.Retry {
		t.Errorf("reading a capture whose scratch is full: %v", err)
	}
	if err := c.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left, err := filepath.Glob(filepath.Join(s.Folder(ref), "scratch-*")); err != nil || len(left) > 0 {
		t.Errorf("the capture left %v, %v", left, err)
	}
	mustBeInstant(t, w, s, ref)
}

func TestTheGuestIsNotFrozenLongerThanAllowed(t *testing.T) {
	w := openWorld(t, t.TempDir())
	s := site(t, w, "primary")
	ref := startWeb01(t, s, small(84))
	if err := s.SlowFreeze(ref, time.Hour); err != nil {
		t.Fatal(err)
	}
	request := hypervisor.PointRequest{
		Ref: ref, Point: "p", Disks: []string{"vda"}, Want: replication.AppConsistent, FreezeLimit: 5 * time.Millisecond,
	}
	c := begin(t, s, request)
	if i := c.Instant(); i.Consistency != replication.CrashConsistent || len(i.Warnings) != 1 || !strings.Contains(i.Warnings[0], "5ms") {
		t.Errorf("a freeze that takes too long gave %+v", i)
	}
	step(t, s, ref, 5)
	request.FreezeLimit = 0
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	if _, err := s.BeginPoint(ctx, request); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a freeze that was given up: %v", err)
	}
	step(t, s, ref, 5) // it is thawed
}

func TestADeafGuestIsPoweredOff(t *testing.T) {
	w := openWorld(t, t.TempDir())
	s := site(t, w, "primary")
	ref := startWeb01(t, s, small(85))
	step(t, s, ref, 10)
	if err := s.IgnoreShutdown(ref, true); err != nil {
		t.Fatal(err)
	}
	if outcome, err := s.Stop(t.Context(), ref, 2*time.Millisecond); err != nil || outcome != hypervisor.PoweredOff {
		t.Errorf("stopping a deaf guest: %q, %v", outcome, err)
	}
	c := begin(t, s, hypervisor.PointRequest{Ref: ref, Point: "p", Disks: []string{"vda", "vdb"}})
	if got := c.Instant().Consistency; got != replication.CrashConsistent {
		t.Errorf("a machine that lost its power is captured as %s", got)
	}
}

func TestAnOpenedDiskIsNotCleanAnyMore(t *testing.T) {
	w := openWorld(t, t.TempDir())
	s := site(t, w, "primary")
	ref := startWeb01(t, s, small(89))
	if _, err := s.Stop(t.Context(), ref, time.Second); err != nil {
		t.Fatal(err)
	}
	for _, want := range []replication.Consistency{replication.Clean, replication.CrashConsistent} {
		c := begin(t, s, hypervisor.PointRequest{Ref: ref, Point: "p", Disks: []string{"vda", "vdb"}})
		if got := c.Instant().Consistency; got != want {
			t.Errorf("the stopped machine is captured as %s: want %s", got, want)
		}
		d, err := s.OpenDisk(t.Context(), ref, "vda", hypervisor.ReadWrite)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.WriteAt([]byte{1}, 900<<10); err != nil {
			t.Fatal(err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAMachineWithAnOpenDiskDoesNotStart(t *testing.T) {
	w := openWorld(t, t.TempDir())
	s := site(t, w, "primary")
	m, err := s.AddMachine(small(86))
	if err != nil {
		t.Fatal(err)
	}
	d, err := s.OpenDisk(t.Context(), m.Ref, "vda", hypervisor.ReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	if p := replication.AsProblem(s.Start(t.Context(), m.Ref, hypervisor.StartOptions{})); p == nil || p.Code != "lab.disk-open" {
		t.Errorf("starting a machine whose disk is open: %v", p)
	}
	if err := errors.Join(d.Close(), d.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := d.ReadAt(make([]byte, 1), 0); err == nil {
		t.Error("a disk that was closed was read")
	}
	start(t, s, m.Ref, "")
}

func TestAFailingDiskEndsTheWorkload(t *testing.T) {
	w := openWorld(t, t.TempDir())
	s := site(t, w, "primary")
	ref := startWeb01(t, s, small(87))
	r, err := w.Record("WEB01")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.BreakDisk(ref, "vda"); err != nil {
		t.Fatal(err)
	}
	if did, err := s.Step(t.Context(), ref, 100); err == nil {
		t.Fatalf("the workload did %d things on a disk that takes no writes", did)
	}
	n := r.Entries()
	if did, err := s.Step(t.Context(), ref, 100); did != 0 || err != nil || r.Entries() != n {
		t.Errorf("after its disk failed the workload did %d things: %v", did, err)
	}
	console, err := s.Console(t.Context(), ref, 100)
	if err != nil || !strings.HasSuffix(string(console), "not serving\n") {
		t.Errorf("the console says %q, %v", console, err)
	}
}

func TestWrongMachinesAreRefused(t *testing.T) {
	w := openWorld(t, t.TempDir())
	s := site(t, w, "primary")
	if _, err := s.AddMachine(small(88)); err != nil {
		t.Fatal(err)
	}
	disk := lab.DiskSpec{Key: "vda", Size: mib}
	for what, spec := range map[string]lab.Spec{
		"no name":          {Disks: []lab.DiskSpec{disk}},
		"a path as name":   {Name: "../WEB02", Disks: []lab.DiskSpec{disk}},
		"a blank in it":    {Name: "WEB 02", Disks: []lab.DiskSpec{disk}},
		"a name in use":    {Name: "WEB01", Disks: []lab.DiskSpec{disk}},
		"no disk":          {Name: "WEB02"},
		"two of one key":   {Name: "WEB02", Disks: []lab.DiskSpec{disk, disk}},
		"a tiny disk":      {Name: "WEB02", Disks: []lab.DiskSpec{{Key: "vda", Size: 4096}}},
		"half a block":     {Name: "WEB02", Disks: []lab.DiskSpec{{Key: "vda", Size: mib + 1}}},
		"too much content": {Name: "WEB02", Disks: []lab.DiskSpec{{Key: "vda", Size: mib, InitialBytes: 2 * mib}}},
	} {
		if _, err := s.AddMachine(spec); err == nil {
			t.Errorf("a machine with %s was added", what)
		}
	}
	other := site(t, w, "secondary")
	if _, err := other.AddMachine(small(88)); err == nil {
		t.Error("a second machine of one name was added to the world")
	}
	entries, err := os.ReadDir(filepath.Dir(s.Folder("WEB01")))
	if err != nil || len(entries) != 1 {
		t.Errorf("refused machines left %v, %v", entries, err)
	}
}
