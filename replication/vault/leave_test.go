package vault

import (
	"encoding/binary"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"riparo/replication/vfs"
)

// logFS counts the bytes that are read of segments.
type logFS struct {
	vfs.FS
	read atomic.Int64
}

func (l *logFS) OpenRead(name string) (vfs.File, error) {
	f, err := l.FS.OpenRead(name)
	if err != nil || !strings.HasSuffix(name, segmentSuffix) {
		return f, err
	}
	return countingFile{f, &l.read}, nil
}

// leftDisk writes many points to a disk, in several segments, the newest of them open.
func leftDisk(t *testing.T, fsys vfs.FS, dir string, o Options, points int) *sender {
	s := newSender(t, open(t, fsys, dir, o), "d", 64<<10)
	for i := range points {
		s.write(change(int64(i*7919)%50_000, 5000, byte(i)))
		s.mark()
	}
	return s
}

// headers is what of the newest segment alone is read to see that it is as it was left:
// its header and trailer, a few times.
const headers = 4 * (segmentHeaderSize + trailerSize)

func TestADiskThatWasClosedIsOpenedWithoutReadingItsLog(t *testing.T) {
	fsys, dir := &logFS{FS: unsyncedFS{vfs.OS()}}, t.TempDir()
	o := Options{manual: true}
	s := leftDisk(t, fsys, dir, o, 400)
	s.vault.kill()
	s.vault = open(t, fsys, dir, o)
	if n := fsys.read.Load(); n < 10*headers {
		t.Fatalf("after a crash %d bytes of the log were read: the count is wrong", n)
	}
	for _, how := range []string{"written to", "left alone"} {
		if how == "written to" {
			for range 300 {
				s.write(change(0, 5000, 9))
				s.mark()
			}
		}
		if err := s.vault.Close(); err != nil {
			t.Fatal(err)
		}
		fsys.read.Store(0)
		s.vault = open(t, fsys, dir, o)
		if n := fsys.read.Load(); n > headers {
			t.Errorf("%s: opening read %d bytes of the log, want at most %d", how, n, headers)
		}
	}
	s.check()
	s.write(change(77, 5000, 3))
	s.mark()
	s.check()
}

// What is left at closing is a hint. When it does not fit, the log is read.
func TestWhatDoesNotFitTheCatalogIsRead(t *testing.T) {
	newest := func(t *testing.T, dir string) string {
		names, err := filepath.Glob(filepath.Join(dir, "disks", "*", "*"+segmentSuffix))
		if err != nil || len(names) < 3 {
			t.Fatalf("%d segments, %v, want 3 or more", len(names), err)
		}
		return names[len(names)-1]
	}
	cases := map[string]func(t *testing.T, dir string){
		"a trailer with a flipped bit": func(t *testing.T, dir string) {
			name := newest(t, dir)
			p := fileOf(t, name)
			p[len(p)-30] ^= 4
			replace(t, name, p)
		},
		"a segment of another copy of the vault": func(t *testing.T, dir string) {
			name := newest(t, dir)
			p := fileOf(t, name)
			tr, err := parseTrailer(p[len(p)-trailerSize:], int64(len(p)))
			if err != nil {
				t.Fatal(err)
			}
			tr.chain++
			replace(t, name, append(p[:len(p)-trailerSize], tr.encode()...))
		},
		"a segment without its footer": func(t *testing.T, dir string) {
			name := newest(t, dir)
			p := fileOf(t, name)
			tr, err := parseTrailer(p[len(p)-trailerSize:], int64(len(p)))
			if err != nil {
				t.Fatal(err)
			}
			replace(t, name, p[:tr.footer])
		},
		"a catalog that says nothing of seals": func(t *testing.T, dir string) {
			names, _ := filepath.Glob(filepath.Join(dir, "disks", "*", catalogName))
			p := fileOf(t, names[0])
			clear(p[28:32])
			binary.LittleEndian.PutUint32(p[catalogHeader-4:], checksum(p[:catalogHeader-4]))
			replace(t, names[0], p)
		},
	}
	for _, name := range slices.Sorted(maps.Keys(cases)) {
		t.Run(name, func(t *testing.T) {
			fsys, dir := &logFS{FS: unsyncedFS{vfs.OS()}}, t.TempDir()
			o := Options{manual: true, segmentBytes: 256 << 10, memoryEntries: 40}
			s := leftDisk(t, fsys, dir, o, 140)
			if err := s.vault.Close(); err != nil {
				t.Fatal(err)
			}
			cases[name](t, dir)
			fsys.read.Store(0)
			s.vault = open(t, fsys, dir, o)
			if n := fsys.read.Load(); n <= headers {
				t.Errorf("the log was not read: %d bytes", n)
			}
			s.check()
			s.write(change(77, 5000, 3))
			s.mark()
			s.check()
			if err := s.vault.Close(); err != nil {
				t.Fatal(err)
			}
			s.vault = open(t, fsys, dir, o)
			s.check()
		})
	}
}

