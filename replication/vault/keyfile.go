package vault

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"riparo/replication"
	"riparo/replication/vfs"
)

// Names of the two copies of a file of wrapped keys. Without these keys the data is
// lost, so one damaged place must not take them away.
const (
	keysName     = "keys"
	keysCopyName = "keys.copy"
)

const (
	keysMagic = "RIPAROKY"
	// keysHeader: magic, version, length and CRC of the rest, own CRC.
	keysHeader = 32
	// maxKeysBytes: a key takes about 100 bytes, and one that no block needs goes.
	maxKeysBytes = 1 << 20
)

// keyFile are wrapped keys: those of a vault, wrapped by master keys, or those of a
// disk, wrapped by vault keys.
type keyFile struct {
	vault      vaultID
	disk       replication.DiskID // empty: keys of the vault
	generation uint64             // of the two copies the one with the higher counts
	keys       []wrappedKey       // ascending; the last one seals
}

type wrappedKey struct {
	number  uint32 // 1, 2, 3, …; never used twice
	session uint64 // of the vault, in which the key was made
	wrapper string // name of the master key, or number of the vault key
	wrapped []byte
}

func (f *keyFile) encode() []byte {
	var e encoder
	e.p = append(e.p, f.vault[:]...)
	e.text(string(f.disk))
	e.number(f.generation)
	e.number(uint64(len(f.keys)))
	for _, k := range f.keys {
		e.number(uint64(k.number))
		e.number(k.session)
		e.text(k.wrapper)
		e.text(string(k.wrapped))
	}
	h := make([]byte, keysHeader, keysHeader+len(e.p))
	copy(h, keysMagic)
	le := binary.LittleEndian
	le.PutUint32(h[8:], sealedVersion)
	le.PutUint64(h[16:], uint64(len(e.p)))
	le.PutUint32(h[24:], checksum(e.p))
	le.PutUint32(h[28:], checksum(h[:28]))
	return append(h, e.p...)
}

var (
	errNoKeys      = errors.New("there is no file of wrapped keys")
	errDamagedKeys = errors.New("the file of wrapped keys is damaged")
)

func parseKeyFile(p []byte) (keyFile, error) {
	var f keyFile
	le := binary.LittleEndian
	if len(p) < keysHeader || string(p[:8]) != keysMagic || checksum(p[:28]) != le.Uint32(p[28:]) {
		return f, errDamagedKeys
	}
	if v := le.Uint32(p[8:]); v > sealedVersion {
		return f, &versionError{found: v}
	}
	rest := p[keysHeader:]
	if le.Uint64(p[16:]) != uint64(len(rest)) || checksum(rest) != le.Uint32(p[24:]) || len(rest) < len(f.vault) {
		return f, errDamagedKeys
	}
	copy(f.vault[:], rest)
	d := decoder{p: rest[len(f.vault):]}
	f.disk = replication.DiskID(d.text())
	f.generation = d.number()
	for range d.count() {
		f.keys = append(f.keys, wrappedKey{
			number: uint32(d.number()), session: d.number(), wrapper: d.text(), wrapped: []byte(d.text()),
		})
	}
	if err := d.done(); err != nil || len(f.keys) == 0 {
		return f, errDamagedKeys
	}
	for i, k := range f.keys {
		if k.number == 0 || i > 0 && k.number <= f.keys[i-1].number {
			return f, errDamagedKeys
		}
	}
	return f, nil
}

// readKeys reads the newer of the two copies in a folder. whole reports that both are
// there and say the same. Nothing is sealed with a key that one copy has alone, so either
// will do. Errors: errNoKeys, errDamagedKeys, *versionError, and those of reading when
// there is no other copy.
func (v *Vault) readKeys(dir string) (newest keyFile, whole bool, err error) {
	found, there := false, false
	var first []byte
	var failed error
	for _, name := range []string{keysName, keysCopyName} {
		p, err := v.readFile(filepath.Join(dir, name), maxKeysBytes)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		there = true
		if err != nil {
			failed = fmt.Errorf("read %s: %w", filepath.Join(dir, name), err)
			continue
		}
		f, err := parseKeyFile(p)
		if version := (*versionError)(nil); errors.As(err, &version) {
			return keyFile{}, false, version
		}
		if err != nil {
			continue
		}
		whole = found && bytes.Equal(p, first)
		if !found || f.generation > newest.generation {
			newest, found = f, true
		}
		first = p
	}
	switch {
	case found:
		return newest, whole, nil
	case failed != nil:
		return keyFile{}, false, failed
	case there:
		return keyFile{}, false, errDamagedKeys
	}
	return keyFile{}, false, errNoKeys
}

