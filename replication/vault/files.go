package vault

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
)

// makeFolder makes a folder and those above it, durably.
func (v *Vault) makeFolder(name string) error {
	var made []string
	for dir := filepath.Clean(name); ; dir = filepath.Dir(dir) {
		if _, err := v.fs.Stat(dir); err == nil || dir == filepath.Dir(dir) {
			break
		}
		made = append(made, dir)
	}
	if err := v.fs.MkdirAll(name); err != nil {
		return err
	}
	for _, dir := range slices.Backward(made) {
		if err := v.fs.SyncDir(filepath.Dir(dir)); err != nil {
			return err
		}
	}
	return nil
}

// certainFolder makes the name of a new vault's folder durable, and those above it. An
// earlier opening may have made them and not have come further.
func (v *Vault) certainFolder() error {
	for dir := filepath.Clean(v.dir); dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		err := v.fs.SyncDir(filepath.Dir(dir))
		if errors.Is(err, fs.ErrPermission) {
			return nil // who may not look into a folder did not make one in it
		}
		if err != nil {
			return fmt.Errorf("make vault %s: sync folder %s: %w", v.dir, filepath.Dir(dir), err)
		}
	}
	return nil
}

// emptyFolder makes the folder of a new disk. What an erased one of the same name
// left there is removed first.
func (v *Vault) emptyFolder(name string) error {
	_, err := v.fs.Stat(filepath.Join(name, erasedName))
	if err == nil {
		err = v.removeFolder(name)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := v.makeFolder(name); err != nil {
		return err
	}
	// It may have been there without being durable.
	return v.fs.SyncDir(filepath.Dir(name))
}

// readFile reads up to limit bytes of a file.
func (v *Vault) readFile(name string, limit int64) (_ []byte, err error) {
	f, err := v.fs.OpenRead(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	p := make([]byte, min(size, limit))
	if err := readFull(f, p, 0); err != nil {
		return nil, err
	}
	return p, nil
}

// readFull fills p from offset; a file that ends before is io.ErrUnexpectedEOF.
func readFull(f io.ReaderAt, p []byte, offset int64) error {
	n, err := f.ReadAt(p, offset)
	if n == len(p) {
		return nil
	}
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// temporarySuffix is behind the name of a file that is about to take another's place.
const temporarySuffix = ".new"

// replaceFile puts content in the place of a file, so that after a crash there is
// the old or the new one.
func (v *Vault) replaceFile(dir, name string, content []byte) error {
	temporary := filepath.Join(dir, name+temporarySuffix)
	f, err := v.fs.Create(temporary)
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(content, 0); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, v.fs.Remove(temporary))
	}
	if err := v.fs.Rename(temporary, filepath.Join(dir, name)); err != nil {
		return err
	}
	return v.fs.SyncDir(dir)
}

// removeFolder removes the folder of a disk. The keys go first, the marker goes last;
// it may only be seen, from an erasing that did not end, and is made certain.
func (v *Vault) removeFolder(folder string) error {
	if err := v.fs.SyncDir(folder); err != nil {
		return err
	}
	if err := v.destroyKeys(folder); err != nil {
		return err
	}
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
