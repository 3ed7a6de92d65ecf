package nbd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sync/errgroup"

	"riparo/replication"
)

// TestOverlayIsTheDiskThatWasWritten walks over disks of several sizes with random
// writes, zeroes, syncs and reopenings, and compares with a plain disk.
func TestOverlayIsTheDiskThatWasWritten(t *testing.T) {
	for _, size := range []int64{0, 1, 511, 65536, 65537, 1<<20 + 1, 5<<20 + 1536} {
		seed := uint64(size) + 7
		random := rand.New(rand.NewPCG(seed, 2))
		base := newMemoryDisk(size).scatter(seed, 5)
		want := newMemoryDisk(size).scatter(seed, 5)
		path := filepath.Join(t.TempDir(), "overlay")
		o, err := OpenOverlay(path, base, "point-1")
		if err != nil {
			t.Fatal(err)
		}
		for step := range 300 {
			if size == 0 {
				break
			}
			e := replication.Extent{Offset: random.Int64N(size)}
			e.Length = 1 + random.Int64N(min(size-e.Offset, 300<<10))
			if random.IntN(3) == 0 {
				// Whole blocks are a case of their own.
				e.Offset = e.Offset / overlayBlock * overlayBlock
				e.Length = min(size-e.Offset, overlayBlock*(1+random.Int64N(4)))
			}
			switch random.IntN(10) {
			case 0:
				if err := o.Sync(); err != nil {
					t.Fatal(err)
				}
			case 1:
				if err := errors.Join(o.Sync(), o.Close()); err != nil {
					t.Fatal(err)
				}
				if o, err = OpenOverlay(path, base, "point-1"); err != nil {
					t.Fatalf("seed %d, step %d: %v", seed, step, err)
				}
			case 2, 3, 4:
				if err := errors.Join(o.Zero(e), want.Zero(e)); err != nil {
					t.Fatal(err)
				}
			default:
				b := make([]byte, e.Length)
				fill(b, random)
				o.WriteAt(b, e.Offset)
				want.WriteAt(b, e.Offset)
			}
		}
		sameContent(t, o, want)
		sameContent(t, base, newMemoryDisk(size).scatter(seed, 5))
		at, b := int64(0), make([]byte, 1<<20)
		for r, err := range o.Regions(t.Context()) {
			if err != nil || r.Offset != at {
				t.Fatalf("seed %d: region %v at %d, %v", seed, r, at, err)
			}
			for at = r.Offset; r.Zero && at < r.End(); at += int64(len(b)) {
				n, err := want.ReadAt(b[:min(int64(len(b)), r.End()-at)], at)
				if err != nil && err != io.EOF || bytes.IndexFunc(b[:n], func(r rune) bool { return r != 0 }) >= 0 {
					t.Fatalf("seed %d: region %v is called zero and is not", seed, r)
				}
			}
			at = r.End()
		}
		held := o.WrittenBytes()
		if err := o.Sync(); err != nil {
			t.Fatal(err)
		}
		o.Close()
		if o, err = OpenOverlay(path, base, "point-1"); err != nil {
			t.Fatal(err)
		}
		if again := o.WrittenBytes(); again != held || size >= 1<<20 && held == 0 {
			t.Errorf("seed %d: the overlay holds %d bytes, and %d when it was opened again", seed, held, again)
		}
		if at != size {
			t.Fatalf("seed %d: regions end at %d, want %d", seed, at, size)
		}
		if err := o.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOverlayBelongsToOneDisk(t *testing.T) {
	base := newMemoryDisk(1 << 20)
	dir := t.TempDir()
	path := filepath.Join(dir, "overlay")
	o, err := OpenOverlay(path, base, "point-1")
	if err != nil {
		t.Fatal(err)
	}
	wants := func(path string, base replication.Source, identity, code string) {
		t.Helper()
		o, err := OpenOverlay(path, base, identity)
		if err == nil {
			o.Close()
		}
		if p := replication.AsProblem(err); p == nil || p.Code != code || p.Action == "" {
			t.Errorf("got %v, want a problem %s", err, code)
		}
	}
	wants(path, base, "point-1", "overlay.busy")
	o.Close()
	wants(path, base, "point-2", "overlay.mismatch")
	wants(path, newMemoryDisk(2<<20), "point-1", "overlay.mismatch")
	wants(dir, base, "point-1", "overlay.unusable")
	foreign := filepath.Join(dir, "letter")
	if err := os.WriteFile(foreign, []byte("dear reader"), 0o600); err != nil {
		t.Fatal(err)
	}
	wants(foreign, base, "point-1", "overlay.foreign")
	if b, _ := os.ReadFile(foreign); string(b) != "dear reader" {
		t.Errorf("a file that is no overlay was changed to %q", b)
	}
	f, _ := os.OpenFile(path, os.O_RDWR, 0)
	f.WriteAt([]byte{9}, 100)
	f.Close()
	wants(path, base, "point-1", "overlay.damaged")
	os.Truncate(path, 700)
	if o, err := OpenOverlay(path, base, "point-1"); err != nil {
		t.Errorf("an overlay whose making was cut off: %v", err)
	} else {
		o.Close()
	}
	os.Truncate(path, 300<<10)
	wants(path, base, "point-1", "overlay.damaged")
}

// cutStorage is a file on a disk that loses power: writes since the last Sync
// stay, vanish or are torn by sector, each by chance.
type cutStorage struct {
	mu      sync.Mutex
	now     []byte // what reads give
	durable []byte
	pending []cutWrite
	left    int // writes and syncs until the power goes
	random  *rand.Rand
}

type cutWrite struct {
	off  int64
	data []byte
}

var errPower = errors.New("the power is gone")

func (s *cutStorage) ReadAt(p []byte, off int64) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.NewReader(s.now).ReadAt(p, off)
}

func (s *cutStorage) WriteAt(p []byte, off int64) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left--; s.left < 0 {
		return 0, errPower
	}
	copy(s.now[off:], p)
	s.pending = append(s.pending, cutWrite{off, bytes.Clone(p)})
	return len(p), nil
}

