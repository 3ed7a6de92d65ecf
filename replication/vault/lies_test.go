package vault

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"riparo/replication"
	"riparo/replication/proof"
	"riparo/replication/vfs"
)

func TestAReadOnlyRemountLosesNothingAndEndsWithIt(t *testing.T) {
	disk := vfs.NewSim(7)
	s := newSender(t, open(t, disk, "v", Options{}), "d", 100_000)
	s.write(change(0, 50_000, 1))
	s.mark()
	disk.SetReadOnly(0)
	refused := s.batch(change(0, 1000, 2))
	s.sequence--
	copy(s.head, s.points[0].content)
	for range 3 {
		err := s.vault.Write(t.Context(), refused)
		p := replication.AsProblem(err)
		if p == nil || p.Code != CodeBroken || p.Remedy != replication.Retry || !errors.Is(err, vfs.ErrReadOnly) || !strings.Contains(p.Action, "mount it for writing") {
			t.Fatalf("%v, want %s and how it ends", err, CodeBroken)
		}
	}
	s.check() // reading goes on
	if report, err := s.vault.Verify(t.Context(), VerifyOptions{}); err != nil || len(report.Damage) > 0 {
		t.Errorf("verify: %+v, %v; want it whole", report.Damage, err)
	}
	_ = s.vault.Close() // it cannot write down what it knows, and need not
	disk.Evict()
	if v, err := Open(t.Context(), disk, "v", keyed(Options{})); err == nil {
		// Opening may need no change; then nothing is acknowledged all the same.
		if err := v.Write(t.Context(), refused); !errors.Is(err, vfs.ErrReadOnly) {
			t.Errorf("a write to a vault that was opened on a read-only file system: %v", err)
		}
		_ = v.Close()
	} else if !errors.Is(err, vfs.ErrReadOnly) {
		t.Errorf("opened while it is read-only: %v, want that to be told", err)
	}
	disk.SetReadOnly(-1)
	s.vault = open(t, disk, "v", Options{})
	s.check()
	s.write(change(0, 1000, 2))
	s.mark()
	s.check()
}

// TestASlowDiskMakesSendersWaitAndLosesNothing: every fsync takes 3 s. Who waits together
// shares one; who gave up waiting sends again; reading and what is acknowledged stay
// right, in a plain vault as in a sealed one.
func TestASlowDiskMakesSendersWaitAndLosesNothing(t *testing.T) {
	for name, options := range map[string]Options{"plain": {Plain: true, manual: true}, "sealed": {manual: true}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const slow = 3 * time.Second
				disk := vfs.NewSim(9)
				s := newSender(t, open(t, disk, "v", options), "d", 400_000)
				s.write(change(0, 100_000, 1))
				s.mark()
				disk.SetDelay(20*time.Millisecond, slow)
				began := time.Now()
				batches := make([]replication.Batch, 8)
				for i := range batches {
					batches[i] = s.batch(change(int64(i)*20_000, 15_000, byte(10+i)))
				}
				var all sync.WaitGroup
				for _, b := range batches {
					all.Go(func() {
						if err := s.vault.Write(t.Context(), b); err != nil {
							t.Errorf("batch %d: %v", b.Sequence, err)
						}
					})
				}
				all.Wait()
				if d := time.Since(began); d < slow || d > 4*slow {
					t.Errorf("8 batches took %v: want them to share fsyncs of %v", d, slow)
				}
				impatient, cancel := context.WithTimeout(t.Context(), slow/2)
				defer cancel()
				late := s.batch(change(300_000, 5000, 99))
				err := s.vault.Write(impatient, late)
				if err != nil && !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("a sender that gave up: %v", err)
				}
				if err := s.vault.Write(t.Context(), late); err != nil {
					t.Errorf("sent again: %v", err)
				}
				s.mark()
				s.check()
				if err := s.vault.Close(); err != nil {
					t.Fatal(err)
				}
				disk.SetDelay(0, 0)
				s.vault = open(t, disk.Restart(), "v", options)
				s.check()
			})
		})
	}
}

