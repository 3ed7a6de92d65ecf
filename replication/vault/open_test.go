package vault

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"riparo/replication"
	"riparo/replication/vfs"
)

func TestASecondOpenerIsToldWhoHasTheVault(t *testing.T) {
	dir := t.TempDir()
	open(t, vfs.OS(), dir, Options{})
	for _, o := range []Options{{}, {ReadOnly: true}} {
		_, err := Open(t.Context(), vfs.OS(), dir, o)
		p := replication.AsProblem(err)
		if p == nil || p.Code != CodeLocked || p.Remedy != replication.Retry {
			t.Fatalf("options %+v: %v, want %s", o, err, CodeLocked)
		}
		if host, _ := os.Hostname(); !strings.Contains(p.Cause, "process ") || !strings.Contains(p.Cause, host) {
			t.Errorf("%q does not say who", p.Cause)
		}
	}
}

func TestTwoMayReadAndNobodyWriteMeanwhile(t *testing.T) {
	dir := t.TempDir()
	if err := open(t, vfs.OS(), dir, Options{}).Close(); err != nil {
		t.Fatal(err)
	}
	open(t, vfs.OS(), dir, Options{ReadOnly: true})
	open(t, vfs.OS(), dir, Options{ReadOnly: true})
	if _, err := Open(t.Context(), vfs.OS(), dir, Options{}); !hasCode(err, CodeLocked) {
		t.Errorf("%v, want %s", err, CodeLocked)
	}
}

