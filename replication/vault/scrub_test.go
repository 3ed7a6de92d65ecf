package vault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"riparo/replication"
	"riparo/replication/vfs"
)

// scrubbing runs a Scrub until the returned function is called.
func scrubbing(t *testing.T, v *Vault, o ScrubOptions) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- v.Scrub(ctx, o) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the scrub ended with %v", err)
		}
	}
}

// noisy writes n MiB that do not compress, a point after each.
func noisy(t *testing.T, s *sender, n int) {
	t.Helper()
	for i := range n {
		noise := make([]byte, 1<<20)
		fillNoise(noise, uint64(i))
		s.write(replication.Change{Extent: replication.Extent{Offset: int64(i) << 20, Length: 1 << 20}, Data: noise})
		s.mark()
	}
}

func TestTheScrubFindsRotAndHealsItFromTheSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewSim(1)
		v := open(t, disk, "v", Options{manual: true, segmentBytes: 1 << 20})
		s := newSender(t, v, "d", 8<<20)
		noisy(t, s, 8)
		s.write(change(5<<20, 64<<10, 7)) // the head has left what p00006 wrote there
		s.mark()
		kept := damage(t, disk, v, "d", "p00003", 2<<20)
		gone := damage(t, disk, v, "d", "p00006", 5<<20)
		if found, err := v.Found(t.Context(), "d"); err != nil || len(found) != 0 {
			t.Fatalf("before the scrub %v, %v: nobody has read it", found, err)
		}
		stop := scrubbing(t, v, ScrubOptions{Within: time.Hour})
		time.Sleep(time.Hour)
		stop()
		if st := v.ScrubState(); st.Passes != 1 || st.CompletedBytes < 8<<20 || st.Trouble != "" {
			t.Fatalf("%+v, want one whole pass", st)
		}
		found, err := v.Found(t.Context(), "d")
		if err != nil || len(found) != 2 {
			t.Fatalf("found %+v, %v; want both", found, err)
		}
		all := func(from, to int) (ids []replication.PointID) {
			for i := from; i <= to; i++ {
				ids = append(ids, replication.PointID(fmt.Sprintf("p%05d", i)))
			}
			return ids
		}
		for i, want := range []struct {
			at     entry
			points []replication.PointID
			head   bool
		}{{kept, all(3, 9), true}, {gone, all(6, 8), false}} {
			if d := found[i]; d.Offset != int64(want.at.position) || d.Segment != want.at.segment || !slices.Equal(d.Points, want.points) || d.Head != want.head {
				t.Errorf("found %+v, want points %v, head %v", d, want.points, want.head)
			}
		}
		healed, left, err := v.HealFound(t.Context(), "d", sourceOf(s.head))
		if err != nil || len(healed) != 1 || len(left) != 1 || left[0].Offset != int64(gone.position) {
			t.Fatalf("healed %v, left %v, %v; want what the source still has healed", healed, left, err)
		}
		for _, p := range s.points {
			err := sameContent(t.Context(), v, "d", p.id, p.content, true)
			if lost := slices.Contains(all(6, 8), p.id); (err != nil) != lost {
				t.Errorf("point %s: %v, want damage only where the source has moved on", p.id, err)
			}
		}
		s.drop(all(6, 8)...)
		if found, err := v.Found(t.Context(), "d"); err != nil || len(found) != 0 {
			t.Errorf("after the points are gone: %v, %v", found, err)
		}
		s.check()
	})
}

func TestAPassGoesOnWhereItWasAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewSim(1)
		o := Options{manual: true, segmentBytes: 1 << 20}
		v := open(t, disk, "v", o)
		s := newSender(t, v, "d", 40<<20)
		noisy(t, s, 40)
		damage(t, disk, v, "d", "p00001", 1000)
		// 1 MiB/s: 40 s for all of it.
		budget := ScrubOptions{Within: time.Hour, BytesPerSecond: 1 << 20}
		stop := scrubbing(t, v, budget)
		time.Sleep(20 * time.Second)
		stop()
		before := v.ScrubState()
		if before.Done < 18<<20 || before.Done > 21<<20 || !before.Running {
			t.Fatalf("%+v after 20 s, want half a pass at 1 MiB/s", before)
		}
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
		v = open(t, disk, "v", o)
		began := time.Now()
		stop = scrubbing(t, v, budget)
		defer stop()
		time.Sleep(4 * time.Second)
		synctest.Wait()
		if st := v.ScrubState(); !st.Rechecked {
			t.Errorf("4 s after the restart %+v: the damage that was known was not looked for", st)
		}
		if found, err := v.Found(t.Context(), "d"); err != nil || len(found) != 1 {
			t.Errorf("after the restart %v, %v; want the damage that was known", found, err)
		}
		for v.ScrubState().Passes == 0 {
			time.Sleep(time.Second)
		}
		if took := time.Since(began); took > 27*time.Second || took < 15*time.Second {
			t.Errorf("the rest of the pass took %s of 40 s, want about half", took)
		}
		if st := v.ScrubState(); st.CompletedBytes < 39<<20 {
			t.Errorf("%+v: the pass did not read everything", st)
		}
	})
}

func TestADamagedPositionOnlyBeginsThePassAnew(t *testing.T) {
	disk := vfs.NewSim(1)
	v := open(t, disk, "v", Options{manual: true})
	v.scrub.state = ScrubState{Running: true, Done: 77, Passes: 3, Began: time.Unix(1, 0)}
	v.scrub.at = scrubPosition{"d", 9}
	if err := v.saveScrub(); err != nil {
		t.Fatal(err)
	}
	p, err := v.readFile(filepath.Join("v", scrubName), maxScrubFile)
	if err != nil {
		t.Fatal(err)
	}
	for bit := range int64(len(p)) * 8 {
		flipped := disk.Clone()
		if err := flipped.FlipBit(filepath.Join("v", scrubName), bit); err != nil {
			t.Fatal(err)
		}
		w := &Vault{fs: flipped, dir: "v"}
		if w.loadScrub(); w.scrub.state.Passes != 0 && (w.scrub.state.Passes != 3 || w.scrub.at != v.scrub.at || w.scrub.state.Done != 77) {
			t.Fatalf("bit %d: %+v at %+v is believed", bit, w.scrub.state, w.scrub.at)
		}
	}
	w := &Vault{fs: disk, dir: "v"}
	if w.loadScrub(); w.scrub.state.Passes != 3 || w.scrub.at != v.scrub.at {
		t.Errorf("%+v at %+v, want what was saved", w.scrub.state, w.scrub.at)
	}
}

func TestTheScrubGivesWayToSenders(t *testing.T) {
	took := func(busy bool) time.Duration {
		var took time.Duration
		synctest.Test(t, func(t *testing.T) {
			v := open(t, vfs.NewSim(1), "v", Options{manual: true})
			noisy(t, newSender(t, v, "d", 8<<20), 8)
			if busy { // a sender that never pauses
				v.traffic.Add(1)
			}
			began := time.Now()
			stop := scrubbing(t, v, ScrubOptions{Within: 10 * time.Second})
			defer stop()
			for v.ScrubState().Passes == 0 {
				time.Sleep(10 * time.Millisecond)
			}
			took = time.Since(began)
		})
		return took
	}
	alone, beside := took(false), took(true)
	if beside < alone+8*yieldAtMost || beside > alone+20*yieldAtMost {
		t.Errorf("a pass took %s alone and %s beside a sender; want it to wait, %s a record, and to end", alone, beside, yieldAtMost)
	}
}

