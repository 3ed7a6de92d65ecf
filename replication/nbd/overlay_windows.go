package nbd

import (
	"os"
	"unsafe"

	"golang.org/x/sys/windows"
)

// lockFile claims a file for this process, without waiting. The byte it locks is
// far behind any data.
func lockFile(f *os.File) error {
	return windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &windows.Overlapped{OffsetHigh: 1 << 30})
}

// syncDirectory: NTFS journals names by itself.
func syncDirectory(string) error { return nil }

// makeSparse tells NTFS not to allocate what is not written (FSCTL_SET_SPARSE).
func makeSparse(f *os.File) error {
	var n uint32
	return windows.DeviceIoControl(windows.Handle(f.Fd()), windows.FSCTL_SET_SPARSE, nil, 0, nil, 0, &n, nil)
}

// zeroRange is FILE_ZERO_DATA_INFORMATION of winioctl.h.
type zeroRange struct{ from, beyond int64 }

// releaseSpace punches a hole.
func releaseSpace(f *os.File, off, length int64) error {
	r := zeroRange{off, off + length}
	var n uint32
	return windows.DeviceIoControl(windows.Handle(f.Fd()), windows.FSCTL_SET_ZERO_DATA, (*byte)(unsafe.Pointer(&r)), uint32(unsafe.Sizeof(r)), nil, 0, &n, nil)
}

// readFromMedium has nothing to do: Windows keeps as dirty what it could not write.
func readFromMedium(*os.File) error { return nil }
