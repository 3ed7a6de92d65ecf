package vault

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"riparo/replication"
	"riparo/replication/vfs"
)

// compactOptions make small segments and maps, and compaction of all it can take.
func compactOptions() Options {
	return Options{segmentBytes: 64 << 10, memoryEntries: 8, manual: true, eager: true}
}

// unhindered is the pace of a compaction that never waits.
func unhindered(context.Context, int64) error { return nil }

// scattered makes a disk with points whose segments hold little of what is needed.
func scattered(t *testing.T, v *Vault) *sender {
	t.Helper()
	s := newSender(t, v, "d", 400<<10)
	for i := range int64(10) {
		noise := make([]byte, 40<<10)
		fillNoise(noise, uint64(i))
		s.write(replication.Change{Extent: replication.Extent{Offset: i * 40 << 10, Length: 40 << 10}, Data: noise})
	}
	s.write(replication.Change{Extent: replication.Extent{Offset: 5000, Length: 3000}}) // zero
	s.mark()
	for round := range 4 {
		for i := range int64(9) {
			noise := make([]byte, 9000)
			fillNoise(noise, uint64(round)*100+uint64(i))
			s.write(replication.Change{Extent: replication.Extent{Offset: i*40<<10 + 8192, Length: 9000}, Data: noise})
		}
		s.mark()
	}
	s.drop(s.points[1].id, s.points[2].id)
	if err := v.disks["d"].flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestCompactionFreesSegmentsAndKeepsEveryPoint(t *testing.T) {
	dir := t.TempDir()
	v := open(t, vfs.OS(), dir, compactOptions())
	s := scattered(t, v)
	files := segmentsOf(t, v)
	held, err := v.View(t.Context(), "d", s.points[0].id)
	if err != nil {
		t.Fatal(err)
	}
	for range 4 {
		if did, err := v.disks["d"].compact(t.Context(), unhindered); err != nil || !did {
			t.Fatalf("compacted %v, %v; want true", did, err)
		}
		s.check()
	}
	if err := viewShows(held, s.points[0].content); err != nil {
		t.Errorf("a view that was opened before: %v", err)
	}
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	if left := segmentsOf(t, v); slices.Contains(left, files[0]) {
		t.Errorf("segments %v became %v: want the first one gone", files, left)
	}
	if moved := v.disks["d"].moves; !moved.empty() {
		t.Errorf("%d moves are left though all maps were written anew", len(moved.segments))
	}

	// The log alone, without catalog and maps, says the same.
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{catalogName, "*" + mapSuffix} {
		names, err := filepath.Glob(filepath.Join(dir, disksName, "disk-d.d", pattern))
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: %v, %v", pattern, names, err)
		}
		for _, name := range names {
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 2 { // and what was made of it is good as well
		s.vault = open(t, vfs.OS(), dir, compactOptions())
		s.check()
		if r, err := s.vault.Verify(t.Context(), VerifyOptions{}); err != nil || len(r.Damage) > 0 {
			t.Errorf("%v, %v: want no damage", r.Damage, err)
		}
		if err := s.vault.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// spoil changes a byte of a file.
func spoil(t *testing.T, name string, at int64) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := make([]byte, 1)
	if _, err := f.ReadAt(p, at); err != nil {
		t.Fatal(err)
	}
	p[0] ^= 0x10
	if _, err := f.WriteAt(p, at); err != nil {
		t.Fatal(err)
	}
}

func segmentsOf(t *testing.T, v *Vault) []uint32 {
	t.Helper()
	list, err := v.disks["d"].segmentFiles()
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestSmallBlocksAreNotMovedForTheirRows: of blocks that compress to next to nothing, and
// of those that are zero, most of what the log takes is its own, and moving them makes it
// no less.
func TestSmallBlocksAreNotMovedForTheirRows(t *testing.T) {
	const blocks, block = 20 << 10, 512
	for name, make := range map[string]func(offset int64) replication.Change{
		"small": func(offset int64) replication.Change { return change(offset, block, byte(offset>>9)) },
		"zero": func(offset int64) replication.Change {
			return replication.Change{Extent: replication.Extent{Offset: offset, Length: block}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			v := open(t, vfs.OS(), t.TempDir(), Options{segmentBytes: 256 << 10, memoryEntries: 4 << 10, manual: true})
			s := newSender(t, v, "d", 2*blocks*block)
			for at := int64(0); at < blocks; at += 512 {
				var changes []replication.Change
				for i := range int64(512) {
					changes = append(changes, make((at+i)*2*block)) // no two meet
				}
				s.write(changes...)
			}
			s.mark()
			d := v.disks["d"]
			if err := d.flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			if did, err := d.compact(t.Context(), unhindered); err != nil || did {
				t.Errorf("compacted %v, %v; want nothing to do where nothing was let go", did, err)
			}
		})
	}
}

// TestWhatOnlyMemoryKeepsIsCompacted: a disk that hardly changes fills its memory in weeks,
// and what it does not need any more goes long before that.
func TestWhatOnlyMemoryKeepsIsCompacted(t *testing.T) {
	const segment = 128 << 10
	v := open(t, vfs.OS(), t.TempDir(), Options{segmentBytes: segment, manual: true})
	s := newSender(t, v, "d", 4<<20)
	noise := func(at, length int64, seed uint64) replication.Change {
		data := make([]byte, length)
		fillNoise(data, seed)
		return replication.Change{Extent: replication.Extent{Offset: at, Length: length}, Data: data}
	}
	var last replication.PointID
	for round := range int64(40) {
		// In each segment a block that stays, and many that do not.
		s.write(noise(round*32<<10, 16<<10, uint64(round)), noise(3<<20, 200<<10, uint64(1000+round)))
		p := s.mark()
		if last != "" {
			s.drop(last)
		}
		last = p
	}
	d := v.disks["d"]
	for range 20 {
		did, err := d.compact(t.Context(), unhindered)
		if err != nil {
			t.Fatal(err)
		}
		if !did {
			break
		}
	}
	s.check()
	stored := int64(0)
	for _, n := range segmentsOf(t, v) {
		f, err := os.Stat(d.segmentPath(n))
		if err != nil {
			t.Fatal(err)
		}
		stored += f.Size()
	}
	d.mu.Lock()
	_, needed := d.needed()
	d.mu.Unlock()
	if most := int64(wasteLimit*float64(needed+segment)) + segment; stored > most {
		t.Errorf("%d bytes of segments after a compaction, want at most %d for the %d that are needed", stored, most, needed)
	}
}

// TestNothingIsMovedWhileNothingCanBeLetGo: with a damaged map the segments stay, and a
// compaction would only take more room.
func TestNothingIsMovedWhileNothingCanBeLetGo(t *testing.T) {
	v := open(t, vfs.OS(), t.TempDir(), compactOptions())
	scattered(t, v)
	d := v.disks["d"]
	_ = d.distrust(errors.New("a page of a map that nobody reads now"))
	if did, err := d.compact(t.Context(), unhindered); err != nil || did {
		t.Errorf("compacted %v, %v; want nothing", did, err)
	}
}

// TestARewindBeforeARoundTakesNoSegmentAway: what it made void is not missing.
func TestARewindBeforeARoundTakesNoSegmentAway(t *testing.T) {
	o := compactOptions()
	o.memoryEntries = 1000 // one map, that a rewind cuts
	v := open(t, vfs.OS(), t.TempDir(), o)
	s := scattered(t, v)
	d := v.disks["d"]
	if err := d.order(t.Context()); err != nil {
		t.Fatal(err)
	}
	victims, _, err := d.wasteful()
	if err != nil || len(victims) == 0 {
		t.Fatalf("victims %v, %v", victims, err)
	}
	d.mu.Lock()
	victims = nil
	for _, g := range d.segments[:len(d.segments)-1] {
		victims = append(victims, worth{segmentInfo: g})
	}
	d.mu.Unlock()
	s.rewind(s.points[0].id)
	if err := d.vacate(t.Context(), victims, unhindered); err != nil {
		t.Fatal(err)
	}
	if len(d.hard) > 0 {
		t.Errorf("segments %v are not to be compacted, and nothing is wrong with them", d.hard)
	}
	s.check()
}

func TestACompactionThatWasEndedGoesOn(t *testing.T) {
	dir := t.TempDir()
	v := open(t, vfs.OS(), dir, compactOptions())
	s := scattered(t, v)
	first := segmentsOf(t, v)[0]
	for n := 0; ; n++ {
		_, err := v.disks["d"].compact(t.Context(), func(context.Context, int64) error { return errEnough })
		if err == nil {
			break // nothing is left to move
		}
		if !errors.Is(err, errEnough) || n > 200 {
			t.Fatalf("after %d times: %v", n, err)
		}
		s.check()
		if n%3 == 0 {
			if err := v.Close(); err != nil {
				t.Fatal(err)
			}
			v = open(t, vfs.OS(), dir, compactOptions())
			s.vault = v
			s.check()
		}
		if !slices.Contains(segmentsOf(t, v), first) {
			return
		}
	}
	t.Errorf("segment %d is still there", first)
}

func TestADamagedBlockKeepsItsSegmentFromCompaction(t *testing.T) {
	for what, heal := range map[string]func(*Vault, context.Context, replication.DiskID, replication.Source) ([]Damage, []Damage, error){
		"all that is damaged": (*Vault).Heal, "what was found": (*Vault).HealFound,
	} {
		t.Run(what, func(t *testing.T) { keepsItsSegment(t, heal) })
	}
}

func keepsItsSegment(t *testing.T, heal func(*Vault, context.Context, replication.DiskID, replication.Source) ([]Damage, []Damage, error)) {
	v := open(t, vfs.OS(), t.TempDir(), compactOptions())
	s := scattered(t, v)
	d := v.disks["d"]
	w, err := v.View(t.Context(), "d", "")
	if err != nil {
		t.Fatal(err)
	}
	list, err := w.resolve(395<<10, 396<<10)
	if err := closing(err, w); err != nil {
		t.Fatal(err)
	}
	segment := list[0].segment
	spoil(t, d.segmentPath(segment), int64(list[0].position)+7)
	for range 20 {
		if _, err := d.compact(t.Context(), unhindered); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Contains(segmentsOf(t, v), segment) {
		t.Errorf("segment %d with a damaged block that points need is gone", segment)
	}
	if w, err = v.View(t.Context(), "d", ""); err != nil {
		t.Fatal(err)
	}
	_, err = w.ReadAt(make([]byte, 512), 395<<10)
	if err := closing(nil, w); err != nil {
		t.Fatal(err)
	}
	if err == nil {
		t.Fatal("a damaged block was read")
	}
	r, err := v.Verify(t.Context(), VerifyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	found := slices.ContainsFunc(r.Damage, func(x Damage) bool { return x.Segment == segment && !x.Harmless })
	if !found {
		t.Errorf("damage %+v: want a block of segment %d", r.Damage, segment)
	}
	healed, _, err := heal(v, t.Context(), "d", sourceOf(s.head))
	if err != nil || len(healed) != 1 {
		t.Fatalf("healed %v, %v; want one block", healed, err)
	}
	for range 20 {
		if _, err := d.compact(t.Context(), unhindered); err != nil {
			t.Fatal(err)
		}
	}
	s.check()
	if slices.Contains(segmentsOf(t, v), segment) {
		t.Errorf("segment %d is there after it was healed: %v", segment, segmentsOf(t, v))
	}
}

func TestARewindEndsTheRoundOfACompaction(t *testing.T) {
	dir := t.TempDir()
	v := open(t, vfs.OS(), dir, compactOptions())
	s := scattered(t, v)
	to, d := s.points[0].id, v.disks["d"]
	// A round with all segments, so that some are left when the rewind comes.
	var victims []worth
	d.mu.Lock()
	for _, g := range d.segments[:len(d.segments)-1] {
		victims = append(victims, worth{segmentInfo: g})
	}
	d.mu.Unlock()
	moved := 0
	if err := d.vacate(t.Context(), victims, func(context.Context, int64) error {
		if moved++; moved == 1 {
			s.rewind(to)
		} else {
			t.Error("it went on to move what it had found before the rewind")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if moved == 0 {
		t.Fatal("nothing was moved")
	}
	s.check()
	for range 20 { // the next rounds see what is needed now
		if _, err := d.compact(t.Context(), unhindered); err != nil {
			t.Fatal(err)
		}
		s.check()
	}
}

// TestOfABlockOnlyWhatIsNeededIsMoved covers more and more of the middle of blocks, and
// lets the points go that need what was there.
func TestOfABlockOnlyWhatIsNeededIsMoved(t *testing.T) {
	dir := t.TempDir()
	v := open(t, vfs.OS(), dir, compactOptions())
	s := newSender(t, v, "d", 256<<10)
	noise := func(at, length int64, seed uint64) replication.Change {
		data := make([]byte, length)
		fillNoise(data, seed)
		return replication.Change{Extent: replication.Extent{Offset: at, Length: length}, Data: data}
	}
	for i := range int64(4) {
		s.write(noise(i*blockBytes, blockBytes, uint64(i)))
	}
	s.mark()
	d := v.disks["d"]
	needed := func() int64 {
		d.mu.Lock()
		defer d.mu.Unlock()
		_, total := d.needed()
		return total
	}
	for round := range int64(3) {
		for i := range int64(4) {
			s.write(noise(i*blockBytes+5000+round*18000, 18000, uint64(10+round*4+i)))
		}
		s.mark()
		s.drop(s.points[len(s.points)-2].id)
		if err := d.flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 12 {
			if _, err := d.compact(t.Context(), unhindered); err != nil {
				t.Fatal(err)
			}
			s.check()
		}
		// Noise does not shrink: what is stored is what is needed, and what records and
		// segments take besides.
		stored, segments := int64(0), segmentsOf(t, v)
		for _, n := range segments {
			f, err := os.Stat(d.segmentPath(n))
			if err != nil {
				t.Fatal(err)
			}
			stored += f.Size()
		}
		if most := needed() + int64(len(segments))*(3*alignment); stored > most {
			t.Errorf("round %d: %d bytes in %d segments, want at most %d for the %d that are needed", round, stored, len(segments), most, needed())
		}
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
		if round == 1 { // the log alone says the same
			if err := os.Remove(filepath.Join(dir, disksName, "disk-d.d", catalogName)); err != nil {
				t.Fatal(err)
			}
		}
		v = open(t, vfs.OS(), dir, compactOptions())
		s.vault, d = v, v.disks["d"]
		s.check()
	}
}

func TestWhatARewindMadeVoidStaysVoidWhenItWasMoved(t *testing.T) {
	dir := t.TempDir()
	v := open(t, vfs.OS(), dir, compactOptions())
	s := scattered(t, v)
	to := s.points[0].id
	for range 20 { // until what came after the point was moved as well
		if _, err := v.disks["d"].compact(t.Context(), unhindered); err != nil {
			t.Fatal(err)
		}
	}
	s.rewind(to)
	s.write(change(100, 300, 9))
	s.mark()
	s.check()
	d := v.disks["d"]
	d.mu.Lock()
	err := errors.Join(d.lead(t.Context()), d.bury(nil)) // an inventory that comes after the rewind
	d.follow()
	d.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, disksName, "disk-d.d", catalogName)); err != nil {
		t.Fatal(err)
	}
	s.vault = open(t, vfs.OS(), dir, compactOptions())
	s.check()
}

// A map is made, and the catalog that would name it is not. Compaction relies on the
// map; whoever opens the vault after a power cut knows of none, and may not let go of
// what an inventory does without before he has made one.
func TestWhatAnInventoryDoesWithoutGoesWhenAMapKnowsIt(t *testing.T) {
	o := compactOptions()
	o.memoryEntries = 4096
	for n := 0; ; n++ {
		disk := vfs.NewSim(uint64(n))
		s := newSender(t, open(t, disk, "v", o), "d", 80<<10)
		for i := range int64(10) { // most of it is covered by the next ones
			noise := make([]byte, 20<<10)
			fillNoise(noise, uint64(i))
			s.write(replication.Change{Extent: replication.Extent{Offset: i * 6 << 10, Length: 20 << 10}, Data: noise})
		}
		s.vault.kill()
		s.vault = open(t, disk, "v", o) // there is a catalog now, and all is in memory
		d := s.vault.disks["d"]
		disk.FailSync(1) // that of the catalog, after that of the map
		if err := d.flush(t.Context()); err == nil || d.mapped == 0 {
			t.Fatalf("the map reaches %d, and %v: want a map and no catalog", d.mapped, err)
		}
		disk.FailSync(1 << 30)
		disk.CutPower(n)
		for did, err := true, error(nil); did && err == nil; {
			did, err = d.compact(t.Context(), unhindered)
		}
		ended := !disk.PowerIsCut()
		s.vault.kill()
		for range 2 {
			disk = disk.Restart()
			s.vault = open(t, disk, "v", o)
			s.check()
			s.vault.kill()
		}
		if ended {
			return
		}
	}
}
