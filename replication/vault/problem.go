package vault

import (
	"errors"
	"fmt"

	"riparo/replication"
	"riparo/replication/vfs"
)

// Codes of the problems that a vault reports.
const (
	CodeLocked   = "vault.locked"    // another process has it open
	CodeVersion  = "vault.version"   // a newer program wrote it
	CodeMissing  = "vault.missing"   // there is none in the folder
	CodeDamaged  = "vault.damaged"   // stored bytes are not what was written
	CodeIndex    = "vault.index"     // a derived file is damaged; reopen
	CodeFull     = "vault.full"      // no space left
	CodeShort    = "vault.short"     // too few files, or too little memory, at the moment
	CodeBroken   = "vault.broken"    // the disk failed; reopen
	CodeReadOnly = "vault.read-only" // opened for reading
	CodeDiskName = "vault.disk-name" // differs from another disk's by case only
	CodeClosed   = "vault.closed"    // Close was called

	CodeKeyMissing = "vault.key.missing" // encrypted, and no master key was given
	CodeKeyWrong   = "vault.key.wrong"   // encrypted with another master key
	CodeKeyDamaged = "vault.key.damaged" // wrapped keys are damaged in both copies
	CodeSourceSize = "vault.source.size" // what is to heal a disk cannot be that disk
)

// versionError is a file of a format that this program does not know.
type versionError struct{ found uint32 }

func (e *versionError) Error() string {
	return fmt.Sprintf("format version %d; this program knows %d", e.found, formatVersion)
}

func lockedProblem(dir string, locked *vfs.LockedError) error {
	holder := locked.Holder
	if holder == "" {
		holder = "another process"
	}
	return &replication.Problem{
		Code:   CodeLocked,
		Cause:  fmt.Sprintf("the vault %s is in use by %s", dir, holder),
		Effect: "nothing was opened",
		Action: "let that program do the work, or end it first",
		Remedy: replication.Retry,
		Err:    locked,
	}
}

func versionProblem(what string, err *versionError) error {
	return &replication.Problem{
		Code:   CodeVersion,
		Cause:  fmt.Sprintf("%s has %s", what, err),
		Effect: "nothing was opened or changed",
		Action: "use the version of Riparo that wrote it, or a newer one",
		Remedy: replication.Stop,
		Err:    err,
	}
}

func missingProblem(dir string, err error) error {
	return &replication.Problem{
		Code:   CodeMissing,
		Cause:  fmt.Sprintf("there is no vault in %s", dir),
		Action: "check the path; a first replication makes the vault",
		Remedy: replication.Stop,
		Err:    err,
	}
}

func fullProblem(disk replication.DiskID, err error) error {
	return &replication.Problem{
		Code:   CodeFull,
		Cause:  fmt.Sprintf("the vault has no space left for disk %s", disk),
		Effect: "replication waits; every acknowledged change and every recovery point is safe",
		Action: "free space or shorten the retention; it goes on by itself",
		Remedy: replication.Retry,
		Err:    err,
	}
}

func brokenProblem(disk replication.DiskID, err error) error {
	action := "check the storage, then open the vault again"
	if errors.Is(err, vfs.ErrReadOnly) {
		action = "the file system takes no changes: see in the system's log why, check it, mount it for writing again, then open the vault again"
	}
	return &replication.Problem{
		Code:   CodeBroken,
		Cause:  fmt.Sprintf("the storage under the vault failed while writing disk %s: %v", disk, err),
		Effect: "nothing more of this disk is acknowledged until the vault was opened again; what was acknowledged is safe",
		Action: action,
		Remedy: replication.Retry,
		Err:    err,
	}
}

func readOnlyProblem(dir string) error {
	return &replication.Problem{
		Code:   CodeReadOnly,
		Cause:  fmt.Sprintf("the vault %s is open for reading only", dir),
		Effect: "nothing was changed",
		Action: "open it for writing",
		Remedy: replication.Stop,
	}
}

func closedProblem(dir string) error {
	return &replication.Problem{Code: CodeClosed, Cause: fmt.Sprintf("the vault %s is closed", dir), Remedy: replication.Retry}
}

// damage makes the problem of stored bytes that are not what was written.
func damagedProblem(disk replication.DiskID, extent replication.Extent, segment uint32, position int64, err error) error {
	return &replication.Problem{
		Code:   CodeDamaged,
		Cause:  fmt.Sprintf("disk %s, extent %s: segment %s is damaged at offset %d: %v", disk, extent, segmentName(segment), position, err),
		Effect: "recovery points that need this extent are incomplete there",
		Action: "verify the vault and repair it from the source; check the storage",
		Remedy: replication.Resync,
		Err:    err,
	}
}

// logDamagedProblem is damage to the log itself, not to a block.
func logDamagedProblem(disk replication.DiskID, segment uint32, position int64, err error) error {
	return &replication.Problem{
		Code:   CodeDamaged,
		Cause:  fmt.Sprintf("disk %s: segment %s is damaged at offset %d: %v", disk, segmentName(segment), position, err),
		Effect: "what was written there cannot be told",
		Action: "verify the vault and repair it from the source; check the storage",
		Remedy: replication.Resync,
		Err:    err,
	}
}

// lostProblem is a view of a moment that lost records had a part in.
func lostProblem(disk replication.DiskID, id replication.PointID, l serialRange) error {
	what := "the head"
	if id != "" {
		what = "point " + string(id)
	}
	return &replication.Problem{
		Code:   CodeDamaged,
		Cause:  fmt.Sprintf("disk %s: records %d to %d of its log are damaged, and %s builds on them", disk, l.from+1, l.to, what),
		Effect: "which bytes they changed is not known",
		Action: "use an older point, or repair the disk from its source; check the storage",
		Remedy: replication.Resync,
	}
}

// writeProblem classifies the failure of a write to a disk's log.
func writeProblem(disk replication.DiskID, err error) error {
	switch {
	case errors.Is(err, vfs.ErrNoSpace):
		return fullProblem(disk, err)
	case vfs.Short(err) && !isFinal(err):
		return &replication.Problem{
			Code:   CodeShort,
			Cause:  fmt.Sprintf("the system lacks something to write disk %s with: %v", disk, err),
			Effect: "nothing is lost; what was not acknowledged is sent again",
			Action: "see what holds so many files open, or so much memory; it goes on by itself",
			Remedy: replication.Retry,
			Err:    err,
		}
	}
	return brokenProblem(disk, err)
}
