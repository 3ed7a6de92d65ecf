package vault

import (
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"riparo/replication"
	"riparo/replication/vfs"
)

// refusing is a file system that refuses, while it is told to, to read a part of the files
// whose names end like one. The error passes with it.
type refusing struct {
	vfs.FS
	end      string
	from, to int64
	on       *atomic.Bool
}

type refusingFile struct {
	vfs.File
	by refusing
}

func (f refusingFile) ReadAt(p []byte, at int64) (int, error) {
	if f.by.on.Load() && at < f.by.to && f.by.from < at+int64(len(p)) {
		return 0, &fs.PathError{Op: "read", Path: f.by.end, Err: vfs.ErrIO}
	}
	return f.File.ReadAt(p, at)
}

func (r refusing) wrap(name string, f vfs.File, err error) (vfs.File, error) {
	if err == nil && strings.HasSuffix(filepath.ToSlash(name), r.end) {
		return refusingFile{f, r}, nil
	}
	return f, err
}

func (r refusing) OpenRead(name string) (vfs.File, error) {
	f, err := r.FS.OpenRead(name)
	return r.wrap(name, f, err)
}

func (r refusing) Open(name string) (vfs.File, error) {
	f, err := r.FS.Open(name)
	return r.wrap(name, f, err)
}

// refusal refuses to read so many bytes of a segment of disk d.
func refusal(disk vfs.FS, segment uint32, from, length int64) refusing {
	r := refusing{FS: disk, end: filepath.ToSlash(segmentPath("d", segment)), from: from, to: from + length, on: new(atomic.Bool)}
	r.on.Store(true)
	return r
}

// TestWhatCannotBeReadAtTheEndOfTheLogIsNotCutOff: the last append was acknowledged, and the
// storage refuses to read it when the vault is opened. It may read it the next time.
func TestWhatCannotBeReadAtTheEndOfTheLogIsNotCutOff(t *testing.T) {
	disk := vfs.NewSim(1)
	v := open(t, disk, "v", Options{})
	s := newSender(t, v, "d", 100_000)
	s.write(change(0, 100_000, 1))
	s.mark()
	s.write(change(20_000, 4096, 2))
	e := block(t, v, "d", "", 20_000)
	crashed := disk.Clone()
	crashed.CutPower(0)
	crashed = crashed.Restart()

	r := refusal(crashed, e.segment, int64(e.position), int64(e.stored))
	s.vault = open(t, r, "v", Options{})
	s.shows("p00001", s.points[0].content)
	if w, err := s.vault.View(t.Context(), "d", ""); err == nil {
		_, err = readAll(w)
		w.Close()
		if !hasCode(err, CodeDamaged) {
			t.Errorf("reading what cannot be read gives %v", err)
		}
	}
	r.on.Store(false)
	s.check()
	s.write(change(70_000, 100, 3))
	s.mark()
	if err := s.vault.Close(); err != nil {
		t.Fatal(err)
	}
	s.vault = open(t, crashed, "v", Options{})
	s.check()
}

// TestALossAfterAMendIsDoubtedAnew: a mend compared the head when other records were still
// there. When one of them is lost later, what it wrote is not believed.
func TestALossAfterAMendIsDoubtedAnew(t *testing.T) {
	disk, s := lostRecord(t)
	s.write(change(290_000, 1000, 7)) // is sound when the head is mended, and not written again
	if _, _, err := s.vault.HealFound(t.Context(), "d", sourceOf(s.head)); err != nil {
		t.Fatal(err)
	}
	s.write(change(1000, 1000, 4))
	s.mark()
	s.shows("", s.head)
	e := block(t, s.vault, "d", "", 290_500)
	// In good order the maps would know all of it. What was mended is believed then.
	crash := func() {
		disk.CutPower(0)
		disk = disk.Restart()
	}
	crash()
	s.vault = open(t, disk.Clone(), "v", Options{})
	s.shows("", s.head)
	if err := disk.FlipBit(segmentPath("d", e.segment), (int64(e.position)-blockRowSize-50)*8); err != nil {
		t.Fatal(err)
	}
	s.vault = open(t, disk, "v", Options{})
	for _, id := range []replication.PointID{"p00004", ""} {
		if w, err := s.vault.View(t.Context(), "d", id); err == nil {
			w.Close()
			t.Errorf("point %q is believed", id)
		} else if !hasCode(err, CodeDamaged) {
			t.Errorf("point %q: %v, want %s", id, err, CodeDamaged)
		}
	}
	if _, _, err := s.vault.HealFound(t.Context(), "d", sourceOf(s.head)); err != nil {
		t.Fatal(err)
	}
	s.shows("", s.head)
}

