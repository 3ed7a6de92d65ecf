package store

import (
	"errors"

	"golang.org/x/sys/windows"
)

// outOfSpace reports whether err means that the disk, or the share of it that we
// may use, is full.
func outOfSpace(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL) ||
		errors.Is(err, windows.ERROR_DISK_QUOTA_EXCEEDED)
}

// readOnlyDisk reports whether err means that the file system takes no writes.
func readOnlyDisk(err error) bool { return errors.Is(err, windows.ERROR_WRITE_PROTECT) }
