package keyring

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Ring holds master keys. It is never changed, and may be used by several goroutines.
// It is what a vault knows as its keys.
type Ring struct {
	keys []masterKey // the last one wraps
}

type masterKey struct {
	name   string
	made   time.Time
	secret []byte
}

// Key tells of a master key what is no secret.
type Key struct {
	Name string
	Made time.Time
}

const (
	secretBytes = 32 // AES-256
	nameBytes   = 8  // two keys of one name do not occur
	// maxKeys bounds what is read: a key a month for 80 years.
	maxKeys = 1000
)

// New makes a ring with one new key.
func New(now time.Time) (*Ring, error) { return new(Ring).With(now) }

// With gives a ring that has one more key, which wraps from now on.
func (r *Ring) With(now time.Time) (*Ring, error) {
	secret := make([]byte, secretBytes)
	if _, err := rand.Read(secret); err != nil {
		return nil, fmt.Errorf("draw a master key: %w", err)
	}
	k := masterKey{name: nameOf(secret), made: now.UTC().Truncate(time.Second), secret: secret}
	return &Ring{keys: append(r.keys[:len(r.keys):len(r.keys)], k)}, nil
}

// Newest gives a ring that has only the key that wraps.
func (r *Ring) Newest() *Ring { return &Ring{keys: r.keys[len(r.keys)-1:]} }

// Joined gives a ring that has the keys of another one too. The key that wraps stays
// the same.
func (r *Ring) Joined(other *Ring) *Ring {
	var keys []masterKey
	for _, k := range other.keys {
		if !r.Holds(k.name) {
			keys = append(keys, k)
		}
	}
	return &Ring{keys: append(keys, r.keys...)}
}

// Keys tells which keys there are; the last one wraps.
func (r *Ring) Keys() []Key {
	list := make([]Key, len(r.keys))
	for i, k := range r.keys {
		list[i] = Key{k.name, k.made}
	}
	return list
}

// Master names the key that wraps.
func (r *Ring) Master() string { return r.keys[len(r.keys)-1].name }

// Holds reports whether the ring has a key.
func (r *Ring) Holds(name string) bool { return r.find(name) != nil }

func (r *Ring) find(name string) *masterKey {
	for i := range r.keys {
		if r.keys[i].name == name {
			return &r.keys[i]
		}
	}
	return nil
}

// Wrap seals a key of a vault with AES-256-GCM, under a nonce drawn at random: a
// master key wraps a few keys in its life. The label must be the same to open it.
func (r *Ring) Wrap(key, label []byte) ([]byte, error) {
	aead, err := r.keys[len(r.keys)-1].cipher()
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, aead.NonceSize())
	if _, err := rand.Read(nonce); err != nil {
		return nil, err
	}
	return aead.Seal(nonce, nonce, key, label), nil
}

// Unwrap opens what Wrap sealed with the named key.
func (r *Ring) Unwrap(name string, wrapped, label []byte) ([]byte, error) {
	k := r.find(name)
	if k == nil {
		return nil, fmt.Errorf("there is no master key %s", name)
	}
	aead, err := k.cipher()
	if err != nil {
		return nil, err
	}
	n := aead.NonceSize()
	if len(wrapped) < n {
		return nil, errors.New("a wrapped key is cut off")
	}
	key, err := aead.Open(nil, wrapped[:n], wrapped[n:], label)
	if err != nil {
		return nil, fmt.Errorf("a wrapped key does not open with master key %s: it was changed, or is of another vault", name)
	}
	return key, nil
}

func (k *masterKey) cipher() (cipher.AEAD, error) {
	b, err := aes.NewCipher(k.secret)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(b)
}

func nameOf(secret []byte) string {
	sum := sha256.Sum256(append([]byte("riparo master key\x00"), secret...))
	return hex.EncodeToString(sum[:nameBytes])
}

// text writes the keys as lines, with the checksum of all behind them.
func (r *Ring) text() []byte {
	var b bytes.Buffer
	for _, k := range r.keys {
		fmt.Fprintf(&b, "%s %s %s\n", k.name, k.made.Format(time.RFC3339), base64.StdEncoding.EncodeToString(k.secret))
	}
	return append(b.Bytes(), sumLine(b.Bytes())...)
}

// sumLine closes the text of keys. A key fits its name; this holds the times, the order
// and the number of keys.
func sumLine(text []byte) []byte {
	sum := sha256.Sum256(text)
	return fmt.Appendf(nil, "%s%x\n", sumWord, sum[:nameBytes])
}

const sumWord = "sum "

var errNoKeys = errors.New("it holds no key")

// parseText reads the lines back. Every key must fit its name, and all their checksum.
func parseText(p []byte) (*Ring, error) {
	r := &Ring{}
	number := 0
	text, sum := p, []byte(nil)
	if end := bytes.LastIndex(p, []byte("\n"+sumWord)) + 1; end > 0 {
		text, sum = p[:end], p[end:]
	}
	for line := range strings.Lines(string(text)) {
		number++
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		if len(fields) != 3 || len(r.keys) == maxKeys {
			return nil, fmt.Errorf("key %d is not a name, a time and a key", number)
		}
		made, err := time.Parse(time.RFC3339, fields[1])
		if err != nil {
			return nil, fmt.Errorf("key %d has no time that can be read", number)
		}
		secret, err := base64.StdEncoding.Strict().DecodeString(fields[2])
		if err != nil || len(secret) != secretBytes || nameOf(secret) != fields[0] {
			return nil, fmt.Errorf("key %d does not fit its name %q", number, fields[0])
		}
		if r.Holds(fields[0]) {
			return nil, fmt.Errorf("key %d is there twice", number)
		}
		r.keys = append(r.keys, masterKey{fields[0], made, secret})
	}
	if len(r.keys) == 0 {
		return nil, errNoKeys
	}
	if !bytes.Equal(sum, sumLine(text)) {
		return nil, errors.New("its last line is not the checksum of the others: it was changed or cut off")
	}
	return r, nil
}
