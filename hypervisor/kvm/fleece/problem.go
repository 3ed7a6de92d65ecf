package fleece

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"riparo/replication"
	"riparo/replication/nbd"
)

// ErrIOThread: a disk has an iothread, and this QEMU would not survive a capture.
var ErrIOThread = errors.New("a disk has an iothread, which captures need QEMU 9.0 for")

// scratchProblem is what a person should know when old content has no place.
func (m *Machine) scratchProblem(key string, err error) error {
	p := &replication.Problem{
		Code:   "kvm.scratch",
		Cause:  fmt.Sprintf("%s: QEMU cannot make the scratch files for disk %s in %s: %v", m.Name, key, m.Scratch.Path(""), err),
		Effect: "no recovery point was taken; the machine is not affected",
		Action: "make room there, let QEMU's user write there, or name another scratch folder",
		Remedy: replication.Retry, Err: err,
	}
	// QEMU's own words for what its user, AppArmor or SELinux does not allow.
	if errors.Is(err, fs.ErrPermission) || strings.Contains(err.Error(), "Permission denied") {
		p.Action = "let QEMU's user write there; where AppArmor or SELinux confine QEMU, allow it that folder"
		p.Remedy = replication.Stop
	}
	return p
}

// brokenProblem is what reading a capture gives once QEMU or the guard gave it up.
func (m *Machine) brokenProblem(key string, err error) error {
	return &replication.Problem{
		Code:   "kvm.scratch-full",
		Cause:  fmt.Sprintf("%s: the old content of disk %s could not be kept while it was read: the scratch folder %s is full or its limit is reached: %v", m.Name, key, m.Scratch.Path(""), err),
		Effect: "this recovery point was given up; the machine runs on and no change is lost, the next point contains it",
		Action: "give the scratch folder more room, or take points more often so that each is smaller",
		Remedy: replication.Retry, Err: err,
	}
}

// unseenProblem is what reading a capture gives once the guard gave it up because it could
// not look at the scratch folder.
func (m *Machine) unseenProblem(key string, err error) error {
	return &replication.Problem{
		Code:   "kvm.scratch-unseen",
		Cause:  fmt.Sprintf("%s: disk %s was not read on, for nobody could see whether the scratch folder %s runs full: %v", m.Name, key, m.Scratch.Path(""), err),
		Effect: "this recovery point was given up; the machine runs on and no change is lost, the next point contains it",
		Action: "see that the folder is there and can be read",
		Remedy: replication.Retry, Err: err,
	}
}

// readProblem translates an error of the NBD client. A broken filter answers reads
// with EACCES, which travels as EINVAL; a failed one with EIO.
func (m *Machine) readProblem(key string, by *gaveUp, err error) error {
	if err == nil {
		return nil
	}
	if by != nil {
		if _, full := errors.AsType[fullError](by.err); !full {
			return m.unseenProblem(key, by.err)
		}
		return m.brokenProblem(key, by.err)
	}
	if server, ok := errors.AsType[*nbd.ServerError](err); ok && (errors.Is(server, syscall.EINVAL) || errors.Is(server, syscall.EPERM)) {
		return m.brokenProblem(key, err)
	}
	return fmt.Errorf("%s: read the instant of disk %s: %w", m.Name, key, err)
}

func (m *Machine) thawProblem(err error) error {
	return &replication.Problem{
		Code:   "kvm.frozen",
		Cause:  fmt.Sprintf("%s: its file systems were frozen for a recovery point and the guest agent does not thaw them: %v", m.Name, err),
		Effect: "programs in the machine that write wait; no recovery point was taken",
		Action: "thaw it by hand (guest-fsfreeze-thaw, fsfreeze --unfreeze) or restart the machine; it is tried again meanwhile",
		Remedy: replication.Retry, Err: err,
	}
}

// supersededProblem is what an open capture gives after a newer one replaced it.
func (m *Machine) supersededProblem(point replication.PointID) error {
	return &replication.Problem{
		Code:   "kvm.superseded",
		Cause:  fmt.Sprintf("%s: the capture of point %s ended when a newer one began", m.Name, point),
		Effect: "the point was not finished; no change is lost",
		Action: "take a new point", Remedy: replication.Retry,
	}
}
