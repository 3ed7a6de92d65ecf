package store

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	berrors "go.etcd.io/bbolt/errors"

	"riparo/replication"
)

var (
	// ErrNotFound: there is no record with this key.
	ErrNotFound = errors.New("not found")
	// ErrClosed: the store was closed.
	ErrClosed = errors.New("the store is closed")
)

// damage is content that cannot be what was written.
type damage struct{ what string }

func (d *damage) Error() string { return d.what }

// tooNew is a schema version that this program does not know.
type tooNew struct{ version, known int }

func (e *tooNew) Error() string {
	return fmt.Sprintf("schema version %d, this program knows up to %d", e.version, e.known)
}

// catch turns a panic of bbolt, or a read beyond the end of a file that was cut,
// into an error. It is deferred around calls into bbolt only, never around the
// caller's code.
func catch(err *error) {
	if r := recover(); r != nil {
		*err = errors.Join(*err, &damage{what: fmt.Sprint(r)})
	}
}

// openProblem says what a person can do about a store that does not open.
func openProblem(path string, err error) error {
	if p := knownProblem(path, err); p != nil {
		p.Effect = "the appliance does not start; replication and recovery points are untouched"
		return p
	}
	return fmt.Errorf("open the state file %s: %w", path, err)
}

// problem says what a person can do about a transaction that went wrong.
func problem(path string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, berrors.ErrDatabaseNotOpen) {
		return ErrClosed
	}
	if p := knownProblem(path, err); p != nil {
		return p
	}
	return err
}

func knownProblem(path string, err error) *replication.Problem {
	var broken *damage
	var newer *tooNew
	if p, ok := errors.AsType[*replication.Problem](err); ok {
		return p
	}
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return &replication.Problem{Code: "store.locked", Err: err, Remedy: replication.Stop,
			Cause:  fmt.Sprintf("another riparo daemon uses %s", filepath.Dir(path)),
			Action: "stop the other daemon, or choose another folder with --data"}
	case errors.As(err, &newer):
		return &replication.Problem{Code: "store.version", Err: err, Remedy: replication.Stop,
			Cause:  fmt.Sprintf("the state file %s was written by a newer Riparo (%s)", path, newer),
			Action: "start that version or a later one; to go back, restore a backup of the state from before the upgrade"}
	case errors.As(err, &broken), errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrChecksum), errors.Is(err, berrors.ErrVersionMismatch):
		what := err.Error()
		if broken != nil {
			what = broken.what
		}
		return &replication.Problem{Code: "store.damaged", Err: err, Remedy: replication.Stop,
			Cause:  fmt.Sprintf("the state file %s is damaged: %s", path, what),
			Effect: "nothing more is read from it or written to it",
			Action: "keep a copy of the file, check the disk below it, and restore the newest backup of the state (riparo restore)"}
	case errors.Is(err, berrors.ErrMaxSizeReached):
		return &replication.Problem{Code: "store.full", Err: err, Remedy: replication.Retry,
			Cause:  fmt.Sprintf("the state file %s has reached its bound", path),
			Effect: "the last change was not made",
			Action: "remove what is not needed any more; report it, because the bound is never reached in good order"}
	case outOfSpace(err):
		return &replication.Problem{Code: "store.full", Err: err, Remedy: replication.Retry,
			Cause:  fmt.Sprintf("there is no space left for the state file %s", path),
			Effect: "the last change was not made",
			Action: "make room on its disk; work goes on by itself"}
	case readOnlyDisk(err), errors.Is(err, fs.ErrPermission):
		return &replication.Problem{Code: "store.access", Err: err, Remedy: replication.Stop,
			Cause:  fmt.Sprintf("the state file %s cannot be opened for writing: %v", path, err),
			Action: "run the daemon as a user who may write there, and see that the disk is not mounted read-only"}
	}
	return nil
}

// unconfirmed is the problem of a write that the disk did not confirm: what it
// holds now is unknown until the file is opened and read again.
func unconfirmed(path string, err error) error {
	return &replication.Problem{Code: "store.failed", Err: err, Remedy: replication.Stop,
		Cause:  fmt.Sprintf("the disk did not confirm a write to the state file %s: %v", path, err),
		Effect: "no further change is accepted, because what the disk holds is unknown",
		Action: "check the disk, then restart the daemon: it reads the file again and goes on"}
}
