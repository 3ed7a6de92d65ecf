package backup

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"filippo.io/age"

	"riparo/replication"
)

// MinPassphrase is in characters. Who has the file can guess for as long as they
// like, at about one guess a second.
const MinPassphrase = 12

// scryptCost is log2 of the rounds of scrypt: a second and 256 MiB per guess. Tests
// are content with less.
var scryptCost = 18

// Key seals backups. It holds no secret in clear.
type Key struct {
	Recipient string // of age
	Identity  []byte // sealed with the passphrase
}

// NewKey makes a key that opens with the passphrase.
func NewKey(passphrase string) (Key, error) {
	if utf8.RuneCountInString(passphrase) < MinPassphrase {
		return Key{}, &replication.Problem{Code: "backup.passphrase-short", Cause: fmt.Sprintf("the passphrase has fewer than %d characters", MinPassphrase),
			Effect: "nothing was changed", Action: "choose a longer one: a short sentence is easy to remember", Remedy: replication.Stop}
	}
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		return Key{}, fmt.Errorf("make the key of backups: %w", err)
	}
	lock, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		return Key{}, fmt.Errorf("take the passphrase of backups: %w", err)
	}
	lock.SetWorkFactor(scryptCost)
	var sealed bytes.Buffer
	w, err := age.Encrypt(&sealed, lock)
	if err == nil {
		if _, err = io.WriteString(w, identity.String()); err == nil {
			err = w.Close()
		}
	}
	if err != nil {
		return Key{}, fmt.Errorf("seal the key of backups: %w", err)
	}
	return Key{Recipient: identity.Recipient().String(), Identity: sealed.Bytes()}, nil
}

// open gives the identity that opens backups.
func (k Key) open(passphrase string) (*age.X25519Identity, error) {
	lock, err := age.NewScryptIdentity(passphrase)
	if err != nil {
		return nil, wrongPassphrase(err)
	}
	lock.SetMaxWorkFactor(18) // what we write; more would only cost memory
	r, err := age.Decrypt(bytes.NewReader(k.Identity), lock)
	if wrong := (*age.NoIdentityMatchError)(nil); errors.As(err, &wrong) {
		return nil, wrongPassphrase(err)
	}
	if err != nil {
		return nil, damaged(fmt.Errorf("its key cannot be read: %w", err))
	}
	text, err := io.ReadAll(io.LimitReader(r, 4096))
	if err != nil {
		return nil, damaged(fmt.Errorf("its key cannot be read: %w", err))
	}
	identity, err := age.ParseX25519Identity(string(text))
	if err != nil {
		return nil, damaged(errors.New("its key is none"))
	}
	return identity, nil
}

func wrongPassphrase(err error) error {
	return &replication.Problem{Code: "backup.passphrase", Cause: "the passphrase does not open this backup", Effect: "nothing was restored",
		Action: "try the passphrase that was set when the backup was made; an older backup may have an older one", Remedy: replication.Stop, Err: err}
}

func damaged(err error) error {
	return &replication.Problem{Code: "backup.damaged", Cause: fmt.Sprintf("the backup is damaged: %v", err), Effect: "nothing was restored",
		Action: "take another copy of it, or an older backup", Remedy: replication.Stop, Err: err}
}
