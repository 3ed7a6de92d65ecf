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

// heldForWriting: Windows answers OpenFile itself with a sharing violation.
func heldForWriting(*os.File) bool { return false }

func regionAt(_ *os.File, at, size int64) (replication.Region, error) {
	return replication.Region{Extent: replication.Extent{Offset: at, Length: size - at}}, nil
}
