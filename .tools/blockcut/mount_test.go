package blockcut

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// need skips where the tests cannot run, and says why.
func need(t *testing.T, programs ...string) {
	t.Helper()
	if testing.Short() {
		t.Skip("building riparo and cutting its disk takes longer than a quick check may")
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can mount")
	}
	for _, device := range []string{"/dev/fuse", "/dev/loop-control"} {
		f, err := os.OpenFile(device, os.O_RDWR, 0)
		if err != nil {
			t.Skipf("%s cannot be used here: %v", device, err)
		}
		f.Close()
	}
	for _, p := range append(programs, "losetup", "mount", "umount") {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("%s is not installed", p)
		}
	}
}

// command runs a program of others.
func command(name string, args ...string) (string, error) {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// attach makes a loop device of a file, and sees that it is one of this file.
func attach(file string) (device string, err error) {
	if device, err = command("losetup", "-f", "--show", file); err != nil {
		return "", err
	}
	name := filepath.Base(device)
	backing, err := os.ReadFile("/sys/block/" + name + "/loop/backing_file")
	if err != nil || strings.TrimSpace(string(backing)) != file {
		detach(device)
		return "", fmt.Errorf("%s is of %q, want %s: %v", device, backing, file, err)
	}
	return device, nil
}

func detach(device string) error {
	_, err := command("losetup", "-d", device)
	return err
}

// mounted mounts what is in a file and unmounts it after use. If it cannot be mounted, it
// is repaired once, as the file system asks for it.
func (w *world) mounted(file, dir string, use func() error) (err error) {
	device, err := attach(file)
	if err != nil {
		return err
	}
	defer func() {
		if e := detach(device); err == nil {
			err = e
		}
	}()
	_, err = command("mount", "-o", w.mount, device, dir)
	if err != nil && w.repair != nil {
		w.repaired.Add(1)
		// It ends with 1 when it has repaired something: mounting tells whether it has.
		_, repairing := command(w.repair[0], append(w.repair[1:len(w.repair):len(w.repair)], device)...)
		if _, err = command("mount", "-o", w.mount, device, dir); err != nil {
			err = errors.Join(err, repairing)
		}
	}
	if err != nil {
		return fmt.Errorf("VIOLATION: the file system cannot be mounted: %w", err)
	}
	defer func() {
		if e := unmount(dir); err == nil {
			err = e
		}
	}()
	return use()
}

// unmount waits until nobody uses it any more: a child of this program that is being
// started has, for a moment, all files open that the program has.
func unmount(dir string) (err error) {
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if _, err = command("umount", dir); err == nil || time.Now().After(deadline) {
			return err
		}
	}
}
