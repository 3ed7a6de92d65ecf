package vault

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"riparo/replication"
	"riparo/replication/proof"
	"riparo/replication/vfs"
)

func TestDroppedPointsGiveTheirSpaceBack(t *testing.T) {
	disk := vfs.NewSim(1)
	o := Options{segmentBytes: 256 << 10, memoryEntries: 64}
	v := open(t, disk, "v", o)
	const size = 1 << 20
	s := newSender(t, v, "d", size)
	for i := range 24 {
		for at := int64(0); at < size; at += 256 << 10 {
			noise := make([]byte, 256<<10)
			fillNoise(noise, uint64(i)<<32|uint64(at))
			s.write(replication.Change{Extent: replication.Extent{Offset: at, Length: 256 << 10}, Data: noise})
		}
		s.mark()
	}
	full := v.Usage().StoredBytes
	if full < 24*size {
		t.Fatalf("%d bytes stored, want at least %d", full, 24*size)
	}
	var gone []replication.PointID
	for i, p := range s.points[:23] {
		if i%8 != 0 {
			gone = append(gone, p.id)
		}
	}
	s.drop(gone...)
	s.check()
	// Four points are left: 4 MiB of noise, and the segment that is being written.
	if left := v.Usage().StoredBytes; left > 4*size+1<<20 {
		t.Errorf("%d bytes stored after dropping %d of 24 points, before it were %d", left, len(gone), full)
	}
	for range 2 {
		if err := s.vault.Close(); err != nil {
			t.Fatal(err)
		}
		s.vault = open(t, disk, "v", o)
		s.check()
	}
	if err := v.Drop(t.Context(), "d", nil); !hasCode(err, CodeClosed) {
		t.Errorf("%v, want %s", err, CodeClosed)
	}
}

