package nbd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"syscall"

	"riparo/replication"
)

// Error numbers of the protocol. They are those of Linux, whatever either end
// runs on.
const (
	errnoPerm     = 1
	errnoIO       = 5
	errnoNoMem    = 12
	errnoInvalid  = 22
	errnoNoSpace  = 28
	errnoOverflow = 75
	errnoNotSup   = 95
	errnoShutdown = 108
)

// errNoSpace is how a writer says that there is no room.
const errNoSpace = syscall.ENOSPC

// errnoOf chooses what the other end is told about err.
func errnoOf(err error) uint32 {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errInvalidRequest):
		return errnoInvalid
	case errors.Is(err, errNoSpace) || diskFull(err):
		return errnoNoSpace
	case errors.Is(err, fs.ErrPermission):
		return errnoPerm
	case errors.Is(err, context.Canceled), errors.Is(err, net.ErrClosed):
		return errnoShutdown
	}
	return errnoIO
}

// ServerError is what a server answered to a request that it could not carry out.
// Unwrap gives the errno, so that errors.Is(err, syscall.ENOSPC) works.
type ServerError struct {
	Command string
	Extent  replication.Extent
	Number  uint32 // the protocol's number
	Message string // the server's own words; may be empty
}

func (e *ServerError) Error() string {
	text := fmt.Sprintf("NBD server answered %s %s: %s", e.Command, e.Extent, errnoText(e.Number))
	if e.Message != "" {
		text += fmt.Sprintf(" (%q)", e.Message)
	}
	return text
}

func (e *ServerError) Unwrap() error {
	switch e.Number {
	case errnoPerm:
		return syscall.EPERM
	case errnoNoMem:
		return syscall.ENOMEM
	case errnoInvalid:
		return syscall.EINVAL
	case errnoNoSpace:
		return syscall.ENOSPC
	case errnoOverflow:
		return syscall.EOVERFLOW
	case errnoNotSup:
		return syscall.ENOTSUP
	case errnoShutdown:
		return syscall.ESHUTDOWN
	}
	return syscall.EIO
}

func errnoText(number uint32) string {
	switch number {
	case errnoPerm:
		return "operation not permitted"
	case errnoIO:
		return "input/output error"
	case errnoNoMem:
		return "out of memory"
	case errnoInvalid:
		return "invalid argument"
	case errnoNoSpace:
		return "no space left"
	case errnoOverflow:
		return "value too large"
	case errnoNotSup:
		return "not supported"
	case errnoShutdown:
		return "the server is shutting down"
	}
	return fmt.Sprintf("error %d", number)
}
