package vault

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
)

// vaultKeys are the keys of an encrypted vault, which wrap the data keys of its
// disks. A vault has one, and two while it is changed for another.
type vaultKeys struct {
	vault  *Vault
	salt   uint64        // drawn at random for this opening
	blocks atomic.Uint64 // sealed since the vault was opened; their nonces

	rotating chan struct{} // holds one token for the one who changes the key

	mu      sync.Mutex // guards all below
	file    keyFile
	secrets map[uint32][]byte // nil: opened for reading, without master key
}

// openKeys finds out whether the vault is encrypted, and opens or makes its keys. It
// changes nothing before it knows that the master key is right.
func (v *Vault) openKeys(fresh bool) error {
	f, whole, err := v.readKeys(v.dir)
	if version := (*versionError)(nil); errors.As(err, &version) {
		return versionProblem("the key file of vault "+v.dir, version)
	}
	switch {
	case fresh && v.options.Plain:
		return v.destroyKeys(v.dir) // of a vault that did not come to be
	case fresh && v.options.Keys == nil:
		return keyUndecidedProblem(v.dir)
	case fresh:
		return v.createKeys()
	case errors.Is(err, errNoKeys) && !v.sealed:
		return nil
	case err != nil:
		return keyDamagedProblem("the keys of vault "+v.dir, err)
	}
	if v.unnamed {
		v.id, v.unnamed = f.vault, false
	}
	if f.vault != v.id {
		return keyDamagedProblem("the keys of vault "+v.dir, errors.New("they are those of another vault"))
	}
	v.sealed = true
	for _, w := range f.keys {
		v.session = max(v.session, w.session) // a session that was guessed
	}
	k := &vaultKeys{vault: v, file: f, rotating: make(chan struct{}, 1)}
	if v.options.Keys == nil {
		if !v.options.ReadOnly {
			return keyMissingProblem(v.dir, k.master())
		}
		v.keys = k
		return nil
	}
	if err := k.open(); err != nil {
		return err
	}
	v.keys = k
	if v.options.ReadOnly {
		return nil
	}
	if !whole {
		if err := v.writeKeys(v.dir, &k.file); err != nil {
			return writeProblem("", err)
		}
	}
	return k.begin()
}

// createKeys makes the first key of a new vault.
func (v *Vault) createKeys() error {
	v.sealed = true
	v.keys = &vaultKeys{vault: v, file: keyFile{vault: v.id}, rotating: make(chan struct{}, 1), secrets: map[uint32][]byte{}}
	if err := v.keys.add(1); err != nil {
		return writeProblem("", fmt.Errorf("make the key of vault %s: %w", v.dir, err))
	}
	return v.keys.begin()
}

// begin draws what makes the nonces of this opening differ from those of another one
// with the same session, in another copy of the folder.
func (k *vaultKeys) begin() error {
	var salt [8]byte
	if _, err := io.ReadFull(k.vault.random(), salt[:]); err != nil {
		return err
	}
	k.salt = binary.LittleEndian.Uint64(salt[:])
	return nil
}

// open unwraps the keys of the vault.
func (k *vaultKeys) open() error {
	keys := k.vault.options.Keys
	secrets := map[uint32][]byte{}
	for _, w := range k.file.keys {
		if !keys.Holds(w.wrapper) {
			return keyWrongProblem(k.vault.dir, w.wrapper, keys.Master())
		}
		secret, err := keys.Unwrap(w.wrapper, w.wrapped, vaultKeyLabel(k.file.vault, w.number))
		if err != nil {
			return keyDamagedProblem("the keys of vault "+k.vault.dir, err)
		}
		secrets[w.number] = secret
	}
	k.secrets = secrets
	return nil
}

// rewrap wraps the keys with the newest of other master keys, durably. The caller holds
// mu.
func (k *vaultKeys) rewrap(keys Keys) error {
	f := k.file
	f.keys = slices.Clone(f.keys)
	for i := range f.keys {
		w := &f.keys[i]
		wrapped, err := keys.Wrap(k.secrets[w.number], vaultKeyLabel(f.vault, w.number))
		if err != nil {
			return fmt.Errorf("wrap the key of vault %s: %w", k.vault.dir, err)
		}
		w.wrapper, w.wrapped = keys.Master(), wrapped
	}
	if err := k.vault.writeKeys(k.vault.dir, &f); err != nil {
		return err
	}
	k.file = f
	return nil
}

// add makes a vault key the newest one, durably. The caller holds mu, or is the only
// one who knows k.
func (k *vaultKeys) add(number uint32) error {
	keys := k.vault.options.Keys
	secret, err := newKey(k.vault.random())
	if err != nil {
		return err
	}
	wrapped, err := keys.Wrap(secret, vaultKeyLabel(k.file.vault, number))
	if err != nil {
		return err
	}
	f := k.file
	f.keys = append(slices.Clone(f.keys), wrappedKey{number: number, session: k.vault.session, wrapper: keys.Master(), wrapped: wrapped})
	if err := k.vault.writeKeys(k.vault.dir, &f); err != nil {
		return err
	}
	k.file, k.secrets[number] = f, secret
	return nil
}

// locked reports that there is no master key: only what is not sealed can be read.
func (k *vaultKeys) locked() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.secrets == nil
}

// master names the master key that the vault's key is wrapped with.
func (k *vaultKeys) master() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.file.keys[len(k.file.keys)-1].wrapper
}

// wrap seals a data key with the newest vault key, and names that.
func (k *vaultKeys) wrap(key, label []byte) (wrapper string, wrapped []byte, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	number := k.file.keys[len(k.file.keys)-1].number
	wrapped, err = wrap(k.vault.random(), k.secrets[number], key, label)
	return strconv.FormatUint(uint64(number), 10), wrapped, err
}

// unwrap opens a data key.
func (k *vaultKeys) unwrap(wrapper string, wrapped, label []byte) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	number, err := strconv.ParseUint(wrapper, 10, 32)
	secret := k.secrets[uint32(number)]
	if err != nil || secret == nil {
		return nil, fmt.Errorf("it is wrapped with vault key %q, which is not there", wrapper)
	}
	return unwrap(secret, wrapped, label)
}
