package vault

import (
	"crypto/cipher"
	"errors"
	"fmt"
	"sync"

	"riparo/replication"
)

// dataKeys are the keys that the blocks of one disk are sealed with. It is nil in a
// vault without encryption.
type dataKeys struct {
	vault *vaultKeys
	disk  replication.DiskID
	dir   string

	mu      sync.RWMutex // guards all below
	file    keyFile
	keys    map[uint32]*dataKey
	openers map[opening]cipher.AEAD
	seals   *sealer // nil before the disk exists
}

// dataKey is a key as it can be used.
type dataKey struct {
	secret []byte
	sums   *blockSums
}

// opening tells which sub-key of a data key a block is sealed with: one for each
// opening of the vault.
type opening struct {
	key           uint32
	session, salt uint64
}

// maxOpeners bounds the ciphers that are kept: one for each opening of the vault
// whose blocks were read lately, of about 1 KiB.
const maxOpeners = 256

func (k *vaultKeys) ofDisk(id replication.DiskID, dir string) *dataKeys {
	if k == nil {
		return nil
	}
	return &dataKeys{vault: k, disk: id, dir: dir, keys: map[uint32]*dataKey{}, openers: map[opening]cipher.AEAD{}}
}

// create makes the first key of a new disk, durably. The folder exists.
func (k *dataKeys) create() error {
	if k == nil {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.file = keyFile{vault: k.vault.vault.id, disk: k.disk}
	k.keys, k.openers = map[uint32]*dataKey{}, map[opening]cipher.AEAD{}
	return k.add(1)
}

// add makes a key the newest one, durably, and seals with it from then on. The caller
// holds mu.
func (k *dataKeys) add(number uint32) error {
	secret, err := newKey(k.vault.vault.random())
	if err != nil {
		return err
	}
	wrapper, wrapped, err := k.vault.wrap(secret, dataKeyLabel(k.file.vault, k.disk, number))
	if err != nil {
		return err
	}
	f := k.file
	f.keys = append(f.keys[:len(f.keys):len(f.keys)], wrappedKey{number: number, session: k.vault.vault.session, wrapper: wrapper, wrapped: wrapped})
	if err := k.vault.vault.writeKeys(k.dir, &f); err != nil {
		return err
	}
	k.file = f
	if err := k.use(number, secret); err != nil {
		return err
	}
	return k.sealWith(number)
}

// use makes a key ready. The caller holds mu.
func (k *dataKeys) use(number uint32, secret []byte) error {
	sums, err := newBlockSums(secret)
	if err != nil {
		return err
	}
	k.keys[number] = &dataKey{secret: secret, sums: sums}
	return nil
}

// sealWith makes a key the one that seals. The caller holds mu.
func (k *dataKeys) sealWith(number uint32) error {
	v := k.vault.vault
	aead, err := k.subKey(opening{number, v.session, k.vault.salt})
	if err != nil {
		return err
	}
	k.seals = &sealer{
		key: number, session: v.session, salt: k.vault.salt, aead: aead, sums: k.keys[number].sums, blocks: &k.vault.blocks,
	}
	return nil
}

// subKey makes the cipher for the blocks of one opening of the vault. The caller
// holds mu.
func (k *dataKeys) subKey(o opening) (cipher.AEAD, error) {
	d, err := k.known(o.key)
	if err != nil {
		return nil, err
	}
	sub, err := derive(d.secret, "riparo blocks of an opening", o.session, o.salt)
	if err != nil {
		return nil, err
	}
	return newAEAD(sub)
}

// load reads the keys of a disk that exists.
func (k *dataKeys) load(readOnly bool) error {
	if k == nil {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	f, whole, err := k.vault.vault.readKeys(k.dir)
	if version := (*versionError)(nil); errors.As(err, &version) {
		return versionProblem(k.dir, version)
	}
	if err == nil && (f.disk != k.disk || f.vault != k.vault.vault.id) {
		err = errDamagedKeys
	}
	if err != nil {
		return keyDamagedProblem(fmt.Sprintf("the keys of disk %s", k.disk), err)
	}
	k.file = f
	if k.vault.locked() {
		return nil
	}
	for _, w := range f.keys {
		secret, err := k.vault.unwrap(w.wrapper, w.wrapped, dataKeyLabel(f.vault, k.disk, w.number))
		if err == nil {
			err = k.use(w.number, secret)
		}
		if err != nil {
			return keyDamagedProblem(fmt.Sprintf("data key %d of disk %s", w.number, k.disk), err)
		}
	}
	if readOnly {
		return nil
	}
	if !whole {
		if err := k.vault.vault.writeKeys(k.dir, &k.file); err != nil {
			return writeProblem(k.disk, err)
		}
	}
	return k.sealWith(f.keys[len(f.keys)-1].number)
}

// sealer gives what new blocks are sealed with, nil in a vault without encryption.
func (k *dataKeys) sealer() (*sealer, error) {
	if k == nil {
		return nil, nil
	}
	k.mu.RLock()
	defer k.mu.RUnlock()
	if k.seals == nil {
		return nil, fmt.Errorf("disk %s has no data key", k.disk)
	}
	return k.seals, nil
}

func (k *dataKeys) find(number uint32) (*dataKey, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.known(number)
}

// known gives a key. The caller holds mu.
func (k *dataKeys) known(number uint32) (*dataKey, error) {
	d := k.keys[number]
	if d == nil && k.vault.locked() {
		return nil, keyMissingProblem(k.vault.vault.dir, k.vault.master())
	}
	if d == nil {
		return nil, fmt.Errorf("a block is sealed with data key %d, which is not there", number)
	}
	return d, nil
}

// opener gives the cipher of an opening.
func (k *dataKeys) opener(o opening) (cipher.AEAD, error) {
	k.mu.RLock()
	aead := k.openers[o]
	k.mu.RUnlock()
	if aead != nil {
		return aead, nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	aead, err := k.subKey(o)
	if err != nil {
		return nil, err
	}
	for old := range k.openers { // any one: which of them is used next, nobody knows
		if len(k.openers) < maxOpeners {
			break
		}
		delete(k.openers, old)
	}
	if k.openers == nil {
		k.openers = map[opening]cipher.AEAD{}
	}
	k.openers[o] = aead
	return aead, nil
}
