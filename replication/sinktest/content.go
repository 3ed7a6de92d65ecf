package sinktest

import (
	"testing"

	"riparo/replication"
)

func prepareMakesADisk(t *testing.T, s *sender) {
	s.prepare(t, "web01.vda", 1<<20, 3)
	s.check(t)
}

func prepareTwiceIsHarmless(t *testing.T, s *sender) {
	c := s.prepare(t, "d", 100_000, 1)
	s.write(t, c.batch(change(random(1), 10, 5000)))
	s.close(t, s.mark(c))
	s.write(t, c.batch(change(random(2), 9000, 5000)))
	for range 3 {
		s.prepare(t, "d", 100_000, 1)
	}
	s.check(t)
}

func prepareRefusesBadDisks(t *testing.T, s *sender) {
	for _, d := range []replication.Disk{{ID: ""}, {ID: "../up"}, {ID: "-x"}, {ID: "a/b"}, {ID: "d", Size: -1}} {
		if _, err := s.sink.Prepare(t.Context(), d, 1); err == nil {
			t.Errorf("prepare %+v: no error", d)
		}
	}
}

func whatWasWrittenIsRead(t *testing.T, s *sender) {
	c := s.prepare(t, "d", 3<<20, 1)
	r := random(3)
	s.write(t, c.batch(change(r, 0, 1), change(r, 511, 2), change(r, 65_535, 2), change(r, 131_072, 65_536)))
	s.write(t, c.batch(change(r, 1<<20, 1<<20)))
	s.write(t, c.batch(change(r, 1<<20+700, 100), zeroed(1<<20+5000, 300_000)))
	s.write(t, c.batch(change(r, 3<<20-1, 1), zeroed(100, 50))) // not in ascending order
	s.check(t)
}

func everyPointGivesBackItsDisk(t *testing.T, s *sender) {
	c := s.prepare(t, "d", 300_001, 1)
	r := random(4)
	for range 12 {
		offset := r.Int64N(c.disk.Size)
		s.write(t, c.batch(change(r, offset, min(c.disk.Size-offset, 1+r.Int64N(100_000)))))
		s.close(t, s.mark(c))
	}
	s.close(t, s.mark(c)) // a point without a change
	s.check(t)
}

func diskMayHaveAnySize(t *testing.T, s *sender) {
	for i, size := range []int64{0, 1, 511, 512, 513, 65_535, 65_536, 65_537, 1<<20 + 7} {
		id := replication.DiskID("d" + string(rune('0'+i)))
		c := s.prepare(t, id, size, 1)
		if size > 0 {
			s.write(t, c.batch(change(random(uint64(size)), 0, min(size, replication.MaxChangeBytes))))
			s.write(t, c.batch(change(random(5), size-1, 1)))
		}
		s.close(t, s.mark(c))
	}
	s.check(t)
}

func diskGrowsWithZeroes(t *testing.T, s *sender) {
	c := s.prepare(t, "d", 1000, 1)
	s.write(t, c.batch(change(random(6), 0, 1000)))
	s.close(t, s.mark(c))
	c = s.prepare(t, "d", 200_000, 1)
	s.check(t)
	s.write(t, c.batch(change(random(7), 150_000, 1000)))
	s.close(t, s.mark(c))
	s.check(t)
}

func whatWasCutOffComesBackAsZero(t *testing.T, s *sender) {
	c := s.prepare(t, "d", 200_000, 1)
	s.write(t, c.batch(change(random(8), 0, 200_000)))
	s.close(t, s.mark(c))
	c = s.prepare(t, "d", 70_001, 1)
	s.close(t, s.mark(c))
	c = s.prepare(t, "d", 130_000, 1)
	s.close(t, s.mark(c))
	s.check(t)
}

func zeroChangesMayBeLong(t *testing.T, s *sender) {
	c := s.prepare(t, "d", 24<<20, 1)
	s.write(t, c.batch(change(random(9), 5<<20, 1<<20)))
	s.close(t, s.mark(c))
	s.write(t, c.batch(zeroed(1, 24<<20-2)))
	s.close(t, s.mark(c))
	s.check(t)
}

func largestBatchIsTaken(t *testing.T, s *sender) {
	c := s.prepare(t, "d", 8<<20, 1)
	r := random(10)
	var large []replication.Change
	for at := int64(0); at < replication.MaxBatchBytes; at += replication.MaxChangeBytes {
		large = append(large, change(r, at+3, replication.MaxChangeBytes))
	}
	s.write(t, c.batch(large...))
	var many []replication.Change
	for i := range int64(replication.MaxBatchChanges) {
		many = append(many, change(r, i*1500, 1000))
	}
	s.write(t, c.batch(many...))
	s.close(t, s.mark(c))
	s.check(t)
}

