//go:build !windows

package nbd

import (
	"os"

	"golang.org/x/sys/unix"
)

// lockFile claims a file for this process, without waiting.
func lockFile(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) }

// syncDirectory makes the name of a new file durable.
func syncDirectory(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
