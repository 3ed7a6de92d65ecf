package vault

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"riparo/replication"
	"riparo/replication/vfs"
)

// TestDamageThatAReaderMetIsKnownAfterARestart: a pass comes by in a week only, and until
// then its points would count as whole.
func TestDamageThatAReaderMetIsKnownAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewSim(1)
		o := Options{manual: true, segmentBytes: 1 << 20}
		v := open(t, disk, "v", o)
		s := newSender(t, v, "d", 4<<20)
		noisy(t, s, 4)
		scrubbing(t, v, ScrubOptions{})
		time.Sleep(time.Hour)
		if st := v.ScrubState(); st.Running || st.Passes != 1 || !st.Rechecked {
			t.Fatalf("%+v, want one pass, and a rest", st)
		}
		damage(t, disk, v, "d", "p00002", 1<<20)
		if err := sameContent(t.Context(), v, "d", "p00002", s.points[1].content, true); err == nil {
			t.Fatal("nobody met the damage")
		}
		time.Sleep(time.Second)
		v.kill()
		v = open(t, disk, "v", o)
		stop := scrubbing(t, v, ScrubOptions{})
		time.Sleep(time.Minute)
		if st := v.ScrubState(); st.Running || st.Passes != 1 || !st.Rechecked {
			t.Errorf("%+v, want what was known looked for, and no pass", st)
		}
		if found, err := v.Found(t.Context(), "d"); err != nil || len(found) != 1 {
			t.Errorf("after the restart %v, %v: want the damage that was known", found, err)
		}
		stop()
		// Who cannot read what was known waits for a whole pass.
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
		if err := disk.FlipBit("v/"+scrubName, 77); err != nil {
			t.Fatal(err)
		}
		v = open(t, disk, "v", o)
		stop = scrubbing(t, v, ScrubOptions{})
		time.Sleep(time.Second)
		if st := v.ScrubState(); st.Rechecked {
			t.Errorf("%+v: nobody knows where damage was", st)
		}
		stop()
		v.kill()
		v = open(t, disk, "v", o)
		stop = scrubbing(t, v, ScrubOptions{})
		time.Sleep(time.Second)
		if st := v.ScrubState(); st.Rechecked || !st.Running {
			t.Errorf("%+v: nor does anybody after another restart", st)
		}
		time.Sleep(time.Hour)
		if found, err := v.Found(t.Context(), "d"); err != nil || len(found) != 1 || !v.ScrubState().Rechecked {
			t.Errorf("after a whole pass %v, %v, %+v: want the damage found", found, err, v.ScrubState())
		}
		stop()
	})
}

var errSector = errors.New("input/output error")

// badSectors fails to read some files.
type badSectors struct {
	vfs.FS
	names []string // their ends
}

type badSector struct{ vfs.File }

func (badSector) ReadAt([]byte, int64) (int, error) { return 0, errSector }

func (b badSectors) OpenRead(name string) (vfs.File, error) {
	f, err := b.FS.OpenRead(name)
	for _, end := range b.names {
		if err == nil && strings.HasSuffix(filepath.ToSlash(name), end) {
			return badSector{f}, nil
		}
	}
	return f, err
}

func TestKeysSurviveASectorThatCannotBeRead(t *testing.T) {
	sealedOnly(t)
	disk := vfs.NewSim(1)
	v := open(t, disk, "v", Options{})
	s := newSender(t, v, "d", 400_000)
	s.write(change(0, 400_000, 1))
	s.mark()
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	for _, names := range [][]string{{"/keys"}, {"/keys.copy"}, {"v/vault"}} {
		s.vault = open(t, badSectors{disk, names}, "v", Options{})
		s.check()
		if err := s.vault.Close(); err != nil {
			t.Fatal(err)
		}
	}
	o := keyed(Options{})
	if _, err := Open(t.Context(), badSectors{disk, []string{"v/keys", "v/keys.copy"}}, "v", o); !hasCode(err, CodeKeyDamaged) || !errors.Is(err, errSector) {
		t.Errorf("both copies: %v, want %s, and why", err, CodeKeyDamaged)
	}
}

// TestTheScrubMendsKeysWhileTheyAreKnown: nobody reads their files again before the next
// opening, and then they would be lost.
func TestTheScrubMendsKeysWhileTheyAreKnown(t *testing.T) {
	sealedOnly(t)
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewSim(1)
		v := open(t, disk, "v", Options{manual: true})
		s := newSender(t, v, "d", 400_000)
		s.write(change(0, 400_000, 1))
		s.mark()
		for _, dir := range []string{"v", v.diskFolder("d")} {
			for _, name := range []string{keysName, keysCopyName} {
				if err := disk.FlipBit(filepath.Join(dir, name), 8*40); err != nil {
					t.Fatal(err)
				}
			}
		}
		report, err := v.Verify(t.Context(), VerifyOptions{})
		harmful := 0
		for _, d := range report.Damage {
			if !d.Harmless {
				harmful++
			}
		}
		if err != nil || harmful != 4 {
			t.Errorf("both copies of both files are damaged: %+v, %v", report.Damage, err)
		}
		stop := scrubbing(t, v, ScrubOptions{})
		time.Sleep(time.Hour)
		stop()
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
		s.vault = open(t, disk, "v", Options{manual: true})
		s.check()
		soundReport(t, s.vault)
	})
}

