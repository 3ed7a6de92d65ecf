package sinktest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"riparo/replication"
)

func unknownDiskIsRefused(t *testing.T, s *sender) {
	b := replication.Batch{Disk: "d", Epoch: 1, Sequence: 1, Changes: []replication.Change{zeroed(0, 1)}}
	if err := s.sink.Write(t.Context(), b); !errors.Is(err, replication.ErrUnknownDisk) {
		t.Errorf("write: %v, want ErrUnknownDisk", err)
	}
	m := replication.Mark{Disk: "d", Epoch: 1, Sequence: 1, Point: "p", Members: []replication.DiskID{"d"}}
	if err := s.sink.Mark(t.Context(), m); !errors.Is(err, replication.ErrUnknownDisk) {
		t.Errorf("mark: %v, want ErrUnknownDisk", err)
	}
}

func repeatedBatchIsIgnored(t *testing.T, s *sender) {
	c := s.prepare(t, "d", 100_000, 1)
	first := c.batch(change(random(1), 0, 1000))
	s.write(t, first)
	s.write(t, c.batch(change(random(2), 500, 1000)))
	s.write(t, first) // must not come back over the second
	other := first
	other.Changes = []replication.Change{change(random(3), 0, 2000)}
	s.write(t, other)
	s.close(t, s.mark(c))
	s.write(t, first)
	s.check(t)
}

func repeatedMarkIsHarmless(t *testing.T, s *sender) {
	c := s.prepare(t, "d", 100_000, 1)
	s.write(t, c.batch(change(random(4), 0, 1000)))
	m := s.mark(c)
	s.close(t, m)
	s.close(t, m)
	// A sender that lost the acknowledgement and counts on marks the point once more.
	c.sequence++
	again := m
	again.Sequence = c.sequence
	s.close(t, again)
	s.write(t, c.batch(change(random(5), 0, 500)))
	s.close(t, m)
	s.close(t, s.mark(c))
	s.check(t)
	if l, ok := s.sink.(Lister); ok {
		if points, err := l.Points("d"); err != nil || len(points) != 2 {
			t.Fatalf("%d points, %v; want 2", len(points), err)
		}
	}
}

func sequenceMeansOneThing(t *testing.T, s *sender) {
	c := s.prepare(t, "d", 100_000, 1)
	s.write(t, c.batch(change(random(6), 0, 1000)))
	m := s.mark(c)
	s.close(t, m)
	// A batch in the place of a mark.
	b := replication.Batch{Disk: "d", Epoch: 1, Sequence: m.Sequence, Changes: []replication.Change{zeroed(0, 1000)}}
	if err := s.sink.Write(t.Context(), b); !errors.Is(err, replication.ErrSequence) {
		t.Errorf("a batch with the sequence of a mark: %v, want ErrSequence", err)
	}
	// Another mark in the place of a mark.
	other := m
	other.Point = "another"
	if err := s.sink.Mark(t.Context(), other); !errors.Is(err, replication.ErrSequence) {
		t.Errorf("another mark with the sequence of a mark: %v, want ErrSequence", err)
	}
	// No sequence.
	b.Sequence = 0
	if err := s.sink.Write(t.Context(), b); !errors.Is(err, replication.ErrSequence) {
		t.Errorf("a batch with sequence 0: %v, want ErrSequence", err)
	}
	// One that nobody can have come to.
	b.Sequence = 1 << 60
	if err := s.sink.Write(t.Context(), b); !errors.Is(err, replication.ErrSequence) {
		t.Errorf("a batch with sequence %d: %v, want ErrSequence", b.Sequence, err)
	}
	// The name of an older point for a new one.
	s.write(t, c.batch(change(random(7), 0, 500)))
	s.check(t)
	reused := m
	reused.Sequence = c.sequence + 1
	if err := s.sink.Mark(t.Context(), reused); err == nil {
		t.Error("the name of a point was taken for another one")
	}
	s.check(t)
	s.close(t, s.mark(c))
	s.check(t)
}

