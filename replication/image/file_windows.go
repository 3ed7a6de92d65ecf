package image

import (
	"errors"
	"os"
	"unsafe"

	"golang.org/x/sys/windows"

	"riparo/replication"
)

func openForReading(path string, device, busy bool) (*os.File, error) { return os.Open(path) }

func deviceBusy(err error) bool { return errors.Is(err, windows.ERROR_SHARING_VIOLATION) }

// ioctlDiskGetLengthInfo is IOCTL_DISK_GET_LENGTH_INFO of winioctl.h.
const ioctlDiskGetLengthInfo = 0x7405c

func deviceSize(f *os.File) (int64, error) {
	var size int64
	var n uint32
	err := windows.DeviceIoControl(windows.Handle(f.Fd()), ioctlDiskGetLengthInfo, nil, 0, (*byte)(unsafe.Pointer(&size)), uint32(unsafe.Sizeof(size)), &n, nil)
	return size, err
}

// heldForWriting: Windows has no such mark. Who must not be disturbed opens the
// file without sharing, and OpenFile is told so.
func heldForWriting(*os.File) bool { return false }

func regionAt(_ *os.File, at, end int64) (replication.Region, error) {
	return replication.Region{Extent: replication.Extent{Offset: at, Length: end - at}}, nil
}

// makeSparse tells NTFS not to allocate what is not written.
func makeSparse(f *os.File) error {
	var n uint32
	return windows.DeviceIoControl(windows.Handle(f.Fd()), windows.FSCTL_SET_SPARSE, nil, 0, nil, 0, &n, nil)
}

// diskFull recognizes how Windows says that a volume is full.
func diskFull(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL)
}

// lockFile claims a file for this process, without waiting. The byte it locks is
// far behind any data.
func lockFile(f *os.File) error {
	return windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &windows.Overlapped{OffsetHigh: 1 << 30})
}

// renameOpen gives the file another name; Windows renames only what is closed.
func renameOpen(f *os.File, path string) error {
	return errors.Join(f.Close(), os.Rename(f.Name(), path))
}

func removePartial(f *os.File) {
	f.Close()
	os.Remove(f.Name())
}

// syncDirectory: NTFS journals names by itself.
func syncDirectory(string) error { return nil }

// roomLeft is how many bytes a file in a folder may still take.
func roomLeft(folder string) (bytes uint64, known bool) {
	name, err := windows.UTF16PtrFromString(folder)
	if err != nil {
		return 0, false
	}
	err = windows.GetDiskFreeSpaceEx(name, &bytes, nil, nil)
	return bytes, err == nil
}
