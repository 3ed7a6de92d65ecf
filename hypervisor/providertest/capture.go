package providertest

import (
	"errors"
	"hash/crc64"
	"io"
	"slices"
	"testing"

	"riparo/hypervisor"
	"riparo/replication"
)

// captures tests the ChangeReader on the running source. Its tests hand on the
// copies and what they hold, as one appliance does from cycle to cycle.
func (s *suite) captures(t *testing.T) {
	reader := offered[hypervisor.ChangeReader](t, s.p, "ChangeReader")
	s.running(t)
	if err := reader.Forget(s.context(t), s.ref); err != nil {
		t.Fatal(err)
	}
	c := newCopies(t)
	t.Run("the first one is full", func(t *testing.T) { s.captureFull(t, c) })
	t.Run("its bytes do not change while the machine writes", func(t *testing.T) { s.captureFrozen(t, c) })
	t.Run("a delta on its base is the next instant", func(t *testing.T) { s.captureDelta(t, c) })
	t.Run("after a rollback the changes come again", func(t *testing.T) { s.captureRollback(t, c) })
	t.Run("one that nobody ended is rolled back", func(t *testing.T) { s.captureAbandoned(t, c) })
	t.Run("one that the vault holds and nobody committed counts", func(t *testing.T) { s.captureUncommitted(t, c) })
	t.Run("a crash of the appliance loses nothing", func(t *testing.T) { s.captureCrash(t, c) })
	t.Run("since an unknown point nothing is known", func(t *testing.T) { s.captureUnknown(t, c) })
	t.Run("lost tracking is told", func(t *testing.T) { s.captureLost(t, c) })
	t.Run("app-consistent or a warning", func(t *testing.T) { s.captureApp(t, c) })
	t.Run("a freeze that fails is a warning", func(t *testing.T) { s.captureNoFreeze(t, c) })
	t.Run("some of the disks", func(t *testing.T) { s.captureSome(t, c) })
	t.Run("a grown disk", func(t *testing.T) { s.captureGrown(t, c) })
	t.Run("an added disk", func(t *testing.T) { s.captureAdded(t, c) })
	t.Run("a disk that is not there is refused", func(t *testing.T) { s.captureMissing(t, c) })
}

// begin opens a capture of disks since what the copies hold.
func (s *suite) begin(t *testing.T, c *copies, keys []string, want replication.Consistency) (hypervisor.Capture, replication.PointID) {
	t.Helper()
	point := s.point()
	capture, err := s.p.(hypervisor.ChangeReader).BeginPoint(s.context(t), hypervisor.PointRequest{
		Ref: s.ref, Point: point, Disks: keys, Since: c.since(), Want: want, FreezeLimit: s.h.grace(),
	})
	if err != nil {
		t.Fatalf("begin point %s: %v", point, err)
	}
	// What a test does not end is ended for it, so that one failure stays one.
	p := s.p
	t.Cleanup(func() {
		ctx, cancel := cleanContext()
		defer cancel()
		if s.p == p { // else a crash has ended it
			_ = capture.Rollback(ctx)
		}
	})
	instant := capture.Instant()
	if instant.NotAfter.Before(instant.NotBefore) || instant.NotBefore.IsZero() {
		t.Errorf("the instant of point %s lies between %s and %s", point, instant.NotBefore, instant.NotAfter)
	}
	var got []string
	for _, d := range capture.Disks() {
		got = append(got, d.Key())
		if (d.Mode() == hypervisor.Unknown) != (d.Reason() != "") {
			t.Errorf("disk %s is %s with reason %q: want a reason for unknown and for nothing else", d.Key(), d.Mode(), d.Reason())
		}
		if _, asked := c.held[d.Key()]; !asked && d.Mode() != hypervisor.Full {
			t.Errorf("disk %s is %s, of which the vault holds nothing: want full", d.Key(), d.Mode())
		} else if asked && d.Mode() == hypervisor.Full {
			t.Errorf("disk %s is full, of which the vault holds a point: want delta or unknown", d.Key())
		}
	}
	if !slices.Equal(got, keys) {
		t.Errorf("the capture has disks %v: want %v", got, keys)
	}
	return capture, point
}

