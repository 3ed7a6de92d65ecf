package vault

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"riparo/replication"
	"riparo/replication/vfs"
)

// noiseAt is a change that takes its length in the vault.
func noiseAt(offset, length int64, seed uint64) replication.Change {
	data := make([]byte, length)
	fillNoise(data, seed)
	return replication.Change{Extent: replication.Extent{Offset: offset, Length: length}, Data: data}
}

// smallLimits suit a file system of 16 MiB.
func smallLimits() Limits {
	return Limits{Warn: Watermark{Fraction: 0.5}, Slow: Watermark{Bytes: 6 << 20}, Stop: Watermark{Fraction: 0.125}}
}

func TestWatermarksWarnThenSlowThenStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewSim(1)
		disk.SetCapacity(16 << 20)
		v := open(t, disk, "v", Options{segmentBytes: 1 << 20, manual: true})
		s := newSender(t, v, "d", 32<<20)
		if err := v.SetLimits(smallLimits()); err != nil {
			t.Fatal(err)
		}
		var levels []Level
		var refused error
		waited := map[Level]time.Duration{}
		for i := range int64(64) {
			level := v.Pressure().Level
			if n := len(levels); n == 0 || levels[n-1] != level {
				levels = append(levels, level)
			}
			begin := time.Now()
			if refused = v.Write(t.Context(), s.batch(noiseAt(i<<19, 1<<19, uint64(i)))); refused != nil {
				s.sequence--
				break
			}
			waited[level] = max(waited[level], time.Since(begin))
		}
		if want := []Level{Roomy, Warning, Slowed}; len(levels) < 3 || levels[0] != want[0] || levels[1] != want[1] || levels[2] != want[2] {
			t.Errorf("levels %v, want %v in this order", levels, want)
		}
		// The write that crosses the line waits a little already.
		if waited[Roomy] > 0 || waited[Warning] > waited[Slowed]/10 || waited[Slowed] < longestDelay/16 || waited[Slowed] > longestDelay/8 {
			t.Errorf("waited %v: want only slowed writes to wait, in the end nearly %v for 512 KiB", waited, longestDelay/8)
		}
		if p := replication.AsProblem(refused); p == nil || p.Code != CodeWatermark || p.Remedy != replication.Retry {
			t.Fatalf("%v, want %s that is tried again", refused, CodeWatermark)
		}
		space, err := disk.Space("v")
		if err != nil {
			t.Fatal(err)
		}
		if space.Free < 2<<20-(1<<19) {
			t.Errorf("%d bytes are free: writes went on below the watermark", space.Free)
		}

		// All else works, and room comes back by letting points go.
		copy(s.head, make([]byte, len(s.head)))
		for range 3 {
			s.mark()
		}
		if err := v.Pin(t.Context(), "d", "p00001"); err != nil {
			t.Errorf("pin: %v", err)
		}
		w, err := v.View(t.Context(), "d", "p00001")
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if err := v.Drop(t.Context(), "d", []replication.PointID{"p00002"}); err != nil {
			t.Errorf("drop: %v", err)
		}
		disk.SetCapacity(64 << 20)
		time.Sleep(measureAfter)
		s.write(noiseAt(0, 1<<19, 99))
	})
}

func TestADiskMayTakeWhatItMayAndNoMore(t *testing.T) {
	const limit = 4 << 20
	v := open(t, vfs.OS(), t.TempDir(), Options{segmentBytes: 1 << 20, manual: true})
	thinned := 0
	if err := v.SetLimits(Limits{DiskBytes: limit, Thin: func(context.Context) { thinned++ }}); err != nil {
		t.Fatal(err)
	}
	s, other := newSender(t, v, "d", 32<<20), newSender(t, v, "e", 1<<20)
	var err error
	for i := range int64(64) {
		if err = v.Write(t.Context(), s.batch(noiseAt(i<<18, 1<<18, uint64(i)))); err != nil {
			s.sequence--
			break
		}
	}
	if !hasCode(err, CodeDiskLimit) {
		t.Fatalf("%v, want %s", err, CodeDiskLimit)
	}
	if stored, _ := v.disks["d"].storedBytes(); stored > limit || stored < limit/2 {
		t.Errorf("the disk takes %d bytes, want at most %d and not much less", stored, limit)
	}
	s.mark()
	other.write(noiseAt(0, 1<<18, 1))
	if len(v.thin) != 1 {
		t.Error("nobody was asked to thin")
	}
}

// TestWhatIsUnderWayCounts lets two batches ask at once where only one fits.
func TestWhatIsUnderWayCounts(t *testing.T) {
	v := open(t, vfs.OS(), t.TempDir(), Options{manual: true})
	newSender(t, v, "d", 32<<20)
	d := v.disks["d"]
	stored, _ := d.storedBytes()
	if err := v.SetLimits(Limits{DiskBytes: stored + 3<<20}); err != nil {
		t.Fatal(err)
	}
	b := replication.Batch{Disk: "d", Epoch: 1, Sequence: 1, Changes: []replication.Change{noiseAt(0, 2<<20, 1)}}
	leave, err := v.enter(t.Context(), d, &b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.enter(t.Context(), d, &b); !hasCode(err, CodeDiskLimit) {
		t.Errorf("a second one: %v, want %s", err, CodeDiskLimit)
	}
	leave(false)
	if leave, err = v.enter(t.Context(), d, &b); err != nil {
		t.Errorf("when the first has gone: %v", err)
	} else {
		leave(false)
	}
}

// TestAFullFileSystemStillClosesAndDropsPoints fills the last byte, as another program
// may. Locks are possible too.
func TestAFullFileSystemStillClosesAndDropsPoints(t *testing.T) {
	for _, reserve := range []int64{1 << 20, 0} {
		disk := vfs.NewSim(3)
		disk.SetCapacity(16 << 20)
		// The clock stands: the vault does not measure again before it writes.
		v := open(t, disk, "v", Options{segmentBytes: 1 << 20, manual: true, Clock: func() time.Time { return time.Unix(99, 0) }})
		s := newSender(t, v, "d", 4<<20)
		if err := v.SetLimits(Limits{Reserve: reserve}); err != nil {
			t.Fatal(err)
		}
		for i := range int64(4) {
			s.write(noiseAt(i<<20, 1<<20, uint64(i)))
			s.mark()
		}
		space, err := disk.Space("v")
		if err != nil {
			t.Fatal(err)
		}
		disk.SetCapacity(space.Total - space.Free)
		if err := v.Write(t.Context(), s.batch(noiseAt(0, 1<<20, 9))); !hasCode(err, CodeFull) {
			t.Fatalf("write: %v, want %s", err, CodeFull)
		}
		if _, err := disk.Stat("v/" + reserveName); (err == nil) != (reserve > 0) {
			t.Errorf("the reserve after a write that did not fit: %v", err)
		}
		s.sequence--
		m := replication.Mark{Disk: "d", Epoch: 1, Sequence: s.sequence + 1, Point: "last", Time: time.Unix(99, 0), Size: 4 << 20}
		err = v.Lock(t.Context(), "d", []replication.PointID{s.points[1].id}, time.Unix(9999, 0)) // its time is saved before
		if ok := err == nil; ok != (reserve > 0) {
			t.Errorf("lock a point with a reserve of %d bytes: %v", reserve, err)
		}
		err = errors.Join(v.Mark(t.Context(), m), v.Drop(t.Context(), "d", []replication.PointID{s.points[0].id}))
		if ok := err == nil; ok != (reserve > 0) {
			t.Errorf("with a reserve of %d bytes: %v", reserve, err)
		}
	}
}