// liesOf makes three points; the write of the second's data is promised and does not
// arrive.
func liesOf(t *testing.T, lie func(*vfs.Sim)) (*vfs.Sim, *sender, entry) {
	disk := vfs.NewSim(8)
	s := newSender(t, open(t, disk, "v", Options{}), "d", 400_000)
	s.write(change(0, 400_000, 1))
	s.mark()
	lie(disk)
	noise := make([]byte, 65_536)
	fillNoise(noise, 3)
	s.write(replication.Change{Extent: replication.Extent{Offset: 131_072, Length: 65_536}, Data: noise})
	s.mark()
	e := block(t, s.vault, "d", "p00002", 140_000)
	s.write(change(300_000, 1000, 4))
	s.mark()
	if lost, elsewhere := disk.Betrayed(); lost+elsewhere != 1 {
		t.Fatalf("%d writes lost, %d elsewhere: want one", lost, elsewhere)
	}
	disk.Evict()
	return disk, s, e
}

// TestALostOrMisdirectedWriteIsToldAndHealed reads what the disk really holds, in the
// vault that wrote it and in one that was opened anew.
func TestALostOrMisdirectedWriteIsToldAndHealed(t *testing.T) {
	for name, lie := range map[string]func(*vfs.Sim){
		"lost":        func(d *vfs.Sim) { d.LoseWrite(0) },
		"misdirected": func(d *vfs.Sim) { d.MisdirectWrite(0) },
	} {
		t.Run(name, func(t *testing.T) {
			disk, s, e := liesOf(t, lie)
			report, err := s.vault.Verify(t.Context(), VerifyOptions{})
			if err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(report.Damage, func(d Damage) bool { return d.Segment == e.segment && d.Offset == int64(e.position) })
			if i < 0 {
				t.Fatalf("damage %+v: want the block at %d of segment %d", report.Damage, e.position, e.segment)
			}
			if d := report.Damage[i]; d.Extent.Offset != 131_072 || !slices.Contains(d.Points, "p00002") || !slices.Contains(d.Points, "p00003") || slices.Contains(d.Points, "p00001") {
				t.Errorf("%+v: want points 2 and 3 and the extent at 131072", d)
			}
			w, err := s.vault.View(t.Context(), "d", "p00002")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := readAll(w); !hasCode(err, CodeDamaged) {
				t.Errorf("reading the point: %v, want %s", err, CodeDamaged)
			}
			w.Close()
			if info := s.vault.Disks(); info[0].Damaged == 0 {
				t.Error("the damaged block was not quarantined")
			}
			if name == "misdirected" && len(report.Damage) > 1 {
				t.Logf("it struck something else, too: %+v", report.Damage)
			}
			if _, _, err := s.vault.Heal(t.Context(), "d", sourceOf(s.head)); err != nil {
				t.Fatal(err)
			}
			s.shows("", s.head)
			s.mark()
			if err := s.vault.Close(); err != nil {
				t.Fatal(err)
			}
			s.vault = open(t, disk, "v", Options{})
			s.shows("", s.head)
			s.shows("p00004", s.head)
		})
	}
}

// TestNoLieOfTheDiskIsSilent lets an fsync lie once in a life, then reads what is
// really there: with the vault that wrote it, which knows what it was promised, and,
// once the scrub came by, after it was closed and opened again. The bytes of every point must be what they were,
// or an error or Verify must say otherwise. RIPARO_LIES sets the number of lies.
func TestNoLieOfTheDiskIsSilent(t *testing.T) {
	want := proof.Times(t, "RIPARO_LIES", 120)
	first := max(1, *seedFlag)
	found := map[string]int{}
	told := 0
	for seed := first; told < want; seed++ {
		how, err := lieOnce(t, seed)
		if err != nil {
			t.Fatalf("seed %d: SILENT: %v", seed, err)
		}
		found[how]++
		if how != "no write was met" {
			told++
		}
		if seed-first > uint64(10*want) {
			t.Fatalf("%d lies in %d lives: want %d", told, seed-first, want)
		}
	}
	for _, how := range slices.Sorted(maps.Keys(found)) {
		t.Logf("%d %s", found[how], how)
	}
}

