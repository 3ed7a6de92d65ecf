//go:build unix

package vault

import (
	"errors"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"riparo/replication/vfs"
)

// shortFS is a file system of a process that may open no more files.
type shortFS struct {
	vfs.FS
	of string // what the names contain of those that cannot be opened; empty: all can
}

func (f *shortFS) OpenRead(name string) (vfs.File, error) {
	if f.of != "" && strings.Contains(name, f.of) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.EMFILE}
	}
	return f.FS.OpenRead(name)
}

func (f *shortFS) Create(name string) (vfs.File, error) {
	if f.of != "" && strings.Contains(name, f.of) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.EMFILE}
	}
	return f.FS.Create(name)
}

// TestAShortageIsNotTheEndOfADisk: a segment that could not be made was not made, and the log
// goes on when one can.
func TestAShortageIsNotTheEndOfADisk(t *testing.T) {
	f := &shortFS{FS: vfs.NewSim(4)}
	v := open(t, f, "v", Options{})
	s := newSender(t, v, "d", 100_000)
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	v = open(t, f, "v", Options{}) // and the log goes on in a segment of its own
	s.vault = v
	s.write(change(0, 1000, 1))
	v.disks["d"].mu.Lock()
	err := v.disks["d"].log.seal()
	v.disks["d"].mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	f.of = "segment"
	b := s.batch(change(2000, 1000, 2))
	if err := v.Write(t.Context(), b); !hasCode(err, CodeShort) || !errors.Is(err, syscall.EMFILE) {
		t.Fatalf("%v, want %s", err, CodeShort)
	}
	f.of = ""
	if err := v.Write(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	s.mark()
	s.check()
}

// TestAShortageIsNoDamage: neither of a block that is read, nor of all that is verified.
func TestAShortageIsNoDamage(t *testing.T) {
	f := &shortFS{FS: vfs.NewSim(4)}
	v := open(t, f, "v", Options{memoryEntries: 8})
	s := newSender(t, v, "d", 3<<20)
	for i := range int64(40) {
		s.write(change(i*70_000, 70_000, byte(i)))
	}
	s.mark()
	w, err := v.View(t.Context(), "d", "")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	f.of = "segment"
	if _, err := w.ReadAt(make([]byte, 4096), 0); !errors.Is(err, syscall.EMFILE) || hasCode(err, CodeDamaged) {
		t.Errorf("read: %v", err)
	}
	for _, of := range []string{"segment", "map", "catalog", keysName, headerName} {
		f.of = of
		report, err := v.Verify(t.Context(), VerifyOptions{})
		if len(report.Damage) > 0 || !errors.Is(err, syscall.EMFILE) {
			t.Errorf("verify, no room for a %s: %+v, %v", of, report.Damage, err)
		}
	}
	f.of = ""
	if found, err := v.Found(t.Context(), "d"); err != nil || len(found) > 0 {
		t.Errorf("found %+v, %v", found, err)
	}
	if report, err := v.Verify(t.Context(), VerifyOptions{}); err != nil || len(report.Damage) > 0 {
		t.Errorf("verify, later: %+v, %v", report.Damage, err)
	}
	s.check()
}