// take applies a capture to the copies, and judges all of them.
func (s *suite) take(t *testing.T, c *copies, capture hypervisor.Capture, point replication.PointID) (read int64) {
	t.Helper()
	read = c.apply(t, capture)
	for _, d := range capture.Disks() {
		c.held[d.Key()] = point
	}
	if err := s.machine.Judge(t.Context(), c.sources()); err != nil {
		t.Fatalf("point %s is not an instant of the machine: %v", point, err)
	}
	return read
}

// cycle is one capture from beginning to commit.
func (s *suite) cycle(t *testing.T, c *copies) (hypervisor.Capture, int64) {
	t.Helper()
	capture, point := s.begin(t, c, s.keys, replication.CrashConsistent)
	read := s.take(t, c, capture, point)
	s.commit(t, capture)
	return capture, read
}

func (s *suite) commit(t *testing.T, capture hypervisor.Capture) {
	t.Helper()
	if err := capture.Commit(s.context(t)); err != nil {
		t.Fatalf("commit: %v", err)
	}
}

// mode fails the test unless all disks have it.
func mode(t *testing.T, capture hypervisor.Capture, want hypervisor.CaptureMode) {
	t.Helper()
	for _, d := range capture.Disks() {
		if d.Mode() != want {
			t.Errorf("disk %s is %s (%s): want %s", d.Key(), d.Mode(), d.Reason(), want)
		}
	}
}

func (s *suite) captureFull(t *testing.T, c *copies) {
	s.machine.Write(t, s.ref)
	capture, point := s.begin(t, c, s.keys, replication.CrashConsistent)
	mode(t, capture, hypervisor.Full)
	if got := capture.Instant().Consistency; got != replication.CrashConsistent {
		t.Errorf("the point is %s: want crash, which was asked for", got)
	}
	sizes := map[string]int64{}
	for _, d := range s.report(t).Disks {
		sizes[d.Key] = d.Size
	}
	for _, d := range capture.Disks() {
		if d.Size() != sizes[d.Key()] {
			t.Errorf("disk %s is captured with %d bytes: it has %d", d.Key(), d.Size(), sizes[d.Key()])
		}
		checkRegions(t, d, true)
		end := make([]byte, 1024)
		if n, err := d.ReadAt(end, d.Size()-512); n != 512 || err != io.EOF {
			t.Errorf("reading 1024 bytes 512 before the end of disk %s gave %d, %v: want 512, EOF", d.Key(), n, err)
		}
		if n, err := d.ReadAt(end, -1); err == nil {
			t.Errorf("reading before the beginning of disk %s gave %d bytes", d.Key(), n)
		}
	}
	s.take(t, c, capture, point)
	s.commit(t, capture)
	s.commit(t, capture)
	if err := capture.Rollback(s.context(t)); err != nil {
		t.Errorf("rolling back after a commit: %v: want that it is harmless", err)
	}
}

// sum is a checksum of every byte of a captured disk.
func sum(t *testing.T, d replication.Source) uint64 {
	t.Helper()
	h := crc64.New(crc64.MakeTable(crc64.ECMA))
	if _, err := io.CopyBuffer(h, io.NewSectionReader(d, 0, d.Size()), make([]byte, mib)); err != nil {
		t.Fatalf("read a captured disk: %v", err)
	}
	return h.Sum64()
}