func TestAWrongPathIsToldAndLeftAsItIs(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{dir, filepath.Join(dir, "none")} {
		for _, o := range []Options{{}, {ReadOnly: true}, {ReadOnly: true, Create: true}} {
			if _, err := Open(t.Context(), vfs.OS(), name, o); !hasCode(err, CodeMissing) {
				t.Errorf("%s: %v, want %s", name, err, CodeMissing)
			}
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("files were left: %v, %v", entries, err)
	}
}

func TestANewerVersionIsToldAndLeftAsItIs(t *testing.T) {
	for _, which := range []string{headerName, filepath.Join(disksName, "disk-d.d", segmentName(1))} {
		dir := t.TempDir()
		v := open(t, vfs.OS(), dir, Options{})
		newSender(t, v, "d", 1000).write(change(0, 100, 1))
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(dir, which)
		p, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		binary.LittleEndian.PutUint32(p[8:], formatVersion+1)
		end := headerSize
		if which != headerName {
			end = segmentHeaderSize
		}
		binary.LittleEndian.PutUint32(p[end-4:], checksum(p[:end-4]))
		if err := os.WriteFile(name, p, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err = Open(t.Context(), vfs.OS(), dir, keyed(Options{}))
		if problem := replication.AsProblem(err); problem.Code != CodeVersion || problem.Remedy != replication.Stop {
			t.Errorf("%s: %v, want %s", which, err, CodeVersion)
		}
		if after, err := os.ReadFile(name); err != nil || string(after) != string(p) {
			t.Errorf("%s was changed, %v", which, err)
		}
	}
}

func TestAVaultOpenForReadingRefusesEveryChange(t *testing.T) {
	dir := t.TempDir()
	v := open(t, vfs.OS(), dir, Options{})
	s := newSender(t, v, "d", 100_000)
	s.write(change(0, 50_000, 1))
	p1 := s.mark()
	s.write(change(10, 50_000, 2))
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	before := listing(t, dir)
	v = open(t, vfs.OS(), dir, Options{ReadOnly: true})
	s.vault = v
	s.check()
	ctx := t.Context()
	_, prepare := v.Prepare(ctx, replication.Disk{ID: "d", Size: 5}, 9)
	_, _, heal := v.Heal(ctx, "d", nil)
	for name, err := range map[string]error{
		"prepare": prepare, "heal": heal,
		"write":  v.Write(ctx, replication.Batch{Disk: "d", Epoch: 1, Sequence: 9}),
		"mark":   v.Mark(ctx, replication.Mark{Disk: "d", Epoch: 1, Sequence: 9}),
		"rewind": v.Rewind(ctx, "d", p1, 9),
		"drop":   v.Drop(ctx, "d", []replication.PointID{p1}),
		"erase":  v.Erase(ctx, "d"),
	} {
		if !hasCode(err, CodeReadOnly) {
			t.Errorf("%s: %v, want %s", name, err, CodeReadOnly)
		}
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	if after := listing(t, dir); after != before {
		t.Errorf("files changed from\n%s to\n%s", before, after)
	}
}

// listing is the names and sizes of all files but the lock.
func listing(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() || e.Name() == lockName {
			return err
		}
		info, err := e.Info()
		b.WriteString(path + " " + info.ModTime().Format(time.RFC3339Nano) + "\n")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestAClosedVaultSaysSo(t *testing.T) {
	v := open(t, vfs.OS(), t.TempDir(), Options{})
	s := newSender(t, v, "d", 1000)
	s.write(change(0, 100, 1))
	w, err := v.View(t.Context(), "d", "")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	if err := v.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
	if _, err := v.State("d"); !hasCode(err, CodeClosed) {
		t.Errorf("%v, want %s", err, CodeClosed)
	}
	if err := v.Write(t.Context(), s.batch(change(0, 10, 1))); !hasCode(err, CodeClosed) {
		t.Errorf("%v, want %s", err, CodeClosed)
	}
}

// Everything but the segments can be made again from them.
func TestTheLogIsTheDatabase(t *testing.T) {
	dir := t.TempDir()
	o := Options{segmentBytes: 64 << 10, memoryEntries: 16}
	v := open(t, vfs.OS(), dir, o)
	s := newSender(t, v, "d", 700_001)
	for i := range 60 {
		s.write(change(int64(i*7919)%650_000, 9000+int64(i)*100, byte(i)))
		if i%3 == 0 {
			s.mark()
		}
	}
	s.drop(s.points[2].id, s.points[3].id, s.points[9].id)
	s.rewind(s.points[len(s.points)-2].id)
	s.write(change(0, 70_000, 99))
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	removed := 0
	for _, pattern := range []string{"vault", "disks/*/catalog", "disks/*/*.map"} {
		names, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
			removed++
		}
	}
	if removed < 4 {
		t.Fatalf("only %d files were there to be removed", removed)
	}
	s.vault = open(t, vfs.OS(), dir, o)
	s.check()
	s.write(change(5, 100, 7))
	s.mark()
	s.check()
}

// A folder that was synced in vain may lose a map and keep the catalog that names it.
// The next map gets the number of the lost one, and is none of that catalog's.
func TestACatalogTakesNoOtherMapOfTheSameNumber(t *testing.T) {
	dir := t.TempDir()
	s := newSender(t, open(t, vfs.OS(), dir, Options{}), "d", 700_001)
	s.write(change(0, 9000, 1))
	s.mark()
	s.write(change(50_000, 9000, 2)) // in an open layer, which ends elsewhere in the next map
	folder := s.vault.diskFolder("d")
	catalog, lost := filepath.Join(folder, catalogName), filepath.Join(folder, mapName(1))
	if err := s.vault.disks["d"].flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	old, err := os.ReadFile(catalog)
	s.write(change(100_000, 9000, 3)) // what the catalog knows is in no doubt
	s.vault.kill()
	if err = errors.Join(err, os.Remove(lost), os.Remove(catalog)); err != nil {
		t.Fatal(err)
	}
	s.vault = open(t, vfs.OS(), dir, Options{})
	if err := errors.Join(s.vault.disks["d"].flush(t.Context()), s.vault.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(lost); err != nil {
		t.Fatalf("the number was not used again: %v", err)
	}
	if err := os.WriteFile(catalog, old, 0o600); err != nil {
		t.Fatal(err)
	}
	s.vault = open(t, vfs.OS(), dir, Options{})
	s.check()
}

// countingFS counts the bytes that are read.
type countingFS struct {
	vfs.FS
	read atomic.Int64
}

type countingFile struct {
	vfs.File
	read *atomic.Int64
}

func (c *countingFS) OpenRead(name string) (vfs.File, error) {
	f, err := c.FS.OpenRead(name)
	if err != nil {
		return nil, err
	}
	return countingFile{f, &c.read}, nil
}

func (c countingFile) ReadAt(p []byte, offset int64) (int, error) {
	n, err := c.File.ReadAt(p, offset)
	c.read.Add(int64(n))
	return n, err
}

func TestOpeningReadsNoData(t *testing.T) {
	fsys := &countingFS{FS: vfs.OS()}
	dir := t.TempDir()
	o := Options{segmentBytes: 4 << 20, memoryEntries: 200}
	v := open(t, fsys, dir, o)
	const size = 48 << 20
	s := newSender(t, v, "d", size)
	noise := make([]byte, 1<<20)
	for at := int64(0); at < size; at += 4 << 20 {
		var changes []replication.Change
		for p := at; p < at+4<<20; p += 1 << 20 {
			fillNoise(noise, uint64(p))
			changes = append(changes, replication.Change{Extent: replication.Extent{Offset: p, Length: 1 << 20}, Data: append([]byte(nil), noise...)})
		}
		s.write(changes...)
	}
	s.mark()
	for _, how := range []string{"closed", "crashed"} {
		if how == "closed" {
			if err := v.Close(); err != nil {
				t.Fatal(err)
			}
		} else {
			v.stop()
			<-v.idle
			v.kill()
		}
		fsys.read.Store(0)
		v = open(t, fsys, dir, o)
		if n := fsys.read.Load(); n > 1<<20 {
			t.Errorf("%s: opening read %d bytes of a disk with %d", how, n, int64(size))
		}
		fsys.read.Store(0)
		w, err := v.View(t.Context(), "d", "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.ReadAt(make([]byte, 512), 5<<20); err != nil {
			t.Fatal(err)
		}
		if n := fsys.read.Load(); n > 256<<10 {
			t.Errorf("%s: the first sector took %d bytes of reading", how, n)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	s.vault = v
	s.check()
}

func TestDisksThatDifferOnlyByCaseAreRefused(t *testing.T) {
	v := open(t, vfs.OS(), t.TempDir(), Options{})
	newSender(t, v, "web01.vda", 10)
	if _, err := v.Prepare(t.Context(), replication.Disk{ID: "WEB01.vda", Size: 10}, 1); !hasCode(err, CodeDiskName) {
		t.Errorf("%v, want %s", err, CodeDiskName)
	}
}

func TestUnknownDisksAndPointsAreTold(t *testing.T) {
	v := open(t, vfs.OS(), t.TempDir(), Options{})
	newSender(t, v, "d", 10)
	ctx := t.Context()
	_, state := v.State("x")
	_, points := v.Points("x")
	_, view := v.View(ctx, "x", "")
	_, changed := v.Changed(ctx, "x", "", "")
	_, hashes := v.Hashes(ctx, "x", replication.Extent{Length: 1}, 1)
	_, verify := v.Verify(ctx, VerifyOptions{Disks: []replication.DiskID{"x"}})
	_, _, heal := v.Heal(ctx, "x", nil)
	for name, err := range map[string]error{
		"state": state, "points": points, "view": view, "changed": changed, "hashes": hashes, "verify": verify, "heal": heal,
		"rewind": v.Rewind(ctx, "x", "p", 1), "drop": v.Drop(ctx, "x", nil), "erase": v.Erase(ctx, "x"),
	} {
		if !errors.Is(err, replication.ErrUnknownDisk) {
			t.Errorf("%s: %v, want ErrUnknownDisk", name, err)
		}
	}
	_, view = v.View(ctx, "d", "p")
	_, changed = v.Changed(ctx, "d", "p", "")
	_, changed2 := v.Changed(ctx, "d", "", "p")
	for name, err := range map[string]error{
		"view": view, "changed from": changed, "changed to": changed2, "rewind": v.Rewind(ctx, "d", "p", 1),
	} {
		if !errors.Is(err, replication.ErrUnknownPoint) {
			t.Errorf("%s: %v, want ErrUnknownPoint", name, err)
		}
	}
	if err := v.Drop(ctx, "d", []replication.PointID{"p"}); err != nil {
		t.Errorf("a drop that is repeated: %v", err)
	}
}

var _ io.ReaderAt = countingFile{}
