package nbd

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"riparo/replication"
)

// TestAnOverlayThatIsOpenedReadsTheMedium: not what the cache shows, which after an fsync
// that failed may be what was never written.
func TestAnOverlayThatIsOpenedReadsTheMedium(t *testing.T) {
	path := filepath.Join(t.TempDir(), "overlay")
	base := newMemoryDisk(4 << 20)
	o, err := OpenOverlay(path, base, "p")
	if err != nil {
		t.Fatal(err)
	}
	data := bytes.Repeat([]byte("content "), 128<<10)
	if _, err := o.WriteAt(data, 0); err != nil {
		t.Fatal(err)
	}
	if err := o.Sync(); err != nil {
		t.Fatal(err)
	}
	half := len(data) / 2 // what opening reads, the system reads on behind
	at := o.layout.data + int64(half)
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	if !cached(t, path, at, half) {
		t.Skip("the file system of the tests keeps nothing in the page cache")
	}
	if o, err = OpenOverlay(path, base, "p"); err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err == nil && fs.Type == unix.TMPFS_MAGIC {
		t.Skip("a file system in memory has no medium")
	}
	if cached(t, path, at, half) {
		t.Error("the file was opened, and what the cache showed before is still there")
	}
	got := make([]byte, len(data))
	if _, err := o.ReadAt(got, 0); err != nil || !bytes.Equal(got, data) {
		t.Errorf("what was synced is not there (%v)", err)
	}
}

func TestWhatIsNoRegularFileIsNoOverlay(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	o, err := OpenOverlay(path, newMemoryDisk(1<<20), "p")
	if err == nil {
		o.Close()
	}
	if p := replication.AsProblem(err); p == nil || !strings.Contains(p.Cause, "is not a regular file") {
		t.Errorf("got %v", err)
	}
}

// cached reports whether a page of a file is in the cache.
func cached(t *testing.T, path string, at int64, length int) bool {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p, err := unix.Mmap(int(f.Fd()), at, length, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(p)
	pages := make([]byte, (length+os.Getpagesize()-1)/os.Getpagesize())
	if _, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&p[0])), uintptr(length), uintptr(unsafe.Pointer(&pages[0]))); errno != 0 {
		t.Fatal(errno)
	}
	return slices.ContainsFunc(pages, func(b byte) bool { return b&1 != 0 })
}