func lieOnce(t *testing.T, seed uint64) (string, error) {
	l := newLife(t.Context(), seed)
	l.calm = true
	if err := l.boot(); err != nil {
		return "", err
	}
	for i := range 50 {
		if i == 10+int(seed%30) {
			if seed%2 == 0 {
				l.disk.LoseWrite(l.random.IntN(5))
			} else {
				l.disk.MisdirectWrite(l.random.IntN(5))
			}
		}
		if err := l.step(); err != nil {
			if hasCode(err, CodeDamaged) || hasCode(err, CodeIndex) {
				break // told while it went on
			}
			return "", fmt.Errorf("step %d: %w", i, err)
		}
	}
	lost, elsewhere := l.disk.Betrayed()
	if lost+elsewhere == 0 {
		l.shut()
		return "no write was met", nil
	}
	l.disk.Evict()
	kind := map[bool]string{true: "lost: ", false: "misdirected: "}[lost > 0]
	found := 0
	for _, d := range l.vault.list() { // the scrub comes by
		pace := func(context.Context, int64) error { return nil }
		if err := l.vault.scrubDisk(l.ctx, d, pace, func(uint32) bool { return true }, func(uint32) {}); err != nil {
			return "", fmt.Errorf("%sscrub: %w", kind, err)
		}
		list, err := l.vault.Found(l.ctx, d.id)
		if err != nil {
			list = make([]Damage, 1) // told
		}
		found += len(list)
	}
	if err := liesShow(l, l.vault, found); err != nil {
		return "", fmt.Errorf("%sin the vault that wrote it: %w", kind, err)
	}
	for _, h := range l.held {
		h.view.Close()
	}
	if err := l.vault.Close(); err != nil {
		return kind + "closing reports it", nil
	}
	l.disk.Evict() // what closing wrote, too
	how, err := flipped(l, l.disk)
	if err != nil {
		for _, line := range l.trace {
			t.Log(line)
		}
	}
	return kind + how, err
}

// liesShow compares a vault with the model, unless it tells of damage. What reading refuses
// the scrub, which found so much, and a verification have to know, too.
func liesShow(l *life, v *Vault, found int) error {
	report, err := v.Verify(l.ctx, VerifyOptions{})
	if err != nil {
		return nil // told
	}
	err = l.model.matches(l.ctx, v)
	switch {
	case err == nil:
		return nil
	case strings.Contains(err.Error(), "MIXTURE"):
		return err
	case hasCode(err, CodeDamaged) && (found == 0 || harm(report) == 0):
		return fmt.Errorf("the scrub finds %d damages, a verification %+v, and reading gives: %w", found, report.Damage, err)
	case hasCode(err, CodeDamaged), len(report.Damage) > 0:
		return nil
	}
	return err
}

// harm counts the damage that somebody needs to know of.
func harm(report VerifyReport) int {
	n := 0
	for _, d := range report.Damage {
		if !d.Harmless {
			n++
		}
	}
	return n
}

// triedTwice writes a record that comes whole but for the end of its padding, so that the
// disk is full; then, in the same place, other data that is acknowledged and lost. What lies
// there is a record as good as any.
func triedTwice(t *testing.T, segmentBytes int64) (*vfs.Sim, *sender, Options) {
	t.Helper()
	disk := vfs.NewSim(11)
	o := Options{manual: true, segmentBytes: segmentBytes}
	s := newSender(t, open(t, disk, "v", o), "d", 400_000)
	s.write(change(0, 1000, 1))
	s.mark()
	noise := func(seed uint64) replication.Change {
		data := make([]byte, 40_000)
		fillNoise(data, seed)
		return replication.Change{Extent: replication.Extent{Offset: 65_536, Length: 40_000}, Data: data}
	}
	space, err := disk.Space("v")
	if err != nil {
		t.Fatal(err)
	}
	disk.SetCapacity(space.Total - space.Free + 10*alignment - 1)
	if err := s.vault.Write(t.Context(), s.batch(noise(1))); !hasCode(err, CodeFull) {
		t.Fatalf("%v, want %s", err, CodeFull)
	}
	s.sequence--
	disk.SetCapacity(0)
	disk.LoseWrite(0)
	s.write(noise(2))
	if lost, _ := disk.Betrayed(); lost != 1 {
		t.Fatalf("%d writes lost: want one", lost)
	}
	return disk, s, o
}

