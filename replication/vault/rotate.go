package vault

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"

	"riparo/replication"
)

// KeyState tells of the keys of a vault what is no secret.
type KeyState struct {
	Encrypted bool
	Master    string // the master key that the vault's key is wrapped with
	VaultKey  uint32 // number of the vault's key
	Disks     []DiskKeys
}

// DiskKeys are the data keys of a disk.
type DiskKeys struct {
	Disk   replication.DiskID
	Newest uint32   // seals what is written
	Held   []uint32 // all that blocks are sealed with; the newest is the last
}

// KeyState tells which keys the vault has.
func (v *Vault) KeyState() KeyState {
	k := v.keys
	if k == nil {
		return KeyState{}
	}
	s := KeyState{Encrypted: true, Master: k.master()}
	k.mu.Lock()
	s.VaultKey = k.file.newest()
	k.mu.Unlock()
	for _, d := range v.list() {
		d.keys.mu.RLock()
		list := DiskKeys{Disk: d.id}
		for _, w := range d.keys.file.keys {
			list.Held, list.Newest = append(list.Held, w.number), w.number
		}
		d.keys.mu.RUnlock()
		s.Disks = append(s.Disks, list)
	}
	return s
}

// newest is the number of the key that seals.
func (f *keyFile) newest() uint32 {
	if n := len(f.keys); n > 0 {
		return f.keys[n-1].number
	}
	return 0
}