// TestARewindBehindAMendTakesItBack: what the mend wrote is void then.
func TestARewindBehindAMendTakesItBack(t *testing.T) {
	s := state{byID: map[replication.PointID]*point{}}
	p := &point{id: "p", serial: 10}
	s.points, s.byID["p"] = []*point{p}, p
	s.lost, s.mended, s.serial, s.mapped = []serialRange{{4, 5}}, 12, 12, 12
	if s.doubts(s.lost[0], 13) {
		t.Fatal("what was mended is doubted")
	}
	r := &record{}
	r.serial = 13
	s.serial = 13
	if err := s.rewind(r, rewindBody{to: "p", at: 10}); err != nil {
		t.Fatal(err)
	}
	if !s.doubts(s.lost[0], 13) {
		t.Error("the head is believed without what the mend wrote")
	}
}

// TestASegmentWithoutItsBeginningKeepsNothingFromBeingHealed: where its header cannot be
// read, its blocks have no origin, and the head takes what the source has.
func TestASegmentWithoutItsBeginningKeepsNothingFromBeingHealed(t *testing.T) {
	disk := vfs.NewSim(1)
	v := open(t, disk, "v", Options{manual: true, segmentBytes: 64 << 10})
	s := newSender(t, v, "d", 400_000)
	for i := range int64(4) {
		noise := make([]byte, 40_000)
		fillNoise(noise, uint64(i))
		s.write(replication.Change{Extent: replication.Extent{Offset: i * 100_000, Length: 40_000}, Data: noise})
	}
	s.mark()
	first, other := block(t, v, "d", "", 0), block(t, v, "d", "", 300_000)
	if first.segment == other.segment {
		t.Fatal("both blocks are in one segment: this shows nothing")
	}
	for _, at := range []struct {
		segment uint32
		offset  int64
	}{{first.segment, 0}, {first.segment, int64(first.position)}, {other.segment, int64(other.position)}} {
		if err := disk.LoseSector(segmentPath("d", at.segment), at.offset); err != nil {
			t.Fatal(err)
		}
	}
	meet(t, v, 0, 300_000)
	healed, left, err := v.HealFound(t.Context(), "d", sourceOf(s.head))
	if err != nil || len(healed) != 1 || len(left) != 1 {
		t.Errorf("healed %+v, left %+v, %v: want the second one healed, and the first left to old points", healed, left, err)
	}
	s.shows("", s.head)
}

// meet reads bytes of the head that cannot be read.
func meet(t *testing.T, v *Vault, offsets ...int64) {
	t.Helper()
	w, err := v.View(t.Context(), "d", "")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for _, at := range offsets {
		if _, err := w.ReadAt(make([]byte, 100), at); !hasCode(err, CodeDamaged) {
			t.Fatalf("at %d: %v, want %s", at, err, CodeDamaged)
		}
	}
}