func TestTheRateFollowsTheVaultWithinItsBounds(t *testing.T) {
	const day = 24 * time.Hour
	for _, c := range []struct {
		total int64
		o     ScrubOptions
		want  int64
	}{
		{0, ScrubOptions{Within: 7 * day}, scrubFloor},
		{100 << 20, ScrubOptions{Within: 7 * day}, scrubFloor},
		{1 << 40, ScrubOptions{Within: 7 * day}, 5 << 40 / 4 / (7 * 86400)},
		{1 << 40, ScrubOptions{Within: day}, 5 << 40 / 4 / 86400},
		{1 << 40, ScrubOptions{Within: day, BytesPerSecond: 2 << 20}, 2 << 20},
		{1 << 20, ScrubOptions{Within: day, BytesPerSecond: 1000}, 1000},
	} {
		if got := scrubRate(c.total, c.o); got < c.want-1 || got > c.want+1 {
			t.Errorf("%d bytes, %+v: %d bytes per second, want %d", c.total, c.o, got, c.want)
		}
	}
}

// TestFoundKeepsUpWithThePoints: what Found tells of damage step by step is what a
// verification from scratch tells, whatever happens to the points meanwhile.
func TestFoundKeepsUpWithThePoints(t *testing.T) {
	for seed := range uint64(12) {
		r := rand.New(rand.NewPCG(seed, 3))
		disk := vfs.NewSim(seed)
		v := open(t, disk, "v", Options{manual: true, segmentBytes: 128 << 10, memoryEntries: 16})
		s := newSender(t, v, "d", 512<<10)
		s.write(change(0, 512<<10, 1))
		s.mark()
		compared := 0
		for range 60 {
			switch n := r.IntN(12); {
			case n < 6:
				at := r.Int64N(8) * (64 << 10)
				s.write(change(at, 1+r.Int64N(64<<10), byte(r.IntN(200))))
				if r.IntN(2) == 0 {
					s.mark()
				}
			case n < 8:
				e := block(t, v, "d", "", r.Int64N(8)*(64<<10))
				if v.disks["d"].damaged[e.location()] == nil {
					damage(t, disk, v, "d", "", e.offset)
					v.disks["d"].remember([]badBlock{badBlockOf(&e, errors.New("planted"))})
				}
			case n < 10 && len(s.points) > 2:
				s.drop(s.points[r.IntN(len(s.points)-1)].id)
			case n < 11:
				s.rewind(s.points[r.IntN(len(s.points))].id)
			}
			found, err := v.Found(t.Context(), "d")
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			report, err := v.Verify(t.Context(), VerifyOptions{})
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			want := map[location]Damage{}
			for _, d := range report.Damage {
				if !d.Harmless {
					want[location{d.Segment, uint32(d.Offset)}] = d
				}
			}
			if len(found) != len(want) {
				t.Fatalf("seed %d: found %+v, want %+v", seed, found, want)
			}
			for _, d := range found {
				w := want[location{d.Segment, uint32(d.Offset)}]
				if !slices.Equal(d.Points, w.Points) || d.Head != w.Head {
					t.Fatalf("seed %d: found points %v, head %v; want %v, %v", seed, d.Points, d.Head, w.Points, w.Head)
				}
				compared++
			}
		}
		if compared == 0 {
			t.Errorf("seed %d: there was nothing to compare", seed)
		}
	}
}

func TestWhatAReaderMeetsIsFoundToo(t *testing.T) {
	_, s, e := damagedVault(t)
	w, err := s.vault.View(t.Context(), "d", "p00003")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := readAll(w); !hasCode(err, CodeDamaged) {
		t.Fatalf("%v, want %s", err, CodeDamaged)
	}
	found, err := s.vault.Found(t.Context(), "d")
	if err != nil || len(found) != 1 || found[0].Offset != int64(e.position) || found[0].Extent.Offset != 196_608 || len(found[0].Points) != 3 || !found[0].Head {
		t.Fatalf("found %+v, %v", found, err)
	}
	source := bytes.Clone(s.head)
	copy(source[196_608:262_144], s.points[0].content[196_608:262_144])
	if healed, left, err := s.vault.HealFound(t.Context(), "d", sourceOf(source)); err != nil || len(healed) != 1 || len(left) != 0 {
		t.Fatalf("healed %v, left %v, %v", healed, left, err)
	}
	s.check()
}
