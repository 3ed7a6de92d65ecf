package identity

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"

	"riparo/replication"
	"riparo/store"
)

// A passkey signs in by itself: the device that keeps it has made sure of the person
// (user verification is required), so it is two factors at once. It is good for the
// name under which the appliance was reached when it was made, and for no other: a
// page that only looks like ours has another name.
const (
	maxPasskeys    = 20
	passkeyTime    = 5 * time.Minute
	passkeyPurpose = "a passkey ceremony that is under way"
)

// usedChallenges remembers those that were answered until they expire: each is good
// once.
type usedChallenges struct {
	mu   sync.Mutex // guards used
	used map[string]time.Time
}

// take reports whether a challenge is answered for the first time.
func (u *usedChallenges) take(challenge string, until, now time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.used == nil {
		u.used = map[string]time.Time{}
	}
	for c, end := range u.used {
		if now.After(end) {
			delete(u.used, c)
		}
	}
	if _, seen := u.used[challenge]; seen {
		return false
	}
	u.used[challenge] = until
	return true
}

// passkeyUser is an account as the library wants it.
type passkeyUser struct {
	store.User
	host string
}

// WebAuthnID is what passkeys call the account: it survives a change of nothing, and
// an account of the same name that is made later is another one.
func (u passkeyUser) WebAuthnID() []byte {
	sum := sha256.Sum256(fmt.Appendf(nil, "riparo account %s %d", key(u.Name), u.Created.UnixNano()))
	return sum[:]
}

func (u passkeyUser) WebAuthnName() string        { return u.Name }
func (u passkeyUser) WebAuthnDisplayName() string { return u.Name }

// WebAuthnCredentials are those that are good for the name of the appliance.
func (u passkeyUser) WebAuthnCredentials() []webauthn.Credential {
	var list []webauthn.Credential
	for _, p := range u.Passkeys {
		var c webauthn.Credential
		if p.Host == u.host && json.Unmarshal(p.Credential, &c) == nil {
			list = append(list, c)
		}
	}
	return list
}

// ceremony prepares the library for an origin such as https://dr.example:9443.
func ceremony(origin string) (*webauthn.WebAuthn, string, error) {
	u, err := url.Parse(origin)
	host := ""
	if err == nil {
		host = strings.ToLower(u.Hostname())
	}
	if host == "" || net.ParseIP(host) != nil {
		return nil, "", &replication.Problem{Code: "passkey.host", Cause: "passkeys need a name: browsers do not keep them for an address of numbers",
			Action: "open the console by the name of the appliance", Remedy: replication.Stop}
	}
	w, err := webauthn.New(&webauthn.Config{RPID: host, RPDisplayName: issuer, RPOrigins: []string{origin},
		AuthenticatorSelection: protocol.AuthenticatorSelection{ResidentKey: protocol.ResidentKeyRequirementRequired, UserVerification: protocol.VerificationRequired}})
	if err != nil {
		return nil, "", fmt.Errorf("prepare passkeys for %s: %w", origin, err)
	}
	return w, host, nil
}

// carriedCeremony is what a browser carries, sealed, during a ceremony.
type carriedCeremony struct {
	For     string               `json:"for"` // "register NAME" or "login"
	Session webauthn.SessionData `json:"session"`
	Until   time.Time            `json:"until"`
}

func (i *Identity) carryCeremony(purpose string, s *webauthn.SessionData) (string, error) {
	text, err := json.Marshal(carriedCeremony{purpose, *s, i.now().Add(passkeyTime)})
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(i.sealer.seal(passkeyPurpose, string(text))), nil
}

func (i *Identity) takeCeremony(purpose, carried string) (s webauthn.SessionData, err error) {
	raw, err := base64.RawURLEncoding.DecodeString(carried)
	if err != nil || len(raw) == 0 {
		return s, refusedPasskey()
	}
	text, err := i.sealer.open(passkeyPurpose, raw)
	if err != nil {
		return s, refusedPasskey()
	}
	var c carriedCeremony
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return s, err
	}
	if c.For != purpose || i.now().After(c.Until) || !i.challenges.take(c.Session.Challenge, c.Until, i.now()) {
		return s, refusedPasskey()
	}
	return c.Session, nil
}

func refusedPasskey() error {
	return &replication.Problem{Code: "login.refused", Cause: "the passkey was not accepted", Action: "try again, or use the password", Remedy: replication.Stop}
}

// BeginPasskey gives what a browser needs to make a passkey for an account.
func (i *Identity) BeginPasskey(name, origin string) (options []byte, carried string, err error) {
	w, host, err := ceremony(origin)
	if err != nil {
		return nil, "", err
	}
	user, err := i.User(name)
	if err != nil {
		return nil, "", err
	}
	if len(user.Passkeys) >= maxPasskeys {
		return nil, "", &replication.Problem{Code: "passkey.many", Cause: fmt.Sprintf("there are %d passkeys already", len(user.Passkeys)), Action: "remove those that are not used any more", Remedy: replication.Stop}
	}
	u := passkeyUser{user, host}
	var known []protocol.CredentialDescriptor
	for _, c := range u.WebAuthnCredentials() {
		known = append(known, c.Descriptor())
	}
	creation, session, err := w.BeginRegistration(u, webauthn.WithExclusions(known), webauthn.WithConveyancePreference(protocol.PreferNoAttestation))
	if err != nil {
		return nil, "", fmt.Errorf("begin a passkey: %w", err)
	}
	if carried, err = i.carryCeremony("register "+key(name), session); err != nil {
		return nil, "", err
	}
	options, err = json.Marshal(creation.Response)
	return options, carried, err
}

