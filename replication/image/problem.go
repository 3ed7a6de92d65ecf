package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"riparo/replication"
)

// openProblem says for a person why a file cannot be opened.
func openProblem(path string, err error) error {
	p := &replication.Problem{Effect: "nothing was read", Remedy: replication.Stop, Err: err}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		p.Code, p.Cause, p.Action = "image.missing", fmt.Sprintf("there is no file or device %s", path), "check the name, and that the file system it is on is mounted"
	case deviceBusy(err):
		return busyProblem(path, "it is mounted, or another program has claimed it", err)
	case errors.Is(err, fs.ErrPermission):
		p.Code, p.Cause, p.Action = "image.unreadable", fmt.Sprintf("%s cannot be opened: permission denied", path), "run as a user who may read it, or change its owner"
	default:
		p.Code, p.Cause, p.Action, p.Remedy = "image.unreadable", fmt.Sprintf("%s cannot be opened: %v", path, reason(err)), "check the disk that holds it", replication.Retry
	}
	return p
}

func busyProblem(path, why string, err error) error {
	return &replication.Problem{
		Code: "image.busy", Cause: fmt.Sprintf("%s is busy: %s", path, why), Effect: "nothing was read, because what is being written to is not one instant",
		Action: "unmount it or shut the machine down, or read a snapshot of it", Remedy: replication.Stop, Err: err,
	}
}

// reason is what went wrong without the operation and the path, which the
// sentence around it says already.
func reason(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	if e, ok := errors.AsType[*os.LinkError](err); ok {
		return e.Err
	}
	return err
}