func badMarksAreRefused(t *testing.T, s *sender) {
	c := s.prepare(t, "d", 100_000, 1)
	s.write(t, c.batch(change(random(8), 0, 1000)))
	good := replication.Mark{
		Disk: "d", Epoch: 1, Sequence: c.sequence + 1, Point: "p", Time: time.Unix(1, 0), Size: c.disk.Size,
		Members: []replication.DiskID{"d"},
	}
	for name, spoil := range map[string]func(*replication.Mark){
		"no name":              func(m *replication.Mark) { m.Point = "" },
		"another size":         func(m *replication.Mark) { m.Size++ },
		"members without disk": func(m *replication.Mark) { m.Members = []replication.DiskID{"e"} },
		"a bad member":         func(m *replication.Mark) { m.Members = []replication.DiskID{"d", "../e"} },
	} {
		bad := good
		spoil(&bad)
		if err := s.sink.Mark(t.Context(), bad); err == nil {
			t.Errorf("a mark with %s was taken", name)
		}
	}
	s.check(t)
}

// together sends batches all at once, the last one first, and waits for all.
func (s *sender) together(t *testing.T, batches []replication.Batch) {
	t.Helper()
	var wait sync.WaitGroup
	errs := make([]error, len(batches))
	for i := len(batches) - 1; i >= 0; i-- {
		wait.Go(func() { errs[i] = s.sink.Write(t.Context(), batches[i]) })
	}
	wait.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatalf("write batches %d to %d together: %v", batches[0].Sequence, batches[len(batches)-1].Sequence, err)
	}
}

func callsArePutInOrder(t *testing.T, s *sender) {
	c := s.prepare(t, "d", 1<<20, 1)
	r := random(9)
	for range 5 {
		// All change the same place, so that only the order decides.
		var calls []func() error
		for range 20 {
			b := c.batch(change(r, r.Int64N(100), 70_000))
			calls = append(calls, func() error { return s.sink.Write(t.Context(), b) })
			if r.IntN(5) == 0 {
				m := s.mark(c)
				calls = append(calls, func() error { return s.sink.Mark(t.Context(), m) })
			}
		}
		errs := make([]error, len(calls))
		var wait sync.WaitGroup
		for _, i := range r.Perm(len(calls)) {
			wait.Go(func() { errs[i] = calls[i]() })
		}
		wait.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	s.check(t)
}

func callWaitsForTheOnesBefore(t *testing.T, s *sender) {
	c := s.prepare(t, "d", 100_000, 1)
	first, second := c.batch(change(random(10), 0, 100)), c.batch(change(random(11), 50, 100))
	m := s.mark(c)
	done := make(chan error, 2)
	go func() { done <- s.sink.Mark(t.Context(), m) }()
	go func() { done <- s.sink.Write(t.Context(), second) }()
	select {
	case err := <-done:
		t.Fatalf("a call returned %v before the one that it follows was made", err)
	case <-time.After(20 * time.Millisecond): // long enough for a wrong answer to show
	}
	s.write(t, first)
	for range 2 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	s.check(t)
}

func callGivesUpWithItsContext(t *testing.T, s *sender) {
	c := s.prepare(t, "d", 100_000, 1)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	late := replication.Batch{Disk: "d", Epoch: 1, Sequence: 3, Changes: []replication.Change{zeroed(0, 10)}}
	go func() { done <- s.sink.Write(ctx, late) }()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) && !errors.Is(err, replication.ErrSequence) {
		t.Fatalf("a call that waited in vain: %v, want context.Canceled or ErrSequence", err)
	}
	s.check(t)
	for range 4 { // what gave up is not in the way
		s.write(t, c.batch(change(random(12), 0, 100)))
	}
	s.check(t)
}

