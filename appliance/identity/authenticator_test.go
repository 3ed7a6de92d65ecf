package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"riparo/store"
)

// authenticator is a device that keeps passkeys, in software: ES256, no attestation
// (WebAuthn Level 3, sections 6.1 and 6.5).
type authenticator struct {
	*testing.T
	key    *ecdsa.PrivateKey
	id     []byte
	handle []byte
	count  uint32
	// How it misbehaves.
	unverified bool
	host       string // signs for another name; empty: for the one that was asked for
}

var b64 = base64.RawURLEncoding

func newAuthenticator(t *testing.T) *authenticator {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id := make([]byte, 16)
	rand.Read(id)
	return &authenticator{T: t, key: key, id: id}
}

func (a *authenticator) data(host string, flags byte, attested []byte) []byte {
	if a.host != "" {
		host = a.host
	}
	if a.unverified {
		flags &^= 0x04
	}
	sum := sha256.Sum256([]byte(host))
	a.count++
	return append(binary.BigEndian.AppendUint32(append(sum[:], flags), a.count), attested...)
}

func (a *authenticator) client(kind, challenge, origin string) []byte {
	text, err := json.Marshal(map[string]any{"type": kind, "challenge": challenge, "origin": origin, "crossOrigin": false})
	if err != nil {
		a.Fatal(err)
	}
	return text
}

// create answers navigator.credentials.create.
func (a *authenticator) create(options []byte, origin string) []byte {
	a.Helper()
	var o struct {
		Challenge string
		RP        struct{ ID string }
		User      struct{ ID string }
	}
	if err := json.Unmarshal(options, &o); err != nil {
		a.Fatal(err)
	}
	a.handle, _ = b64.DecodeString(o.User.ID)
	point, err := a.key.PublicKey.Bytes() // 4, X, Y
	if err != nil {
		a.Fatal(err)
	}
	public, err := cbor.Marshal(map[int]any{1: 2, 3: -7, -1: 1, -2: point[1:33], -3: point[33:]})
	if err != nil {
		a.Fatal(err)
	}
	attested := append(make([]byte, 16), byte(0), byte(len(a.id)))
	attested = append(append(attested, a.id...), public...)
	object, err := cbor.Marshal(map[string]any{"fmt": "none", "attStmt": map[string]any{}, "authData": a.data(o.RP.ID, 0x45, attested)})
	if err != nil {
		a.Fatal(err)
	}
	return a.credential(map[string]any{"clientDataJSON": b64.EncodeToString(a.client("webauthn.create", o.Challenge, origin)), "attestationObject": b64.EncodeToString(object)})
}

// get answers navigator.credentials.get.
func (a *authenticator) get(options []byte, origin string) []byte {
	a.Helper()
	var o struct {
		Challenge string
		RPID      string
	}
	if err := json.Unmarshal(options, &o); err != nil {
		a.Fatal(err)
	}
	data, client := a.data(o.RPID, 0x05, nil), a.client("webauthn.get", o.Challenge, origin)
	hash := sha256.Sum256(client)
	sum := sha256.Sum256(append(append([]byte(nil), data...), hash[:]...))
	signature, err := ecdsa.SignASN1(rand.Reader, a.key, sum[:])
	if err != nil {
		a.Fatal(err)
	}
	return a.credential(map[string]any{"clientDataJSON": b64.EncodeToString(client), "authenticatorData": b64.EncodeToString(data), "signature": b64.EncodeToString(signature), "userHandle": b64.EncodeToString(a.handle)})
}

func (a *authenticator) credential(response map[string]any) []byte {
	text, err := json.Marshal(map[string]any{"id": b64.EncodeToString(a.id), "rawId": b64.EncodeToString(a.id), "type": "public-key", "response": response, "clientExtensionResults": map[string]any{}})
	if err != nil {
		a.Fatal(err)
	}
	return text
}

const ownOrigin = "https://dr.example:9443"

// passkeyOf makes a passkey for an account.
func passkeyOf(t *testing.T, i *Identity, name string) *authenticator {
	t.Helper()
	a := newAuthenticator(t)
	options, carried, err := i.BeginPasskey(name, ownOrigin)
	if err != nil {
		t.Fatal(err)
	}
	if err := i.FinishPasskey(name, "telephone", ownOrigin, carried, a.create(options, ownOrigin)); err != nil {
		t.Fatal(err)
	}
	return a
}

