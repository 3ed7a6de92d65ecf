package identity

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/hex"
	"fmt"
	"image/png"
	"slices"
	"strings"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"
	"github.com/pquerna/otp/totp"

	"riparo/replication"
	"riparo/store"
	"riparo/web/api"
)

// The second factor: a code of six digits from a program that shares a secret with
// us (RFC 6238, 30 seconds, SHA-1, because that is what all of them can), or a
// recovery code.
const (
	codePeriod = 30 // seconds
	codeDigits = otp.DigitsSix
	// codeSkew is how many steps a clock may be off to either side.
	codeSkew = 1
	// recoveryCodes is how many ways back there are when the telephone is lost.
	recoveryCodes = 10
	issuer        = "Riparo"
	codeImage     = 220 // pixels
)

// SecondOffer is what a program for one-time codes has to know.
type SecondOffer = api.SecondOffer

func secondPurpose(name string) string { return "one-time codes of " + key(name) }

// OfferSecond makes a secret for one-time codes. Nothing is kept until it is
// confirmed by a code.
func (i *Identity) OfferSecond(name string) (SecondOffer, error) {
	k, err := totp.Generate(totp.GenerateOpts{Issuer: issuer, AccountName: name, Period: codePeriod, Digits: codeDigits, Algorithm: otp.AlgorithmSHA1, Rand: rand.Reader})
	if err != nil {
		return SecondOffer{}, fmt.Errorf("make a secret for one-time codes: %w", err)
	}
	return i.showSecond(k, name)
}

// ShowSecond gives an offer again that was made before, after a wrong code.
func (i *Identity) ShowSecond(name, sealed string) (SecondOffer, error) {
	secret, err := i.openSecond(name, sealed)
	if err != nil {
		return SecondOffer{}, err
	}
	raw, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(secret)
	if err != nil {
		return SecondOffer{}, fmt.Errorf("the secret for one-time codes: %w", err)
	}
	k, err := totp.Generate(totp.GenerateOpts{Issuer: issuer, AccountName: name, Period: codePeriod, Digits: codeDigits, Algorithm: otp.AlgorithmSHA1, Secret: raw})
	if err != nil {
		return SecondOffer{}, fmt.Errorf("show the secret for one-time codes: %w", err)
	}
	return i.showSecond(k, name)
}

func (i *Identity) showSecond(k *otp.Key, name string) (SecondOffer, error) {
	picture, err := k.Image(codeImage, codeImage)
	if err != nil {
		return SecondOffer{}, fmt.Errorf("draw the secret for one-time codes: %w", err)
	}
	var text bytes.Buffer
	if err := png.Encode(&text, picture); err != nil {
		return SecondOffer{}, fmt.Errorf("draw the secret for one-time codes: %w", err)
	}
	return SecondOffer{Secret: grouped(k.Secret(), " "), URL: k.URL(), Image: text.Bytes(), Sealed: hex.EncodeToString(i.sealer.seal(secondPurpose(name), k.Secret()))}, nil
}

func (i *Identity) openSecond(name, sealed string) (string, error) {
	raw, err := hex.DecodeString(sealed)
	if err != nil || len(raw) == 0 {
		return "", &replication.Problem{Code: "second.offer", Cause: "no one-time codes were being set up", Action: "begin again", Remedy: replication.Stop}
	}
	return i.sealer.open(secondPurpose(name), raw)
}

// ConfirmSecond turns the second factor on when code is right, and gives the
// recovery codes, which are not shown again.
func (i *Identity) ConfirmSecond(name, sealed, code string) ([]string, error) {
	secret, err := i.openSecond(name, sealed)
	if err != nil {
		return nil, err
	}
	place := "second " + key(name)
	if wait := i.lockout.wait(place); wait > 0 {
		return nil, locked(wait)
	}
	step, ok := i.stepOf(secret, code, 0)
	if !ok {
		i.lockout.failed(place, freeTries)
		return nil, wrongCode()
	}
	i.lockout.succeeded(place)
	codes, hashes := newRecoveryCodes()
	err = i.change(name, func(u *store.User) {
		u.Second = &store.SecondFactor{Secret: i.sealer.seal(secondPurpose(name), secret), Since: i.now(), Step: step, Recovery: hashes}
	})
	return codes, err
}

// NewRecoveryCodes replaces the recovery codes of an account with a second factor.
func (i *Identity) NewRecoveryCodes(name string) ([]string, error) {
	codes, hashes := newRecoveryCodes()
	on := false
	err := i.change(name, func(u *store.User) {
		if on = u.Second != nil; on {
			u.Second.Recovery = hashes
		}
	})
	if err == nil && !on {
		err = &replication.Problem{Code: "second.off", Cause: "one-time codes are not turned on", Action: "set them up first", Remedy: replication.Stop}
	}
	return codes, err
}

