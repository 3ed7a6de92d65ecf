package lab_test

import (
	"strings"
	"testing"
	"time"

	"riparo/hypervisor"
	"riparo/hypervisor/lab"
	"riparo/replication"
)

// crashed ends a world as a killed process does, and opens it again.
func crashed(t *testing.T, dir string, w *lab.World) (*lab.World, *lab.Site) {
	t.Helper()
	if err := w.Abandon(); err != nil {
		t.Fatal(err)
	}
	return world(t, dir)
}

// world opens a world that a test abandons.
func world(t *testing.T, dir string) (*lab.World, *lab.Site) {
	t.Helper()
	w, err := lab.OpenWorld(dir, lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return w, site(t, w, "primary")
}

// mustBeInstant captures all disks of a machine and judges them.
func mustBeInstant(t *testing.T, w *lab.World, s *lab.Site, ref hypervisor.Ref) lab.Verdict {
	t.Helper()
	m, err := s.Machine(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	request := hypervisor.PointRequest{Ref: ref, Point: "judged"}
	for _, d := range m.Disks {
		request.Disks = append(request.Disks, d.Key)
	}
	c := begin(t, s, request)
	v := judge(t, w, "WEB01", sources(c))
	if err := c.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !v.OK {
		t.Fatalf("the disks are no instant of the machine: %s", v.Why)
	}
	return v
}

func TestWhatWasRecordedIsDoneAfterACrash(t *testing.T) {
	for seed := uint64(50); seed < 70; seed++ {
		dir := t.TempDir()
		w, s := world(t, dir)
		ref := startWeb01(t, s, small(seed))
		step(t, s, ref, 100)
		if err := s.RecordOnly(ref); err != nil {
			t.Fatal(err)
		}
		w, s = crashed(t, dir, w)
		// The next write closes the question whether the one before happened.
		step(t, s, ref, 1)
		if v := mustBeInstant(t, w, s, ref); v.Sequence < 102 {
			t.Errorf("seed %d: the disks show sequence %d: want 102 or 103, the one that was only recorded and the next", seed, v.Sequence)
		}
	}
}

func TestADiskGrowsThoughTheProcessEnds(t *testing.T) {
	dir := t.TempDir()
	w, s := world(t, dir)
	ref := startWeb01(t, s, small(71))
	step(t, s, ref, 20)
	if err := s.RecordGrowth(ref, "vdb", 2*mib); err != nil {
		t.Fatal(err)
	}
	w, s = crashed(t, dir, w)
	m, err := s.Machine(t.Context(), ref)
	if err != nil || m.Disks[1].Size != 2*mib {
		t.Errorf("the disk has %d bytes, %v: want 2 MiB", m.Disks[1].Size, err)
	}
	step(t, s, ref, 50)
	mustBeInstant(t, w, s, ref)
}

func TestADiskIsAddedThoughTheProcessEnds(t *testing.T) {
	dir := t.TempDir()
	w, s := world(t, dir)
	ref := startWeb01(t, s, small(72))
	step(t, s, ref, 20)
	if err := s.RecordAdded(ref, lab.DiskSpec{Key: "vdc", Size: mib, InitialBytes: mib / 2}); err != nil {
		t.Fatal(err)
	}
	w, s = crashed(t, dir, w)
	m, err := s.Machine(t.Context(), ref)
	if err != nil || len(m.Disks) != 3 {
		t.Fatalf("the machine has disks %+v, %v: want a third", m.Disks, err)
	}
	step(t, s, ref, 50)
	mustBeInstant(t, w, s, ref)
}

func TestAStartThatWasInterruptedIsRepeated(t *testing.T) {
	dir := t.TempDir()
	w, s := world(t, dir)
	m, err := s.AddMachine(small(73))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.PowerOnOnly(m.Ref); err != nil {
		t.Fatal(err)
	}
	w, s = crashed(t, dir, w)
	start(t, s, m.Ref, "")
	mustServe(t, s, m.Ref, "counter 0")
	step(t, s, m.Ref, 50)
	mustBeInstant(t, w, s, m.Ref)
}

// A start that is repeated after it had booted already must not take what the first
// boot wrote for part of the point that it counts from.
func TestARepeatedStartTracksFromTheFirstInstruction(t *testing.T) {
	dir := t.TempDir()
	w, s := world(t, dir)
	source := startWeb01(t, s, small(76))
	step(t, s, source, 100)
	base := newCopies(t)
	point(t, w, s, source, base, "p1", "")
	view := serve(t, base.sources(t))
	held := newCopies(t)
	point(t, w, s, source, held, "p1", "")
	replica, err := s.Create(t.Context(), hypervisor.Spec{Name: "WEB01-test", Owner: "m-1/test", Disks: view.overlays()})
	if err != nil {
		t.Fatal(err)
	}
	start(t, s, replica.Ref, "p1")
	step(t, s, replica.Ref, 100)
	if err := s.Unfinish(replica.Ref); err != nil {
		t.Fatal(err)
	}
	w, s = crashed(t, dir, w)
	start(t, s, replica.Ref, "p1")
	step(t, s, replica.Ref, 1)
	point(t, w, s, replica.Ref, held, "q1", "p1")
}

// A discard leaves no trace of itself: after a power cut the machine cannot know
// whether it happened, and what follows must be judged all the same.
func TestAPowerCutAfterADiscardIsJudged(t *testing.T) {
	w, s := world(t, t.TempDir())
	defer w.Close()
	ref := startWeb01(t, s, small(74))
	step(t, s, ref, 200)
	r, err := w.Record("WEB01")
	if err != nil {
		t.Fatal(err)
	}
	for range 12 {
		for !strings.HasPrefix(r.LastWas(), "discard") {
			step(t, s, ref, 1)
		}
		if _, err := s.Stop(t.Context(), ref, 0); err != nil {
			t.Fatal(err)
		}
		mustBeInstant(t, w, s, ref)
		start(t, s, ref, "")
		mustBeInstant(t, w, s, ref)
		step(t, s, ref, 60)
		mustBeInstant(t, w, s, ref)
	}
}

func TestOnlyAnAppConsistentPointNeverSplitsAPair(t *testing.T) {
	w, s := world(t, t.TempDir())
	defer w.Close()
	ref := startWeb01(t, s, small(75))
	r, err := w.Record("WEB01")
	if err != nil {
		t.Fatal(err)
	}
	split := 0
	for i := range 20 {
		for r.LastWas() != "first of a pair" {
			step(t, s, ref, 1)
		}
		want := replication.CrashConsistent
		if i%2 == 1 {
			want = replication.AppConsistent
		}
		c := begin(t, s, hypervisor.PointRequest{Ref: ref, Point: "p", Disks: []string{"vda", "vdb"}, Want: want, FreezeLimit: time.Minute})
		v := judge(t, w, "WEB01", sources(c))
		if !v.OK || c.Instant().Consistency != want || v.Clean != (want == replication.AppConsistent) || v.HalfPair == v.Clean {
			t.Errorf("a point between the two writes of a pair, asked to be %s, is %s; the verdict: %+v", want, c.Instant().Consistency, v)
		}
		if v.HalfPair {
			split++
		}
		if err := c.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		step(t, s, ref, 1)
	}
	if split != 10 {
		t.Errorf("%d crash-consistent points split a pair: want 10", split)
	}
}

func TestTwoProcessesDoNotShareALab(t *testing.T) {
	dir := t.TempDir()
	openWorld(t, dir)
	if w, err := lab.OpenWorld(dir, lab.Options{}); err == nil {
		w.Close()
		t.Fatal("a lab that is open was opened again")
	} else if p := replication.AsProblem(err); p.Code != "lab.locked" || p.Action == "" {
		t.Errorf("opening a lab that is open: %v", err)
	}
}
