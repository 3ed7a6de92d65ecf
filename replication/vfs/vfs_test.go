package vfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// both runs a test on the operating system's files and on the simulated disk.
func both(t *testing.T, test func(t *testing.T, fsys FS, dir string)) {
	t.Run("OS", func(t *testing.T) { test(t, OS(), t.TempDir()) })
	t.Run("Sim", func(t *testing.T) {
		s := NewSim(1)
		if err := s.MkdirAll("top"); err != nil {
			t.Fatal(err)
		}
		test(t, s, "top")
	})
}

func put(t *testing.T, fsys FS, name, content string) {
	t.Helper()
	f, err := fsys.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte(content), 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, fsys FS, name string) string {
	t.Helper()
	f, err := fsys.OpenRead(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, size)
	if n, err := f.ReadAt(p, 0); int64(n) != size || err != nil && err != io.EOF {
		t.Fatal(n, err)
	}
	return string(p)
}

func TestAFileHoldsWhatWasWritten(t *testing.T) {
	both(t, func(t *testing.T, fsys FS, dir string) {
		name := filepath.Join(dir, "f")
		f, err := fsys.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range []struct {
			offset int64
			text   string
		}{{10, "world"}, {0, "hello"}, {12, "RL"}} {
			if n, err := f.WriteAt([]byte(w.text), w.offset); n != len(w.text) || err != nil {
				t.Fatal(n, err)
			}
		}
		if got, want := get(t, fsys, name), "hello\x00\x00\x00\x00\x00woRLd"; got != want {
			t.Errorf("%q, want %q", got, want)
		}
		if err := f.Truncate(3); err != nil {
			t.Fatal(err)
		}
		if err := f.Truncate(6); err != nil {
			t.Fatal(err)
		}
		if got, want := get(t, fsys, name), "hel\x00\x00\x00"; got != want {
			t.Errorf("cut and grown: %q, want %q", got, want)
		}
		p := make([]byte, 10)
		if n, err := f.ReadAt(p, 2); n != 4 || err != io.EOF {
			t.Errorf("a read beyond the end: %d, %v; want 4, EOF", n, err)
		}
		if n, err := f.ReadAt(p, 20); n != 0 || err != io.EOF {
			t.Errorf("a read behind the end: %d, %v; want 0, EOF", n, err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(p, 0); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("a write after Close: %v, want ErrClosed", err)
		}
	})
}

func TestNamesAreCreatedRenamedAndRemoved(t *testing.T) {
	both(t, func(t *testing.T, fsys FS, dir string) {
		sub := filepath.Join(dir, "x", "y")
		if err := fsys.MkdirAll(sub); err != nil {
			t.Fatal(err)
		}
		if err := fsys.MkdirAll(sub); err != nil {
			t.Fatalf("made twice: %v", err)
		}
		put(t, fsys, filepath.Join(sub, "b"), "bb")
		put(t, fsys, filepath.Join(sub, "a"), "a")
		if err := fsys.Rename(filepath.Join(sub, "a"), filepath.Join(sub, "b")); err != nil {
			t.Fatal(err)
		}
		if err := fsys.SyncDir(sub); err != nil {
			t.Fatal(err)
		}
		put(t, fsys, filepath.Join(sub, "c"), "ccc")
		list, err := fsys.ReadDir(sub)
		if want := []Info{{Name: "b", Size: 1}, {Name: "c", Size: 3}}; err != nil || !slices.Equal(list, want) {
			t.Errorf("%v, %v; want %v", list, err, want)
		}
		if got := get(t, fsys, filepath.Join(sub, "b")); got != "a" {
			t.Errorf("the renamed file holds %q", got)
		}
		if info, err := fsys.Stat(sub); err != nil || !info.Dir {
			t.Errorf("%+v, %v; want a folder", info, err)
		}
		if err := fsys.Remove(sub); err == nil {
			t.Error("a folder with files was removed")
		}
		for _, name := range []string{"b", "c"} {
			if err := fsys.Remove(filepath.Join(sub, name)); err != nil {
				t.Fatal(err)
			}
		}
		if err := fsys.Remove(sub); err != nil {
			t.Error(err)
		}
		_, open := fsys.Open(filepath.Join(dir, "none"))
		_, read := fsys.OpenRead(filepath.Join(dir, "none"))
		_, stat := fsys.Stat(sub)
		_, readDir := fsys.ReadDir(sub)
		_, create := fsys.Create(filepath.Join(sub, "f"))
		for what, err := range map[string]error{
			"open": open, "open to read": read, "stat": stat, "list": readDir, "create": create,
			"remove": fsys.Remove(sub), "rename": fsys.Rename(filepath.Join(dir, "none"), filepath.Join(dir, "n")),
		} {
			if !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s what is not there: %v, want ErrNotExist", what, err)
			}
		}
	})
}