// TestASegmentWithoutItsBeginningKeepsNoOtherFromCompaction: others are moved all the same.
func TestASegmentWithoutItsBeginningKeepsNoOtherFromCompaction(t *testing.T) {
	disk := vfs.NewSim(1)
	v := open(t, disk, "v", compactOptions())
	s := scattered(t, v)
	before := segmentsThere(v)
	if err := disk.LoseSector(segmentPath("d", before[0]), 0); err != nil {
		t.Fatal(err)
	}
	for range 6 {
		if _, err := v.disks["d"].compact(t.Context(), unhindered); err != nil {
			t.Fatal(err)
		}
	}
	after := segmentsThere(v)
	if after[0] != before[0] || slices.Contains(after, before[1]) {
		t.Errorf("segments %v became %v: want the first one left, and the second one moved", before, after)
	}
	s.check()
}

func segmentsThere(v *Vault) []uint32 {
	d := v.disks["d"]
	d.mu.Lock()
	defer d.mu.Unlock()
	var list []uint32
	for _, g := range d.segments {
		list = append(list, g.number)
	}
	return list
}

// TestAKeyStaysWhileASegmentCannotBeRead: a block that is sealed with it may be there.
func TestAKeyStaysWhileASegmentCannotBeRead(t *testing.T) {
	sealedOnly(t)
	disk := vfs.NewSim(1)
	v := open(t, disk, "v", Options{manual: true})
	s := newSender(t, v, "d", 100_000)
	s.write(change(0, 50_000, 1))
	if err := disk.LoseSector(segmentPath("d", 1), segmentHeaderSize); err != nil {
		t.Fatal(err)
	}
	if err := v.disks["d"].keysOfSegment(1, map[uint32]bool{}); err == nil {
		t.Error("a segment that cannot be read tells which keys it needs")
	}
}

// TestTheKeyOfTheVaultStaysForADiskWhoseKeysAreGone: they may come back from a backup, and
// are wrapped by it.
func TestTheKeyOfTheVaultStaysForADiskWhoseKeysAreGone(t *testing.T) {
	sealedOnly(t)
	disk := vfs.NewSim(1)
	v := open(t, disk, "v", Options{})
	s := newSender(t, v, "d", 100_000)
	s.write(change(0, 50_000, 1))
	s.mark()
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	kept := disk.Clone()
	for _, name := range []string{keysName, keysCopyName} {
		if err := disk.Remove(filepath.Join("v", disksName, "disk-d.d", name)); err != nil {
			t.Fatal(err)
		}
	}
	v = open(t, disk, "v", Options{})
	if err := v.RotateVaultKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{keysName, keysCopyName} { // the backup
		path := filepath.Join("v", disksName, "disk-d.d", name)
		p := make([]byte, maxKeysBytes)
		from, err := kept.OpenRead(path)
		if err != nil {
			t.Fatal(err)
		}
		n, err := from.Size()
		if err != nil {
			t.Fatal(err)
		}
		if err := readFull(from, p[:n], 0); err != nil {
			t.Fatal(err)
		}
		to, err := disk.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := to.WriteAt(p[:n], 0); err != nil {
			t.Fatal(err)
		}
		if err := to.Close(); err != nil {
			t.Fatal(err)
		}
	}
	s.vault = open(t, disk, "v", Options{})
	s.check()
}

// TestAnErrorThatPassedIsNoDamage: a block that the storage refused to read for a while is
// sound, whatever the source has in its place by now.
func TestAnErrorThatPassedIsNoDamage(t *testing.T) {
	sim := vfs.NewSim(1)
	v := open(t, sim, "v", Options{manual: true})
	s := newSender(t, v, "d", 100_000)
	s.write(change(0, 100_000, 1))
	s.mark()
	e := block(t, v, "d", "", 0)
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	r := refusal(sim, e.segment, int64(e.position), int64(e.stored))
	s.vault = open(t, r, "v", Options{manual: true})
	meet(t, s.vault, 0)
	r.on.Store(false)
	source := append([]byte(nil), s.head...)
	clear(source[:1000]) // the source has written there since
	if healed, left, err := s.vault.HealFound(t.Context(), "d", sourceOf(source)); err != nil || len(healed)+len(left) != 0 {
		t.Errorf("healed %+v, left %+v, %v: want nothing", healed, left, err)
	}
	if found, err := s.vault.Found(t.Context(), "d"); err != nil || len(found) != 0 {
		t.Errorf("found %+v, %v", found, err)
	}
	s.check()
}

