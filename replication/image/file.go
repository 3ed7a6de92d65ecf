package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"slices"
	"time"

	"riparo/replication"
	"riparo/replication/vfs"
)

// File is a raw image or a block device as a [replication.Source]. It is the
// caller's duty that nobody writes to it meanwhile; what can be noticed of a
// breach is noticed: by OpenFile where a device is mounted or an image is open in
// QEMU, by ReadAt where the file became shorter, by Check where it was written.
type File struct {
	f        *os.File
	reader   *vfs.Reader
	path     string
	size     int64
	device   bool
	modified time.Time
}

// OpenOption changes what OpenFile insists on.
type OpenOption int

const (
	// AllowBusy reads a device although it is mounted, and an image although a
	// machine runs from it. What is read may then be no instant at all.
	AllowBusy OpenOption = iota + 1
	// AsRaw takes the file for the disk itself, although it looks like a QCOW2, VHD, VHDX,
	// VMDK or VDI file.
	AsRaw
)

// OpenFile opens a regular file or a block device for reading. A device stays
// claimed, so that it cannot be mounted, until Close. Errors are
// [replication.Problem]s: image.missing, image.unreadable, image.directory,
// image.special, image.busy, image.container.
func OpenFile(path string, options ...OpenOption) (*File, error) {
	busy := slices.Contains(options, AllowBusy)
	// Stat comes first because opening a pipe would wait for its writer.
	info, err := os.Stat(path)
	if err != nil {
		return nil, openProblem(path, err)
	}
	f := &File{path: path, device: info.Mode()&fs.ModeDevice != 0}
	switch mode := info.Mode(); {
	case mode.IsDir():
		return nil, &replication.Problem{Code: "image.directory", Cause: fmt.Sprintf("%s is a directory", path), Effect: "nothing was read", Action: "name a disk image or a block device", Remedy: replication.Stop}
	case !mode.IsRegular() && !f.device, mode&fs.ModeCharDevice != 0:
		return nil, &replication.Problem{Code: "image.special", Cause: fmt.Sprintf("%s is neither a file nor a block device (%s)", path, mode.Type()), Effect: "nothing was read", Action: "name a disk image or a block device", Remedy: replication.Stop}
	}
	if f.f, err = openForReading(path, f.device, busy); err != nil {
		return nil, openProblem(path, err)
	}
	if err := f.measure(busy); err != nil {
		f.f.Close()
		return nil, err
	}
	if !slices.Contains(options, AsRaw) {
		if err := f.refuseContainer(); err != nil {
			f.f.Close()
			return nil, err
		}
	}
	f.reader = vfs.NewReader(f.f, f.size)
	return f, nil
}

// measure takes down what Check compares with later.
func (f *File) measure(busy bool) error {
	info, err := f.f.Stat()
	if err != nil {
		return openProblem(f.path, err)
	}
	f.size, f.modified = info.Size(), info.ModTime()
	if f.device {
		if f.size, err = deviceSize(f.f); err != nil {
			return openProblem(f.path, fmt.Errorf("ask for the size of the device: %w", err))
		}
	}
	if !busy && heldForWriting(f.f) {
		return busyProblem(f.path, "a running machine has it open for writing", nil)
	}
	return nil
}

// Size in bytes, as it was when the file was opened.
func (f *File) Size() int64 { return f.size }

// Path is the name that the file was opened by.
func (f *File) Path() string { return f.path }

// Close lets go of the file or device.
func (f *File) Close() error { return errors.Join(f.reader.Close(), f.f.Close()) }

// ReadAt reads from the file. If the file ends before the size it had, that is
// the problem image.changed; if the disk below cannot be read, image.read.
func (f *File) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off > f.size {
		return 0, fmt.Errorf("read %s at %d: outside of its %d bytes", f.path, off, f.size)
	}
	want := int(min(int64(len(p)), f.size-off))
	n, err := f.reader.ReadAt(p[:want], off)
	switch {
	case n == want && want == len(p):
		return n, nil
	case n == want:
		return n, io.EOF
	case err == io.EOF:
		return n, f.changed(fmt.Sprintf("it ends at %d now and had %d bytes when it was opened", off+int64(n), f.size))
	}
	return n, &replication.Problem{
		Code: "image.read", Cause: fmt.Sprintf("%s cannot be read at %d: %v", f.path, off+int64(n), reason(err)),
		Effect: "the recovery point was not finished; the ones before it are as they were", Action: "check the disk that holds it", Remedy: replication.Retry, Err: err,
	}
}

// Cold reports whether an extent with so many bytes of data is best read as a whole, with
// its holes: it comes from the disk, around the page cache. Else who reads a hole too makes
// room for its zeroes in there.
func (f *File) Cold(e replication.Extent, data int64) bool {
	return !f.reader.Cached(e.Offset, e.Length, data)
}

// Check tells whether the file is still the one that was opened: there, of the
// same length and, for a regular file, not written since. It is the last thing to
// do before a recovery point is closed. What it finds is the problem image.changed.
func (f *File) Check() error {
	if f.device {
		size, err := deviceSize(f.f)
		if err != nil {
			return openProblem(f.path, fmt.Errorf("ask for the size of the device: %w", err))
		}
		if size != f.size {
			return f.changed(fmt.Sprintf("the device has %d bytes now and had %d when it was opened", size, f.size))
		}
		return nil
	}
	info, err := f.f.Stat()
	if err != nil {
		return openProblem(f.path, err)
	}
	there, err := os.Stat(f.path)
	switch {
	case err != nil:
		return f.changed(fmt.Sprintf("it disappeared (%v)", reason(err)))
	case !os.SameFile(info, there):
		return f.changed("another file has taken its name")
	case info.Size() != f.size:
		return f.changed(fmt.Sprintf("it has %d bytes now and had %d when it was opened", info.Size(), f.size))
	case !info.ModTime().Equal(f.modified):
		return f.changed("it was written while it was read")
	}
	return nil
}

func (f *File) changed(how string) error {
	return &replication.Problem{
		Code: "image.changed", Cause: fmt.Sprintf("%s changed while it was read: %s", f.path, how),
		Effect: "what was read is no instant, so no recovery point was made; the ones before it are as they were", Action: "stop what writes to it, or read a snapshot of it, and run this again", Remedy: replication.Retry,
	}
}

// Regions yields the whole file with its holes marked Zero, where the system can
// tell of holes; a device and a file elsewhere is one region.
func (f *File) Regions(ctx context.Context) iter.Seq2[replication.Region, error] {
	return f.RegionsIn(ctx, replication.Extent{Length: f.size})
}

// RegionsIn yields the regions of an extent.
func (f *File) RegionsIn(ctx context.Context, e replication.Extent) iter.Seq2[replication.Region, error] {
	return func(yield func(replication.Region, error) bool) {
		for e.Length > 0 {
			if err := ctx.Err(); err != nil {
				yield(replication.Region{}, err)
				return
			}
			r := replication.Region{Extent: e}
			if !f.device {
				var err error
				if r, err = regionAt(f.f, e.Offset, e.End()); err != nil {
					yield(replication.Region{}, fmt.Errorf("look for holes in %s: %w", f.path, err))
					return
				}
			}
			if !yield(r, nil) {
				return
			}
			e.Offset, e.Length = r.End(), e.Length-r.Length
		}
	}
}
