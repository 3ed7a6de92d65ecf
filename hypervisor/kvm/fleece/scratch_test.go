//go:build linux

package fleece_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"riparo/hypervisor"
	"riparo/hypervisor/kvm/fleece"
	"riparo/replication"
)

// TestEmptyImagesAreWhatQEMUMakes asks qemu-img what it thinks of our images.
func TestEmptyImagesAreWhatQEMUMakes(t *testing.T) {
	if _, err := exec.LookPath("qemu-img"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	for _, size := range []int64{512, 1 << 20, 3<<20 + 512, 1 << 29, 1<<29 + 512, 64 << 30, 64 << 40} {
		for _, backing := range []string{"", "nbd+unix:///web01.vda?socket=/nowhere/x.sock"} {
			path := filepath.Join(t.TempDir(), "image.qcow2")
			if err := os.WriteFile(path, fleece.EmptyImage(size, backing), 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command("qemu-img", "check", path).CombinedOutput()
			if err != nil && backing == "" {
				t.Errorf("size %d: qemu-img check: %v: %s", size, err, out)
			}
			out, err = exec.Command("qemu-img", "info", path).CombinedOutput()
			if err != nil || !strings.Contains(string(out), fmt.Sprintf("(%d bytes)", size)) || !strings.Contains(string(out), "file format: qcow2") {
				t.Errorf("size %d: qemu-img info: %v: %s", size, err, out)
			}
			if backing != "" && (!strings.Contains(string(out), "backing file: "+backing) || !strings.Contains(string(out), "backing file format: raw")) {
				t.Errorf("size %d with a backing: %s", size, out)
			}
		}
	}
}

// TestAFullScratchFolderBreaksTheCaptureAndNotTheGuest lets a guest overwrite more than
// there is room for: under a limit of our own, and on a file system that is full.
func TestAFullScratchFolderBreaksTheCaptureAndNotTheGuest(t *testing.T) {
	if testing.Short() {
		t.Skip("runs QEMU: left out of the short run")
	}
	t.Run("limit", func(t *testing.T) {
		w := newWorld(t, 1)
		w.limit = 12 << 20 // 10 MiB are reserved for the windows
		w.overfill(func() { w.limit = 0 })
	})
	t.Run("file system", func(t *testing.T) {
		w := newWorld(t, 2)
		w.scratch = filepath.Join(w.folder, "full")
		if err := os.Mkdir(w.scratch, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mount("none", w.scratch, "tmpfs", 0, "size=11m"); err != nil {
			t.Skipf("a small file system cannot be mounted here: %v", err)
		}
		small := w.scratch
		t.Cleanup(func() { w.end(true); syscall.Unmount(small, 0) })
		w.overfill(func() { w.scratch = w.folder })
	})
}

// overfill captures, overwrites everything, reads, and captures once more with room.
func (w *world) overfill(makeRoom func()) {
	t := w.t
	t.Helper()
	for _, d := range w.disks {
		w.fill(d, 0x11)
	}
	c, err := w.capture("0001")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.read(c); err != nil {
		t.Fatal(err)
	}
	w.verify("the first point")
	if err := c.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, d := range w.disks {
		d.since = "0001"
		w.fill(d, 0x22)
	}
	if c, err = w.capture("0002"); err != nil {
		t.Fatal(err)
	}
	for _, d := range w.disks {
		w.fill(d, 0x33)
	}
	// Until the guard has looked, reads may still be right; they are never wrong.
	err = nil
	for range 1000 {
		if err = w.read(c); err != nil {
			break
		}
		w.verify("a point that is about to be given up")
	}
	problem := replication.AsProblem(err)
	if err == nil || problem.Code != "kvm.scratch-full" || problem.Remedy != replication.Retry {
		t.Fatalf("reading an instant that could not be kept: %v", err)
	}
	w.expectNoFailedWrite()
	if err := c.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	makeRoom()
	if c, err = w.capture("0003"); err != nil {
		t.Fatal(err)
	}
	for _, d := range c.Disks() {
		if d.Mode() != hypervisor.Delta {
			t.Errorf("after a capture that was given up disk %s is %s (%s)", d.Key(), d.Mode(), d.Reason())
		}
	}
	if err := w.read(c); err != nil {
		t.Fatal(err)
	}
	w.verify("the point after it")
	if err := errors.Join(c.Commit(t.Context()), c.Rollback(t.Context())); err != nil {
		t.Fatal(err)
	}
	if err := fleece.Forget(t.Context(), w.machine()); err != nil {
		t.Fatal(err)
	}
	w.expectNothingLeft()
}

// fill overwrites a whole disk.
func (w *world) fill(d *testDisk, pattern byte) {
	for i := range d.content {
		d.content[i] = pattern
	}
	for offset := 0; offset < len(d.content); offset += 64 << 10 {
		w.io(d, fmt.Sprintf("write -P %d %d %d", pattern, offset, min(64<<10, len(d.content)-offset)))
	}
}
