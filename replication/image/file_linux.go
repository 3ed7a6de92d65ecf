package image

import (
	"errors"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"riparo/replication"
)

// openForReading claims a device with O_EXCL: the kernel refuses while it is
// mounted, part of an array or otherwise claimed, and refuses to mount it later.
func openForReading(path string, device, busy bool) (*os.File, error) {
	flags := os.O_RDONLY
	if device && !busy {
		flags |= unix.O_EXCL
	}
	return os.OpenFile(path, flags, 0)
}

func deviceBusy(err error) bool { return errors.Is(err, syscall.EBUSY) }

func deviceSize(f *os.File) (int64, error) {
	var size uint64
	err := control(f, func(fd uintptr) error {
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, unix.BLKGETSIZE64, uintptr(unsafe.Pointer(&size))); errno != 0 {
			return errno
		}
		return nil
	})
	return int64(size), err
}

// qemuWriteLock is the byte of an image that QEMU locks while it may write to it
// (QEMU, block/file-posix.c: base 100, plus 1 for the write permission).
const qemuWriteLock = 101

// heldForWriting reports whether QEMU has the image open for writing.
func heldForWriting(f *os.File) bool {
	lock := unix.Flock_t{Type: unix.F_WRLCK, Start: qemuWriteLock, Len: 1}
	err := control(f, func(fd uintptr) error { return unix.FcntlFlock(fd, unix.F_OFD_GETLK, &lock) })
	return err == nil && lock.Type != unix.F_UNLCK
}

// regionAt is the run of data or the hole that begins at an offset, up to an end.
func regionAt(f *os.File, at, end int64) (replication.Region, error) {
	r := replication.Region{Extent: replication.Extent{Offset: at, Length: end - at}}
	err := control(f, func(fd uintptr) error {
		data, err := unix.Seek(int(fd), at, unix.SEEK_DATA)
		switch {
		case err == unix.ENXIO: // No data from here to the end.
			r.Zero = true
			return nil
		case err == unix.EINVAL || err == unix.EOPNOTSUPP: // The file system cannot tell.
			return nil
		case err != nil:
			return err
		}
		if data = min(data, end); data > at {
			r.Zero, r.Length = true, data-at
			return nil
		}
		hole, err := unix.Seek(int(fd), at, unix.SEEK_HOLE)
		if err == nil {
			r.Length = min(hole, end) - at
		}
		return err
	})
	if r.Length <= 0 {
		// The file changed under the search; taken for data, ReadAt will tell.
		r.Length, r.Zero = end-at, false
	}
	return r, err
}

func control(f *os.File, do func(fd uintptr) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = do(fd) }); err != nil {
		return err
	}
	return inner
}

func makeSparse(*os.File) error { return nil } // Files are.
