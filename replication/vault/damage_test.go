package vault

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"riparo/replication"
	"riparo/replication/vfs"
)

// memorySource is a source in memory.
type memorySource struct{ *bytes.Reader }

func sourceOf(content []byte) replication.Source { return memorySource{bytes.NewReader(content)} }

func (m memorySource) Regions(context.Context) iter.Seq2[replication.Region, error] {
	return func(yield func(replication.Region, error) bool) {
		yield(replication.Region{Extent: replication.Extent{Length: m.Size()}}, nil)
	}
}

// block finds where the vault stores the block at an offset of the head.
func block(t *testing.T, v *Vault, id replication.DiskID, point replication.PointID, offset int64) entry {
	t.Helper()
	w, err := v.View(t.Context(), id, point)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	list, err := w.resolve(offset, offset+1)
	if err != nil || len(list) != 1 || list[0].codec == codecZero {
		t.Fatalf("no block at %d: %v, %v", offset, list, err)
	}
	return list[0]
}

// damage flips a bit of the block at an offset.
func damage(t *testing.T, disk *vfs.Sim, v *Vault, id replication.DiskID, point replication.PointID, offset int64) entry {
	t.Helper()
	e := block(t, v, id, point, offset)
	if err := disk.FlipBit(segmentPath(id, e.segment), int64(e.position)*8+13); err != nil {
		t.Fatal(err)
	}
	return e
}

func segmentPath(id replication.DiskID, number uint32) string {
	return filepath.Join("v", disksName, diskPrefix+string(id)+diskSuffix, segmentName(number))
}

func readAll(w *View) ([]byte, error) {
	p := make([]byte, w.Size())
	_, err := w.ReadAt(p, 0)
	if err == io.EOF {
		err = nil
	}
	return p, err
}

// damagedVault has three points; what the first wrote at 200,000 is damaged. The
// second point changed other bytes, the third covered part of the damaged block.
func damagedVault(t *testing.T) (*vfs.Sim, *sender, entry) {
	disk := vfs.NewSim(1)
	v := open(t, disk, "v", Options{})
	s := newSender(t, v, "d", 400_000)
	s.write(change(0, 400_000, 1))
	s.mark()
	s.write(change(100, 1000, 2))
	s.mark()
	s.write(change(210_000, 1000, 3))
	s.mark()
	return disk, s, damage(t, disk, v, "d", "p00001", 200_000)
}

func TestADamagedBlockIsToldWithItsPlace(t *testing.T) {
	_, s, e := damagedVault(t)
	w, err := s.vault.View(t.Context(), "d", "")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	_, err = readAll(w)
	p := replication.AsProblem(err)
	if p == nil || p.Code != CodeDamaged || p.Remedy != replication.Resync {
		t.Fatalf("%v, want %s", err, CodeDamaged)
	}
	for _, word := range []string{"disk d", "extent [196608+", segmentName(e.segment)} {
		if !strings.Contains(p.Cause, word) {
			t.Errorf("%q does not name %q", p.Cause, word)
		}
	}
	// What lies beside it is read.
	got := make([]byte, 1000)
	if _, err := w.ReadAt(got, 210_000); err != nil || !bytes.Equal(got, s.head[210_000:211_000]) {
		t.Errorf("the bytes that cover the damage: %v", err)
	}
	if _, err := w.ReadAt(got, 300_000); err != nil || !bytes.Equal(got, s.head[300_000:301_000]) {
		t.Errorf("the bytes beside the damage: %v", err)
	}
	if info := s.vault.Disks(); info[0].Damaged != 1 {
		t.Errorf("%d damaged blocks are known, want 1", info[0].Damaged)
	}
}

func TestVerifyNamesThePointsThatDamageConcerns(t *testing.T) {
	_, s, e := damagedVault(t)
	s.write(change(196_608, 65_536, 9))
	s.mark() // needs the damaged block no more
	var last [2]int64
	report, err := s.vault.Verify(t.Context(), VerifyOptions{Progress: func(done, total int64) { last = [2]int64{done, total} }})
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Damage) != 1 {
		t.Fatalf("damage %+v, want one", report.Damage)
	}
	d := report.Damage[0]
	if want := []replication.PointID{"p00001", "p00002", "p00003"}; !slices.Equal(d.Points, want) || d.Head || d.Harmless {
		t.Errorf("points %v, head %v, harmless %v; want %v and not the head", d.Points, d.Head, d.Harmless, want)
	}
	if d.Disk != "d" || d.Segment != e.segment || d.Offset != int64(e.position) || d.Extent.Offset != 196_608 || d.Extent.Length != 65_536 {
		t.Errorf("%+v, want disk, extent and place of the block", d)
	}
	if report.Disks != 1 || report.Points != 4 || report.Segments == 0 || report.Bytes == 0 || last[0] == 0 || last[0] != last[1] {
		t.Errorf("%+v, progress %v", report, last)
	}
}