func staleEpochIsRefused(t *testing.T, s *sender) {
	c := s.prepare(t, "d", 100_000, 5)
	s.write(t, c.batch(change(random(13), 0, 1000)))
	s.close(t, s.mark(c))
	c = s.prepare(t, "d", 100_000, 6)
	if _, err := s.sink.Prepare(t.Context(), c.disk, 5); !errors.Is(err, replication.ErrStaleEpoch) {
		t.Errorf("prepare: %v, want ErrStaleEpoch", err)
	}
	for _, sequence := range []replication.Sequence{1, c.sequence, c.sequence + 1, c.sequence + 2} {
		b := replication.Batch{Disk: "d", Epoch: 5, Sequence: sequence, Changes: []replication.Change{zeroed(0, 1000)}}
		if err := s.sink.Write(t.Context(), b); !errors.Is(err, replication.ErrStaleEpoch) {
			t.Errorf("write %d: %v, want ErrStaleEpoch", sequence, err)
		}
		m := replication.Mark{Disk: "d", Epoch: 5, Sequence: sequence, Point: "old", Size: c.disk.Size, Members: []replication.DiskID{"d"}}
		if err := s.sink.Mark(t.Context(), m); !errors.Is(err, replication.ErrStaleEpoch) {
			t.Errorf("mark %d: %v, want ErrStaleEpoch", sequence, err)
		}
	}
	// An epoch that nobody prepared is not taken either.
	b := replication.Batch{Disk: "d", Epoch: 7, Sequence: c.sequence + 1, Changes: []replication.Change{zeroed(0, 1000)}}
	if err := s.sink.Write(t.Context(), b); err == nil {
		t.Error("a batch of an epoch that was not prepared was taken")
	}
	s.check(t)
	s.write(t, c.batch(change(random(14), 0, 500)))
	s.check(t)
}

func newOwnerEndsTheWaits(t *testing.T, s *sender) {
	s.prepare(t, "d", 100_000, 1)
	done := make(chan error, 1)
	late := replication.Batch{Disk: "d", Epoch: 1, Sequence: 2, Changes: []replication.Change{zeroed(0, 10)}}
	go func() { done <- s.sink.Write(t.Context(), late) }()
	c := s.prepare(t, "d", 100_000, 2)
	// The old owner's call ends with the take-over, whether it came before or after.
	if err := <-done; !errors.Is(err, replication.ErrStaleEpoch) {
		t.Fatalf("the call of the old owner: %v, want ErrStaleEpoch", err)
	}
	s.write(t, c.batch(change(random(15), 0, 100)))
	s.write(t, c.batch(change(random(16), 0, 100)))
	s.check(t)
}

func pointNeedsAllItsMarks(t *testing.T, s *sender) {
	l, ok := s.sink.(Lister)
	if !ok {
		t.Skip("this Sink does not list its points")
	}
	a, b := s.prepare(t, "a", 1000, 1), s.prepare(t, "b", 2000, 1)
	s.write(t, a.batch(change(random(17), 0, 100)))
	want := s.mark(a, "a", "b")
	s.close(t, want)
	for _, id := range []replication.DiskID{"a", "b"} {
		if points, err := l.Points(id); err != nil || len(points) != 0 {
			t.Fatalf("after one of two marks: points of %s: %v, %v; want none", id, points, err)
		}
	}
	s.marks-- // the same point on the other disk
	second := s.mark(b, "a", "b")
	s.close(t, second)
	for _, id := range []replication.DiskID{"a", "b"} {
		points, err := l.Points(id)
		if err != nil || len(points) != 1 {
			t.Fatalf("after both marks: points of %s: %v, %v; want one", id, points, err)
		}
		p := points[0]
		if p.ID != want.Point || p.Consistency != want.Consistency || p.Tag != want.Tag || len(p.Disks) != 2 || id == "a" && !p.Time.Equal(want.Time) {
			t.Fatalf("point of %s: %+v, want what the mark says: %+v", id, p, want)
		}
	}
	s.check(t)
}
