//go:build !windows

package image

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// diskFull also recognizes a quota: to the one who writes it is the same.
func diskFull(err error) bool { return errors.Is(err, syscall.EDQUOT) }

// lockFile claims a file for this process, without waiting.
func lockFile(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) }

// renameOpen gives the file another name while it stays claimed.
func renameOpen(f *os.File, path string) error { return os.Rename(f.Name(), path) }

func removePartial(f *os.File) { os.Remove(f.Name()) }

// syncDirectory makes a new name durable.
func syncDirectory(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// roomLeft is how many bytes a file in a folder may still take.
func roomLeft(folder string) (bytes uint64, known bool) {
	var s unix.Statfs_t
	if err := unix.Statfs(folder, &s); err != nil {
		return 0, false
	}
	return uint64(s.Bavail) * uint64(s.Bsize), true
}
