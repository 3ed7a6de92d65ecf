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
	want := number(t, "RIPARO_LIES", 120)
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
		if seed > uint64(10*want) {
			t.Fatalf("%d lies in %d lives: want %d", told, seed, want)
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
	if err := liesShow(l, l.vault); err != nil {
		return "", fmt.Errorf("%sin the vault that wrote it: %w", kind, err)
	}
	for _, d := range l.vault.list() { // the scrub comes by
		pace := func(context.Context, int64) error { return nil }
		if err := l.vault.scrubDisk(l.ctx, d, pace, func(uint32) bool { return true }, func(uint32) {}); err != nil {
			return "", fmt.Errorf("%sscrub: %w", kind, err)
		}
	}
	for _, h := range l.held {
		h.view.Close()
	}
	if err := l.vault.Close(); err != nil {
		return kind + "closing reports it", nil
	}
	l.disk.Evict() // what closing wrote, too
	how, err := flipped(l, l.disk)
	if hasCode(err, CodeDamaged) {
		// The maps know a block whose record is lost: Verify goes by the log.
		how, err = "reading reports damage", nil
	}
	if err != nil {
		for _, line := range l.trace {
			t.Log(line)
		}
	}
	return kind + how, err
}

// liesShow compares a vault with the model, unless it tells of damage.
func liesShow(l *life, v *Vault) error {
	report, err := v.Verify(l.ctx, VerifyOptions{})
	if err != nil {
		return nil // told
	}
	err = l.model.matches(l.ctx, v)
	if err == nil || hasCode(err, CodeDamaged) || hasCode(err, CodeIndex) || len(report.Damage) > 0 && !strings.Contains(err.Error(), "MIXTURE") {
		return nil
	}
	return err
}

// TestAPageOfAMapIsBelievedInItsPlaceOnly exchanges two pages of a map file, whose CRCs
// are right wherever they lie.
func TestAPageOfAMapIsBelievedInItsPlaceOnly(t *testing.T) {
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
	w, err := s.vault.View(t.Context(), "d", "")
	if err == nil {
		_, err = readAll(w)
		w.Close()
	}
	if !hasCode(err, CodeIndex) {
		t.Fatalf("reading by pages that were exchanged: %v, want %s", err, CodeIndex)
	}
	if err := s.vault.Close(); err != nil {
		t.Fatal(err)
	}
	s.vault = open(t, disk, "v", Options{Plain: true, memoryEntries: 12, manual: true})
	s.check() // the map was made anew from the log
}