func sinkKeepsNoData(t *testing.T, s *sender) {
	c := s.prepare(t, "d", 1<<20, 1)
	b := c.batch(change(random(11), 0, 100_000), change(random(0), 500_000, 100_000))
	s.write(t, b)
	for _, x := range b.Changes {
		clear(x.Data)
	}
	s.close(t, s.mark(c))
	s.check(t)
}

func unmarkedDataIsTold(t *testing.T, s *sender) {
	c := s.prepare(t, "d", 100_000, 1)
	s.check(t) // nothing yet
	s.write(t, c.batch(zeroed(0, 10)))
	s.check(t) // no point yet
	s.close(t, s.mark(c))
	s.check(t)
	s.write(t, c.batch(change(random(12), 0, 10)))
	s.check(t)
}

func badBatchesAreRefused(t *testing.T, s *sender) {
	c := s.prepare(t, "d", 8<<20, 1)
	s.write(t, c.batch(change(random(13), 0, 4096)))
	small := change(random(14), 0, 10)
	many := make([]replication.Change, replication.MaxBatchChanges+1)
	for i := range many {
		many[i] = change(random(0), int64(i)*16, 8)
	}
	var large []replication.Change
	for at := int64(0); at <= replication.MaxBatchBytes; at += replication.MaxChangeBytes {
		large = append(large, change(random(0), at, replication.MaxChangeBytes))
	}
	for name, changes := range map[string][]replication.Change{
		"no change":            nil,
		"too many changes":     many,
		"too much data":        large,
		"too long a change":    {change(random(0), 0, replication.MaxChangeBytes+1)},
		"outside of the disk":  {change(random(0), c.disk.Size-5, 6)},
		"a negative offset":    {{Extent: replication.Extent{Offset: -1, Length: 10}, Data: make([]byte, 10)}},
		"an overflowing end":   {zeroed(1, 1<<63-1)},
		"no length":            {zeroed(5, 0)},
		"too little data":      {{Extent: replication.Extent{Length: 11}, Data: small.Data}},
		"changes that overlap": {change(random(0), 100, 10), change(random(0), 105, 10)},
	} {
		bad := replication.Batch{Disk: "d", Epoch: 1, Sequence: c.sequence + 1, Changes: changes}
		if err := s.sink.Write(t.Context(), bad); err == nil {
			t.Fatalf("a batch with %s was taken", name)
		}
	}
	s.check(t)
	s.write(t, c.batch(small)) // the sequence is still free
	s.check(t)
}

func acknowledgedSurvivesReopening(t *testing.T, s *sender) {
	if _, ok := s.sink.(Reopener); !ok {
		t.Skip("this Sink cannot be reopened")
	}
	r := random(15)
	a, b := s.prepare(t, "a", 300_000, 1), s.prepare(t, "b", 100_001, 7)
	for round := range 4 {
		for _, c := range []*copied{a, b} {
			s.write(t, c.batch(change(r, r.Int64N(50_000), 50_000)))
			s.close(t, s.mark(c))
			if round%2 == 0 {
				s.write(t, c.batch(change(r, r.Int64N(50_000), 500)))
			}
		}
		s.sink = s.sink.(Reopener).Reopen(t)
		s.check(t)
	}
}

// randomWalk sends many batches, several at once, and compares at the end.
func randomWalk(t *testing.T, s *sender) {
	const seed = 16
	r := random(seed)
	c := s.prepare(t, "d", 2<<20+77, 1)
	for range 30 {
		var batches []replication.Batch
		for range 1 + r.IntN(6) {
			offset := r.Int64N(c.disk.Size)
			length := min(c.disk.Size-offset, 1+r.Int64N(90_000))
			if r.IntN(4) == 0 {
				batches = append(batches, c.batch(zeroed(offset, length)))
			} else {
				batches = append(batches, c.batch(change(r, offset, length)))
			}
		}
		s.together(t, batches)
		if r.IntN(3) == 0 {
			s.close(t, s.mark(c))
		}
		if reopener, ok := s.sink.(Reopener); ok && r.IntN(10) == 0 {
			s.sink = reopener.Reopen(t)
		}
	}
	t.Logf("seed %d", seed)
	s.check(t)
}
