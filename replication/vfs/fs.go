package vfs

import (
	"errors"
	"fmt"
	"io"
)

// FS is a tree of files. Names are paths as path/filepath makes them. Errors are
// those of io/fs (fs.ErrNotExist and so on), [ErrNoSpace] where the disk is full,
// and *[LockedError].
type FS interface {
	// Create makes an empty file for reading and writing, or empties the one that
	// has the name.
	Create(name string) (File, error)
	// Open opens a file that exists for reading and writing.
	Open(name string) (File, error)
	// OpenRead opens a file that exists for reading only.
	OpenRead(name string) (File, error)
	// Rename gives a file another name in the same folder, in place of the file
	// that had it.
	Rename(from, to string) error
	// Remove removes a file, or a folder that is empty.
	Remove(name string) error
	// ReadDir lists a folder, sorted by name.
	ReadDir(name string) ([]Info, error)
	// MkdirAll makes a folder and those above it. It is no error if it exists.
	MkdirAll(name string) error
	// SyncDir makes the names in a folder durable: what was created, renamed and
	// removed there. Content of files needs their own Sync.
	SyncDir(name string) error
	// Stat describes a file or folder.
	Stat(name string) (Info, error)
	// Lock takes the advisory lock that the file name stands for, creating it
	// where needed, and fails at once with a *LockedError when somebody else has
	// it. holder is a line for people that says who has it. Closing gives the lock
	// back; so does the end of the process. Shared locks exclude only exclusive
	// ones.
	Lock(name, holder string, shared bool) (io.Closer, error)
	// Space tells how much room the disk under a folder has.
	Space(name string) (Space, error)
}

// File is an open file. ReadAt and WriteAt may be called from several goroutines.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Truncate sets the size. What is added reads as zero.
	Truncate(size int64) error
	// Sync makes all that was written to the file before the call durable. After
	// an error nothing is known about those writes and no later Sync of this file
	// says anything about them: they must be written again, to another place.
	Sync() error
	// Size of the file in bytes.
	Size() (int64, error)
}

// Reserver is a File that can be told of appends to come. It is a hint, and changes
// neither content nor size nor what is durable: a disk in memory has no use for it.
type Reserver interface {
	// Reserve says that the file will grow to size bytes by large appends. Room is set
	// aside where the file system can do that, and from then on large aligned writes
	// go around the page cache, which on Linux is several times faster than through
	// it. What is left of the room goes with the next Truncate or Close. It must not be
	// called while another call to the file is under way.
	Reserve(size int64)
}

// Streamer is a File that can be told how it will be read. It is a hint like that of
// Reserver.
type Streamer interface {
	// Stream says that the file will be read once, in large aligned pieces. On Linux
	// they go around the page cache where it does not have them already: it keeps what
	// others need.
	Stream()
}

// Info describes a file or folder.
type Info struct {
	Name string // without the folder
	Size int64  // bytes
	Dir  bool
}

// Space is the room on a disk, in bytes.
type Space struct {
	Total int64
	Free  int64 // what this process may still use
}

// ErrNoSpace is what errors of a full disk wrap, whatever the system calls it.
var ErrNoSpace = errors.New("no space left on the disk")

// ErrReadOnly is what errors of a file system wrap that takes no changes, as Linux
// makes one after an error of its storage (mount(8), errors=remount-ro).
var ErrReadOnly = errors.New("the file system is read-only")

// LockedError is the refusal of a lock that somebody else has.
type LockedError struct {
	Name   string
	Holder string // who has it, as far as known
}

func (e *LockedError) Error() string {
	if e.Holder == "" {
		return fmt.Sprintf("%s is locked by another process", e.Name)
	}
	return fmt.Sprintf("%s is locked by %s", e.Name, e.Holder)
}