func TestATryThatFailedIsNotTakenForTheRecordThatFollowedIt(t *testing.T) {
	for name, limit := range map[string]int64{"at the end of a segment": 57_400, "in the midst of one": 100_000} {
		t.Run(name, func(t *testing.T) {
			disk, s, o := triedTwice(t, limit)
			s.mark()
			disk.Evict()
			sees := func() {
				t.Helper()
				report, err := s.vault.Verify(t.Context(), VerifyOptions{})
				if err != nil || !slices.ContainsFunc(report.Damage, func(d Damage) bool {
					return d.Extent.Overlaps(replication.Extent{Offset: 65_536, Length: 40_000}) && d.Head && slices.Contains(d.Points, "p00002") && !slices.Contains(d.Points, "p00001")
				}) {
					t.Errorf("verify: %+v, %v; want the extent at 65536, which point 2 and the head need", report.Damage, err)
				}
				if err := sameContent(t.Context(), s.vault, "d", "p00002", s.points[1].content, true); !hasCode(err, CodeDamaged) {
					t.Errorf("reading gives %v, want %s", err, CodeDamaged)
				}
			}
			sees()
			if err := s.vault.Close(); err != nil {
				t.Fatal(err)
			}
			s.vault = open(t, disk, "v", o)
			sees()
			if _, _, err := s.vault.Heal(t.Context(), "d", sourceOf(s.head)); err != nil {
				t.Fatal(err)
			}
			s.mark()
			s.shows("", s.head)
			s.shows("p00003", s.head)
		})
	}
}

func TestATryThatFailedIsNotTakenForTheEndOfTheLog(t *testing.T) {
	disk, s, o := triedTwice(t, 100_000)
	if err := s.vault.Close(); err != nil {
		t.Fatal(err)
	}
	disk.Evict()
	s.vault = open(t, disk, "v", o)
	if err := sameContent(t.Context(), s.vault, "d", "", s.head, true); !hasCode(err, CodeDamaged) {
		t.Errorf("reading gives %v, want %s", err, CodeDamaged)
	}
	report, err := s.vault.Verify(t.Context(), VerifyOptions{})
	if err != nil || harm(report) == 0 {
		t.Errorf("verify: %+v, %v; want the damage told", report.Damage, err)
	}
	s.shows("p00001", s.points[0].content)
	if _, _, err := s.vault.Heal(t.Context(), "d", sourceOf(s.head)); err != nil {
		t.Fatal(err)
	}
	s.mark()
	s.shows("", s.head)
	s.shows("p00002", s.head)
}

// The maps know what was acknowledged, and nothing but the record after it says that the one
// that lies there is another.
func TestAVerificationKnowsHowTheLogGoesOn(t *testing.T) {
	disk, s, o := triedTwice(t, 100_000)
	d := s.vault.disks["d"]
	if err := errors.Join(d.spill(true), d.writeCatalog()); err != nil {
		t.Fatal(err)
	}
	s.vault.kill()
	disk.Evict()
	s.vault = open(t, disk, "v", o)
	sees := func(when string) {
		t.Helper()
		// Neither must know it from a reader, or from each other.
		d := s.vault.disks["d"]
		pace := func(context.Context, int64) error { return nil }
		if err := s.vault.scrubDisk(t.Context(), d, pace, func(uint32) bool { return true }, func(uint32) {}); err != nil {
			t.Fatal(err)
		}
		found, err := s.vault.Found(t.Context(), "d")
		if err != nil || !slices.ContainsFunc(found, func(d Damage) bool { return d.Head && d.Extent.Offset == 65_536 }) {
			t.Errorf("%s: the scrub found %+v, %v; want the extent at 65536, which the head needs", when, found, err)
		}
		clear(d.damaged)
		report, err := s.vault.Verify(t.Context(), VerifyOptions{})
		if err != nil || !slices.ContainsFunc(report.Damage, func(d Damage) bool { return d.Head && d.Extent.Offset == 65_536 }) {
			t.Errorf("%s: verify: %+v, %v; want the extent at 65536, which the head needs", when, report.Damage, err)
		}
		if err := sameContent(t.Context(), s.vault, "d", "", s.head, true); !hasCode(err, CodeDamaged) {
			t.Errorf("%s: reading gives %v, want %s", when, err, CodeDamaged)
		}
	}
	sees("at the end of the log")
	s.write(change(200_000, 1000, 3))
	sees("where the log goes on behind it")
	if _, _, err := s.vault.Heal(t.Context(), "d", sourceOf(s.head)); err != nil {
		t.Fatal(err)
	}
	s.mark()
	s.check()
}