func (s *suite) captureFrozen(t *testing.T, c *copies) {
	capture, _ := s.begin(t, c, s.keys, replication.CrashConsistent)
	before := map[string]uint64{}
	for _, d := range capture.Disks() {
		before[d.Key()] = sum(t, d)
	}
	if settler, ok := s.p.(hypervisor.Settler); ok { // it is nobody's leftover
		if err := settler.Settle(s.context(t)); err != nil {
			t.Errorf("look for leftovers while a capture is open: %v", err)
		}
	}
	for range 3 {
		s.machine.Write(t, s.ref)
		for _, d := range capture.Disks() {
			if got := sum(t, d); got != before[d.Key()] {
				t.Fatalf("disk %s of an open capture changed while the machine wrote", d.Key())
			}
		}
	}
	if err := capture.Rollback(s.context(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := capture.Disks()[0].ReadAt(make([]byte, 512), 0); err == nil {
		t.Error("a capture that has ended was read")
	}
}

func (s *suite) captureDelta(t *testing.T, c *copies) {
	for range 3 {
		s.machine.Write(t, s.ref)
		capture, point := s.begin(t, c, s.keys, replication.CrashConsistent)
		mode(t, capture, hypervisor.Delta)
		for _, d := range capture.Disks() {
			checkRegions(t, d, false)
		}
		s.machine.Write(t, s.ref)
		s.take(t, c, capture, point)
		s.commit(t, capture)
	}
}

func (s *suite) captureRollback(t *testing.T, c *copies) {
	s.machine.Write(t, s.ref)
	capture, _ := s.begin(t, c, s.keys, replication.CrashConsistent)
	for range 2 {
		if err := capture.Rollback(s.context(t)); err != nil {
			t.Fatal(err)
		}
	}
	s.machine.Write(t, s.ref)
	next, _ := s.cycle(t, c)
	mode(t, next, hypervisor.Delta)
}

func (s *suite) captureAbandoned(t *testing.T, c *copies) {
	s.machine.Write(t, s.ref)
	abandoned, _ := s.begin(t, c, s.keys, replication.CrashConsistent)
	s.machine.Write(t, s.ref)
	next, _ := s.cycle(t, c)
	mode(t, next, hypervisor.Delta)
	if _, err := abandoned.Disks()[0].ReadAt(make([]byte, 512), 0); err == nil {
		t.Error("a capture was read after the next one had begun")
	}
}

func (s *suite) captureUncommitted(t *testing.T, c *copies) {
	s.machine.Write(t, s.ref)
	capture, point := s.begin(t, c, s.keys, replication.CrashConsistent)
	s.take(t, c, capture, point) // safe in the vault; then the appliance ended
	s.machine.Write(t, s.ref)
	next, nextPoint := s.begin(t, c, s.keys, replication.CrashConsistent)
	s.take(t, c, next, nextPoint)
	s.commit(t, next)
	s.machine.Write(t, s.ref)
	after, _ := s.cycle(t, c)
	mode(t, after, hypervisor.Delta)
}

func (s *suite) captureCrash(t *testing.T, c *copies) {
	if s.h.Reopen == nil {
		t.Skip("not arranged: this harness cannot show a crash of the appliance")
	}
	for _, applied := range []bool{false, true} {
		s.machine.Write(t, s.ref)
		capture, point := s.begin(t, c, s.keys, replication.CrashConsistent)
		if applied {
			s.take(t, c, capture, point)
		}
		s.p = s.h.Reopen(t, s.p)
		if m := s.report(t); m.Power != hypervisor.Running {
			t.Fatalf("after a crash of the appliance the machine is %s", m.Power)
		}
		if settler, ok := s.p.(hypervisor.Settler); ok {
			if err := settler.Settle(s.context(t)); err != nil {
				t.Errorf("end what a crash left: %v", err)
			}
			if _, err := capture.Disks()[0].ReadAt(make([]byte, 512), 0); err == nil {
				t.Error("the capture of a process that is gone is open still")
			}
		}
		s.machine.Write(t, s.ref)
		s.cycle(t, c)
		s.machine.Write(t, s.ref)
		after, _ := s.cycle(t, c)
		mode(t, after, hypervisor.Delta)
	}
}

func (s *suite) captureUnknown(t *testing.T, c *copies) {
	for key := range c.held {
		c.held[key] = "riparo-suite-never-was"
	}
	s.machine.Write(t, s.ref)
	capture, point := s.begin(t, c, s.keys, replication.CrashConsistent)
	mode(t, capture, hypervisor.Unknown)
	for _, d := range capture.Disks() {
		checkRegions(t, d, true)
	}
	s.take(t, c, capture, point)
	s.commit(t, capture)
	s.machine.Write(t, s.ref)
	next, _ := s.cycle(t, c)
	mode(t, next, hypervisor.Delta)
}

func (s *suite) captureLost(t *testing.T, c *copies) {
	loser := arranged[TrackingLoser](t, s.machine, "lose change tracking")
	loser.LoseTracking(t)
	s.machine.Write(t, s.ref)
	capture, _ := s.cycle(t, c)
	mode(t, capture, hypervisor.Unknown)
	s.machine.Write(t, s.ref)
	next, _ := s.cycle(t, c)
	mode(t, next, hypervisor.Delta)
}

func (s *suite) captureApp(t *testing.T, c *copies) {
	s.machine.Write(t, s.ref)
	capture, point := s.begin(t, c, s.keys, replication.AppConsistent)
	instant := capture.Instant()
	switch instant.Consistency {
	case replication.AppConsistent:
		if instant.Frozen <= 0 {
			t.Errorf("the point is app-consistent and the guest was frozen for %s", instant.Frozen)
		}
	case replication.CrashConsistent:
		if len(instant.Warnings) == 0 {
			t.Error("app-consistent was asked for, the point is crash-consistent, and no warning says why")
		}
	default:
		t.Errorf("the point is %s", instant.Consistency)
	}
	s.machine.Write(t, s.ref) // the guest is thawed
	s.take(t, c, capture, point)
	s.commit(t, capture)
}

func (s *suite) captureNoFreeze(t *testing.T, c *copies) {
	failer := arranged[FreezeFailer](t, s.machine, "make a freeze fail")
	failer.FailFreeze(t, true)
	defer failer.FailFreeze(t, false)
	capture, point := s.begin(t, c, s.keys, replication.AppConsistent)
	if instant := capture.Instant(); instant.Consistency != replication.CrashConsistent || len(instant.Warnings) == 0 || instant.Frozen != 0 {
		t.Errorf("the freeze failed and the point is %s, frozen %s, with warnings %v: want crash and a warning", instant.Consistency, instant.Frozen, instant.Warnings)
	}
	s.machine.Write(t, s.ref)
	s.take(t, c, capture, point)
	s.commit(t, capture)
}

// captureSome leaves a disk out for a cycle: the next delta of it reaches further
// back than that of the others.
func (s *suite) captureSome(t *testing.T, c *copies) {
	s.machine.Write(t, s.ref)
	capture, point := s.begin(t, c, s.keys[:1], replication.CrashConsistent)
	c.apply(t, capture)
	c.held[s.keys[0]] = point
	s.commit(t, capture)
	s.machine.Write(t, s.ref)
	next, nextPoint := s.begin(t, c, s.keys, replication.CrashConsistent)
	s.take(t, c, next, nextPoint) // judged when all disks show one instant again
	s.commit(t, next)
}

func (s *suite) captureGrown(t *testing.T, c *copies) {
	grower := arranged[DiskGrower](t, s.machine, "grow a disk")
	before := s.size(t, s.keys[1])
	s.machine.Write(t, s.ref)
	grower.GrowDisk(t, s.keys[1])
	if after := s.size(t, s.keys[1]); after <= before {
		t.Fatalf("disk %s grew from %d bytes to %d", s.keys[1], before, after)
	}
	s.machine.Write(t, s.ref)
	capture, _ := s.cycle(t, c)
	if d := capture.Disks()[0]; d.Mode() != hypervisor.Delta {
		t.Errorf("another disk grew, and disk %s is %s (%s): want a delta", d.Key(), d.Mode(), d.Reason())
	}
	s.machine.Write(t, s.ref)
	next, _ := s.cycle(t, c)
	mode(t, next, hypervisor.Delta)
}

func (s *suite) size(t *testing.T, key string) int64 {
	t.Helper()
	for _, d := range s.report(t).Disks {
		if d.Key == key {
			return d.Size
		}
	}
	t.Fatalf("the source has no disk %s any more", key)
	return 0
}

func (s *suite) captureAdded(t *testing.T, c *copies) {
	adder := arranged[DiskAdder](t, s.machine, "add a disk")
	s.machine.Write(t, s.ref)
	key := adder.AddDisk(t)
	s.size(t, key)
	s.keys = append(s.keys, key)
	s.machine.Write(t, s.ref)
	capture, _ := s.cycle(t, c)
	for _, d := range capture.Disks() {
		want := hypervisor.Delta
		if d.Key() == key {
			want = hypervisor.Full
		}
		if d.Mode() != want {
			t.Errorf("a disk %s was added, and disk %s is %s (%s): want %s", key, d.Key(), d.Mode(), d.Reason(), want)
		}
	}
	s.machine.Write(t, s.ref)
	next, _ := s.cycle(t, c)
	mode(t, next, hypervisor.Delta)
}

func (s *suite) captureMissing(t *testing.T, c *copies) {
	_, err := s.p.(hypervisor.ChangeReader).BeginPoint(s.context(t), hypervisor.PointRequest{
		Ref: s.ref, Point: s.point(), Disks: []string{s.keys[0], "riparo-no-such-disk"}, Since: c.since(),
	})
	if err == nil {
		t.Fatal("a disk that does not exist was captured")
	}
	s.machine.Write(t, s.ref)
	next, _ := s.cycle(t, c)
	mode(t, next, hypervisor.Delta)
}

// captureStopped follows a shut down by the guest.
func (s *suite) captureStopped(t *testing.T, c *copies) {
	reader := offered[hypervisor.ChangeReader](t, s.p, "ChangeReader")
	point := s.point()
	capture, err := reader.BeginPoint(s.context(t), hypervisor.PointRequest{Ref: s.ref, Point: point, Disks: s.keys, Since: c.since()})
	if errors.Is(err, hypervisor.ErrNotRunning) {
		s.compareStopped(t)
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if got := capture.Instant().Consistency; got != replication.Clean && !s.h.Deaf {
		t.Errorf("the point of a machine that was shut down is %s: want clean", got)
	}
	s.take(t, c, capture, point)
	s.commit(t, capture)
}

// compareStopped is what a caller does instead: it reads the disks themselves.
func (s *suite) compareStopped(t *testing.T) {
	if _, ok := s.p.(hypervisor.DiskOpener); !ok {
		t.Skip("not offered: this provider captures no stopped machine and is no DiskOpener")
	}
	disks := map[string]replication.Source{}
	for _, key := range s.keys {
		d := s.open(t, s.ref, key, hypervisor.ReadOnly)
		defer d.Close()
		checkRegions(t, d, true)
		disks[key] = d
	}
	if err := s.machine.Judge(t.Context(), disks); err != nil {
		t.Errorf("the disks of the stopped machine are not an instant of it: %v", err)
	}
}

// captureRestarted goes on where the copies are, whatever stopped the machine.
// Tracking may have survived that or not; the bytes must be right.
func (s *suite) captureRestarted(t *testing.T, c *copies) {
	offered[hypervisor.ChangeReader](t, s.p, "ChangeReader")
	s.running(t)
	s.machine.Write(t, s.ref)
	s.cycle(t, c)
	s.machine.Write(t, s.ref)
	next, _ := s.cycle(t, c)
	mode(t, next, hypervisor.Delta)
}

func (s *suite) forget(t *testing.T) {
	reader := offered[hypervisor.ChangeReader](t, s.p, "ChangeReader")
	s.running(t)
	c := newCopies(t)
	s.cycle(t, c)
	open, _ := s.begin(t, c, s.keys, replication.CrashConsistent)
	for range 2 {
		if err := reader.Forget(s.context(t), s.ref); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := open.Disks()[0].ReadAt(make([]byte, 512), 0); err == nil {
		t.Error("a capture was read after everything was forgotten")
	}
	capture, point := s.begin(t, c, s.keys, replication.CrashConsistent)
	mode(t, capture, hypervisor.Unknown)
	s.take(t, c, capture, point)
	if err := capture.Rollback(s.context(t)); err != nil {
		t.Fatal(err)
	}
	if err := reader.Forget(s.context(t), s.ref); err != nil {
		t.Fatal(err)
	}
}