func TestWhoGivesUpWhileADiskIsOpenedOnceMoreTakesItFromNobody(t *testing.T) {
	disk, s := withoutRoom(t)
	disk.SetCapacity(0)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	b := s.batch(change(50_000, 3_000, 3))
	_ = s.vault.Write(ctx, b)
	s.writeSoon(b)
	s.mark()
	s.check()
}

func TestAVaultOpensOnAFullFileSystem(t *testing.T) {
	for _, reserve := range []int64{1 << 20, 0} {
		disk := vfs.NewSim(3)
		disk.SetCapacity(16 << 20)
		o := Options{segmentBytes: 1 << 20, manual: true}
		v := open(t, disk, "v", o)
		s := newSender(t, v, "d", 4<<20)
		if err := v.SetLimits(Limits{Reserve: reserve}); err != nil {
			t.Fatal(err)
		}
		noisy(t, s, 4)
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
		space, err := disk.Space("v")
		if err != nil {
			t.Fatal(err)
		}
		disk.SetCapacity(space.Total - space.Free)
		v, err = Open(t.Context(), disk, "v", keyed(o))
		if reserve == 0 {
			if !hasCode(err, CodeFull) {
				t.Errorf("without a reserve: %v, want %s", err, CodeFull)
			}
			continue
		}
		if err != nil {
			t.Errorf("with a reserve: %v", err)
			continue
		}
		s.vault = v
		s.drop(s.points[0].id) // that is how room comes back
		s.check()
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	}
}

// stuck cannot remove what lies in a folder.
type stuck struct {
	vfs.FS
	folder string
}

func (f stuck) Remove(name string) error {
	if filepath.Dir(name) == f.folder {
		return errSector
	}
	return f.FS.Remove(name)
}

func TestAnErasureThatCannotEndHoldsUpNothingElse(t *testing.T) {
	disk := vfs.NewSim(1)
	v := open(t, disk, "v", Options{})
	a, b := newSender(t, v, "a", 100_000), newSender(t, v, "b", 100_000)
	for _, s := range []*sender{a, b} {
		s.write(change(0, 50_000, 1))
		s.mark()
	}
	folder := v.diskFolder("a")
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	marker, err := disk.Create(filepath.Join(folder, erasedName))
	if err := errors.Join(err, marker.Close(), disk.SyncDir(folder)); err != nil {
		t.Fatal(err)
	}
	v = open(t, stuck{disk, folder}, "v", Options{})
	b.vault = v
	b.check()
	if _, err := v.View(t.Context(), "a", ""); !errors.Is(err, replication.ErrUnknownDisk) {
		t.Errorf("the erased disk: %v, want that it is none", err)
	}
	soundReport(t, v)
	if _, err := v.Prepare(t.Context(), replication.Disk{ID: "a", Size: 100_000}, 1); !errors.Is(err, errSector) {
		t.Errorf("a new disk of the name: %v", err)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	v = open(t, disk, "v", Options{})
	if _, err := v.State("a"); !errors.Is(err, replication.ErrUnknownDisk) {
		t.Errorf("once it can end: %v", err)
	}
}

func TestHealRefusesASourceThatIsNotTheDisk(t *testing.T) {
	_, s, _ := damagedVault(t)
	before, err := s.vault.State("d")
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{200_000, 500_000} {
		source := sourceOf(make([]byte, size))
		if _, _, err := s.vault.Heal(t.Context(), "d", source); !hasCode(err, CodeSourceSize) {
			t.Errorf("heal from %d bytes: %v, want %s", size, err, CodeSourceSize)
		}
		if _, _, err := s.vault.HealFound(t.Context(), "d", source); !hasCode(err, CodeSourceSize) {
			t.Errorf("heal what was found from %d bytes: %v, want %s", size, err, CodeSourceSize)
		}
	}
	if after, err := s.vault.State("d"); err != nil || after != before {
		t.Errorf("%+v, %v: want %+v, nothing written", after, err, before)
	}
}

// TestManyLockAtOnce: each saves the time before.
func TestManyLockAtOnce(t *testing.T) {
	v := open(t, vfs.OS(), t.TempDir(), Options{})
	var group sync.WaitGroup
	for i := range 8 {
		s := newSender(t, v, replication.DiskID(fmt.Sprintf("d%d", i)), 5000)
		s.write(change(0, 500, 1))
		s.mark()
		group.Go(func() {
			for hour := range 25 {
				if err := v.Lock(context.Background(), s.id, []replication.PointID{"p00001"}, time.Now().Add(time.Duration(hour+1)*time.Hour)); err != nil {
					t.Errorf("disk %s: %v", s.id, err)
				}
			}
		})
	}
	group.Wait()
}

// TestASegmentOfManyGapsIsNotMovedByHalf: its gaps do not fit into one record, so it stays;
// what was moved of it would be there twice.
func TestASegmentOfManyGapsIsNotMovedByHalf(t *testing.T) {
	v := open(t, vfs.NewSim(1), "v", Options{manual: true, segmentBytes: 1 << 20})
	s := newSender(t, v, "d", 64<<20)
	for at := int64(0); at < 64<<20; at += 1 << 20 {
		s.write(change(at, 1<<20, 1))
	}
	s.mark()
	for part := range int64(2) {
		list := []replication.Change{change(part*4096, 4096, 9)}
		for i := part*2500 + 1; i <= part*2500+2500; i++ {
			list = append(list, zeroed(i*12288, 4096))
		}
		s.write(list...)
	}
	s.mark()
	segment := block(t, v, "d", "p00002", 0).segment
	noisy(t, s, 2)
	d := v.disks["d"]
	if err := d.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	var victims []worth
	d.mu.Lock()
	for _, g := range d.segments {
		if g.number == segment {
			victims = append(victims, worth{segmentInfo: g})
		}
	}
	before := d.serial
	d.mu.Unlock()
	if err := d.vacate(t.Context(), victims, unhindered); err != nil || len(victims) != 1 {
		t.Fatal(err, victims)
	}
	d.mu.Lock()
	after, hard := d.serial, d.hard[segment]
	d.mu.Unlock()
	if after != before || !hard {
		t.Errorf("%d records were written, hard %t; want none, and that it is not tried again", after-before, hard)
	}
	s.check()
}

// TestNeededGapsAreFound beside those that are not, whatever lies over each other.
func TestNeededGapsAreFound(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		var b neededBlocks
		for range r.IntN(6) {
			b.zeroes = append(b.zeroes, entry{offset: r.Int64N(50), length: 1 + r.Int64N(20)})
		}
		b.settle()
		e := entry{offset: r.Int64N(60), length: 1 + r.Int64N(10)}
		want := slices.ContainsFunc(b.zeroes, func(z entry) bool { return z.offset < e.end() && e.offset < z.end() })
		if got := b.touches(&e); got != want {
			t.Fatalf("%+v in %+v: %t", e, b.zeroes, got)
		}
	}
}