// TestAPageOfAMapIsBelievedInItsPlaceOnly exchanges two pages of a map file, whose CRCs
// are right wherever they lie. Whoever meets them first, the next opening makes the map
// anew.
func TestAPageOfAMapIsBelievedInItsPlaceOnly(t *testing.T) {
	for name, meet := range map[string]func(t *testing.T, s *sender){
		"a reader": func(t *testing.T, s *sender) {
			w, err := s.vault.View(t.Context(), "d", "")
			if err == nil {
				_, err = readAll(w)
				w.Close()
			}
			if !hasCode(err, CodeIndex) {
				t.Fatalf("reading by pages that were exchanged: %v, want %s", err, CodeIndex)
			}
		},
		"a verification": func(t *testing.T, s *sender) {
			report, err := s.vault.Verify(t.Context(), VerifyOptions{})
			if err != nil || !slices.ContainsFunc(report.Damage, func(d Damage) bool {
				return d.Harmless && strings.Contains(d.Reason, "belongs elsewhere") && strings.Contains(d.Reason, "open the vault again")
			}) {
				t.Fatalf("%+v, %v; want the page, and that opening the vault mends it", report.Damage, err)
			}
		},
		"who heals": func(t *testing.T, s *sender) {
			if healed, left, err := s.vault.Heal(t.Context(), "d", sourceOf(s.head)); err != nil || len(healed)+len(left) > 0 {
				t.Fatalf("healed %v, left %v, %v; want neither, as no data is damaged", healed, left, err)
			}
		},
		"the scrub": func(t *testing.T, s *sender) {
			d, err := s.vault.find("d")
			if err != nil {
				t.Fatal(err)
			}
			idle := func(context.Context, int64) error { return nil }
			if err := s.vault.scrubDisk(t.Context(), d, idle, func(uint32) bool { return true }, func(uint32) {}); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) { pagesAreExchanged(t, meet) })
	}
}

// pagesAreExchanged tells what follows when somebody has met the pages.
func pagesAreExchanged(t *testing.T, meet func(t *testing.T, s *sender)) {
	disk := vfs.NewSim(3)
	s := newSender(t, open(t, disk, "v", Options{Plain: true, memoryEntries: 12, manual: true}), "d", 400*1024)
	var changes []replication.Change
	for i := range int64(200) {
		changes = append(changes, change(i*2048, 700, byte(1+i)))
	}
	s.write(changes...)
	s.mark()
	if err := s.vault.Close(); err != nil {
		t.Fatal(err)
	}
	exchanged := 0
	names, sizes := disk.Files()
	for i, name := range names {
		if !strings.HasSuffix(name, mapSuffix) || sizes[i] < 3*pageSize {
			continue
		}
		f, err := disk.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		one, two := make([]byte, pageSize), make([]byte, pageSize)
		_, err1 := f.ReadAt(one, pageSize)
		_, err2 := f.ReadAt(two, 2*pageSize)
		_, err3 := f.WriteAt(two, pageSize)
		_, err4 := f.WriteAt(one, 2*pageSize)
		if err := errors.Join(err1, err2, err3, err4, f.Sync(), f.Close()); err != nil {
			t.Fatal(err)
		}
		exchanged++
	}
	if exchanged == 0 {
		t.Fatalf("no map of several pages among %v", names)
	}
	s.vault = open(t, disk, "v", Options{Plain: true, memoryEntries: 12, manual: true})
	meet(t, s)
	if err := s.vault.Close(); err != nil {
		t.Fatal(err)
	}
	s.vault = open(t, disk, "v", Options{Plain: true, memoryEntries: 12, manual: true})
	s.check() // the map was made anew from the log
}
