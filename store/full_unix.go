//go:build unix

package store

import (
	"errors"
	"syscall"
)

// outOfSpace reports whether err means that the disk, or the share of it that we
// may use, is full.
func outOfSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}

// readOnlyDisk reports whether err means that the file system takes no writes.
func readOnlyDisk(err error) bool { return errors.Is(err, syscall.EROFS) }