// RotateMasterKey has the vault's key wrapped with the master key that the given ones
// wrap with, from now on. It is done when it returns nil: the master key that wrapped
// it before opens the vault no more.
func (v *Vault) RotateMasterKey(ctx context.Context, keys Keys) error {
	if err := v.writable(); err != nil {
		return err
	}
	k := v.keys
	if k == nil {
		return plainProblem(v.dir)
	}
	select {
	case k.rotating <- struct{}{}:
		defer func() { <-k.rotating }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.rewrap(keys); err != nil {
		return writeProblem("", fmt.Errorf("rotate the master key of vault %s: %w", v.dir, err))
	}
	v.options.Keys = keys
	return nil
}

// RotateVaultKey changes the vault's key for a new one: all data keys are wrapped
// anew, and then the old key goes. After a crash the next opening for writing ends it.
func (v *Vault) RotateVaultKey(ctx context.Context) error {
	if err := v.writable(); err != nil {
		return err
	}
	k := v.keys
	if k == nil {
		return plainProblem(v.dir)
	}
	select {
	case k.rotating <- struct{}{}:
		defer func() { <-k.rotating }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	k.mu.Lock()
	err := k.add(k.file.newest() + 1)
	k.mu.Unlock()
	if err == nil {
		err = v.finishRotation()
	}
	if err != nil {
		return fmt.Errorf("rotate the key of vault %s: %w", v.dir, err)
	}
	return nil
}

// finishRotation wraps all data keys with the newest key of the vault, and lets go of
// the older ones as soon as no disk needs them.
func (v *Vault) finishRotation() error {
	k := v.keys
	k.mu.Lock()
	several := len(k.file.keys) > 1
	k.mu.Unlock()
	if !several {
		return nil
	}
	v.mu.RLock()
	disks := inOrder(v.disks) // also those that are being made
	v.mu.RUnlock()
	for _, d := range disks {
		if err := d.keys.rewrap(); err != nil {
			return writeProblem(d.id, err)
		}
	}
	used, known, err := v.vaultKeysInUse()
	if err != nil || !known {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	f := k.file
	f.keys = slices.DeleteFunc(slices.Clone(f.keys), func(w wrappedKey) bool {
		return w.number != f.newest() && !used[strconv.FormatUint(uint64(w.number), 10)]
	})
	if len(f.keys) == len(k.file.keys) {
		return nil
	}
	if err := v.writeKeys(v.dir, &f); err != nil {
		return writeProblem("", err)
	}
	k.file = f
	return nil
}

// vaultKeysInUse reads from the files which keys of the vault wrap data keys. known is
// false where that cannot be told for certain.
func (v *Vault) vaultKeysInUse() (used map[string]bool, known bool, err error) {
	folders, err := v.fs.ReadDir(filepath.Join(v.dir, disksName))
	if err != nil {
		return nil, false, fmt.Errorf("list the disks of vault %s: %w", v.dir, err)
	}
	used = map[string]bool{}
	for _, folder := range folders {
		f, whole, err := v.readKeys(filepath.Join(v.dir, disksName, folder.Name))
		if id, ok := diskOfFolder(folder.Name); errors.Is(err, errNoKeys) && !(ok && v.sick(id)) {
			continue // it is being made
		}
		if err != nil || !whole {
			return nil, false, nil // it may yet be mended, or be half written
		}
		for _, w := range f.keys {
			used[w.wrapper] = true
		}
	}
	return used, true, nil
}

// sick reports whether a disk could not be opened. Its keys may come back from a backup.
func (v *Vault) sick(id replication.DiskID) bool {
	v.mu.RLock()
	defer v.mu.RUnlock()
	d := v.disks[id]
	return d != nil && d.sick != nil
}

// rewrap wraps the data keys with the newest key of the vault, durably.
func (k *dataKeys) rewrap() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	f := k.file
	f.keys = slices.Clone(f.keys)
	changed := false
	for i := range f.keys {
		w := &f.keys[i]
		d := k.keys[w.number]
		if d == nil {
			return nil // a disk that could not be opened; its key of the vault stays
		}
		wrapper, wrapped, err := k.vault.wrap(d.secret, dataKeyLabel(f.vault, k.disk, w.number))
		if err != nil {
			return err
		}
		changed = changed || wrapper != w.wrapper
		w.wrapper, w.wrapped = wrapper, wrapped
	}
	if !changed {
		return nil
	}
	if err := k.vault.vault.writeKeys(k.dir, &f); err != nil {
		return err
	}
	k.file = f
	return nil
}

// RotateDataKey makes a new data key for a disk: what is written from now on is sealed
// with it. The older ones stay until no segment has a block of them. Errors wrap
// ErrUnknownDisk.
func (v *Vault) RotateDataKey(ctx context.Context, id replication.DiskID) error {
	if err := v.writable(); err != nil {
		return err
	}
	d, err := v.findToWrite(ctx, id)
	if err != nil {
		return err
	}
	if d.keys == nil {
		return plainProblem(v.dir)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.lead(ctx); err != nil { // not while it is erased
		return err
	}
	defer d.follow()
	d.mu.Unlock()
	err = d.keys.rotate()
	d.mu.Lock()
	if err != nil {
		return writeProblem(id, fmt.Errorf("make a data key for disk %s: %w", id, err))
	}
	return nil
}

func (k *dataKeys) rotate() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.add(k.file.newest() + 1)
}

// dropKeys lets go of data keys that no block is sealed with any more. The caller
// maintains.
func (d *disk) dropKeys() error {
	if d.keys == nil || !d.keys.superseded() {
		return nil
	}
	numbers, err := d.segmentFiles()
	if err != nil {
		return err
	}
	if slices.Contains(numbers, d.keyHolder) {
		return nil // it has a block of the oldest key, as was seen before
	}
	used := map[uint32]bool{}
	oldest := d.keys.oldest()
	for _, n := range numbers {
		if err := d.keysOfSegment(n, used); err != nil {
			return nil // who cannot read it cannot tell
		}
		if used[oldest] {
			d.keyHolder = n
			return nil
		}
	}
	return d.keys.drop(used)
}

// keysOfSegment adds the data keys that blocks of a segment are sealed with.
func (d *disk) keysOfSegment(number uint32, used map[uint32]bool) (err error) {
	s, err := openSegment(d.vault.fs, d.folder, number)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // dead, and deleted since
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if s.trailer != nil {
		records, err := s.footer()
		if err != nil {
			return err
		}
		for i := range records {
			for _, r := range records[i].table {
				used[r.key] = true
			}
		}
		return nil
	}
	// It is being written, or was left open: whatever looks like a record counts.
	for at := int64(segmentHeaderSize); at < s.size; {
		rec, err := s.record(at)
		if unread(err) {
			return err // the key stays that its blocks may be sealed with
		}
		if err != nil {
			at = roundUp(at + 1)
			continue
		}
		for _, r := range rec.table {
			used[r.key] = true
		}
		at += rec.size()
	}
	return nil
}

// superseded reports that a key of an earlier opening has a newer one of an earlier
// opening: no batch that is under way can be sealed with it.
func (k *dataKeys) superseded() bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return len(k.file.keys) > 1 && k.file.keys[1].session < k.vault.vault.session
}

func (k *dataKeys) oldest() uint32 {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.file.keys[0].number
}

// drop lets go of superseded keys that are not used, durably. In memory they stay, for
// views of segments that are gone.
func (k *dataKeys) drop(used map[uint32]bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	f := k.file
	f.keys = nil
	for i, w := range k.file.keys {
		last := i == len(k.file.keys)-1
		if used[w.number] || last || k.file.keys[i+1].session >= k.vault.vault.session {
			f.keys = append(f.keys, w)
		}
	}
	if len(f.keys) == len(k.file.keys) {
		return nil
	}
	if err := k.vault.vault.writeKeys(k.dir, &f); err != nil {
		return fmt.Errorf("let go of data keys of disk %s: %w", k.disk, err)
	}
	k.file = f
	return nil
}

// destroy makes the data of the disk unreadable for good: its keys go from memory and
// from the storage.
func (k *dataKeys) destroy() error {
	if k == nil {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, d := range k.keys {
		clear(d.secret)
	}
	k.keys, k.openers, k.seals = map[uint32]*dataKey{}, nil, nil
	k.file.keys = nil
	return k.vault.vault.destroyKeys(k.dir)
}

// plainProblem is a change of keys in a vault that has none.
func plainProblem(dir string) error {
	return &replication.Problem{
		Code:   CodeKeyMissing,
		Cause:  fmt.Sprintf("the vault %s is not encrypted", dir),
		Effect: "nothing was changed",
		Action: "make a new vault, which is encrypted by default, and replicate into it",
		Remedy: replication.Stop,
	}
}
