package vault

import (
	"io"

	"riparo/replication/vfs"
)

// lookaheadBytes is how much of a segment is read at a time: disks and file systems give
// their best from 1 MiB on, and a verification has one buffer per core.
const lookaheadBytes = 4 << 20

// lookahead reads a file from front to back in large aligned pieces, whatever is asked
// for. Its memory is used again for the next file. It grows to the largest piece that
// is asked for, which is the payload of a record.
type lookahead struct {
	file io.ReaderAt
	size int64  // of the file, bytes
	at   int64  // where p begins in the file: a multiple of alignment
	p    []byte // what was read from there
}

// open turns to the beginning of another file.
func (w *lookahead) open(f io.ReaderAt, size int64) {
	if once, ok := f.(vfs.Streamer); ok {
		once.Stream()
	}
	w.file, w.size, w.at, w.p = f, size, 0, w.p[:0]
}

// slice gives n bytes at an offset that is not before the last one. They may be
// changed, and are good until the next call. A file that ends before is
// io.ErrUnexpectedEOF.
func (w *lookahead) slice(offset, n int64) ([]byte, error) {
	end := w.at + int64(len(w.p))
	if offset >= w.at && offset+n <= end {
		return w.p[offset-w.at:][:n], nil
	}
	if offset+n > w.size {
		return nil, io.ErrUnexpectedEOF
	}
	start := offset / alignment * alignment
	var kept []byte
	if start >= w.at && start < end {
		kept = w.p[start-w.at:]
	}
	length := min(max(lookaheadBytes, roundUp(offset-start+n)), w.size-start)
	if int64(cap(w.p)) < length {
		w.p = append(vfs.Memory(int(roundUp(length)))[:0], kept...)
	} else {
		w.p = append(w.p[:0], kept...)
	}
	w.at = start
	have := int64(len(w.p))
	w.p = w.p[:length]
	if err := readFull(w.file, w.p[have:], start+have); err == nil {
		return w.p[offset-start:][:n], nil
	}
	// One bad sector must not hide what lies around it.
	w.p = w.p[:0]
	p := make([]byte, n)
	return p, readFull(w.file, p, offset)
}
