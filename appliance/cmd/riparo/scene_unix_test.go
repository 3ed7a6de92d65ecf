//go:build unix

package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// feed gives the name of a pipe. Whoever reads it gets text, but before() is done
// first: the reader has opened everything else by then.
func feed(t *testing.T, text string, before func()) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f, err := os.OpenFile(path, os.O_WRONLY, 0) // waits for the reader
		if err != nil {
			return
		}
		defer f.Close()
		before()
		f.WriteString(text + "\n")
	}()
	t.Cleanup(func() { <-done })
	return path
}

func notAsRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		t.Skip("root may read everything")
	}
}

func asRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount")
	}
}

// command runs a program of others, which has to succeed.
func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// arrange is command for what prepares a scene: where it is not possible, the test
// is skipped and says why.
func arrange(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Skipf("%s %q is not possible here: %v: %s", name, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// mountedDevice is a block device that is mounted.
func mountedDevice(t *testing.T) string {
	asRoot(t)
	dir := t.TempDir()
	file := sparse(t, filepath.Join(dir, "disk.img"), 8<<20, nil)
	arrange(t, "mkfs.ext4", "-q", file)
	device := blockDevice(t, file)
	mount := filepath.Join(dir, "mounted")
	if err := os.Mkdir(mount, 0o700); err != nil {
		t.Fatal(err)
	}
	arrange(t, "mount", device, mount)
	t.Cleanup(func() { exec.Command("umount", mount).Run() })
	return device
}

// blockDevice shows a file as a block device.
func blockDevice(t *testing.T, file string) string {
	asRoot(t)
	device := arrange(t, "losetup", "-f", "--show", file)
	t.Cleanup(func() { exec.Command("losetup", "-d", device).Run() })
	return device
}

// small is a file system with room for 8 MiB.
func small(t *testing.T) string {
	asRoot(t)
	dir := t.TempDir()
	arrange(t, "mount", "-t", "tmpfs", "-o", "size=8m", "riparo-test", dir)
	t.Cleanup(func() { exec.Command("umount", dir).Run() })
	return dir
}

// readOnly makes a folder one that cannot be written.
func readOnly(t *testing.T, dir string) {
	if os.Geteuid() != 0 {
		chmod(t, dir, 0o500)
		return
	}
	arrange(t, "mount", "--bind", dir, dir)
	t.Cleanup(func() { exec.Command("umount", dir).Run() })
	arrange(t, "mount", "-o", "remount,bind,ro", dir)
}

// chmod sets a mode until the test ends. It returns a harmless flag, so that it can
// stand in a command line.
func chmod(t *testing.T, path string, mode os.FileMode) string {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(path, info.Mode()) })
	return "--json"
}

// leaveSocketBehind makes a socket as a program leaves it that was killed.
func leaveSocketBehind(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
}
