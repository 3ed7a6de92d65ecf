//go:build !windows

package nbd

import (
	"errors"
	"syscall"
)

// diskFull also recognizes a quota: to the one who writes it is the same.
func diskFull(err error) bool { return errors.Is(err, syscall.EDQUOT) }