// writeKeys makes f durable in a folder, in both copies. After a crash there are the
// keys as they were or as they are now.
func (v *Vault) writeKeys(dir string, f *keyFile) error {
	f.generation++
	p := f.encode()
	for _, name := range []string{keysName, keysCopyName} {
		if err := v.replaceFile(dir, name, p); err != nil {
			return fmt.Errorf("write %s: %w", filepath.Join(dir, name), err)
		}
	}
	return nil
}

// destroyKeys removes the keys of a folder for good: their bytes are written over
// before the files go. What the medium itself keeps of bytes that were written over,
// as flash and copying file systems do, is out of reach.
func (v *Vault) destroyKeys(dir string) error {
	for _, name := range []string{keysName, keysCopyName, keysName + temporarySuffix, keysCopyName + temporarySuffix} {
		name = filepath.Join(dir, name)
		f, err := v.fs.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		size, err := f.Size()
		if err == nil {
			_, err = f.WriteAt(make([]byte, min(size, maxKeysBytes)), 0)
		}
		if err == nil {
			err = f.Sync()
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
		if err := v.fs.Remove(name); err != nil {
			return err
		}
	}
	return v.fs.SyncDir(dir)
}

// keys verifies the files of wrapped keys of the disk.
func (c *check) keys() error {
	if c.disk.keys == nil {
		return nil
	}
	read, err := c.disk.vault.checkKeys(c.disk.folder, func(err error, lost bool) {
		c.damaged(0, 0, err)
		c.report.Damage[len(c.report.Damage)-1].Harmless = !lost
	})
	c.report.Bytes += read
	return err
}

// checkKeys verifies the two copies of a file of wrapped keys, and tells how much it
// read. Damage to one is mended by the scrub, and when the vault is opened next.
func (v *Vault) checkKeys(dir string, damaged func(err error, lost bool)) (read int64, err error) {
	var bad []error
	for _, name := range []string{keysName, keysCopyName} {
		p, err := v.readFile(filepath.Join(dir, name), maxKeysBytes)
		if err == nil {
			_, err = parseKeyFile(p)
		}
		if vfs.Short(err) {
			return read, err
		}
		if err != nil {
			bad = append(bad, fmt.Errorf("file %s: %w", name, err))
		}
		read += int64(len(p))
	}
	for _, err := range bad {
		if len(bad) > 1 {
			damaged(fmt.Errorf("%w; its copy is damaged too: an appliance that runs mends both, an opening needs a backup of them", err), true)
		} else {
			damaged(fmt.Errorf("%w; it is made anew from its copy by the next scrub, or when the vault is opened next", err), false)
		}
	}
	return read, nil
}

// mendKeyFiles writes the files of wrapped keys anew that are not as they were written,
// while the keys are still known.
func (v *Vault) mendKeyFiles() error {
	if v.keys == nil {
		return nil
	}
	spoilt := func(dir string) bool {
		_, whole, err := v.readKeys(dir)
		return !whole && !errors.As(err, new(*versionError)) // that would not be ours to write over
	}
	mend := func(dir string, file *keyFile) error {
		if !spoilt(dir) {
			return nil // it was just being written
		}
		fresh := *file
		if err := v.writeKeys(dir, &fresh); err != nil {
			return fmt.Errorf("mend the keys in %s: %w", dir, err)
		}
		*file = fresh
		return nil
	}
	// Whoever reads a block takes the lock of its keys, so files are read before it.
	var errs []error
	if spoilt(v.dir) {
		v.keys.mu.Lock()
		errs = append(errs, mend(v.dir, &v.keys.file))
		v.keys.mu.Unlock()
	}
	for _, d := range v.list() {
		d.mu.Lock()
		idle := d.sick != nil || d.erased || d.superseded || d.roomless
		d.mu.Unlock()
		if idle || !spoilt(d.folder) {
			continue
		}
		d.keys.mu.Lock()
		if len(d.keys.file.keys) > 0 && !d.gone.Load() {
			errs = append(errs, mend(d.folder, &d.keys.file))
		}
		d.keys.mu.Unlock()
	}
	return errors.Join(errs...)
}