// An older catalog belongs to a log that was shorter: what came after it is there.
func TestACatalogOfAnEarlierClosingLosesNothing(t *testing.T) {
	dir := t.TempDir()
	o := Options{manual: true, segmentBytes: 256 << 10, memoryEntries: 40}
	s := leftDisk(t, unsyncedFS{vfs.OS()}, dir, o, 140)
	if err := s.vault.Close(); err != nil {
		t.Fatal(err)
	}
	names, _ := filepath.Glob(filepath.Join(dir, "disks", "*", catalogName))
	old := fileOf(t, names[0])
	s.vault = open(t, vfs.OS(), dir, o)
	for i := range 60 {
		s.write(change(int64(i)*1000, 5000, byte(100+i)))
		s.mark()
	}
	if err := s.vault.Close(); err != nil {
		t.Fatal(err)
	}
	replace(t, names[0], old)
	s.vault = open(t, vfs.OS(), dir, o)
	s.check()
}

func fileOf(t *testing.T, name string) []byte {
	t.Helper()
	p, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func replace(t *testing.T, name string, p []byte) {
	t.Helper()
	if err := os.WriteFile(name, p, 0o600); err != nil {
		t.Fatal(err)
	}
}

// With no room for a map, a disk may be left sealed with more in its log than the maps
// know.
func TestACatalogWhoseMapsEndEarlierIsRead(t *testing.T) {
	dir := t.TempDir()
	o := Options{manual: true}
	s := leftDisk(t, unsyncedFS{vfs.OS()}, dir, o, 30)
	d := s.vault.disks["d"]
	if err := errors.Join(d.log.seal(), d.writeCatalog()); err != nil {
		t.Fatal(err)
	}
	s.vault.kill()
	s.vault = open(t, vfs.OS(), dir, o)
	s.check()
}

// A seal whose fsync failed is seen until the power goes, and the catalog of the moment
// before must not stand for it.
func TestASealIsCertainOnlyBehindItsFsync(t *testing.T) {
	for seed := range uint64(20) {
		disk := vfs.NewSim(seed)
		o := Options{manual: true}
		s := leftDisk(t, disk, "v", o, 150)
		d := s.vault.disks["d"]
		if err := d.flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		disk.FailSync(0)
		if err := s.vault.Close(); err == nil {
			t.Fatal("the fsync of the seal did not fail")
		}
		s.vault = open(t, disk, "v", o)
		r, err := openSegment(disk.Clone().Restart(), d.folder, 1)
		if err != nil {
			t.Fatal(err)
		}
		if r.trailer == nil {
			t.Errorf("seed %d: segment 1 has no footer after a power cut", seed)
		}
		if err := r.close(); err != nil {
			t.Fatal(err)
		}
		s.check()
	}
}
