package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"riparo/replication"
)

// ExportOptions tell how an image is written.
type ExportOptions struct {
	// Overwrite replaces a file that is there already, once the new one is complete.
	Overwrite bool
	// Progress is told now and then how many bytes of the disk are done, of how
	// many; the last time of all of them. May be nil. It is called by one goroutine
	// at a time and must not take long.
	Progress func(done, total int64)
}

// Exported is what Export wrote.
type Exported struct {
	Path   string `json:"path"`
	Format Format `json:"format"`
	// Size of the disk that the image shows, in bytes.
	Size int64 `json:"size"`
	// PaddedBytes are zeroes after the end of the source: every format but raw knows
	// only whole sectors of 512 bytes, and at least one.
	PaddedBytes int64 `json:"padded_bytes,omitempty"`
	// FileBytes is the length of the file.
	FileBytes int64   `json:"file_bytes"`
	Seconds   float64 `json:"seconds"`
}

// Export writes source as an image at path. The image is written under the name
// path+".partial", made durable, and renamed: under its own name it is complete or
// not there. What an interrupted export left is overwritten by the next one, and
// of two at a time the second is refused.
//
// Raw and VHD are written here. The other formats are written by qemu-img, which
// reads the source from a private NBD socket and checks its work afterwards.
//
// Errors that a person can mend are [replication.Problem]s: image.exists,
// image.full, image.unwritable, image.too-large, image.no-qemu-img, image.busy.
func Export(ctx context.Context, source replication.Source, path string, format Format, o ExportOptions) (Exported, error) {
	begun := time.Now()
	if o.Progress == nil {
		o.Progress = func(done, total int64) {}
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return Exported{}, fmt.Errorf("export to %s: %w", path, err)
	}
	out := Exported{Path: path, Format: format, Size: source.Size()}
	if format != Raw {
		out.Size = paddedSize(out.Size)
		out.PaddedBytes = out.Size - source.Size()
	}
	write := writeRaw
	arguments, converted := format.converted()
	switch {
	case converted:
		program, err := findQemuImg(format)
		if err != nil {
			return Exported{}, err
		}
		write = func(ctx context.Context, f *os.File, source replication.Source, o ExportOptions) error {
			return convert(ctx, program, f.Name(), padded{source}, arguments, func(percent float64) {
				o.Progress(int64(percent/100*float64(source.Size())), source.Size())
			})
		}
	case format == VHD:
		if out.Size > maxVHDSize {
			return Exported{}, &replication.Problem{Code: "image.too-large", Cause: fmt.Sprintf("the disk has %d bytes, and a VHD holds %d at most", source.Size(), int64(maxVHDSize)), Effect: "nothing was written", Action: "export as vhdx", Remedy: replication.Stop}
		}
		write = writeVHD
	case format != Raw:
		_, err := ParseFormat(string(format))
		return Exported{}, err
	}
	if err := free(path, o.Overwrite); err != nil {
		return Exported{}, err
	}
	partial, err := openPartial(path)
	if err != nil {
		return Exported{}, err
	}
	defer partial.Close()
	if err = write(ctx, partial, source, o); err == nil {
		err = finish(partial, path, o.Overwrite, &out)
	}
	if err != nil {
		// The name goes while the file is claimed: nobody else's is removed.
		removePartial(partial)
		return Exported{}, exportProblem(path, err)
	}
	o.Progress(source.Size(), source.Size())
	out.Seconds = time.Since(begun).Seconds()
	return out, nil
}

// free reports a problem if path cannot become a new file.
func free(path string, overwrite bool) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return unwritable(path, err)
	case !info.Mode().IsRegular():
		return &replication.Problem{Code: "image.unwritable", Cause: fmt.Sprintf("%s is there and is not a regular file", path), Effect: "nothing was written", Action: "choose the name of a new file", Remedy: replication.Stop}
	case !overwrite:
		return &replication.Problem{Code: "image.exists", Cause: fmt.Sprintf("there is a file %s already", path), Effect: "nothing was written; the file is as it was", Action: "choose another name, or say that it may be overwritten", Remedy: replication.Stop}
	}
	return nil
}

// partialSuffix marks an image that is not complete.
const partialSuffix = ".partial"

// openPartial opens the file to be written and claims it. What it held is gone.
func openPartial(path string) (*os.File, error) {
	name := path + partialSuffix
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, unwritable(path, err)
	}
	if err := claim(f, name); err != nil {
		f.Close()
		return nil, err
	}
	if err := errors.Join(f.Truncate(0), makeSparse(f)); err != nil {
		f.Close()
		return nil, unwritable(path, err)
	}
	return f, nil
}

func claim(f *os.File, name string) error {
	err := lockFile(f)
	if err == nil {
		// Whoever had it before may have finished and renamed it just now.
		opened, err1 := f.Stat()
		there, err2 := os.Stat(name)
		if err1 == nil && err2 == nil && os.SameFile(opened, there) {
			return nil
		}
		err = errors.Join(err1, err2)
	}
	return &replication.Problem{Code: "image.busy", Cause: fmt.Sprintf("another export is writing %s", name), Effect: "nothing was written", Action: "wait for it to end, or choose another name", Remedy: replication.Retry, Err: err}
}

// finish makes the image durable, then gives it its name.
func finish(f *os.File, path string, overwrite bool, out *Exported) error {
	if err := f.Sync(); err != nil {
		return &writeError{err}
	}
	info, err := f.Stat()
	if err != nil {
		return &writeError{err}
	}
	out.FileBytes = info.Size()
	if err := free(path, overwrite); err != nil {
		return err
	}
	if err := renameOpen(f, path); err != nil {
		return &writeError{err}
	}
	if err := syncDirectory(filepath.Dir(path)); err != nil {
		return &writeError{err}
	}
	return nil
}

// writeError is an error of the file that is written, not of the source.
type writeError struct{ err error }

func (e *writeError) Error() string { return e.err.Error() }
func (e *writeError) Unwrap() error { return e.err }

// exportProblem says for a person why the export ended.
func exportProblem(path string, err error) error {
	writing, ok := errors.AsType[*writeError](err)
	switch {
	case !ok:
		// Also what the source or the check of the image has to say.
		return fmt.Errorf("export to %s: %w", path, err)
	case errors.Is(err, syscall.ENOSPC) || diskFull(err):
		return &replication.Problem{Code: "image.full", Cause: fmt.Sprintf("there is no room left for %s", path), Effect: "the image was not written; what there was of it has been removed", Action: "make room on its file system, or choose another one", Remedy: replication.Retry, Err: err}
	}
	return unwritable(path, writing.err)
}

func unwritable(path string, err error) error {
	return &replication.Problem{Code: "image.unwritable", Cause: fmt.Sprintf("%s cannot be written: %v", path, reason(err)), Effect: "no image was written", Action: "check that its folder exists and that you may write there, or choose another one", Remedy: replication.Stop, Err: err}
}
