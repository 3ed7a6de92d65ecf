package store_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"riparo/store"
)

// mount gives a folder on a small file system of its own.
func mount(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("cannot mount a small file system here: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

func TestAFullDiskLosesNothing(t *testing.T) {
	dir := mount(t, "1m")
	path := filepath.Join(dir, "state.db")
	st, err := store.Open(path, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	put := func(i int) error {
		return store.Put(st, store.Sites, store.Site{Name: fmt.Sprintf("%04d", i), Address: strings.Repeat("x", 5000)})
	}
	acknowledged := 0
	for ; err == nil && acknowledged < 10_000; acknowledged++ {
		err = put(acknowledged)
	}
	acknowledged--
	wantProblem(t, err, "store.full")
	if err := put(acknowledged); err == nil {
		t.Error("a second write in a full disk was taken")
	}
	if err := st.Backup(os.Stderr); err == nil {
		t.Error("a backup had room in a full disk")
	} else {
		wantProblem(t, err, "store.full")
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}

	// With room again everything that was acknowledged is there, and it goes on.
	if err := unix.Mount("none", dir, "tmpfs", unix.MS_REMOUNT, "size=16m"); err != nil {
		t.Fatal(err)
	}
	if st, err = store.Open(path, store.Options{}); err != nil {
		t.Fatal(err)
	}
	sites, err := store.List(st, store.Sites)
	if err != nil || len(sites) != acknowledged {
		t.Errorf("%d sites, %v; want the %d that were acknowledged", len(sites), err, acknowledged)
	}
	if err := errors.Join(put(acknowledged), st.Check(), st.Close()); err != nil {
		t.Error(err)
	}
}

func TestADiskWithoutRoomForAFreshFile(t *testing.T) {
	dir := mount(t, "16k")
	_, err := store.Open(filepath.Join(dir, "state.db"), store.Options{})
	wantProblem(t, err, "store.full")
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestAReadOnlyDiskIsSaid(t *testing.T) {
	dir := mount(t, "4m")
	path := filepath.Join(dir, "state.db")
	st, err := store.Open(path, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("none", dir, "tmpfs", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	_, err = store.Open(path, store.Options{})
	wantProblem(t, err, "store.access")
	_, err = store.Open(filepath.Join(dir, "other.db"), store.Options{})
	wantProblem(t, err, "store.access")
}

// asNobody runs fn on a thread whose files are opened as another user.
func asNobody(t *testing.T, fn func()) {
	t.Helper()
	if os.Getuid() == 0 {
		const nobody = 65534
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := syscall.Setfsuid(nobody); err != nil {
			t.Skipf("cannot act as another user: %v", err)
		}
		defer syscall.Setfsuid(0)
	}
	fn()
}

func TestMissingRightsAreSaid(t *testing.T) {
	path := made(t)
	dir := t.TempDir()
	for _, name := range []string{path, dir} {
		if err := os.Chmod(name, 0o400); err != nil {
			t.Fatal(err)
		}
	}
	// So that another user gets as far as the file.
	for up := filepath.Dir(path); strings.HasPrefix(up, os.TempDir()) && up != os.TempDir(); up = filepath.Dir(up) {
		if err := os.Chmod(up, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	asNobody(t, func() {
		_, err := store.Open(path, store.Options{})
		wantProblem(t, err, "store.access")
		_, err = store.Open(filepath.Join(dir, "state.db"), store.Options{})
		wantProblem(t, err, "store.access")
	})
}

// The disk takes no more writes: the descriptor under the store is exchanged for
// one that can only read.
func TestAWriteThatTheDiskDoesNotTakeIsFinal(t *testing.T) {
	path := made(t)
	st, err := store.Open(path, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	readOnly, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer readOnly.Close()
	descriptors, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	exchanged := false
	for _, d := range descriptors {
		var fd int
		fmt.Sscan(d.Name(), &fd)
		target, err := os.Readlink("/proc/self/fd/" + d.Name())
		if err == nil && target == path && fd != int(readOnly.Fd()) {
			if err := unix.Dup3(int(readOnly.Fd()), fd, unix.O_CLOEXEC); err != nil {
				t.Fatal(err)
			}
			exchanged = true
		}
	}
	if !exchanged {
		t.Fatal("the store's descriptor was not found")
	}
	for range 2 {
		err := store.Put(st, store.Sites, store.Site{Name: "new"})
		wantProblem(t, err, "store.failed")
	}
	if _, err := store.Get(st, store.Sites, "site 3"); err != nil {
		t.Errorf("reading goes on: %v", err)
	}
	if _, err := store.Get(st, store.Sites, "new"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the record that was not confirmed: %v", err)
	}
}
