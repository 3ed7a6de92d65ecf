package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// OS is the file system of the operating system. Files are created with mode 0600
// and folders with 0700.
func OS() FS { return osFS{} }

type osFS struct{}

func (osFS) Create(name string) (File, error) {
	return osOpen(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
}

func (osFS) Open(name string) (File, error)     { return osOpen(name, os.O_RDWR) }
func (osFS) OpenRead(name string) (File, error) { return osOpen(name, os.O_RDONLY) }
func (osFS) Rename(from, to string) error       { return changeError(rename(from, to)) }
func (osFS) Remove(name string) error           { return os.Remove(name) }
func (osFS) MkdirAll(name string) error         { return changeError(os.MkdirAll(name, 0o700)) }
func (osFS) SyncDir(name string) error          { return changeError(syncDir(name)) }
func (osFS) Space(name string) (Space, error)   { return space(name) }

func (osFS) ReadDir(name string) ([]Info, error) {
	entries, err := os.ReadDir(name)
	if err != nil {
		return nil, err
	}
	infos := make([]Info, 0, len(entries))
	for _, e := range entries {
		fi, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed since it was listed
		}
		if err != nil {
			return nil, err
		}
		infos = append(infos, infoOf(fi))
	}
	return infos, nil
}

func (osFS) Stat(name string) (Info, error) {
	fi, err := os.Stat(name)
	if err != nil {
		return Info{}, err
	}
	return infoOf(fi), nil
}

func (osFS) Lock(name, holder string, shared bool) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil && shared {
		// A reader may lock what it cannot write.
		f, err = os.OpenFile(name, os.O_RDONLY, 0)
	}
	if err != nil {
		return nil, changeError(err)
	}
	taken, err := lockFile(f, shared)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", name, err), f.Close())
	}
	if !taken {
		text := make([]byte, 256)
		n, _ := f.ReadAt(text, 0)
		who, _, _ := strings.Cut(string(text[:n]), "\n")
		_ = f.Close() // it was only read
		return nil, &LockedError{Name: name, Holder: who}
	}
	if !shared {
		// The line is for people only, so a full disk does not refuse the lock.
		if err := f.Truncate(0); err == nil {
			_, _ = f.WriteAt([]byte(holder+"\n"), 0)
		}
	}
	return f, nil
}

func infoOf(fi fs.FileInfo) Info {
	return Info{Name: fi.Name(), Size: fi.Size(), Dir: fi.IsDir()}
}

func osOpen(name string, flag int) (File, error) {
	f, err := os.OpenFile(name, flag, 0o600)
	if err != nil {
		return nil, changeError(err)
	}
	return &osFile{File: f}, nil
}

// osFile adds to os.File what the seam calls differently.
type osFile struct {
	*os.File
	direct directFile // set up by Reserve
	stream *Reader    // set up by Stream; nil: all is read through the page cache
}

// ReadAt implements io.ReaderAt.
func (f *osFile) ReadAt(p []byte, offset int64) (int, error) {
	if f.stream != nil {
		return f.stream.ReadAt(p, offset)
	}
	return f.File.ReadAt(p, offset)
}

// Stream implements Streamer. It must not be called while another call to the file is
// under way.
func (f *osFile) Stream() {
	if size, err := f.Size(); err == nil && f.stream == nil {
		f.stream = NewReader(f.File, size)
	}
}

func (f *osFile) WriteAt(p []byte, offset int64) (int, error) {
	if done, n, err := f.direct.writeAt(p, offset); done {
		return n, changeError(err)
	}
	n, err := f.File.WriteAt(p, offset)
	return n, changeError(err)
}

func (f *osFile) Truncate(size int64) error {
	f.direct.forget()
	return changeError(f.File.Truncate(size))
}

func (f *osFile) Sync() error        { return changeError(syncFile(f.File)) }
func (f *osFile) Reserve(size int64) { f.direct.reserve(f.File, size) }

func (f *osFile) Close() error {
	err := f.direct.close()
	if f.stream != nil {
		err = errors.Join(err, f.stream.Close())
	}
	return errors.Join(err, f.File.Close())
}

func (f *osFile) Size() (int64, error) {
	fi, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return fi.Size(), nil
}

// Short is whether an error tells of something that the process or the system lacks at the
// moment, as room for one more open file. It says nothing about the file.
func Short(err error) bool { return short(err) }

// changeError makes what the system says of a disk that is full, or takes no changes,
// recognizable as ErrNoSpace and ErrReadOnly.
func changeError(err error) error {
	switch {
	case err == nil:
		return nil
	case noSpace(err):
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	case isReadOnly(err):
		return fmt.Errorf("%w: %w", ErrReadOnly, err)
	}
	return err
}