// TestAMoveToASegmentThatIsGoneIsForgotten: who let the segment go reads the block where it
// was before. What moved on from there stays.
func TestAMoveToASegmentThatIsGoneIsForgotten(t *testing.T) {
	place := func(segment, position uint32, offset, length int64) entry {
		return entry{segment: segment, position: position, offset: offset, length: length, plain: uint32(length), codec: codecRaw}
	}
	var m moves
	for i, move := range []struct {
		from location
		to   entry
	}{
		{location{3, 100}, place(7, 200, 10, 5)},
		{location{3, 500}, place(7, 300, 20, 5)},
		{location{7, 300}, place(9, 40, 20, 5)},
		{location{4, 60}, place(9, 80, 30, 5)},
	} {
		m = m.with(map[location][]entry{move.from: {move.to}}, serial(i+1))
	}
	there := func(segment uint32) bool { return segment != 7 }
	m = m.arriving(there)
	for from, want := range map[location]location{{3, 100}: {3, 100}, {3, 500}: {9, 40}, {4, 60}: {9, 80}} {
		e := place(from.segment, from.position, map[location]int64{{3, 100}: 10, {3, 500}: 20, {4, 60}: 30}[from], 5)
		m.follow(&e)
		if e.location() != want {
			t.Errorf("what was at %v is read at %v, want %v", from, e.location(), want)
		}
	}
	if same := m.arriving(there); len(same.maps) != len(m.maps) {
		t.Error("where nothing is gone, nothing is forgotten")
	}
}

// TestRoomIsUsageWithoutMaps: whoever asks every few seconds makes nobody read maps.
func TestRoomIsUsageWithoutMaps(t *testing.T) {
	v := open(t, vfs.NewSim(1), "v", Options{manual: true})
	s := newSender(t, v, "d", 400_000)
	s.write(change(0, 400_000, 1))
	s.mark()
	room, usage := v.Room(), v.Usage()
	if usage.LogicalBytes != 400_000 {
		t.Errorf("%+v", usage)
	}
	usage.LogicalBytes = 0
	if room != usage {
		t.Errorf("%+v, want %+v", room, usage)
	}
}

func zeroed(offset, length int64) replication.Change {
	return replication.Change{Extent: replication.Extent{Offset: offset, Length: length}}
}
