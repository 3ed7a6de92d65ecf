package vault

import (
	"errors"
	"slices"
	"testing"

	"riparo/replication"
	"riparo/replication/vfs"
)

// A seal whose fsync failed is seen until the power goes. The next opening makes it once
// more: the segment that follows, which says too where the records end, may die.
func TestASealWhoseFsyncFailedIsMadeOnceMore(t *testing.T) {
	for seed := range uint64(20) {
		disk := vfs.NewSim(seed)
		o := Options{segmentBytes: 64 << 10}
		s := newSender(t, open(t, disk, "v", o), "d", 1<<20)
		noise := make([]byte, 12_000)
		fillNoise(noise, seed)
		d, b := s.vault.disks["d"], replication.Batch{}
		for number := d.log.current.number; ; {
			b = s.batch(replication.Change{Extent: replication.Extent{Offset: int64(s.sequence) * 12_000, Length: 12_000}, Data: noise})
			if d.log.current.end+12_000 > o.segmentBytes {
				disk.FailSync(0)
				break
			}
			if err := s.vault.Write(t.Context(), b); err != nil {
				t.Fatal(err)
			}
			if d.log.current.number != number {
				t.Fatal("it was sealed before its fsync could fail")
			}
		}
		if err := s.vault.Write(t.Context(), b); !hasCode(err, CodeBroken) {
			t.Fatalf("seed %d: %v, want %s", seed, err, CodeBroken)
		}
		s.vault.kill()
		s.vault = open(t, disk, "v", o)
		after := disk.Clone().Restart()
		r, err := openSegment(after, d.folder, 1)
		if err != nil {
			t.Fatal(err)
		}
		if r.trailer == nil {
			t.Errorf("seed %d: segment 1 has no footer after a power cut", seed)
		} else if _, err := r.footer(); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
		if err := r.close(); err != nil {
			t.Fatal(err)
		}
		if err := s.vault.Write(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		s.check()
	}
}

// afterCuts opens a vault on copies of a disk, with the power cut at every step of that
// and at last after it, and calls look for what is there in the end.
func afterCuts(t *testing.T, disk *vfs.Sim, o Options, look func(v *Vault, disk *vfs.Sim)) {
	t.Helper()
	for n := 0; ; n++ {
		copied := disk.Clone()
		copied.CutPower(n)
		v, err := Open(t.Context(), copied, "v", keyed(o))
		ended := err == nil && !copied.PowerIsCut()
		if v != nil {
			v.kill()
		}
		after := copied.Restart()
		v = open(t, after, "v", o)
		look(v, after)
		v.kill()
		if ended {
			return
		}
	}
}

func TestAnErasingIsCertainBeforeItGoesOn(t *testing.T) {
	for seed := range uint64(10) {
		disk := vfs.NewSim(seed)
		o := Options{segmentBytes: 64 << 10, manual: true}
		s := newSender(t, open(t, disk, "v", o), "d", 1<<20)
		s.write(change(0, 20_000, 1))
		s.mark()
		disk.FailSyncDir(0)
		if err := s.vault.Erase(t.Context(), "d"); err == nil {
			t.Fatal("it was erased though the fsync of its folder failed")
		}
		s.vault.kill()
		afterCuts(t, disk, o, func(v *Vault, _ *vfs.Sim) {
			if _, err := v.State("d"); errors.Is(err, replication.ErrUnknownDisk) {
				return
			}
			s.vault = v
			s.check() // it is there, then all of it is
		})
	}
}

func TestTheFolderOfANewDiskIsCertain(t *testing.T) {
	for seed := range uint64(20) {
		disk := vfs.NewSim(seed)
		v := open(t, disk, "v", Options{})
		disk.FailSyncDir(0)
		if _, err := v.Prepare(t.Context(), replication.Disk{ID: "d", Size: 1 << 20}, 1); err == nil {
			t.Fatal("it was prepared though the fsync of a folder failed")
		}
		s := newSender(t, v, "d", 1<<20)
		s.write(change(0, 20_000, 1))
		s.mark()
		v.kill()
		s.vault = open(t, disk.Restart(), "v", Options{})
		s.check()
	}
}

// The first record of a disk may be written once more, into a segment that has none
// before it. What lies in earlier ones then is no part of the log.
func TestADiskWhoseBeginningWasWrittenTwiceBeginsOnce(t *testing.T) {
	twice := 0
	for seed := range uint64(20) {
		disk := vfs.NewSim(seed)
		v := open(t, disk, "v", Options{manual: true})
		for n := 0; ; n++ { // the fsync of the segment is one of the first
			disk.FailSync(n)
			_, err := v.Prepare(t.Context(), replication.Disk{ID: "d", Size: 1 << 20}, 1)
			if _, missing := disk.Stat(segmentPath("d", 1)); err != nil && missing == nil {
				break
			}
			if err == nil {
				t.Fatalf("seed %d: it was prepared, and no fsync of its segment failed", seed)
			}
		}
		v.kill()
		disk.FailSync(1) // the first is that of the vault file
		v = open(t, disk, "v", Options{manual: true})
		if d := v.disks["d"]; d != nil && d.sick != nil {
			twice++
		}
		v.kill()
		disk.FailSync(1 << 30)
		afterCuts(t, disk, Options{manual: true}, func(v *Vault, disk *vfs.Sim) {
			if _, err := v.Prepare(t.Context(), replication.Disk{ID: "d", Size: 2 << 20}, 1); err != nil {
				t.Fatal(err)
			}
			v.kill()
			v = open(t, disk.Restart(), "v", Options{manual: true})
			if state, err := v.State("d"); err != nil || state.Disk.Size != 2<<20 {
				t.Errorf("seed %d: a disk that was prepared with 2 MiB is %+v, %v", seed, state, err)
			}
			v.kill()
		})
	}
	if twice < 10 {
		t.Errorf("the record was in doubt twice %d times in 20: this proves nothing", twice)
	}
}

// A record that was durable is damaged, and the one behind it is in doubt: what is
// appended from then on counts.
func TestTheLogGoesOnBehindADamagedEnd(t *testing.T) {
	disk := vfs.NewSim(1)
	s := newSender(t, open(t, disk, "v", Options{manual: true}), "d", 1<<20)
	for i := range int64(4) {
		s.write(change(i*20_000, 9_000, byte(i)))
	}
	s.vault.kill()
	r, err := openSegment(disk, s.vault.diskFolder("d"), 1)
	if err != nil {
		t.Fatal(err)
	}
	records, _, err := (&replayer{disk: newDisk(s.vault, "d")}).records(r, -1)
	if err = errors.Join(err, r.close()); err != nil || len(records) != 5 {
		t.Fatalf("%d records, %v; want 5", len(records), err)
	}
	if err := disk.FlipBit(segmentPath("d", 1), 8*records[3].position); err != nil {
		t.Fatal(err)
	}
	s.vault = open(t, disk, "v", Options{manual: true})
	state, err := s.vault.State("d")
	if err != nil {
		t.Fatal(err)
	}
	s.sequence = state.Sequence
	s.write(change(200_000, 9_000, 7))
	s.vault.kill()
	for range 2 {
		s.vault = open(t, disk, "v", Options{manual: true})
		if state, err := s.vault.State("d"); err != nil || state.Sequence != s.sequence {
			t.Errorf("sequence %d was acknowledged, and after opening it is %d, %v", s.sequence, state.Sequence, err)
		}
		if _, err := s.vault.View(t.Context(), "d", ""); err == nil {
			t.Error("the disk is shown, though a record of it is lost")
		}
		s.vault.kill()
		disk = disk.Restart()
	}
}

// A segment that nothing needs is removed when that is certain: whatever fails on the
// way, and whether a view ends then or the vault is opened again.
func TestWhatGoesIsNotNeededByWhatIsCertain(t *testing.T) {
	failed := 0
	for seed := range uint64(6) {
		for n := range 10 {
			disk := vfs.NewSim(seed)
			o := Options{segmentBytes: 32 << 10, manual: true}
			s := newSender(t, open(t, disk, "v", o), "d", 30_000)
			if err := s.vault.disks["d"].flush(t.Context()); err != nil { // a catalog that knows little
				t.Fatal(err)
			}
			var points []replication.PointID
			noise := make([]byte, 9_000)
			for i := range 24 {
				fillNoise(noise, uint64(i))
				s.write(replication.Change{Extent: replication.Extent{Offset: int64(i%3) * 10_000, Length: 9_000}, Data: slices.Clone(noise)})
				if i%4 == 3 {
					points = append(points, s.mark())
				}
			}
			w, err := s.vault.View(t.Context(), "d", points[0])
			if err != nil {
				t.Fatal(err)
			}
			if n%2 == 0 {
				disk.FailSync(1 + n/2) // the first one is of the drop itself
			} else {
				disk.FailSyncDir(n / 2)
			}
			if err := s.vault.Drop(t.Context(), "d", points[:4]); err != nil {
				continue // the drop itself met it
			}
			s.points = s.points[4:]
			if s.vault.disks["d"].trouble != nil {
				failed++
			}
			disk.FailSync(1 << 30)
			disk.FailSyncDir(1 << 30)
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			s.vault.kill()
			kept := s.vault
			s.vault = open(t, disk.Clone().Restart(), "v", o)
			s.check()
			s.vault.kill()
			kept.kill()
			afterCuts(t, disk, o, func(v *Vault, _ *vfs.Sim) { s.vault = v; s.check() })
		}
	}
	if failed < 10 {
		t.Errorf("only %d of 60 drops met a failure: this proves nothing", failed)
	}
}

// Without room, what a crash left in doubt is shown. It is no witness of itself: when the
// power takes it away, nothing is missing.
func TestWhatIsInDoubtIsNoWitness(t *testing.T) {
	for seed := range uint64(20) {
		disk := vfs.NewSim(seed)
		s := newSender(t, open(t, disk, "v", Options{}), "d", 1<<20)
		s.write(change(0, 20_000, 1))
		s.mark()
		before := slices.Clone(s.head)
		disk.FailSync(0)
		if err := s.vault.Write(t.Context(), s.batch(change(30_000, 9_000, 2))); !hasCode(err, CodeBroken) {
			t.Fatalf("seed %d: %v, want %s", seed, err, CodeBroken)
		}
		s.vault.kill()
		space, err := disk.Space("v")
		if err != nil {
			t.Fatal(err)
		}
		disk.SetCapacity(space.Total - space.Free + 2500)
		v := open(t, disk, "v", Options{manual: true})
		if !v.disks["d"].roomless {
			t.Fatalf("seed %d: there was room: this proves nothing", seed)
		}
		v.kill()
		disk.SetCapacity(0)
		v = open(t, disk.Restart(), "v", Options{})
		if state, err := v.State("d"); err != nil || state.Sequence == 2 {
			s.head = before // it went
		}
		s.vault = v
		s.check()
	}
}
