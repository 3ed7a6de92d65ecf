package keyring

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"filippo.io/age"
	"filippo.io/age/armor"

	"riparo/replication"
)

// MinPassphrase is in characters. Who has the escrow can guess for as long as they
// like, at about one guess a second.
const MinPassphrase = 12

// scryptCost is log2 of the rounds of scrypt: a second and 256 MiB per guess. Tests
// are content with less.
var scryptCost = 18

// Export gives the keys as an escrow that the passphrase opens. Problem:
// vault.key.passphrase-short.
func (r *Ring) Export(passphrase string) ([]byte, error) {
	if utf8.RuneCountInString(passphrase) < MinPassphrase {
		return nil, &replication.Problem{
			Code: "vault.key.passphrase-short", Cause: fmt.Sprintf("the passphrase has fewer than %d characters", MinPassphrase), Effect: "nothing was exported",
			Action: "choose a longer one: a short sentence is easy to remember", Remedy: replication.Stop,
		}
	}
	lock, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		return nil, fmt.Errorf("take the passphrase of the escrow: %w", err)
	}
	lock.SetWorkFactor(scryptCost)
	var sealed bytes.Buffer
	lines := armor.NewWriter(&sealed)
	w, err := age.Encrypt(lines, lock)
	if err == nil {
		_, err = io.WriteString(w, fileHeader+"\n")
	}
	if err == nil {
		_, err = w.Write(r.text())
	}
	if err == nil {
		err = errors.Join(w.Close(), lines.Close())
	}
	if err != nil {
		return nil, fmt.Errorf("seal the escrow: %w", err)
	}
	return sealed.Bytes(), nil
}

// Import opens an escrow. Problems: vault.key.passphrase, vault.key.escrow.
func Import(escrow []byte, passphrase string) (*Ring, error) {
	lock, err := age.NewScryptIdentity(passphrase)
	if err != nil {
		return nil, passphraseProblem(err)
	}
	lock.SetMaxWorkFactor(18) // what we write; more would only cost memory
	var sealed io.Reader = bytes.NewReader(escrow)
	if lines := bytes.TrimSpace(escrow); bytes.HasPrefix(lines, []byte(armor.Header)) {
		sealed = armor.NewReader(bytes.NewReader(lines))
	}
	plain, err := age.Decrypt(sealed, lock)
	if wrong := (*age.NoIdentityMatchError)(nil); errors.As(err, &wrong) {
		return nil, passphraseProblem(err)
	}
	var text []byte
	if err == nil {
		text, err = io.ReadAll(io.LimitReader(plain, maxFileBytes))
	}
	if err != nil {
		return nil, escrowProblem(err)
	}
	rest, ok := bytes.CutPrefix(text, []byte(fileHeader+"\n"))
	if !ok {
		return nil, escrowProblem(errors.New("it holds something else"))
	}
	r, err := parseText(rest)
	if err != nil {
		return nil, escrowProblem(err)
	}
	return r, nil
}

func passphraseProblem(err error) error {
	return &replication.Problem{
		Code: "vault.key.passphrase", Cause: "the passphrase does not open this escrow", Effect: "nothing was imported",
		Action: "try the passphrase that was chosen when the escrow was exported", Remedy: replication.Stop, Err: err,
	}
}

func escrowProblem(err error) error {
	return &replication.Problem{
		Code: "vault.key.escrow", Cause: fmt.Sprintf("this is no escrow of master keys, or a damaged one: %v", err), Effect: "nothing was imported",
		Action: "take another copy of the escrow", Remedy: replication.Stop, Err: err,
	}
}
