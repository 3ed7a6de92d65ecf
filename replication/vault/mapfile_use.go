package vault

import (
	"errors"
	"sync"
	"sync/atomic"

	"riparo/replication/vfs"
)

// handleUse keeps a map file open while it is needed and removes it when it is not.
type handleUse struct {
	mu    sync.Mutex // guards all below
	fs    vfs.FS
	name  string
	file  vfs.File
	users int
	dead  bool // to be removed after the last use
	shut  bool // the vault was closed
	// gone is set when the disk was erased: its files are removed, and the name may
	// be that of another disk's file by now.
	gone *atomic.Bool
}

// acquire keeps the file until release.
func (u *handleUse) acquire() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.users++
}

func (u *handleUse) release() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.users--
	return u.clean()
}

// discard removes the file as soon as nobody uses it.
func (u *handleUse) discard() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.dead = true
	return u.clean()
}

// close closes the file without removing it.
func (u *handleUse) close() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.shut = true
	if u.file == nil {
		return nil
	}
	err := u.file.Close()
	u.file = nil
	return err
}

func (u *handleUse) clean() error {
	if !u.dead || u.users > 0 {
		return nil
	}
	var err error
	if u.file != nil {
		err = u.file.Close()
		u.file = nil
	}
	if !u.gone.Load() {
		err = errors.Join(err, u.fs.Remove(u.name))
	}
	return err
}

func (u *handleUse) get() (vfs.File, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.shut {
		return nil, errVaultClosed
	}
	if u.file == nil {
		f, err := u.fs.OpenRead(u.name)
		if err != nil {
			return nil, err
		}
		u.file = f
	}
	return u.file, nil
}

var errVaultClosed = errors.New("the vault is closed")
