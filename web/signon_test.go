package web_test

import (
	"crypto/tls"
	"encoding/pem"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"

	"riparo/store"
)

// TestAPersonSignsInThroughTheirService goes the whole way, from the settings over
// the button and a real OpenID provider to the page that was asked for.
func TestAPersonSignsInThroughTheirService(t *testing.T) {
	h := newHouse(t, true).claimed()
	var handler http.Handler
	service := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) }))
	service.StartTLS()
	defer service.Close()
	clients := map[string]*storage.Client{"riparo": storage.WebClient("riparo", "canary-secret", h.server.URL+"/login/openid/callback")}
	handler = exampleop.SetupServer(service.URL, storage.NewStorageWithClients(storage.NewUserStore(service.URL), clients), nil, false)
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: service.Certificate().Raw}))

	anna := h.signedIn("")
	form := []string{"enabled", "true", "label", "Acme", "issuer", service.URL, "client_id", "riparo", "secret", "canary-secret", "own_address", h.server.URL, "scopes", "profile email",
		"name_claim", "preferred_username", "role_claim", "email", "rules", "test-user@zitadel.ch = recovery operator\n", "ca", ca}
	if got := anna.post("/settings/sign-in/openid", append(form, "rules", "")...); got.status != http.StatusOK {
		t.Fatalf("the settings: got %d\n%.2000s", got.status, got.body)
	}
	page := anna.get("/settings/sign-in")
	if !strings.Contains(page.body, "test-user@zitadel.ch = recovery operator") || strings.Contains(page.body, "canary-secret") || !strings.Contains(page.body, "One is kept, and is not shown") {
		t.Error("the settings do not show what they are, or show the secret")
	}
	if got := anna.post("/settings/sign-in/openid", "enabled", "true", "issuer", "http://plain.example", "client_id", "x", "own_address", h.server.URL, "name_claim", "n", "role_claim", "r", "rules", "a=viewer", "secret", "canary-secret"); got.status != http.StatusUnprocessableEntity || strings.Contains(got.body, "canary-secret") {
		t.Errorf("a service without TLS: got %d", got.status)
	}
	lines := h.lines()
	for _, line := range lines {
		if strings.Contains(line.Detail+line.Before+line.After, "canary-secret") {
			t.Errorf("the secret is in the audit log: %+v", line)
		}
	}

	stranger := h.browser()
	if got := stranger.get("/login?next=/machines"); !strings.Contains(got.body, "Sign in with Acme") || !strings.Contains(got.body, `href="/login/openid?next=%2Fmachines"`) {
		t.Fatal("the sign-in does not offer the service")
	}
	away := stranger.get("/login/openid?next=/machines")
	cookie := away.header.Get("Set-Cookie")
	for _, want := range []string{"__Host-riparo-signon=", "Path=/", "HttpOnly", "Secure", "SameSite=Lax", "Max-Age=600"} {
		if !strings.Contains(cookie, want) {
			t.Errorf("the cookie %q lacks %s", cookie, want)
		}
	}
	jar, _ := cookiejar.New(nil)
	client := &http.Client{Jar: jar, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if strings.HasPrefix(r.URL.String(), h.server.URL) {
			return http.ErrUseLastResponse
		}
		return nil
	}}
	defer client.CloseIdleConnections()
	at, err := client.Get(away.header.Get("Location"))
	if err != nil {
		t.Fatal(err)
	}
	at.Body.Close()
	back, err := client.PostForm(service.URL+"/login/username", url.Values{"id": {at.Request.URL.Query().Get("authRequestID")}, "username": {"test-user@127.0.0.1"}, "password": {"verysecure"}})
	if err != nil {
		t.Fatal(err)
	}
	back.Body.Close()
	answer := strings.TrimPrefix(back.Header.Get("Location"), h.server.URL)
	if got := h.browser().get(answer); got.status != http.StatusUnprocessableEntity || !strings.Contains(got.body, "No sign-in was under way") {
		t.Errorf("the answer in another browser: got %d", got.status)
	}
	if got := stranger.get(answer); got.status != http.StatusSeeOther || got.header.Get("Location") != "/machines" {
		t.Fatalf("the answer: got %d to %q\n%.1500s", got.status, got.header.Get("Location"), got.body)
	}
	if got := stranger.get("/machines"); got.status != http.StatusOK || !strings.Contains(got.body, "test-user@127.0.0.1") {
		t.Errorf("after the sign-in: got %d", got.status)
	}
	if u, err := h.identity.User("test-user@127.0.0.1"); err != nil || u.Role != store.RecoveryOperator {
		t.Errorf("the account: %+v, %v", u, err)
	}
	if got := stranger.get("/account"); !strings.Contains(got.body, "kept by another service") || strings.Contains(got.body, "/account/second/begin") {
		t.Error("the account offers to change what another service keeps")
	}
	lines = h.lines()
	found := false
	for _, line := range lines {
		found = found || line.Action == "session.begin" && line.Actor == "test-user@127.0.0.1" && line.Outcome == store.AuditDone
	}
	if !found {
		t.Error("the sign-in is not in the audit log")
	}
	if got := stranger.get(answer); got.status != http.StatusUnprocessableEntity {
		t.Errorf("the answer again: got %d, want 422", got.status)
	}
}
