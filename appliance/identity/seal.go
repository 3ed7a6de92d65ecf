package identity

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"riparo/replication"
)

// sealer keeps the secrets that must be read again, such as the key of a one-time
// code or the password of a directory account: AES-256-GCM with a key in a file
// beside the state. The state alone gives none of them away.
type sealer struct{ aead cipher.AEAD }

const sealKeyBytes = 32

// newSealer reads the key, or makes it. Without a file it is one that ends with the
// process.
func newSealer(file string) (sealer, error) {
	key := make([]byte, sealKeyBytes)
	rand.Read(key)
	if file != "" {
		var err error
		if key, err = keptKey(file, key); err != nil {
			return sealer{}, err
		}
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return sealer{}, fmt.Errorf("prepare the seal of secrets: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return sealer{}, fmt.Errorf("prepare the seal of secrets: %w", err)
	}
	return sealer{aead}, nil
}

func keptKey(file string, fresh []byte) ([]byte, error) {
	key, err := os.ReadFile(file)
	if err == nil && len(key) == sealKeyBytes {
		return key, nil
	}
	if err == nil {
		err = fmt.Errorf("it has %d bytes: want %d", len(key), sealKeyBytes)
	}
	if !errors.Is(err, os.ErrNotExist) {
		return nil, &replication.Problem{Code: "identity.key", Cause: fmt.Sprintf("the key of the accounts' secrets %s cannot be read: %v", file, err), Effect: "the appliance does not start",
			Action: "put the file back from a backup; or remove it: second factors and sign-in services then have to be set up again", Remedy: replication.Stop, Err: err}
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, fmt.Errorf("keep the key of the accounts' secrets: %w", err)
	}
	if err := os.WriteFile(file, fresh, 0o600); err != nil {
		return nil, fmt.Errorf("keep the key of the accounts' secrets: %w", err)
	}
	return fresh, nil
}

// seal closes a secret. purpose says what it is for; it opens for that only.
func (s sealer) seal(purpose, secret string) []byte {
	return s.aead.Seal(nil, nil, []byte(secret), []byte(purpose))
}

// open gives a secret back.
func (s sealer) open(purpose string, sealed []byte) (string, error) {
	secret, err := s.aead.Open(nil, nil, sealed, []byte(purpose))
	if err != nil {
		return "", &replication.Problem{Code: "identity.seal", Cause: "a secret cannot be opened with the key of this appliance (" + purpose + ")",
			Action: "put back the file pki/identity.key that belongs to this state, or set the secret again", Remedy: replication.Stop, Err: err}
	}
	return string(secret), nil
}
