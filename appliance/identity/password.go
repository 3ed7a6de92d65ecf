package identity

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"
)

// Cost of a hash. Source: OWASP password storage, argon2id with 19 MiB, two
// passes, one lane; about 50 ms on the appliance.
const (
	hashTime   = 2
	hashMemory = 19 * 1024 // KiB
	hashLanes  = 1
	hashLength = 32
	saltLength = 16
	// parallelHashes bounds memory: sign-ins beyond wait their turn.
	parallelHashes = 2
)

// Limits of a password. There are no rules about its letters: length is what
// counts. 1024 bytes keep a request from making the hash slow.
const (
	MinPasswordLength = 12
	maxPasswordBytes  = 1024
)

var encoding = base64.RawStdEncoding

// hasher makes and checks argon2id hashes as PHC strings:
// $argon2id$v=19$m=19456,t=2,p=1$SALT$HASH.
type hasher struct{ turns chan struct{} }

func newHasher() hasher { return hasher{turns: make(chan struct{}, parallelHashes)} }

func (h hasher) turn(ctx context.Context) error {
	select {
	case h.turns <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// hash makes the PHC string of a password with a new salt.
func (h hasher) hash(ctx context.Context, password string) (string, error) {
	salt := make([]byte, saltLength)
	rand.Read(salt)
	if err := h.turn(ctx); err != nil {
		return "", err
	}
	defer func() { <-h.turns }()
	return phcOf(salt, argon2.IDKey([]byte(password), salt, hashTime, hashMemory, hashLanes, hashLength)), nil
}

// nobodys makes a PHC string that no password matches: to compare one with it takes as
// long as with any other.
func nobodys() string {
	random := make([]byte, saltLength+hashLength)
	rand.Read(random)
	return phcOf(random[:saltLength], random[saltLength:])
}

func phcOf(salt, key []byte) string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, hashMemory, hashTime, hashLanes,
		encoding.EncodeToString(salt), encoding.EncodeToString(key))
}

// matches compares a password with a PHC string. stale is true when the string
// was made at another cost and should be made anew.
func (h hasher) matches(ctx context.Context, phc, password string) (ok, stale bool, err error) {
	p, err := parsePHC(phc)
	if err != nil {
		return false, false, err
	}
	if err := h.turn(ctx); err != nil {
		return false, false, err
	}
	defer func() { <-h.turns }()
	key := argon2.IDKey([]byte(password), p.salt, p.time, p.memory, p.lanes, uint32(len(p.key)))
	ok = subtle.ConstantTimeCompare(key, p.key) == 1
	stale = p.time != hashTime || p.memory != hashMemory || p.lanes != hashLanes
	return ok, stale, nil
}

// phc is a PHC string taken apart.
type phc struct {
	time, memory uint32
	lanes        uint8
	salt, key    []byte
}

func parsePHC(text string) (phc, error) {
	var p phc
	parts := strings.Split(text, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" {
		return p, fmt.Errorf("the stored password is not an argon2id hash")
	}
	var version int
	if _, err := fmt.Sscanf(parts[2], "v=%d", &version); err != nil || version != argon2.Version {
		return p, fmt.Errorf("the stored password has argon2 version %q: want %d", parts[2], argon2.Version)
	}
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &p.memory, &p.time, &p.lanes); err != nil {
		return p, fmt.Errorf("the stored password has parameters %q: %w", parts[3], err)
	}
	// A damaged or planted record must not make a sign-in take a gigabyte.
	if p.memory == 0 || p.memory > 1<<20 || p.time == 0 || p.time > 16 || p.lanes == 0 {
		return p, fmt.Errorf("the stored password has parameters out of bounds: %s", parts[3])
	}
	var err error
	if p.salt, err = encoding.DecodeString(parts[4]); err != nil {
		return p, fmt.Errorf("the salt of the stored password: %w", err)
	}
	if p.key, err = encoding.DecodeString(parts[5]); err != nil || len(p.key) < 16 {
		return p, fmt.Errorf("the stored password is cut off")
	}
	return p, nil
}