func (s *cutStorage) Release(off, length int64) error {
	_, err := s.WriteAt(make([]byte, length), off)
	return err
}

func (s *cutStorage) Sync() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left--; s.left < 0 {
		return errPower
	}
	copy(s.durable, s.now)
	s.pending = nil
	return nil
}

func (s *cutStorage) Close() error { return nil }

// reboot gives the file as it is found after the cut.
func (s *cutStorage) reboot(left int) *cutStorage {
	for _, w := range s.pending {
		fate := s.random.IntN(3)
		for at := int64(0); at < int64(len(w.data)); {
			// Sectors lie where the disk has them, not where a write began.
			end := min(int64(len(w.data)), (w.off+at)/512*512+512-w.off)
			if fate == 0 || fate == 1 && s.random.IntN(2) == 0 {
				copy(s.durable[w.off+at:w.off+end], w.data[at:end])
			}
			at = end
		}
	}
	return &cutStorage{now: bytes.Clone(s.durable), durable: s.durable, left: left, random: s.random}
}

// TestOverlayLosesNothingThatWasSynced cuts the power at random moments: whatever
// was written before a Sync that returned is there, and a sector that was not
// written since is as it was.
func TestOverlayLosesNothingThatWasSynced(t *testing.T) {
	seeds := uint64(60)
	if os.Getenv("RIPARO_LONG") != "" {
		seeds = 5000
	}
	var cuts atomic.Int64
	var lives errgroup.Group
	lives.SetLimit(runtime.GOMAXPROCS(0))
	for seed := range seeds {
		lives.Go(func() error {
			n, err := cutOverlay(seed)
			cuts.Add(int64(n))
			if err != nil {
				return fmt.Errorf("seed %d: %w", seed, err)
			}
			return nil
		})
	}
	if err := lives.Wait(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d power cuts in %d seeds, no synced sector lost", cuts.Load(), seeds)
}

// cutOverlay is the life of one disk; it gives how often its power was cut.
func cutOverlay(seed uint64) (cuts int, err error) {
	const size = 6*overlayBlock + 1000
	random := rand.New(rand.NewPCG(seed, 3))
	base := newMemoryDisk(size).scatter(seed, 3)
	l, err := newLayout(size, "p")
	if err != nil {
		return cuts, err
	}
	disk := &cutStorage{now: make([]byte, l.data+size), durable: make([]byte, l.data+size), random: random}
	// For each sector, what it may hold: the last synced content and all since.
	sectors := make([][][]byte, (size+511)/512)
	whole := make([]byte, size)
	base.ReadAt(whole, 0)
	for i := range sectors {
		sectors[i] = [][]byte{bytes.Clone(whole[i*512 : min(size, i*512+512)])}
	}
	for boot := range 3 {
		disk = disk.reboot(5 + random.IntN(40))
		o, err := newOverlay(disk, base, l)
		if err != nil {
			return cuts, err
		}
		now := make([]byte, size)
		if _, err := o.ReadAt(now, 0); err != nil {
			return cuts, err
		}
		for i, may := range sectors {
			got := now[i*512 : min(size, i*512+512)]
			found := false
			for _, m := range may {
				found = found || bytes.Equal(m, got)
			}
			if !found {
				return cuts, fmt.Errorf("boot %d: sector %d is none of the %d contents that it may have", boot, i, len(may))
			}
			sectors[i] = [][]byte{bytes.Clone(got)}
		}
		for err == nil {
			// Whole sectors only: a torn sector is not what disks do.
			first := random.IntN(len(sectors))
			n := 1 + random.IntN(min(len(sectors)-first, 300))
			e := replication.Extent{Offset: int64(first) * 512}
			e.Length = min(int64(n)*512, size-e.Offset)
			content := make([]byte, e.Length)
			switch random.IntN(6) {
			case 0:
				if err = o.Sync(); err == nil {
					for i := range sectors {
						sectors[i] = [][]byte{bytes.Clone(now[i*512 : min(size, i*512+512)])}
					}
				}
				continue
			case 1, 2:
				err = o.Zero(e)
			default:
				fill(content, random)
				_, err = o.WriteAt(content, e.Offset)
			}
			copy(now[e.Offset:], content)
			for i := first; int64(i)*512 < e.End(); i++ {
				sectors[i] = append(sectors[i], bytes.Clone(now[i*512:min(size, i*512+512)]))
			}
		}
		if !errors.Is(err, errPower) {
			return cuts, err
		}
		cuts++
	}
	return cuts, nil
}

// fullStorage is a file on a full disk.
type fullStorage struct{ storage }

func (fullStorage) WriteAt([]byte, int64) (int, error) { return 0, syscall.ENOSPC }

func TestOverlayOnAFullDiskKeepsWhatItHas(t *testing.T) {
	base := newMemoryDisk(1<<20).scatter(5, 3)
	path := filepath.Join(t.TempDir(), "overlay")
	o, err := OpenOverlay(path, base, "p")
	if err != nil {
		t.Fatal(err)
	}
	file := o.file
	o.file = fullStorage{file}
	if _, err := o.WriteAt([]byte("x"), 5); errnoOf(err) != errnoNoSpace {
		t.Errorf("a write on a full disk: got %v (%d), want ENOSPC", err, errnoOf(err))
	}
	sameContent(t, o, base)
	o.file = file
	if _, err := o.WriteAt([]byte("x"), 5); err != nil {
		t.Errorf("a write after there was room again: %v", err)
	}
	o.file = fullStorage{file}
	if err := o.Sync(); errnoOf(err) != errnoNoSpace {
		t.Errorf("a sync without room for the states: got %v, want ENOSPC", err)
	}
	o.file = file
	if err := o.Sync(); err != nil {
		t.Errorf("a sync after there was room again: %v", err)
	}
	want := newMemoryDisk(1<<20).scatter(5, 3)
	want.WriteAt([]byte("x"), 5)
	o.Close()
	if o, err = OpenOverlay(path, base, "p"); err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	sameContent(t, o, want)
}

// brokenStorage cannot be made durable.
type brokenStorage struct{ storage }

func (brokenStorage) Sync() error { return syscall.EIO }

func TestOverlayDoesNotGoOnAfterAFailedSync(t *testing.T) {
	o, err := OpenOverlay(filepath.Join(t.TempDir(), "overlay"), newMemoryDisk(1<<20), "p")
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	file := o.file
	o.file = brokenStorage{file}
	if err := o.Sync(); err == nil {
		t.Fatal("a sync that failed was called good")
	}
	o.file = file
	_, writing := o.WriteAt([]byte("x"), 5)
	for what, err := range map[string]error{"write": writing, "zero": o.Zero(replication.Extent{Length: 9}), "sync": o.Sync()} {
		if !errors.Is(err, errBroken) {
			t.Errorf("%s after a failed sync: got %v, want %v", what, err, errBroken)
		}
	}
}

// TestOverlayWritersOfOneBlockDoNotUndoEachOther writes the sectors of few blocks
// from many goroutines at once, none of them twice.
func TestOverlayWritersOfOneBlockDoNotUndoEachOther(t *testing.T) {
	const size = 3 * overlayBlock
	base := newMemoryDisk(size).scatter(9, 10)
	o, err := OpenOverlay(filepath.Join(t.TempDir(), "overlay"), base, "p")
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	want := newMemoryDisk(size).scatter(9, 10)
	var writers sync.WaitGroup
	for w := range 8 {
		writers.Go(func() {
			for sector := w; sector < size/512; sector += 8 {
				b := bytes.Repeat([]byte{byte(sector) | 1}, 512)
				if sector%3 == 0 {
					continue // stays as below
				}
				o.WriteAt(b, int64(sector)*512)
				want.WriteAt(b, int64(sector)*512)
			}
		})
	}
	writers.Wait()
	sameContent(t, o, want)
}
