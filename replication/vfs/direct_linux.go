package vfs

import (
	"errors"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// directAlignment of offset, length and memory is what every disk and file system
	// takes.
	directAlignment = 4096
	// minDirect: shorter writes gain nothing.
	minDirect = 64 << 10
)

// directFile writes to a file around the page cache. The zero value, and one that the
// file system refused, does nothing: the page cache is always there.
//
// A write that goes around the cache drops what the cache has of its place, so that
// both ways may be mixed as long as nobody writes to one place both ways at once.
type directFile struct {
	file     *os.File
	refused  atomic.Bool
	reserved int64 // end of the room set aside, bytes
}

// reserve sets room aside, without changing the size of the file, and opens it a
// second time for direct writes.
func (d *directFile) reserve(f *os.File, size int64) {
	d.open(f)
	if d.refused.Load() || size <= d.reserved {
		return
	}
	// Without room, writes find theirs when they come, or say that there is none.
	if unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, d.reserved, size-d.reserved) == nil {
		d.reserved = size
	}
}

// open opens the file a second time.
func (d *directFile) open(f *os.File) {
	if d.refused.Load() || d.file != nil {
		return
	}
	var err error
	if d.file, err = os.OpenFile(f.Name(), os.O_WRONLY|unix.O_DIRECT, 0); err != nil {
		d.refused.Store(true) // tmpfs, FUSE and others do not offer it
		return
	}
	opened, err1 := d.file.Stat()
	same, err2 := f.Stat()
	if err1 != nil || err2 != nil || !os.SameFile(opened, same) {
		d.refused.Store(true)
	}
}

// writeAt writes p if it can be written directly.
func (d *directFile) writeAt(p []byte, offset int64) (done bool, n int, err error) {
	if d.file == nil || d.refused.Load() || len(p) < minDirect || len(p)%directAlignment != 0 || offset%directAlignment != 0 ||
		uintptr(unsafe.Pointer(unsafe.SliceData(p)))%directAlignment != 0 {
		return false, 0, nil
	}
	n, err = d.file.WriteAt(p, offset)
	if n == 0 && errors.Is(err, unix.EINVAL) {
		// A disk with larger sectors, or a file system that changed its mind.
		d.refused.Store(true)
		return false, 0, nil
	}
	return true, n, err
}

// forget is called when the room beyond the end is given back.
func (d *directFile) forget() { d.reserved = 0 }

// close ends direct writes and gives back the room beyond the end.
func (d *directFile) close() error {
	if d.file == nil {
		return nil
	}
	f := d.file
	d.file = nil
	if info, err := f.Stat(); err == nil && info.Size() < d.reserved {
		_ = f.Truncate(info.Size()) // it changes no content; what is not given back now is when the file goes
	}
	d.reserved = 0
	return f.Close()
}