func TestAViewKeepsWhatItNeedsUntilItIsClosed(t *testing.T) {
	disk := vfs.NewSim(9)
	v := open(t, disk, "v", Options{segmentBytes: 64 << 10, memoryEntries: 8})
	s := newSender(t, v, "d", 200_000)
	for i := range 8 {
		noise := make([]byte, 200_000)
		fillNoise(noise, uint64(i))
		s.write(replication.Change{Extent: replication.Extent{Length: 200_000}, Data: noise})
		s.mark()
	}
	points := slices.Clone(s.points)
	var held []*View
	for _, p := range points {
		w, err := v.View(t.Context(), "d", p.id)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, w)
	}
	full := v.Usage().Segments
	s.drop(points[0].id, points[1].id, points[2].id)
	s.rewind(points[5].id)
	s.write(change(0, 100, 1))
	s.drop(points[3].id)
	if err := v.disks["d"].maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.check()
	for i, w := range held {
		if err := viewShows(w, points[i].content); err != nil {
			t.Errorf("the view of %s: %v", points[i].id, err)
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := v.disks["d"].maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := v.Usage().Segments; left > full/2 {
		t.Errorf("%d of %d segments are left after the views were closed", left, full)
	}
	s.check()
}

func TestTheNewestPointCannotBeDropped(t *testing.T) {
	v := open(t, vfs.NewSim(2), "v", Options{})
	a, b := newSender(t, v, "a", 1000), newSender(t, v, "b", 1000)
	a.write(change(0, 10, 1))
	p := a.mark()
	if err := v.Drop(t.Context(), "a", []replication.PointID{p}); err == nil {
		t.Error("the only point was dropped")
	}
	// A newer mark that is not complete does not free the newest complete point.
	a.sequence++
	half := replication.Mark{Disk: "a", Epoch: 1, Sequence: a.sequence, Point: "p00009", Size: 1000, Members: []replication.DiskID{"a", "b"}}
	if err := v.Mark(t.Context(), half); err != nil {
		t.Fatal(err)
	}
	if err := v.Drop(t.Context(), "a", []replication.PointID{p}); err == nil {
		t.Error("the newest complete point was dropped")
	}
	if points, err := v.Points("a"); err != nil || len(points) != 1 || points[0].ID != p {
		t.Errorf("points %v, %v; want only %s", points, err, p)
	}
	b.sequence++
	half.Disk, half.Sequence = "b", b.sequence
	if err := v.Mark(t.Context(), half); err != nil {
		t.Fatal(err)
	}
	if err := v.Drop(t.Context(), "a", []replication.PointID{p}); err != nil {
		t.Errorf("an older point: %v", err)
	}
}

func TestRewindForgetsTheFuture(t *testing.T) {
	v := open(t, vfs.NewSim(3), "v", Options{memoryEntries: 4})
	s := newSender(t, v, "d", 200_000)
	for i := range 10 {
		s.write(change(int64(i)*15_000, 30_000, byte(i)))
		s.mark()
	}
	held, err := v.View(t.Context(), "d", "p00009")
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	want := s.points[8].content
	s.rewind("p00004")
	s.check()
	if err := v.Write(t.Context(), replication.Batch{Disk: "d", Epoch: 1, Sequence: s.sequence + 1, Changes: []replication.Change{change(0, 1, 1)}}); err == nil {
		t.Error("whoever wrote the forgotten future may still write")
	}
	s.write(change(0, 100_000, 50))
	s.marks = 20
	s.mark()
	s.check()
	if err := viewShows(held, want); err != nil {
		t.Errorf("a view of a forgotten point: %v", err)
	}
	// A name of the forgotten future may be used again: that point does not exist.
	s.marks = 8
	s.mark()
	s.check()
}

// Opening any of many points costs little, whatever its age. RIPARO_POINTS sets how
// many there are.
func TestManyPointsOpenQuickly(t *testing.T) {
	count := proof.Times(t, "RIPARO_POINTS", 1500)
	const size, perPoint = 1 << 30, 100
	disk := vfs.NewSim(4) // no waiting for fsync
	o := Options{memoryEntries: runEntries * count / 20_000}
	v := open(t, disk, "v", o)
	s := newSender(t, v, "d", 0)
	if _, err := v.Prepare(t.Context(), replication.Disk{ID: "d", Size: size}, 1); err != nil {
		t.Fatal(err)
	}
	// Block b of the disk holds the number of the last point that wrote it.
	written := map[int64][]int{}
	begin := time.Now()
	for i := range count {
		s.sequence++
		b := replication.Batch{Disk: "d", Epoch: 1, Sequence: s.sequence}
		for k := range int64(perPoint) {
			at := (int64(i)*7919 + k*131) % (size / blockBytes)
			data := []byte(fmt.Sprintf("point %08d of block %08d", i, at))
			b.Changes = append(b.Changes, replication.Change{Extent: replication.Extent{Offset: at * blockBytes, Length: int64(len(data))}, Data: data})
			written[at] = append(written[at], i)
		}
		if err := v.Write(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		s.sequence++
		m := replication.Mark{Disk: "d", Epoch: 1, Sequence: s.sequence, Point: replication.PointID(fmt.Sprintf("p%08d", i)), Time: time.Unix(int64(i), 0), Size: size}
		if err := v.Mark(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d points written in %v", count, time.Since(begin).Round(time.Millisecond))
	look := func() {
		t.Helper()
		var longest time.Duration
		for n := range 40 {
			i := (count - 1) * n / 39
			begin := time.Now()
			w, err := v.View(t.Context(), "d", replication.PointID(fmt.Sprintf("p%08d", i)))
			if err != nil {
				t.Fatal(err)
			}
			p := make([]byte, 32)
			for at, points := range written {
				last := -1
				for _, k := range points {
					if k <= i {
						last = k
					}
				}
				want := make([]byte, 32)
				if last >= 0 {
					copy(want, fmt.Sprintf("point %08d of block %08d", last, at))
				}
				if _, err := w.ReadAt(p, at*blockBytes); err != nil {
					t.Fatal(err)
				}
				if string(p) != string(want) {
					t.Fatalf("point %d, block %d: %q, want %q", i, at, p, want)
				}
				break // one block of each view, another one each time
			}
			longest = max(longest, time.Since(begin))
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
		}
		d := v.disks["d"]
		d.mu.Lock()
		files := len(d.tiles) + len(d.folds)
		d.mu.Unlock()
		t.Logf("opening a point and reading a block took %v at most; %d map files", longest.Round(time.Microsecond), files)
		if longest > time.Second {
			t.Errorf("opening a point took %v", longest)
		}
	}
	look()
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	begin = time.Now()
	v = open(t, disk, "v", o)
	t.Logf("the vault opened in %v", time.Since(begin).Round(time.Millisecond))
	look()
}

// Everything at once, for the race detector: senders, readers, drops, maintenance.
func TestManyMayUseAVaultAtOnce(t *testing.T) {
	v := open(t, vfs.OS(), t.TempDir(), Options{segmentBytes: 256 << 10, memoryEntries: 50})
	var senders, readers sync.WaitGroup
	done := make(chan struct{})
	ids := []replication.DiskID{"a", "b", "c"}
	for _, id := range ids {
		s := newSender(t, v, id, 500_000)
		senders.Go(func() {
			for i := range 30 {
				var batches []replication.Batch
				for k := range 4 {
					batches = append(batches, s.batch(change(int64(i*k*1013%450_000), 40_000, byte(i+k))))
				}
				var wait sync.WaitGroup
				for _, b := range slices.Backward(batches) {
					wait.Go(func() {
						if err := v.Write(t.Context(), b); err != nil {
							t.Error(err)
						}
					})
				}
				wait.Wait()
				s.mark()
				if i%10 == 9 {
					s.drop(s.points[1].id, s.points[3].id)
				}
			}
			s.check()
		})
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				points, err := v.Points(id)
				if err != nil || len(points) == 0 {
					continue
				}
				w, err := v.View(t.Context(), id, points[len(points)-1].ID)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := readAll(w); err != nil {
					t.Error(err)
				}
				if err := w.Close(); err != nil {
					t.Error(err)
				}
				v.Usage()
				v.Disks()
				v.Totals()
				if _, err := v.Hashes(t.Context(), id, replication.Extent{Length: 500_000}, 64<<10); err != nil {
					t.Error(err)
				}
			}
		})
	}
	senders.Wait()
	close(done)
	readers.Wait()
	if report, err := v.Verify(t.Context(), VerifyOptions{}); err != nil || len(report.Damage) > 0 {
		t.Errorf("%+v, %v", report, err)
	}
	// A vault that is closed under its users tells them, and nothing else happens.
	s := newSender(t, v, "z", 100_000)
	var wait sync.WaitGroup
	for range 4 {
		b := s.batch(change(0, 1000, 1))
		wait.Go(func() {
			if err := v.Write(t.Context(), b); err != nil && !hasCode(err, CodeClosed) {
				t.Error(err)
			}
		})
	}
	if err := v.Close(); err != nil {
		t.Error(err)
	}
	wait.Wait()
}

func TestOneFsyncServesManyBatches(t *testing.T) {
	disk := vfs.NewSim(5)
	v := open(t, disk, "v", Options{})
	s := newSender(t, v, "d", 1<<20)
	var batches []replication.Batch
	for i := range window {
		batches = append(batches, s.batch(change(int64(i)*1000, 1000, byte(i))))
	}
	before := disk.Operations()
	if err := v.writeTogether(t.Context(), batches, nil); err != nil {
		t.Fatal(err)
	}
	if n := disk.Operations() - before; n != 2 {
		t.Errorf("%d batches took %d operations, want one write and one sync", len(batches), n)
	}
	s.check()
}

func TestHashesTellZeroWithoutReading(t *testing.T) {
	disk := vfs.NewSim(6)
	v := open(t, disk, "v", Options{})
	const chunk = 4096
	s := newSender(t, v, "d", 10*chunk+100)
	s.write(change(2*chunk, 2*chunk, 1), replication.Change{Extent: replication.Extent{Offset: 5 * chunk, Length: 300}})
	s.write(change(10*chunk, 100, 2))
	sums, err := v.Hashes(t.Context(), "d", replication.Extent{Length: int64(len(s.head))}, chunk)
	if err != nil || len(sums) != 11 {
		t.Fatalf("%d sums, %v; want 11", len(sums), err)
	}
	for i, sum := range sums {
		if want := replication.SumOf(s.head[i*chunk : min((i+1)*chunk, len(s.head))]); sum != want {
			t.Errorf("chunk %d: %x, want %x", i, sum, want)
		}
	}
	part, err := v.Hashes(t.Context(), "d", replication.Extent{Offset: 2 * chunk, Length: chunk + 10}, chunk)
	if err != nil || len(part) != 2 || part[0] != sums[2] || part[1] != replication.SumOf(s.head[3*chunk:3*chunk+10]) {
		t.Errorf("a part: %x, %v", part, err)
	}
	for name, e := range map[string]replication.Extent{"outside": {Offset: 11 * chunk, Length: 1}, "negative": {Offset: -1, Length: 1}} {
		if _, err := v.Hashes(t.Context(), "d", e, chunk); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := v.Hashes(t.Context(), "d", replication.Extent{Length: 1}, 0); err == nil {
		t.Error("chunks of 0 bytes: no error")
	}
}

func TestDisksTellWhatTheyHold(t *testing.T) {
	v := open(t, vfs.NewSim(7), "v", Options{})
	s := newSender(t, v, "d", 1<<20)
	s.write(change(0, 300_000, 1), replication.Change{Extent: replication.Extent{Offset: 400_000, Length: 100_000}})
	s.mark()
	s.write(replication.Change{Extent: replication.Extent{Offset: 0, Length: 100_000}})
	newSender(t, v, "e", 5)
	list := v.Disks()
	if len(list) != 2 || list[0].Disk.ID != "d" || list[1].Disk.ID != "e" {
		t.Fatalf("%+v, want d and e", list)
	}
	d := list[0]
	if d.Points != 1 || d.LogicalBytes != 200_000 || d.StoredBytes < 4096 || d.Damaged != 0 || d.Trouble != nil || !d.Unmarked || d.Sequence != 3 || d.Point != "p00001" {
		t.Errorf("%+v", d)
	}
	points, err := v.Points("d")
	if err != nil || len(points) != 1 || points[0].ChangedBytes != 400_000 || points[0].StoredBytes <= 0 {
		t.Errorf("%+v, %v; want a point that changed 400,000 bytes", points, err)
	}
	u := v.Usage()
	if u.LogicalBytes != 200_000 || u.StoredBytes != d.StoredBytes+list[1].StoredBytes || u.Segments != 2 || u.TotalBytes == 0 {
		t.Errorf("%+v", u)
	}
}

func TestAnErasedDiskIsGoneAndItsNameFree(t *testing.T) {
	disk := vfs.NewSim(8)
	v := open(t, disk, "v", Options{})
	a, b := newSender(t, v, "a", 1000), newSender(t, v, "b", 1000)
	for _, s := range []*sender{a, b} {
		s.write(change(0, 500, 1))
		s.sequence++
		m := replication.Mark{Disk: s.id, Epoch: 1, Sequence: s.sequence, Point: "both", Size: 1000, Members: []replication.DiskID{"a", "b"}}
		if err := v.Mark(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	w, err := v.View(t.Context(), "b", "")
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Erase(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	if _, err := v.State("b"); err == nil {
		t.Error("an erased disk has a state")
	}
	// The point of the machine is still a point of the disk that is left.
	points, err := v.Points("a")
	if err != nil || len(points) != 1 || !slices.Equal(points[0].Disks, []replication.DiskID{"a"}) {
		t.Errorf("points of the other disk: %+v, %v", points, err)
	}
	b = newSender(t, v, "b", 2000)
	b.write(change(0, 1500, 2))
	b.mark()
	if err := w.Close(); err != nil {
		t.Errorf("closing a view of an erased disk: %v", err)
	}
	b.check()
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	b.vault = open(t, disk, "v", Options{})
	b.check()
}
