package vault

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"riparo/replication"
)

// erasedName is a file that says: the disk in this folder is gone, only the removal
// of its files did not end.
const erasedName = "erased"

// Erase removes a disk with all its points. It is final as soon as it begins: a
// crash leaves nothing of the disk that could be taken for it. Open views of it
// stop working.
func (v *Vault) Erase(ctx context.Context, id replication.DiskID) error {
	if err := v.writable(); err != nil {
		return err
	}
	d, err := v.find(id)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for d.leading {
		if err := d.wait(ctx); err != nil {
			return err
		}
	}
	if d.erased {
		return fmt.Errorf("disk %s: %w", id, replication.ErrUnknownDisk)
	}
	d.leading = true
	defer d.follow()
	d.mu.Unlock()
	err = d.erase()
	d.mu.Lock()
	if err != nil {
		return fmt.Errorf("erase disk %s: %w", id, err)
	}
	d.erased = true
	d.refuse(fmt.Errorf("disk %s: %w", id, replication.ErrUnknownDisk))
	d.mu.Unlock()
	v.mu.Lock()
	delete(v.disks, id)
	v.mu.Unlock()
	d.mu.Lock()
	return nil
}

// erase removes the files of the disk.
func (d *disk) erase() error {
	fsys := d.vault.fs
	marker, err := fsys.Create(filepath.Join(d.folder, erasedName))
	if err == nil {
		err = marker.Close()
	}
	if err == nil {
		err = fsys.SyncDir(d.folder)
	}
	if err != nil {
		return err
	}
	if err := d.log.close(); err != nil {
		return err
	}
	return d.vault.removeFolder(d.folder)
}

// removeFolder removes a folder of files. The marker goes last.
func (v *Vault) removeFolder(folder string) error {
	files, err := v.fs.ReadDir(folder)
	if err != nil {
		return err
	}
	var errs []error
	marked := false
	for _, f := range files {
		if f.Name == erasedName {
			marked = true
			continue
		}
		errs = append(errs, v.fs.Remove(filepath.Join(folder, f.Name)))
	}
	if err := errors.Join(append(errs, v.fs.SyncDir(folder))...); err != nil {
		return err
	}
	if marked {
		if err := v.fs.Remove(filepath.Join(folder, erasedName)); err != nil {
			return err
		}
	}
	if err := v.fs.Remove(folder); err != nil {
		return err
	}
	return v.fs.SyncDir(filepath.Dir(folder))
}
