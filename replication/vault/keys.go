package vault

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"riparo/replication"
)

// Keys are the master keys of whoever runs the vault. The vault never sees one: it
// hands over keys of its own to be wrapped, and what was wrapped to be opened again.
// The methods may be called from several goroutines.
type Keys interface {
	// Master names the master key that wraps from now on. The name tells nothing of
	// the key.
	Master() string
	// Holds reports whether the named master key is there.
	Holds(master string) bool
	// Wrap seals a key with the master key that Master names. The label is bound to
	// it: the same one is needed to open it.
	Wrap(key, label []byte) (wrapped []byte, err error)
	// Unwrap opens what Wrap sealed with the named master key.
	Unwrap(master string, wrapped, label []byte) (key []byte, err error)
}

// keyBytes is the length of every key: AES-256.
const keyBytes = 32

func newKey(random io.Reader) ([]byte, error) {
	key := make([]byte, keyBytes)
	_, err := io.ReadFull(random, key)
	return key, err
}

// wrap seals a key with another key of the vault. Such a key wraps a few keys in its
// life, so that nonces drawn at random do not repeat.
func wrap(random io.Reader, with, key, label []byte) ([]byte, error) {
	aead, err := newAEAD(with)
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, aead.NonceSize())
	if _, err := io.ReadFull(random, nonce); err != nil {
		return nil, err
	}
	return aead.Seal(nonce, nonce, key, label), nil
}

var errWrapped = errors.New("a wrapped key does not open: it was changed, or is of another vault or disk")

func unwrap(with, wrapped, label []byte) ([]byte, error) {
	aead, err := newAEAD(with)
	if err != nil {
		return nil, err
	}
	if len(wrapped) < aead.NonceSize() {
		return nil, errWrapped
	}
	n := aead.NonceSize()
	key, err := aead.Open(nil, wrapped[:n], wrapped[n:], label)
	if err != nil || len(key) != keyBytes {
		return nil, errWrapped
	}
	return key, nil
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	b, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(b)
}

// derive makes a key for one purpose from a data key.
func derive(key []byte, purpose string, numbers ...uint64) ([]byte, error) {
	info := []byte(purpose)
	for _, n := range numbers {
		info = binary.LittleEndian.AppendUint64(info, n)
	}
	return hkdf.Key(sha256.New, key, nil, string(info), keyBytes)
}

// vaultKeyLabel binds a wrapped vault key to its vault and number.
func vaultKeyLabel(v vaultID, number uint32) []byte {
	label := append([]byte("riparo vault key\x00"), v[:]...)
	return binary.LittleEndian.AppendUint32(label, number)
}

// dataKeyLabel binds a wrapped data key to its vault, disk and number.
func dataKeyLabel(v vaultID, disk replication.DiskID, number uint32) []byte {
	label := append([]byte("riparo data key\x00"), v[:]...)
	label = binary.LittleEndian.AppendUint32(label, number)
	return append(label, disk...)
}

// keyMissingProblem is an encrypted vault that was opened without master key.
func keyMissingProblem(dir, master string) error {
	return &replication.Problem{
		Code:   CodeKeyMissing,
		Cause:  fmt.Sprintf("the vault %s is encrypted with master key %s, and no master key was given", dir, master),
		Effect: "nothing was read or changed",
		Action: "give the file with the master key, or restore it from the escrow first",
		Remedy: replication.Stop,
	}
}

// keyUndecidedProblem is a vault that was to be made without saying how.
func keyUndecidedProblem(dir string) error {
	return &replication.Problem{
		Code:   CodeKeyMissing,
		Cause:  fmt.Sprintf("the vault %s does not exist yet, and no master key was given to encrypt it with", dir),
		Effect: "nothing was made",
		Action: "give the file with the master key, or ask for a vault without encryption",
		Remedy: replication.Stop,
	}
}

// keyWrongProblem is a master key that is not the one of the vault.
func keyWrongProblem(dir, want, have string) error {
	return &replication.Problem{
		Code:   CodeKeyWrong,
		Cause:  fmt.Sprintf("the vault %s is encrypted with master key %s, and the one that was given is %s", dir, want, have),
		Effect: "nothing was read or changed",
		Action: "give the file with that key, or restore it from the escrow first",
		Remedy: replication.Stop,
	}
}

// keyDamagedProblem is a file of wrapped keys that cannot be read, in both its
// copies.
func keyDamagedProblem(what string, err error) error {
	return &replication.Problem{
		Code:   CodeKeyDamaged,
		Cause:  fmt.Sprintf("%s: %v", what, err),
		Effect: "what is sealed with these keys cannot be read",
		Action: fmt.Sprintf("restore the files %s and %s from a backup of the vault's folder; check the storage", keysName, keysCopyName),
		Remedy: replication.Stop,
		Err:    err,
	}
}