func TestHealRestoresAllPointsWhenTheSourceHasTheBlock(t *testing.T) {
	disk, s, _ := damagedVault(t)
	source := bytes.Clone(s.head)
	copy(source[196_608:262_144], s.points[0].content[196_608:262_144]) // as it was written
	healed, left, err := s.vault.Heal(t.Context(), "d", sourceOf(source))
	if err != nil || len(healed) != 1 || len(left) != 0 {
		t.Fatalf("healed %v, left %v, %v", healed, left, err)
	}
	for range 2 {
		s.check()
		report, err := s.vault.Verify(t.Context(), VerifyOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range report.Damage {
			if len(d.Points) > 0 || d.Head {
				t.Errorf("after healing: %+v", d)
			}
		}
		// The log alone knows it too.
		if err := s.vault.Close(); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{catalogName} {
			if err := disk.Remove(filepath.Join("v", disksName, "disk-d.d", name)); err != nil {
				t.Fatal(err)
			}
		}
		s.vault = open(t, disk, "v", Options{})
	}
	// A healed block moves once more when its new place is damaged.
	damage(t, disk, s.vault, "d", "p00001", 200_000)
	if healed, left, err := s.vault.Heal(t.Context(), "d", sourceOf(source)); err != nil || len(healed) != 1 {
		t.Fatalf("healed %v, left %v, %v", healed, left, err)
	}
	s.check()
}

func TestHealMakesTheHeadRightWhenTheSourceHasMovedOn(t *testing.T) {
	_, s, _ := damagedVault(t)
	source := bytes.Clone(s.head)
	copy(source[220_000:], "something else by now")
	healed, left, err := s.vault.Heal(t.Context(), "d", sourceOf(source))
	if err != nil || len(healed) != 0 || len(left) != 1 {
		t.Fatalf("healed %v, left %v, %v", healed, left, err)
	}
	copy(s.head[196_608:210_000], source[196_608:210_000])
	copy(s.head[211_000:262_144], source[211_000:262_144])
	s.shows("", s.head)
	if st, err := s.vault.State("d"); err != nil || !st.Unmarked || st.Sequence != s.sequence {
		t.Errorf("state %+v, %v: want unmarked data under the sender's sequence %d", st, err, s.sequence)
	}
	s.mark()
	s.shows("p00004", s.head)
	if _, err := s.vault.View(t.Context(), "d", "p00001"); err != nil {
		t.Errorf("a damaged point must open: %v", err)
	}
}

// lostRecord gives a vault whose last segment has lost a record in the midst of it.
func lostRecord(t *testing.T) (*vfs.Sim, *sender) {
	disk := vfs.NewSim(2)
	v := open(t, disk, "v", Options{})
	s := newSender(t, v, "d", 300_000)
	s.write(change(0, 300_000, 1))
	s.mark()
	s.write(change(50_000, 1000, 2))
	e := block(t, v, "d", "", 50_500)
	s.mark()
	s.write(change(90_000, 1000, 3))
	s.mark()
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	if err := disk.FlipBit(segmentPath("d", e.segment), (int64(e.position)-blockRowSize-50)*8); err != nil {
		t.Fatal(err)
	}
	s.vault = open(t, disk, "v", Options{})
	return disk, s
}

func TestALostRecordIsNeverPassedOver(t *testing.T) {
	_, s := lostRecord(t)
	s.shows("p00001", s.points[0].content)
	for _, id := range []replication.PointID{"p00002", "p00003", ""} {
		if _, err := s.vault.View(t.Context(), "d", id); !hasCode(err, CodeDamaged) {
			t.Errorf("point %q: %v, want %s", id, err, CodeDamaged)
		}
	}
	if _, err := s.vault.Changed(t.Context(), "d", "p00001", "p00003"); !hasCode(err, CodeDamaged) {
		t.Errorf("changed: %v, want %s", err, CodeDamaged)
	}
	report, err := s.vault.Verify(t.Context(), VerifyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(report.Damage, func(d Damage) bool { return d.Head })
	if i < 0 || !slices.Equal(report.Damage[i].Points, []replication.PointID{"p00002", "p00003"}) {
		t.Errorf("damage %+v: want the points 2 and 3 and the head", report.Damage)
	}
}

// TestWhatIsLostDiffers: a disk is sent as a whole then, which makes the point behind which
// it is healed. Without, no comparison of it would ever come to an end.
func TestWhatIsLostDiffers(t *testing.T) {
	_, s := lostRecord(t)
	j, err := s.vault.Judge(t.Context(), "d")
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	for _, content := range [][]byte{s.head[:300_000], nil} {
		if list, err := j.Differ(t.Context(), replication.Extent{Length: 300_000}, content); err != nil || len(list) != 1 || list[0].Length != 300_000 {
			t.Errorf("%d bytes: %v differs, %v; want all of it", len(content), list, err)
		}
	}
	s.write(replication.Change{Extent: replication.Extent{Length: 300_000}, Data: s.head})
	s.mark()
	if _, _, err := s.vault.HealFound(t.Context(), "d", sourceOf(s.head)); err != nil {
		t.Fatal(err)
	}
	s.mark() // the one behind which it was healed is not trusted
	s.shows("p00005", s.head)
	again, err := s.vault.Judge(t.Context(), "d")
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if list, err := again.Differ(t.Context(), replication.Extent{Length: 300_000}, s.head); err != nil || len(list) > 0 {
		t.Errorf("healed: %v differs, %v", list, err)
	}
}

func TestHealComparesTheWholeHeadAfterALostRecord(t *testing.T) {
	disk, s := lostRecord(t)
	if st, err := s.vault.State("d"); err != nil || st.Sequence != s.sequence {
		t.Fatalf("state %+v, %v: want sequence %d", st, err, s.sequence)
	}
	if _, _, err := s.vault.Heal(t.Context(), "d", sourceOf(s.head)); err != nil {
		t.Fatal(err)
	}
	check := func() {
		t.Helper()
		s.shows("", s.head)
		s.shows("p00001", s.points[0].content)
		s.shows("p00004", s.points[3].content)
		for _, id := range []replication.PointID{"p00002", "p00003"} {
			if _, err := s.vault.View(t.Context(), "d", id); !hasCode(err, CodeDamaged) {
				t.Errorf("point %s: %v, want %s", id, err, CodeDamaged)
			}
		}
	}
	s.write(change(1000, 1000, 4))
	s.mark()
	check()
	if err := s.vault.Close(); err != nil {
		t.Fatal(err)
	}
	s.vault = open(t, disk, "v", Options{})
	check()
	// With the damaged points the damage goes.
	s.drop("p00002", "p00003")
	check2 := s.points
	s.points = check2
	s.check()
}

func TestAMissingSegmentIsTold(t *testing.T) {
	disk := vfs.NewSim(3)
	o := Options{segmentBytes: 64 << 10}
	v := open(t, disk, "v", o)
	s := newSender(t, v, "d", 300_000)
	noise := make([]byte, 40_000)
	for i := range 6 {
		fillNoise(noise, uint64(i))
		s.write(replication.Change{Extent: replication.Extent{Offset: int64(i) * 50_000, Length: 40_000}, Data: slices.Clone(noise)})
		s.mark()
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	if err := disk.Remove(segmentPath("d", 2)); err != nil {
		t.Fatal(err)
	}
	s.vault = open(t, disk, "v", o)
	report, err := s.vault.Verify(t.Context(), VerifyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(report.Damage, func(d Damage) bool { return d.Segment == 2 && d.Reason == "the segment is missing" }) {
		t.Errorf("damage %+v: want the missing segment 2", report.Damage)
	}
	s.shows("p00001", s.points[0].content)
	w, err := s.vault.View(t.Context(), "d", "")
	if err == nil {
		_, err = readAll(w)
		w.Close()
	}
	if !hasCode(err, CodeDamaged) {
		t.Errorf("the head: %v, want %s", err, CodeDamaged)
	}
}

func TestADamagedMapIsMadeAnewFromTheLog(t *testing.T) {
	disk := vfs.NewSim(4)
	o := Options{memoryEntries: 8}
	v := open(t, disk, "v", o)
	s := newSender(t, v, "d", 3<<20)
	for i := range 40 {
		s.write(change(int64(i)*70_000, 70_000, byte(i)))
	}
	s.mark()
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	names, _ := disk.Files()
	// The oldest one: the newest may have no page of entries, and is damaged as a whole
	// then, which the opening sees.
	i := slices.IndexFunc(names, func(name string) bool { return strings.HasSuffix(name, mapSuffix) })
	if i < 0 {
		t.Fatal("there is no map")
	}
	if err := disk.FlipBit(names[i], pageSize*8+77); err != nil {
		t.Fatal(err)
	}
	s.vault = open(t, disk, "v", o)
	w, err := s.vault.View(t.Context(), "d", "")
	if err == nil {
		_, err = readAll(w)
		w.Close()
	}
	if p := replication.AsProblem(err); p == nil || p.Code != CodeIndex || p.Remedy != replication.Retry {
		t.Fatalf("%v, want %s", err, CodeIndex)
	}
	// Who does not read is told as well: until the next opening no room comes back.
	if found, err := s.vault.Found(t.Context(), "d"); err != nil || len(found) != 1 || !found[0].Map || found[0].Reason == "" {
		t.Errorf("found %+v, %v; want the map", found, err)
	}
	if err := s.vault.Close(); err != nil {
		t.Fatal(err)
	}
	s.vault = open(t, disk, "v", o)
	s.check()
	if found, err := s.vault.Found(t.Context(), "d"); err != nil || len(found) != 0 {
		t.Errorf("after the map was made anew: %+v, %v", found, err)
	}
}

func TestAnFsyncErrorIsFinalUntilTheVaultIsOpenedAgain(t *testing.T) {
	disk := vfs.NewSim(5)
	v := open(t, disk, "v", Options{})
	s := newSender(t, v, "d", 100_000)
	s.write(change(0, 50_000, 1))
	s.mark()
	other := newSender(t, v, "e", 1000)
	disk.FailSync(0)
	failed := s.batch(change(0, 1000, 2))
	s.sequence--
	copy(s.head, s.points[0].content)
	for range 3 {
		err := v.Write(t.Context(), failed)
		p := replication.AsProblem(err)
		if p == nil || p.Code != CodeBroken || !errors.Is(err, vfs.ErrIO) {
			t.Fatalf("%v, want %s", err, CodeBroken)
		}
	}
	if _, err := v.Prepare(t.Context(), replication.Disk{ID: "d", Size: 100_000}, 1); !hasCode(err, CodeBroken) {
		t.Errorf("prepare: %v, want %s", err, CodeBroken)
	}
	s.check() // reading goes on
	other.write(change(0, 10, 1))
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	disk.Evict()
	s.vault = open(t, disk, "v", Options{})
	s.check()
	s.write(change(0, 1000, 2))
	s.check()
}

func TestAFullDiskLosesNothingAndGoesOn(t *testing.T) {
	disk := vfs.NewSim(6)
	v := open(t, disk, "v", Options{segmentBytes: 128 << 10})
	s := newSender(t, v, "d", 4<<20)
	s.write(change(0, 100_000, 1))
	s.mark()
	space, err := disk.Space("v")
	if err != nil {
		t.Fatal(err)
	}
	for _, room := range []int64{0, 1, 5000, 100_000} {
		disk.SetCapacity(space.Total - space.Free + room)
		for i := range 20 {
			noise := make([]byte, 50_000)
			fillNoise(noise, uint64(i))
			b := s.batch(replication.Change{Extent: replication.Extent{Offset: int64(i) * 60_000, Length: 50_000}, Data: noise})
			err := v.Write(t.Context(), b)
			if err == nil {
				continue
			}
			p := replication.AsProblem(err)
			if p.Code != CodeFull || p.Remedy != replication.Retry || !errors.Is(err, vfs.ErrNoSpace) {
				t.Fatalf("room %d: %v, want %s", room, err, CodeFull)
			}
			disk.SetCapacity(0)
			if err := v.Write(t.Context(), b); err != nil {
				t.Fatalf("room %d: with space again: %v", room, err)
			}
			break
		}
		disk.SetCapacity(0)
		s.mark()
		s.check()
		space, err = disk.Space("v")
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	s.vault = open(t, disk, "v", Options{segmentBytes: 128 << 10})
	s.check()
}

// A disk that cannot be opened says why; the others are not concerned, and marks that
// nobody can look up are not taken for lost.
func TestOneSickDiskDoesNotTakeTheOthersAlong(t *testing.T) {
	disk := vfs.NewSim(7)
	o := Options{segmentBytes: 32 << 10}
	v := open(t, disk, "v", o)
	a, b := newSender(t, v, "a", 100_000), newSender(t, v, "b", 100_000)
	both := func(point replication.PointID) {
		for _, s := range []*sender{a, b} {
			noise := make([]byte, 30_000)
			fillNoise(noise, uint64(s.sequence))
			s.write(replication.Change{Extent: replication.Extent{Length: 30_000}, Data: noise})
			s.sequence++
			m := replication.Mark{Disk: s.id, Epoch: 1, Sequence: s.sequence, Point: point, Size: 100_000, Members: []replication.DiskID{"a", "b"}}
			if err := v.Mark(t.Context(), m); err != nil {
				t.Fatal(err)
			}
			s.points = append(s.points, modelPoint{id: point, content: bytes.Clone(s.head), members: m.Members})
		}
	}
	both("p00001")
	both("p00002")
	a.marks = 2
	a.mark()
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	// A segment of another copy of the vault: whole, but of another history.
	f, err := disk.Open(segmentPath("b", 2))
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, segmentHeaderSize)
	if err := readFull(f, p, 0); err != nil {
		t.Fatal(err)
	}
	h, err := parseSegmentHeader(p)
	if err != nil {
		t.Fatal(err)
	}
	h.chain++
	if _, err := f.WriteAt(h.encode(), 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := disk.Remove(filepath.Join("v", disksName, "disk-b.d", catalogName)); err != nil {
		t.Fatal(err)
	}
	a.vault = open(t, disk, "v", o)
	if _, err := a.vault.View(t.Context(), "b", ""); !hasCode(err, CodeDamaged) {
		t.Errorf("view: %v, want %s", err, CodeDamaged)
	}
	if _, err := a.vault.Prepare(t.Context(), replication.Disk{ID: "b", Size: 5}, 1); !hasCode(err, CodeDamaged) {
		t.Errorf("prepare: %v, want %s", err, CodeDamaged)
	}
	list := a.vault.Disks()
	if len(list) != 2 || list[0].Trouble != nil || list[1].Disk.ID != "b" || list[1].Trouble == nil || list[1].StoredBytes == 0 {
		t.Errorf("%+v, want the second disk with its trouble", list)
	}
	report, err := a.vault.Verify(t.Context(), VerifyOptions{})
	if err != nil || len(report.Damage) != 1 || report.Damage[0].Disk != "b" || report.Damage[0].Harmless {
		t.Errorf("%+v, %v; want damage to b", report, err)
	}
	a.shows("", a.head)
	if err := a.vault.Drop(t.Context(), "a", nil); err != nil {
		t.Fatal(err)
	}
	for _, p := range a.points {
		a.shows(p.id, p.content)
	}
	if err := a.vault.Erase(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	newSender(t, a.vault, "b", 10).write(change(0, 10, 1))
}

// TestWhatWaitsWhenTheLogFailsIsRefused: the log may take it after all, and the next opening
// does not find what is behind the place of the failure.
func TestWhatWaitsWhenTheLogFailsIsRefused(t *testing.T) {
	disk := vfs.NewSim(8)
	v := open(t, disk, "v", Options{})
	s := newSender(t, v, "d", 100_000)
	s.write(change(0, 50_000, 1))
	s.mark()
	d := v.disks["d"]
	for name, fail := range map[string]func(error){
		"while it is written for the vault": func(err error) { d.failed(err) },
		"before the one who waits leads":    func(err error) { d.broken = brokenProblem("d", err) },
	} {
		d.mu.Lock()
		if err := d.lead(t.Context()); err != nil {
			t.Fatal(err)
		}
		d.mu.Unlock()
		ended := make(chan error)
		b := s.batch(change(0, 1000, 2))
		s.sequence--
		go func() { ended <- v.Write(t.Context(), b) }()
		for waits := false; !waits; {
			d.mu.Lock()
			waits = d.queue[b.Sequence] != nil
			d.mu.Unlock()
		}
		d.mu.Lock()
		fail(&finalError{vfs.ErrIO})
		d.follow()
		d.mu.Unlock()
		if err := <-ended; !hasCode(err, CodeBroken) {
			t.Errorf("%s: %v, want %s", name, err, CodeBroken)
		}
		d.mu.Lock()
		d.broken = nil
		d.mu.Unlock()
	}
}