func TestAPasskeySignsInByItself(t *testing.T) {
	i, _, _ := claimed(t)
	if err := i.AddUser(t.Context(), "anna", "bruno", good, store.Operator); err != nil {
		t.Fatal(err)
	}
	hers, his := passkeyOf(t, i, "anna"), passkeyOf(t, i, "bruno")
	for want, a := range map[string]*authenticator{"Anna": hers, "bruno": his} {
		options, carried, err := i.BeginPasskeyLogin(ownOrigin)
		if err != nil {
			t.Fatal(err)
		}
		response := a.get(options, ownOrigin)
		u, err := i.FinishPasskeyLogin(ownOrigin, carried, response, "here")
		if err != nil || u.Name != want {
			t.Fatalf("got %q, %v, want %q", u.Name, err, want)
		}
		if _, err := i.FinishPasskeyLogin(ownOrigin, carried, response, "here"); code(err) != "login.refused" {
			t.Errorf("the same answer again: %v", err)
		}
	}
	if u, _ := i.User("anna"); len(u.Passkeys) != 1 || u.Passkeys[0].Name != "telephone" || u.Passkeys[0].LastUsed.IsZero() {
		t.Errorf("anna's passkeys: %+v", u.Passkeys)
	}
}

func TestAPasskeyIsGoodForOneNameOnePersonAndOnce(t *testing.T) {
	i, _, c := claimed(t)
	if err := i.AddUser(t.Context(), "anna", "bruno", good, store.Operator); err != nil {
		t.Fatal(err)
	}
	a := passkeyOf(t, i, "anna")
	try := func(asked, signed string, change func(*authenticator)) error {
		t.Helper()
		options, carried, err := i.BeginPasskeyLogin(asked)
		if err != nil {
			t.Fatal(err)
		}
		liar := *a
		change(&liar)
		response := liar.get(options, signed)
		a.count = max(a.count, liar.count)
		_, err = i.FinishPasskeyLogin(asked, carried, response, "here")
		return err
	}
	honest := func(*authenticator) {}
	other, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	for name, row := range map[string]struct {
		asked, signed string
		change        func(*authenticator)
	}{
		"the page of a thief":           {ownOrigin, "https://dr.example.evil:9443", honest},
		"another port":                  {ownOrigin, "https://dr.example:9444", honest},
		"a thief who passes all on":     {"https://evil.example", "https://evil.example", honest},
		"a device that saw nobody":      {ownOrigin, ownOrigin, func(a *authenticator) { a.unverified = true }},
		"a signature for another name":  {ownOrigin, ownOrigin, func(a *authenticator) { a.host = "evil.example" }},
		"another key":                   {ownOrigin, ownOrigin, func(a *authenticator) { a.key = other }},
		"the handle of somebody else":   {ownOrigin, ownOrigin, func(a *authenticator) { a.handle = passkeyUser{mustUser(t, i, "bruno"), "dr.example"}.WebAuthnID() }},
		"a copy whose counter is older": {ownOrigin, ownOrigin, func(a *authenticator) { a.count = 0 }},
	} {
		if name == "a copy whose counter is older" {
			if err := try(ownOrigin, ownOrigin, honest); err != nil {
				t.Fatalf("an honest sign-in: %v", err)
			}
		}
		if err := try(row.asked, row.signed, row.change); code(err) != "login.refused" {
			t.Errorf("%s: %v, want a refusal", name, err)
		}
	}
	if err := i.SetDisabled("anna", "bruno", true); err != nil {
		t.Fatal(err)
	}
	options, carried, _ := i.BeginPasskeyLogin(ownOrigin)
	response := a.get(options, ownOrigin)
	c.pass(passkeyTime + 1)
	if _, err := i.FinishPasskeyLogin(ownOrigin, carried, response, "here"); code(err) != "login.refused" {
		t.Errorf("an answer that took too long: %v", err)
	}
	for _, carried := range []string{"", "x", carried[1:]} {
		if _, err := i.FinishPasskeyLogin(ownOrigin, carried, response, "here"); code(err) != "login.refused" {
			t.Errorf("carried %.10q: %v", carried, err)
		}
	}
	for _, origin := range []string{"https://192.0.2.7:9443", "https://[::1]:9443", "", "https://"} {
		if _, _, err := i.BeginPasskeyLogin(origin); code(err) != "passkey.host" {
			t.Errorf("passkeys for %q: %v", origin, err)
		}
	}

	// A ceremony of one account does not add a passkey to another, nor a passkey twice.
	b := newAuthenticator(t)
	options, carried, _ = i.BeginPasskey("anna", ownOrigin)
	made := b.create(options, ownOrigin)
	if err := i.FinishPasskey("bruno", "x", ownOrigin, carried, made); code(err) != "login.refused" {
		t.Errorf("anna's ceremony for bruno: %v", err)
	}
	options, carried, _ = i.BeginPasskey("anna", ownOrigin)
	if err := i.FinishPasskey("anna", "x", ownOrigin, carried, b.create(options, "https://evil.example")); code(err) != "login.refused" {
		t.Errorf("a passkey made on another page: %v", err)
	}
	options, carried, _ = i.BeginPasskey("bruno", ownOrigin)
	if err := i.FinishPasskey("bruno", "x", ownOrigin, carried, a.create(options, ownOrigin)); code(err) != "login.refused" {
		t.Errorf("a passkey that anna has already: %v", err)
	}
	id := b64.EncodeToString(mustUser(t, i, "anna").Passkeys[0].ID)
	if err := i.RemovePasskey("bruno", id); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("bruno removes anna's: %v", err)
	}
	if err := i.RemovePasskey("anna", id); err != nil {
		t.Fatal(err)
	}
	a.handle = passkeyUser{mustUser(t, i, "anna"), "dr.example"}.WebAuthnID()
	if err := try(ownOrigin, ownOrigin, honest); code(err) != "login.refused" {
		t.Errorf("a removed passkey: %v", err)
	}
}