// FinishPasskey keeps a passkey that a browser has made.
func (i *Identity) FinishPasskey(name, label, origin, carried string, response []byte) error {
	w, host, err := ceremony(origin)
	if err != nil {
		return err
	}
	session, err := i.takeCeremony("register "+key(name), carried)
	if err != nil {
		return err
	}
	user, err := i.User(name)
	if err != nil {
		return err
	}
	parsed, err := protocol.ParseCredentialCreationResponseBytes(response)
	if err != nil {
		return refusedPasskey()
	}
	credential, err := w.CreateCredential(passkeyUser{user, host}, session, parsed)
	if err != nil {
		i.log.Warn("a passkey was refused", "user", user.Name, "error", err)
		return refusedPasskey()
	}
	text, err := json.Marshal(credential)
	if err != nil {
		return err
	}
	if label = strings.TrimSpace(label); label == "" || utf8.RuneCountInString(label) > 64 {
		label = "passkey"
	}
	return i.store.Update(func(tx *store.Tx) error {
		for other, err := range tx.Users().All() { // an ID that somebody has already is no new passkey
			if err != nil {
				return err
			}
			if slices.ContainsFunc(other.Passkeys, func(p store.Passkey) bool { return bytes.Equal(p.ID, credential.ID) }) {
				return refusedPasskey()
			}
		}
		u, err := tx.Users().Get(key(name))
		if err != nil {
			return err
		}
		u.Passkeys = append(u.Passkeys, store.Passkey{ID: credential.ID, Name: label, Host: host, Credential: text, Created: i.now()})
		if err := tx.Users().Put(u); err != nil {
			return err
		}
		return i.event(tx, "info", "passkey.added", fmt.Sprintf("%s added the passkey %s", u.Name, label), map[string]string{"user": u.Name, "passkey": label})
	})
}

// RemovePasskey ends a passkey of an account.
func (i *Identity) RemovePasskey(name, id string) error {
	raw, err := base64.RawURLEncoding.DecodeString(id)
	if err != nil {
		return fmt.Errorf("passkey %s: %w", id, store.ErrNotFound)
	}
	return i.store.Update(func(tx *store.Tx) error {
		u, err := tx.Users().Get(key(name))
		if err != nil {
			return err
		}
		n := slices.IndexFunc(u.Passkeys, func(p store.Passkey) bool { return bytes.Equal(p.ID, raw) })
		if n < 0 {
			return fmt.Errorf("passkey %s: %w", id, store.ErrNotFound)
		}
		u.Passkeys = slices.Delete(u.Passkeys, n, n+1)
		return tx.Users().Put(u)
	})
}

// BeginPasskeyLogin gives what a browser needs to sign somebody in who has not said
// who they are.
func (i *Identity) BeginPasskeyLogin(origin string) (options []byte, carried string, err error) {
	w, _, err := ceremony(origin)
	if err != nil {
		return nil, "", err
	}
	assertion, session, err := w.BeginDiscoverableLogin(webauthn.WithUserVerification(protocol.VerificationRequired))
	if err != nil {
		return nil, "", fmt.Errorf("begin a sign-in by passkey: %w", err)
	}
	if carried, err = i.carryCeremony("login", session); err != nil {
		return nil, "", err
	}
	options, err = json.Marshal(assertion.Response)
	return options, carried, err
}

// FinishPasskeyLogin gives the account whose passkey has signed.
func (i *Identity) FinishPasskeyLogin(origin, carried string, response []byte, address string) (store.User, error) {
	place := "passkey " + address
	if wait := i.lockout.wait(place); wait > 0 {
		return store.User{}, locked(wait)
	}
	w, host, err := ceremony(origin)
	if err != nil {
		return store.User{}, err
	}
	session, err := i.takeCeremony("login", carried)
	if err != nil {
		return store.User{}, err
	}
	user, err := i.assert(w, host, session, response)
	if err != nil {
		i.lockout.failed(place, addressTries)
		i.log.Warn("a sign-in by passkey was refused", "address", address, "error", err)
		return store.User{}, refusedPasskey()
	}
	return user, nil
}

func (i *Identity) assert(w *webauthn.WebAuthn, host string, session webauthn.SessionData, response []byte) (user store.User, err error) {
	parsed, err := protocol.ParseCredentialRequestResponseBytes(response)
	if err != nil {
		return user, err
	}
	users, err := i.Users()
	if err != nil {
		return user, err
	}
	find := func(rawID, handle []byte) (webauthn.User, error) {
		for _, u := range users {
			if p := (passkeyUser{u, host}); !u.Disabled && bytes.Equal(p.WebAuthnID(), handle) {
				return p, nil
			}
		}
		return nil, fmt.Errorf("no account has this passkey")
	}
	found, credential, err := w.ValidatePasskeyLogin(find, session, parsed)
	if err != nil {
		return user, err
	}
	if credential.Authenticator.CloneWarning {
		return user, fmt.Errorf("the passkey's counter went back: there are two of it")
	}
	text, err := json.Marshal(credential)
	if err != nil {
		return user, err
	}
	err = i.change(found.WebAuthnName(), func(u *store.User) {
		u.LastLogin = i.now()
		for n := range u.Passkeys {
			if bytes.Equal(u.Passkeys[n].ID, credential.ID) {
				u.Passkeys[n].Credential, u.Passkeys[n].LastUsed = text, i.now()
			}
		}
		user = *u
	})
	return user, err
}
