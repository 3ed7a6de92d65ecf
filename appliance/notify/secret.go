package notify

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/crypto/chacha20poly1305"

	"riparo/replication"
)

// Secret seals what may not stand in the state file in clear.
type Secret struct {
	key [chacha20poly1305.KeySize]byte
}

// OpenSecret reads the key from a file, or makes it the first time.
func OpenSecret(path string) (Secret, error) {
	var s Secret
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		rand.Read(s.key[:])
		return s, keepKey(path, s.key[:])
	}
	if err == nil && len(text) != len(s.key) {
		err = fmt.Errorf("it has %d bytes, want %d", len(text), len(s.key))
	}
	if err != nil {
		return s, &replication.Problem{Code: "secret.unusable", Cause: fmt.Sprintf("the key of the settings cannot be read from %s: %v", path, err),
			Effect: "the appliance does not start", Action: "bring the file back from a backup, or remove it and type the mail password and the secrets of web hooks again", Remedy: replication.Stop, Err: err}
	}
	copy(s.key[:], text)
	return s, nil
}

// keepKey writes the key under another name first: a crash leaves a whole file or
// none.
func keepKey(path string, key []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".secret-*")
	if err != nil {
		return fmt.Errorf("keep the key of the settings: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(key)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("keep the key of the settings: %w", err)
	}
	return os.Rename(f.Name(), path)
}

// Seal closes a text. The same text gives another result each time.
func (s Secret) Seal(text string) []byte {
	if text == "" {
		return nil
	}
	box, _ := chacha20poly1305.NewX(s.key[:]) // the length is right
	nonce := make([]byte, box.NonceSize())
	rand.Read(nonce)
	return box.Seal(nonce, nonce, []byte(text), nil)
}

// Open opens what Seal closed.
func (s Secret) Open(sealed []byte) (string, error) {
	if len(sealed) == 0 {
		return "", nil
	}
	box, _ := chacha20poly1305.NewX(s.key[:]) // the length is right
	if len(sealed) > box.NonceSize() {
		text, err := box.Open(nil, sealed[:box.NonceSize()], sealed[box.NonceSize():], nil)
		if err == nil {
			return string(text), nil
		}
	}
	return "", &replication.Problem{Code: "secret.foreign", Cause: "a sealed setting does not open with the key of this appliance",
		Action: "type the mail password and the secrets of web hooks again", Remedy: replication.Stop}
}
