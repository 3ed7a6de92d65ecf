package web_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"riparo/store"
	"riparo/web/browsertest"
)

// TestAPasskeySignsInFromARealBrowser makes a passkey and signs in with it, with the
// device that Chromium has for tests.
func TestAPasskeySignsInFromARealBrowser(t *testing.T) {
	h := newHouse(t, true).claimed()
	c := &chrome{browsertest.Open(t, strings.Replace(h.server.URL, "127.0.0.1", "localhost", 1))}
	if _, err := chromedp.Call(c.Context(), webauthn.Enable, webauthn.EnableParams{}); err != nil {
		t.Fatal(err)
	}
	device := webauthn.VirtualAuthenticatorOptions{Protocol: webauthn.AuthenticatorProtocolCtap2, Transport: webauthn.AuthenticatorTransportInternal,
		HasResidentKey: true, HasUserVerification: true, IsUserVerified: true, AutomaticPresenceSimulation: true}
	if _, err := chromedp.Call(c.Context(), webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{Options: &device}); err != nil {
		t.Fatal(err)
	}
	c.signIn()
	c.Visit("/account")
	c.Until("the form", `!document.querySelector("[data-passkey=create]").hidden`)
	c.Do("name", chromedp.Focus("#passkey-label"))
	c.Leave("what making a passkey leads to", func() { c.Press("laptop" + kb.Tab + password + kb.Enter) })
	c.Until("the passkey", `document.querySelector("#passkeys").innerText.includes("The passkey was added")`)
	if u, err := h.identity.User(user); err != nil || len(u.Passkeys) != 1 || u.Passkeys[0].Name != "laptop" || u.Passkeys[0].Host != "localhost" {
		t.Fatalf("the account has %+v, %v", u.Passkeys, err)
	}
	c.signOut()
	c.Until("the sign-in", `location.pathname === "/login"`)
	c.Leave("what the passkey leads to", func() { c.Click("[data-passkey=get] button") })
	c.Until("the overview", `location.pathname === "/"`)
	if said := c.Complaints(); len(said) > 0 {
		t.Errorf("the browser complains: %s", strings.Join(said, "; "))
	}
}

// TestAPasswordWhoseAccountHasAPasskeySaysSo where the role has to have a second factor.
func TestAPasswordWhoseAccountHasAPasskeySaysSo(t *testing.T) {
	h := newHouse(t, true).claimed()
	h.add("carla", store.Operator)
	if _, err := store.Change(h.store, store.Users, "carla", func(u *store.User) error {
		u.Passkeys = []store.Passkey{{ID: []byte("x"), Name: "laptop", Host: "dr.example"}}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := h.identity.SaveSecondRule(user, []store.Role{store.Operator}); err != nil {
		t.Fatal(err)
	}
	b := h.browser()
	got := b.post("/login", "name", "carla", "password", password)
	if got.status != http.StatusUnprocessableEntity || !strings.Contains(got.body, "Sign in with the passkey") || b.get("/").status != http.StatusSeeOther {
		t.Errorf("the password alone: got %d", got.status)
	}
	if got := h.browser().lang("it").post("/login", "name", "carla", "password", password); !strings.Contains(got.body, "ccedere con la passkey") {
		t.Error("it is not told in Italian")
	}
}

func TestAPasskeyIsAskedForOnlyOfThoseItIsFor(t *testing.T) {
	h := newHouse(t, true).claimed()
	b := h.signedIn("")
	if got := b.post("/account/passkeys/begin", "old", "wrong", "label", "x"); got.status != http.StatusUnprocessableEntity || !strings.Contains(got.body, "present password is not right") {
		t.Errorf("begun with a wrong password: got %d", got.status)
	}
	if got := b.post("/account/passkeys/begin", "old", password, "label", "x"); got.status != http.StatusUnprocessableEntity || !strings.Contains(got.body, "Passkeys need a name") {
		t.Errorf("by an address of numbers: got %d; want why not", got.status)
	}
	if got := b.post("/account/passkeys", "response", "{}", "label", "x"); got.status != http.StatusUnprocessableEntity {
		t.Errorf("an answer to nothing: got %d", got.status)
	}
	if got := b.post("/account/passkeys/eA/remove"); got.status != http.StatusNotFound {
		t.Errorf("a passkey that is none removed: got %d", got.status)
	}
	stranger := h.browser()
	for _, response := range []string{"", "{}", strings.Repeat("[", 5000)} {
		if got := stranger.post("/login/passkey", "response", response); got.status != http.StatusUnprocessableEntity {
			t.Errorf("a sign-in with %.10q: got %d", response, got.status)
		}
	}
}
