package vault

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"

	"riparo/replication/vfs"
)

// reserveName is a file of noise that is given up when there is no room for what must
// always be possible: to close a point, to let points go, and to write maps and
// inventories, by which room comes back.
const reserveName = "reserve"

// fillReserve makes the reserve as large as the limits want, if there is room.
func (v *Vault) fillReserve() error {
	l := v.limits.Load()
	if l == nil || l.Reserve <= 0 {
		return nil
	}
	v.reserve.Lock()
	defer v.reserve.Unlock()
	name := filepath.Join(v.dir, reserveName)
	if info, err := v.fs.Stat(name); err == nil && info.Size == l.Reserve {
		return nil
	}
	if s, err := v.fs.Space(v.dir); err != nil || s.Free < l.Stop.bytes(s.Total)+l.Reserve {
		return nil // later
	}
	f, err := v.fs.Create(name)
	if err != nil {
		return fmt.Errorf("make the reserve of vault %s: %w", v.dir, err)
	}
	// Noise: a file system that compresses would keep nothing of zeroes.
	r := rand.NewChaCha8([32]byte{1})
	p := make([]byte, min(l.Reserve, 1<<20))
	for at := int64(0); at < l.Reserve && err == nil; at += int64(len(p)) {
		p = p[:min(int64(len(p)), l.Reserve-at)]
		_, _ = r.Read(p) // never fails
		_, err = f.WriteAt(p, at)
	}
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if errors.Is(err, vfs.ErrNoSpace) {
		return v.fs.Remove(name)
	}
	return err
}

// spend gives the reserve up because of err, and reports whether there was one.
func (v *Vault) spend(err error) bool {
	if !errors.Is(err, vfs.ErrNoSpace) {
		return false
	}
	v.reserve.Lock()
	defer v.reserve.Unlock()
	name := filepath.Join(v.dir, reserveName)
	if _, err := v.fs.Stat(name); errors.Is(err, fs.ErrNotExist) {
		return false
	}
	return v.fs.Remove(name) == nil && v.fs.SyncDir(v.dir) == nil
}