func TestALockHasOneHolderOrManyReaders(t *testing.T) {
	both(t, func(t *testing.T, fsys FS, dir string) {
		name := filepath.Join(dir, "lock")
		first, err := fsys.Lock(name, "process 7 on pluto", false)
		if err != nil {
			t.Fatal(err)
		}
		for _, shared := range []bool{false, true} {
			_, err := fsys.Lock(name, "another", shared)
			locked, ok := errors.AsType[*LockedError](err)
			if !ok {
				t.Fatalf("shared %v: %v, want a *LockedError", shared, err)
			}
			if _, sim := fsys.(*Sim); !sim && locked.Holder != "process 7 on pluto" {
				t.Errorf("the holder is %q", locked.Holder)
			}
		}
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
		var readers []io.Closer
		for range 2 {
			r, err := fsys.Lock(name, "", true)
			if err != nil {
				t.Fatal(err)
			}
			readers = append(readers, r)
		}
		if _, err := fsys.Lock(name, "", false); err == nil {
			t.Error("an exclusive lock beside shared ones")
		}
		for _, r := range readers {
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
		}
		last, err := fsys.Lock(name, "", false)
		if err != nil {
			t.Fatal(err)
		}
		if err := last.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestSpaceIsTold(t *testing.T) {
	both(t, func(t *testing.T, fsys FS, dir string) {
		if s, err := fsys.Space(dir); err != nil || s.Total <= 0 || s.Free < 0 || s.Free > s.Total {
			t.Errorf("%+v, %v", s, err)
		}
	})
}

// What was synced is there after every power cut, and what was not is lost in every
// way sooner or later.
func TestThePowerCutTakesOnlyWhatWasNotSynced(t *testing.T) {
	outcomes := map[string]int{}
	for seed := uint64(1); seed <= 400; seed++ {
		s := NewSim(seed)
		if err := s.MkdirAll("d"); err != nil {
			t.Fatal(err)
		}
		if err := s.SyncDir("."); err != nil {
			t.Fatal(err)
		}
		old := bytes.Repeat([]byte("o"), 4*Sector)
		put(t, s, "d/f", string(old))
		put(t, s, "d/moved", "m")
		if err := s.SyncDir("d"); err != nil {
			t.Fatal(err)
		}
		f, err := s.Open("d/f")
		if err != nil {
			t.Fatal(err)
		}
		fresh := bytes.Repeat([]byte("n"), 3*Sector)
		if _, err := f.WriteAt(fresh, Sector); err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(fresh, 10*Sector); err != nil {
			t.Fatal(err)
		}
		put(t, s, "d/new", "synced, but not its name")
		if err := s.Rename("d/moved", "d/there"); err != nil {
			t.Fatal(err)
		}
		after := s.Restart()
		if _, err := f.Size(); !errors.Is(err, ErrPowerCut) {
			t.Fatalf("the old disk lives on: %v", err)
		}
		got := get(t, after, "d/f")
		if got[:Sector] != string(old[:Sector]) {
			t.Fatalf("seed %d: a synced sector changed", seed)
		}
		for i := 1; i < 4; i++ {
			sector := got[i*Sector : (i+1)*Sector]
			if sector != string(old[:Sector]) && sector != string(fresh[:Sector]) {
				t.Fatalf("seed %d: sector %d is neither old nor new", seed, i)
			}
		}
		torn := strings.Count(got[Sector:4*Sector], "n")
		outcomes[fmt.Sprintf("%d of 3 sectors", torn/Sector)]++
		if torn < 3*Sector && strings.Count(got[4*Sector:], "n") > 0 {
			outcomes["a later write without an earlier one"]++
		}
		if len(got) > 10*Sector && strings.Trim(got[4*Sector:10*Sector], "\x00") != "" {
			outcomes["junk in the hole"]++
		}
		_, errNew := after.Stat("d/new")
		_, errOld := after.Stat("d/moved")
		_, errThere := after.Stat("d/there")
		if (errOld == nil) == (errThere == nil) {
			t.Fatalf("seed %d: a rename happened by half: %v, %v", seed, errOld, errThere)
		}
		outcomes[fmt.Sprintf("new name kept %v, rename kept %v", errNew == nil, errThere == nil)]++
		if errNew == nil && get(t, after, "d/new") != "synced, but not its name" {
			t.Fatalf("seed %d: synced content is gone", seed)
		}
	}
	for _, want := range []string{
		"0 of 3 sectors", "1 of 3 sectors", "2 of 3 sectors", "3 of 3 sectors", "a later write without an earlier one", "junk in the hole",
		"new name kept false, rename kept true", "new name kept true, rename kept false",
		"new name kept true, rename kept true", "new name kept false, rename kept false",
	} {
		if outcomes[want] == 0 {
			t.Errorf("never happened: %s (%v)", want, outcomes)
		}
	}
}

func TestAFolderThatIsLostTakesItsFilesAlong(t *testing.T) {
	lost := 0
	for seed := uint64(1); seed <= 50; seed++ {
		s := NewSim(seed)
		if err := s.MkdirAll("a/b"); err != nil {
			t.Fatal(err)
		}
		put(t, s, "a/b/f", "x")
		if err := s.SyncDir("a/b"); err != nil {
			t.Fatal(err)
		}
		after := s.Restart()
		_, dir := after.Stat("a/b")
		_, file := after.Stat("a/b/f")
		if (dir == nil) != (file == nil) {
			t.Fatalf("seed %d: folder %v, file in it %v", seed, dir, file)
		}
		if dir != nil {
			lost++
		}
	}
	if lost == 0 || lost == 50 {
		t.Errorf("lost %d of 50 times", lost)
	}
}

func TestTheSameSeedGivesTheSameDisk(t *testing.T) {
	run := func(seed uint64) string {
		s := NewSim(seed)
		r := rand.New(rand.NewPCG(9, 9))
		var b strings.Builder
		for range 5 {
			for i := range 10 {
				name := fmt.Sprintf("f%d", r.IntN(5))
				f, err := s.Create(name)
				if err != nil {
					t.Fatal(err)
				}
				p := make([]byte, 3000)
				for j := range p {
					p[j] = byte(r.Uint32())
				}
				if _, err := f.WriteAt(p, r.Int64N(9000)); err != nil {
					t.Fatal(err)
				}
				if i%3 == 0 {
					if err := f.Sync(); err != nil {
						t.Fatal(err)
					}
				}
				if i%4 == 0 {
					if err := s.SyncDir("."); err != nil {
						t.Fatal(err)
					}
				}
			}
			s = s.Restart()
			names, sizes := s.Files()
			fmt.Fprintln(&b, names, sizes)
			for _, name := range names {
				fmt.Fprintf(&b, "%x\n", get(t, s, name))
			}
		}
		return b.String()
	}
	if first, again := run(5), run(5); first != again {
		t.Error("the same seed gave two disks")
	}
	if run(5) == run(6) {
		t.Error("two seeds gave the same disk")
	}
}

func TestThePowerCutComesInsideAnOperation(t *testing.T) {
	s := NewSim(1)
	put(t, s, "f", "x")
	f, err := s.Open("f")
	if err != nil {
		t.Fatal(err)
	}
	s.CutPower(1)
	if _, err := f.WriteAt([]byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("2"), 1); !errors.Is(err, ErrPowerCut) || !s.PowerIsCut() {
		t.Fatalf("%v, want a power cut", err)
	}
	_, read := f.ReadAt(make([]byte, 1), 0)
	_, create := s.Create("g")
	_, stat := s.Stat("f")
	_, lock := s.Lock("l", "", false)
	for what, err := range map[string]error{
		"read": read, "create": create, "stat": stat, "lock": lock, "sync": f.Sync(), "syncdir": s.SyncDir("."),
		"truncate": f.Truncate(0), "rename": s.Rename("f", "g"), "remove": s.Remove("f"), "mkdir": s.MkdirAll("d"),
	} {
		if !errors.Is(err, ErrPowerCut) {
			t.Errorf("%s: %v, want ErrPowerCut", what, err)
		}
	}
}

func TestAFailedFsyncMayLoseItsDataSilently(t *testing.T) {
	seen := map[string]int{}
	for seed := range uint64(40) {
		seen[failFsync(t, seed)]++
	}
	if seen["old"] == 0 || seen["new"] == 0 || len(seen) != 2 {
		t.Errorf("after failed fsyncs there is %v, want some old and some new", seen)
	}
}

// failFsync writes over old with new, has the fsync fail, and gives what is there after a
// restart.
func failFsync(t *testing.T, seed uint64) string {
	s := NewSim(seed)
	put(t, s, "f", "old")
	if err := s.SyncDir("."); err != nil {
		t.Fatal(err)
	}
	f, err := s.Open("f")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("new"), 0); err != nil {
		t.Fatal(err)
	}
	s.FailSync(0)
	if err := f.Sync(); !errors.Is(err, ErrIO) {
		t.Fatalf("%v, want ErrIO", err)
	}
	if err := f.Sync(); err != nil {
		t.Fatalf("the next fsync: %v, want none", err)
	}
	if got := get(t, s, "f"); got != "new" {
		t.Errorf("it reads %q before it is evicted", got)
	}
	c := s.Clone()
	c.Evict()
	after := get(t, s.Restart(), "f")
	if got := get(t, c, "f"); got != after {
		t.Errorf("seed %d: it reads %q after it was evicted, and %q after a restart", seed, got, after)
	}
	return after
}

func TestNamesAreCertainAfterAnFsyncThatSucceeds(t *testing.T) {
	for seed := range uint64(40) {
		s := NewSim(seed)
		put(t, s, "f", "x")
		s.FailSyncDir(0)
		if err := s.SyncDir("."); !errors.Is(err, ErrIO) {
			t.Fatalf("%v, want ErrIO", err)
		}
		if err := s.SyncDir("."); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Restart().Stat("f"); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
	}
}

func TestAFullDiskTakesWhatFits(t *testing.T) {
	s := NewSim(1)
	put(t, s, "f", "12345678")
	s.SetCapacity(12)
	f, err := s.Open("f")
	if err != nil {
		t.Fatal(err)
	}
	if n, err := f.WriteAt([]byte("abcdefgh"), 6); n != 6 || !errors.Is(err, ErrNoSpace) {
		t.Errorf("%d, %v; want 6 and ErrNoSpace", n, err)
	}
	if got := get(t, s, "f"); got != "123456abcdef" {
		t.Errorf("%q", got)
	}
	if n, err := f.WriteAt([]byte("xx"), 0); n != 2 || err != nil {
		t.Errorf("in place: %d, %v", n, err)
	}
	if err := f.Truncate(13); !errors.Is(err, ErrNoSpace) {
		t.Errorf("growing: %v, want ErrNoSpace", err)
	}
	if _, err := s.Create("g"); !errors.Is(err, ErrNoSpace) {
		t.Errorf("a new file: %v, want ErrNoSpace", err)
	}
	if sp, err := s.Space("."); err != nil || sp.Free != 0 || sp.Total != 12 {
		t.Errorf("%+v, %v", sp, err)
	}
	if err := f.Truncate(4); err != nil {
		t.Error(err)
	}
	if sp, err := s.Space("."); err != nil || sp.Free != 8 {
		t.Errorf("%+v, %v", sp, err)
	}
}

func TestBitsFlipAndSectorsAreLost(t *testing.T) {
	s := NewSim(1)
	put(t, s, "f", strings.Repeat("a", 3*Sector))
	if err := s.SyncDir("."); err != nil {
		t.Fatal(err)
	}
	if err := s.FlipBit("f", 8*5+1); err != nil {
		t.Fatal(err)
	}
	if got := get(t, s, "f"); got[5] != 'a'^2 || got[4] != 'a' {
		t.Errorf("%q", got[:8])
	}
	if err := s.FlipBit("f", 8*3*Sector); err == nil {
		t.Error("a bit behind the end was flipped")
	}
	if err := s.LoseSector("f", Sector+3); err != nil {
		t.Fatal(err)
	}
	f, err := s.Open("f")
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, Sector)
	if _, err := f.ReadAt(p, Sector/2); !errors.Is(err, ErrIO) {
		t.Errorf("%v, want ErrIO", err)
	}
	if _, err := f.ReadAt(p, 2*Sector); err != nil {
		t.Error(err)
	}
	if _, err := f.WriteAt(p, Sector); err != nil {
		t.Fatal(err)
	}
	if _, err := f.ReadAt(p, Sector); err != nil {
		t.Errorf("after it was written: %v", err)
	}
	after := s.Restart()
	if got := get(t, after, "f"); got[5] != 'a'^2 {
		t.Error("the flipped bit came back by itself")
	}
}
