package vfs

import (
	"errors"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Reader reads a file of the operating system that is open: what is in the page cache
// from there, and the rest, where it is large and aligned, around it. A disk that is
// read once thus costs no copy, and drives nothing else out of memory.
type Reader struct {
	file    *os.File
	direct  *os.File // nil: all is read through the page cache
	size    int64    // direct reads end before the last unaligned bytes, bytes
	refused atomic.Bool
}

// NewReader makes a reader for the first size bytes of f, which must stay open longer
// and have its name.
func NewReader(f *os.File, size int64) *Reader {
	r := &Reader{file: f, size: size / directAlignment * directAlignment}
	direct, err := os.OpenFile(f.Name(), os.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		return r
	}
	opened, err1 := direct.Stat()
	same, err2 := f.Stat()
	if err1 != nil || err2 != nil || !os.SameFile(opened, same) {
		_ = direct.Close() // nothing was done with it
		return r
	}
	r.direct = direct
	return r
}

// ReadAt implements io.ReaderAt. It may be called by several goroutines.
func (r *Reader) ReadAt(p []byte, offset int64) (int, error) {
	end := offset + int64(len(p))
	if r.direct == nil || r.refused.Load() || len(p) < minDirect || end > r.size || end%directAlignment != 0 || offset%directAlignment != 0 ||
		uintptr(unsafe.Pointer(unsafe.SliceData(p)))%directAlignment != 0 {
		return r.file.ReadAt(p, offset)
	}
	if r.Cached(offset, int64(len(p)), int64(len(p))) {
		return r.file.ReadAt(p, offset)
	}
	n, err := r.direct.ReadAt(p, offset)
	if errors.Is(err, unix.EINVAL) {
		// A disk with larger sectors, or a file system that changed its mind.
		r.refused.Store(true)
		return r.file.ReadAt(p, offset)
	}
	return n, err
}

// Cached reports whether a range that has so many bytes of data, the rest being holes, is
// read faster through the page cache: half of them or more are there already. It is the
// only way if the system cannot tell what is there, as Linux before 6.5.
func (r *Reader) Cached(offset, length, data int64) bool {
	if r.direct == nil || r.refused.Load() {
		return true
	}
	var pages unix.Cachestat_t
	raw, err := r.file.SyscallConn()
	if err == nil {
		control := raw.Control(func(fd uintptr) {
			err = unix.Cachestat(uint(fd), &unix.CachestatRange{Off: uint64(offset), Len: uint64(length)}, &pages, 0)
		})
		err = errors.Join(err, control)
	}
	if err != nil {
		r.refused.Store(true)
		return true
	}
	return int64(pages.Cache)*int64(os.Getpagesize())*2 >= data
}

// Close ends the use of the reader. The file stays open.
func (r *Reader) Close() error {
	if r.direct == nil {
		return nil
	}
	return r.direct.Close()
}
