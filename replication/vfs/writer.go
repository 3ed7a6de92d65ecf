package vfs

import "os"

// Writer writes to a file of the operating system that is open: what is large and
// aligned around the page cache where the system can do that, all else through it. For
// gigabytes that nobody reads soon this is several times faster. Nothing is durable
// before the file is synced.
type Writer struct {
	file   *os.File
	direct directFile
}

// NewWriter makes a writer for f, which must stay open longer and keep its name until
// then.
func NewWriter(f *os.File) *Writer {
	w := &Writer{file: f}
	w.direct.open(f)
	return w
}

// WriteAt implements io.WriterAt. It may be called by several goroutines, for places
// that do not share 4096 bytes.
func (w *Writer) WriteAt(p []byte, offset int64) (int, error) {
	if done, n, err := w.direct.writeAt(p, offset); done {
		return n, err
	}
	return w.file.WriteAt(p, offset)
}

// Close ends the use of the writer. The file stays open.
func (w *Writer) Close() error { return w.direct.close() }
