package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"
)

// Store is the open state file. Its methods may be called from several goroutines.
type Store struct {
	db      *bolt.DB
	path    string
	changes changes

	committed func(changed []string)

	// failed holds the first write that the disk did not confirm.
	failed atomic.Pointer[failure]

	closing  sync.Once
	closeErr error
}

type failure struct{ err error }

// Options tell how a store is opened. The zero value is right for a daemon.
type Options struct {
	// LockWait is how long to wait for another process to close the file; 0 is 2 s.
	LockWait time.Duration
	// MaxBytes bounds the file; 0 is 1 GiB, some ten times what the bounds on jobs
	// and events let it grow to.
	MaxBytes int
	// NoSync leaves it to the operating system when changes reach the disk. They
	// survive the death of the process but not a power cut. For tests and for
	// state that is thrown away.
	NoSync bool
	// Committed, if set, is called after each change that was made durable, before
	// whoever made it goes on, with the names that subscribers get. For tests, which end
	// the process there.
	Committed func(changed []string)
}

const (
	defaultLockWait = 2 * time.Second // a daemon that is being restarted is gone by then
	defaultMaxBytes = 1 << 30
	minFileBytes    = 4 * 4096 // bbolt's four first pages, of 4 KiB or more
	// unfinishedAge: a file that is being made or copied is younger than this.
	unfinishedAge = time.Hour
)

// Open opens the state file at path, or makes it when there is none. An older
// schema is brought up to date, after a copy of the file was put beside it.
//
// Problems: store.locked (another process has it), store.damaged, store.version
// (made by a newer Riparo), store.access (rights, a read-only disk), store.full.
func Open(path string, o Options) (*Store, error) { return open(path, o, migrations) }

func open(path string, o Options, steps []migration) (*Store, error) {
	if o.LockWait == 0 {
		o.LockWait = defaultLockWait
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = defaultMaxBytes
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := create(path, o, steps); err != nil {
			return nil, openProblem(path, err)
		}
	case err != nil:
		return nil, openProblem(path, err)
	case !info.Mode().IsRegular():
		return nil, openProblem(path, fmt.Errorf("open %s: not a file", path))
	case info.Size() < minFileBytes:
		// Files are made whole (see create), so something cut this one. To start
		// afresh silently would be to forget every protected machine.
		return nil, openProblem(path, &damage{what: fmt.Sprintf("it has %d bytes", info.Size())})
	}
	db, err := openFile(path, o)
	if err != nil {
		return nil, openProblem(path, err)
	}
	s := &Store{db: db, path: path, committed: o.Committed}
	for _, prepare := range []func() error{
		s.checkTexts,
		func() error { return s.migrate(steps) },
		s.missing,
		func() error { return sweep(path) },
	} {
		if err := prepare(); err != nil {
			return nil, errors.Join(openProblem(path, err), s.Close())
		}
	}
	return s, nil
}

// openFile opens a bbolt file after its pages were found whole.
func openFile(path string, o Options) (*bolt.DB, error) {
	// Opened for reading, bbolt locks the file and looks at no more than its first
	// two pages. The lock is let go for a moment before it is opened for writing:
	// whoever gets in between writes whole pages too.
	reading, err := boltOpen(path, o, true)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(checkPages(path), reading.Close()); err != nil {
		return nil, err
	}
	return boltOpen(path, o, false)
}

// boltOpen opens a bbolt file. What bbolt answers with a panic comes back as an error.
func boltOpen(path string, o Options, readOnly bool) (db *bolt.DB, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	var file *os.File
	defer func() {
		if err != nil && file != nil {
			file.Close() // bbolt does not when it panics
		}
	}()
	defer catch(&err)
	options := &bolt.Options{
		ReadOnly:     readOnly,
		Timeout:      o.LockWait,
		NoSync:       o.NoSync,
		FreelistType: bolt.FreelistMapType,
		OpenFile: func(name string, flag int, perm os.FileMode) (f *os.File, err error) {
			f, err = os.OpenFile(name, flag&^os.O_CREATE, perm) // create made it
			file = f
			return f, err
		},
	}
	if !readOnly {
		options.MaxSize = o.MaxBytes
	}
	return bolt.Open(path, 0o600, options)
}

// create makes a new store beside path and gives it its name when it is complete
// and durable, so that a crash leaves a whole file or none.
func create(path string, o Options, steps []migration) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, unfinished(path)+"*")
	if err != nil {
		return err
	}
	name := f.Name()
	defer os.Remove(name)
	if err := f.Close(); err != nil {
		return err
	}
	db, err := boltOpen(name, o, false)
	if err != nil {
		return err
	}
	s := &Store{db: db, path: name}
	if err := errors.Join(s.migrate(steps), db.Sync(), s.Close()); err != nil {
		return err
	}
	// Link, unlike rename, does not replace a file that another daemon made
	// meanwhile: then that one is opened, and found locked.
	if err := os.Link(name, path); err != nil && !errors.Is(err, fs.ErrExist) {
		if err := os.Rename(name, path); err != nil { // a file system without links
			return err
		}
	}
	return syncDir(dir)
}

// unfinished begins the names of files that were not completed.
func unfinished(path string) string { return "." + filepath.Base(path) + ".new-" }

// sweep removes what a crash left of create or Backup.
func sweep(path string) error {
	left, err := filepath.Glob(filepath.Join(filepath.Dir(path), unfinished(path)+"*"))
	for _, name := range left {
		// Another daemon may be making its own this moment, before it finds ours.
		if info, err := os.Stat(name); err == nil && time.Since(info.ModTime()) > unfinishedAge {
			os.Remove(name) // if it cannot be removed it is in nobody's way
		}
	}
	return err
}

// Path is where the store's file is.
func (s *Store) Path() string { return s.path }

// Close waits for open transactions to end and lets go of the file.
func (s *Store) Close() error {
	s.closing.Do(func() { s.closeErr = s.db.Close() })
	return s.closeErr
}