// TestAPasswordAloneIsRefusedWhereAPasskeyIsTheSecondFactor: and whoever loses the passkey
// is not lost.
func TestAPasswordAloneIsRefusedWhereAPasskeyIsTheSecondFactor(t *testing.T) {
	i, st, c := claimed(t)
	for name, role := range map[string]store.Role{"bruno": store.Operator, "carla": store.Administrator, "dario": store.Administrator} {
		if err := i.AddUser(t.Context(), "anna", name, good, role); err != nil {
			t.Fatal(err)
		}
	}
	his := passkeyOf(t, i, "bruno")
	passkeyOf(t, i, "carla")
	login := func(name, want, why string) {
		t.Helper()
		if _, err := i.Login(t.Context(), name, good, "here"); code(err) != want {
			t.Errorf("%s, %s: %v, want %q", name, why, err, want)
		}
	}
	login("bruno", "", "whose role needs none")
	if err := i.SaveSecondRule("anna", []store.Role{store.Operator, store.Administrator}); err != nil {
		t.Fatal(err)
	}
	before := mustUser(t, i, "bruno").LastLogin
	c.pass(time.Minute)
	login("bruno", "login.passkey", "with a passkey only")
	login("carla", "login.passkey", "with two others to help")
	if !mustUser(t, i, "bruno").LastLogin.Equal(before) {
		t.Error("a refused password is told as a sign-in")
	}
	options, carried, err := i.BeginPasskeyLogin(ownOrigin)
	if err != nil {
		t.Fatal(err)
	}
	if u, err := i.FinishPasskeyLogin(ownOrigin, carried, his.get(options, ownOrigin), "here"); err != nil || u.Name != "bruno" {
		t.Errorf("bruno by the passkey: %q, %v", u.Name, err)
	}
	login("dario", "", "who has to set up something first")
	for range freeTries - 1 {
		i.Login(t.Context(), "bruno", "wrong", "here")
	}
	login("bruno", "login.passkey", "as often as they like with the right password")

	// Nobody is refused whom nobody could help.
	if err := i.SetDisabled("anna", "dario", true); err != nil {
		t.Fatal(err)
	}
	login("carla", "", "with one other administrator, who cannot help alone")
	login("bruno", "", "with one administrator who needs no passkey, of two")
	if err := i.RemovePasskey("carla", b64.EncodeToString(mustUser(t, i, "carla").Passkeys[0].ID)); err != nil {
		t.Fatal(err)
	}
	login("bruno", "login.passkey", "with two administrators again")
	if err := i.RemoveUser("anna", "carla"); err != nil {
		t.Fatal(err)
	}
	login("bruno", "login.passkey", "with the only administrator to help")
	passkeyOf(t, i, "anna")
	login("anna", "", "the only administrator")
	login("bruno", "", "with nobody who is sure to sign in")
	if _, err := store.Change(st, store.Users, "anna", func(u *store.User) error { u.Second = &store.SecondFactor{}; return nil }); err != nil {
		t.Fatal(err)
	}
	login("bruno", "login.passkey", "with an administrator who has codes")
	if err := i.RemoveSecond("anna", "bruno"); err != nil {
		t.Fatal(err)
	}
	login("bruno", "", "after the lost passkey was removed")
}

func mustUser(t *testing.T, i *Identity, name string) store.User {
	t.Helper()
	u, err := i.User(name)
	if err != nil {
		t.Fatal(err)
	}
	return u
}