// CheckSecond takes the code of a person whose password was right. Each code works
// once. Failures are counted for the account, wherever they come from: who tries
// knows the password already.
func (i *Identity) CheckSecond(name, code, address string) error {
	place := "second " + key(name)
	if wait := i.lockout.wait(place); wait > 0 {
		return locked(wait)
	}
	user, err := i.User(name)
	if err != nil {
		return err
	}
	if user.Second == nil {
		return &replication.Problem{Code: "second.off", Cause: "one-time codes are not turned on", Action: "sign in again", Remedy: replication.Stop}
	}
	secret, err := i.sealer.open(secondPurpose(name), user.Second.Secret)
	if err != nil {
		return err
	}
	used := false
	err = i.store.Update(func(tx *store.Tx) (err error) {
		// One after the other: of codes that come together no more are looked at than of
		// codes that follow each other.
		if wait := i.lockout.wait(place); wait > 0 {
			return locked(wait)
		}
		if used, err = i.useCode(tx, name, secret, code, address); err == nil && !used {
			i.lockout.failed(place, freeTries)
		}
		return err
	})
	if err != nil {
		return err
	}
	if !used {
		i.log.Warn("a one-time code was refused", "user", user.Name, "address", address)
		if i.lockout.wait(place) > 0 {
			i.record("warning", "second.locked", fmt.Sprintf("too many wrong codes for %s, whose password is known there, from %s", user.Name, address),
				map[string]string{"user": user.Name, "address": address})
		}
		return wrongCode()
	}
	i.lockout.succeeded(place)
	return nil
}

// useCode uses up a one-time or recovery code, if it is one.
func (i *Identity) useCode(tx *store.Tx, name, secret, code, address string) (used bool, err error) {
	u, err := tx.Users().Get(key(name))
	if err != nil || u.Second == nil {
		return false, err
	}
	if step, ok := i.stepOf(secret, code, u.Second.Step); ok {
		u.Second.Step = step
		return true, tx.Users().Put(u)
	}
	hash := recoveryHash(code)
	n := slices.IndexFunc(u.Second.Recovery, func(kept []byte) bool { return subtle.ConstantTimeCompare(kept, hash) == 1 })
	if n < 0 {
		return false, nil
	}
	u.Second.Recovery = slices.Delete(u.Second.Recovery, n, n+1)
	left := len(u.Second.Recovery)
	if err := tx.Users().Put(u); err != nil {
		return false, err
	}
	return true, i.event(tx, "warning", "second.recovery", fmt.Sprintf("%s signed in with a recovery code from %s; %d are left", u.Name, address, left),
		map[string]string{"user": u.Name, "address": address, "left": fmt.Sprint(left)})
}

// RemoveSecond turns the second factor of an account off, passkeys included.
func (i *Identity) RemoveSecond(actor, name string) error {
	return i.store.Update(func(tx *store.Tx) error {
		u, err := tx.Users().Get(key(name))
		if err != nil {
			return err
		}
		u.Second = nil
		if key(actor) != key(name) {
			u.Passkeys = nil // a reset: whoever has the account's things is to lose them
		}
		if err := tx.Users().Put(u); err != nil {
			return err
		}
		return i.event(tx, "warning", "second.removed", fmt.Sprintf("the second factor of %s was removed by %s", u.Name, actor),
			map[string]string{"actor": actor, "user": u.Name})
	})
}

// stepOf gives the time step that a code belongs to, when that is about now and
// later than the one used last.
func (i *Identity) stepOf(secret, code string, used int64) (int64, bool) {
	code = strings.ReplaceAll(strings.TrimSpace(code), " ", "")
	now := i.now().Unix() / codePeriod
	found := int64(0)
	for step := now - codeSkew; step <= now+codeSkew; step++ {
		want, err := hotp.GenerateCodeCustom(secret, uint64(step), hotp.ValidateOpts{Digits: codeDigits, Algorithm: otp.AlgorithmSHA1})
		if err == nil && subtle.ConstantTimeCompare([]byte(want), []byte(code)) == 1 && step > used {
			found = step
		}
	}
	return found, found > 0
}

func wrongCode() error {
	return &replication.Problem{Code: "second.wrong", Cause: "the code is not right, or was used already",
		Action: "type the next one that the program shows; when codes never fit, see that its clock is right", Remedy: replication.Stop}
}

// newRecoveryCodes are 80 random bits each: they need no slow hash.
func newRecoveryCodes() (codes []string, hashes [][]byte) {
	for range recoveryCodes {
		code := grouped(rand.Text()[:16], "-")
		codes, hashes = append(codes, code), append(hashes, recoveryHash(code))
	}
	return codes, hashes
}

func recoveryHash(code string) []byte {
	sum := sha256.Sum256([]byte("recovery " + plainToken(code)))
	return sum[:]
}

func grouped(text, by string) string {
	var groups []string
	for part := range slices.Chunk([]byte(text), 4) {
		groups = append(groups, string(part))
	}
	return strings.Join(groups, by)
}