// TestDamageIsListedThoughAMapCannotBeRead: who needs it cannot be told, so it counts for
// all; the list of points must be there.
func TestDamageIsListedThoughAMapCannotBeRead(t *testing.T) {
	sim := vfs.NewSim(1)
	v := open(t, sim, "v", Options{manual: true})
	s := newSender(t, v, "d", 100_000)
	s.write(change(0, 100_000, 1))
	s.mark()
	s.write(change(50_000, 100, 2))
	s.mark()
	e := block(t, v, "d", "", 0)
	if err := v.disks["d"].flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := sim.LoseSector(segmentPath("d", e.segment), int64(e.position)); err != nil {
		t.Fatal(err)
	}
	meet(t, v, 0)
	names, sizes := sim.Files()
	spoiled := 0
	for i, name := range names {
		if strings.HasSuffix(name, mapSuffix) {
			for at := int64(0); at < sizes[i]; at += vfs.Sector {
				if err := sim.LoseSector(name, at); err != nil {
					t.Fatal(err)
				}
			}
			spoiled++
		}
	}
	for _, tile := range v.disks["d"].tiles { // what was read of them is not remembered
		tile.fine.last.Store(nil)
		tile.whole.last.Store(nil)
	}
	found, err := v.Found(t.Context(), "d")
	if spoiled == 0 || err != nil || len(found) != 1 || !found[0].Head || len(found[0].Points) != 2 {
		t.Errorf("%d maps; found %+v, %v: want the block, needed by both points and the head", spoiled, found, err)
	}
}

// TestADamagedBlockKeepsNoHeadFromBeingMended: records are lost and a block is damaged whose
// content the source has no more. What the head shows does not count until it is mended.
func TestADamagedBlockKeepsNoHeadFromBeingMended(t *testing.T) {
	disk, s := lostRecord(t)
	damage(t, disk, s.vault, "d", "p00001", 200_000)
	w, err := s.vault.View(t.Context(), "d", "p00001")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.ReadAt(make([]byte, 100), 200_000); !hasCode(err, CodeDamaged) {
		t.Fatalf("%v, want %s", err, CodeDamaged)
	}
	w.Close()
	clear(s.head[190_000:210_000])
	if _, _, err := s.vault.HealFound(t.Context(), "d", sourceOf(s.head)); err != nil {
		t.Fatal(err)
	}
	s.shows("", s.head)
}

// brokenSource cannot be read below an offset.
type brokenSource struct {
	replication.Source
	below int64
}

func (b brokenSource) ReadAt(p []byte, at int64) (int, error) {
	if at < b.below {
		return 0, vfs.ErrIO
	}
	return b.Source.ReadAt(p, at)
}

// TestABlockThatCannotBeHealedKeepsNoOtherFromIt.
func TestABlockThatCannotBeHealedKeepsNoOtherFromIt(t *testing.T) {
	sim := vfs.NewSim(1)
	v := open(t, sim, "v", Options{manual: true})
	s := newSender(t, v, "d", 300_000)
	s.write(change(0, 300_000, 1))
	s.mark()
	damage(t, sim, v, "d", "", 0)
	damage(t, sim, v, "d", "", 200_000)
	meet(t, v, 0, 200_000)
	healed, _, err := v.HealFound(t.Context(), "d", brokenSource{sourceOf(s.head), 1000})
	if err == nil || len(healed) != 1 || healed[0].Extent.Offset == 0 {
		t.Errorf("healed %+v, %v: want the second block, and an error", healed, err)
	}
}
