package vfs

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// rename asks for the move to be on the disk before it returns: Windows has no
// way to flush a folder afterwards.
func rename(from, to string) error {
	a, err := windows.UTF16PtrFromString(from)
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	b, err := windows.UTF16PtrFromString(to)
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	if err := windows.MoveFileEx(a, b, windows.MOVEFILE_REPLACE_EXISTING|windows.MOVEFILE_WRITE_THROUGH); err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

// syncDir does nothing: NTFS logs names before content, so that a file whose
// FlushFileBuffers returned is found under its name, and rename writes through.
func syncDir(string) error { return nil }

// lockOffset lies far behind the line that says who holds the lock: Windows locks
// are mandatory, and the line must stay readable.
const lockOffset = 1 << 30

func lockFile(f *os.File, shared bool) (taken bool, err error) {
	flags := uint32(windows.LOCKFILE_FAIL_IMMEDIATELY)
	if !shared {
		flags |= windows.LOCKFILE_EXCLUSIVE_LOCK
	}
	err = windows.LockFileEx(windows.Handle(f.Fd()), flags, 0, 1, 0, &windows.Overlapped{Offset: lockOffset})
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) || errors.Is(err, windows.ERROR_IO_PENDING) {
		return false, nil
	}
	return err == nil, err
}

func noSpace(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL) ||
		errors.Is(err, windows.ERROR_DISK_QUOTA_EXCEEDED)
}

func short(err error) bool {
	return errors.Is(err, windows.ERROR_TOO_MANY_OPEN_FILES) || errors.Is(err, windows.ERROR_NOT_ENOUGH_MEMORY) ||
		errors.Is(err, windows.ERROR_OUTOFMEMORY) || errors.Is(err, windows.ERROR_NO_SYSTEM_RESOURCES)
}

func isReadOnly(err error) bool { return errors.Is(err, windows.ERROR_WRITE_PROTECT) }

func space(name string) (Space, error) {
	p, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return Space{}, &os.PathError{Op: "space", Path: name, Err: err}
	}
	var free, total, allFree uint64
	if err := windows.GetDiskFreeSpaceEx(p, &free, &total, &allFree); err != nil {
		return Space{}, &os.PathError{Op: "GetDiskFreeSpaceEx", Path: name, Err: err}
	}
	return Space{Total: int64(total), Free: int64(free)}, nil
}
