package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"

	"riparo/store"
	"riparo/web/api"
)

const (
	clientID      = "riparo"
	clientSecret  = "canary-client-secret"
	openIDAddress = "https://dr.example:9443"
)

// grouped people: the provider's example knows people, and no groups.
type groupedStorage struct {
	*storage.Storage
	groups map[string][]string // by the ID of the person
}

func (g groupedStorage) SetUserinfoFromToken(ctx context.Context, info *oidc.UserInfo, tokenID, subject, origin string) error {
	err := g.Storage.SetUserinfoFromToken(ctx, info, tokenID, subject, origin)
	info.AppendClaims("groups", g.groups[subject])
	return err
}

// provider starts a real OpenID provider, the certified one of zitadel, behind TLS.
func provider(t *testing.T, groups map[string][]string) (issuer, ca string) {
	t.Helper()
	var handler http.Handler
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) }))
	server.StartTLS()
	t.Cleanup(server.Close)
	clients := map[string]*storage.Client{clientID: storage.WebClient(clientID, clientSecret, openIDAddress+OpenIDPath)}
	kept := groupedStorage{storage.NewStorageWithClients(storage.NewUserStore(server.URL), clients), groups}
	handler = exampleop.SetupServer(server.URL, kept, nil, false)
	return server.URL, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
}

func openIDSettings(issuer, ca string) api.OpenID {
	return api.OpenID{Enabled: true, Label: "Acme", Issuer: issuer, CA: ca, ClientID: clientID, Secret: clientSecret, Address: openIDAddress, Scopes: []string{"profile", "email"},
		NameClaim: "preferred_username", RoleClaim: "groups", Roles: []api.RoleRule{{Value: "dr-ops", Role: store.Operator}, {Value: "dr-admins", Role: store.Administrator}}}
}

// atProvider is a browser that signs in at the provider and comes back with its
// answer.
func atProvider(t *testing.T, address, name, password string) url.Values {
	t.Helper()
	jar, _ := cookiejar.New(nil)
	client := &http.Client{Jar: jar, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
		CheckRedirect: func(r *http.Request, _ []*http.Request) error {
			if strings.HasPrefix(r.URL.String(), openIDAddress) {
				return http.ErrUseLastResponse
			}
			return nil
		}}
	defer client.CloseIdleConnections()
	page, err := client.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	page.Body.Close()
	id := page.Request.URL.Query().Get("authRequestID")
	back, err := client.PostForm(page.Request.URL.Scheme+"://"+page.Request.URL.Host+"/login/username", url.Values{"id": {id}, "username": {name}, "password": {password}})
	if err != nil {
		t.Fatal(err)
	}
	back.Body.Close()
	at, err := url.Parse(back.Header.Get("Location"))
	if err != nil || at.Path != OpenIDPath {
		t.Fatalf("the provider answered %s to %q, %v", back.Status, back.Header.Get("Location"), err)
	}
	return at.Query()
}

func TestPeopleSignInWithARealOpenIDProvider(t *testing.T) {
	i, st, _ := claimed(t)
	i.now = time.Now // tokens of the provider are of today
	issuer, ca := provider(t, map[string][]string{"id1": {"staff", "dr-admins", "dr-ops"}, "id2": {"staff"}})
	ctx := t.Context()
	if err := i.SaveOpenID(ctx, "anna", openIDSettings(issuer, ca)); err != nil {
		t.Fatal(err)
	}
	name := "test-user@127.0.0.1"
	address, carried, err := i.BeginOpenID(ctx, "/machines")
	if err != nil {
		t.Fatal(err)
	}
	q, _ := url.Parse(address)
	for key, want := range map[string]string{"code_challenge_method": "S256", "response_type": "code", "client_id": clientID, "redirect_uri": openIDAddress + OpenIDPath, "scope": "openid profile email"} {
		if got := q.Query().Get(key); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	answer := atProvider(t, address, name, "verysecure")
	user, next, err := i.FinishOpenID(ctx, carried, answer, "here")
	if err != nil || user.Name != name || user.Role != store.Administrator || user.Source != store.SourceOIDC || next != "/machines" {
		t.Fatalf("got %+v to %q, %v", user, next, err)
	}
	if _, _, err := i.FinishOpenID(ctx, carried, answer, "here"); code(err) != "login.refused" {
		t.Errorf("the same answer again: %v", err)
	}
	if _, err := i.Login(ctx, name, "verysecure", "here"); code(err) != "login.refused" {
		t.Errorf("the provider's password here: %v", err)
	}

	// What is of another sign-in, of another browser, or made up.
	first, firstCarried, _ := i.BeginOpenID(ctx, "/")
	_, secondCarried, _ := i.BeginOpenID(ctx, "/")
	stolen := atProvider(t, first, name, "verysecure")
	if _, _, err := i.FinishOpenID(ctx, secondCarried, stolen, "a"); code(err) != "login.refused" {
		t.Errorf("an answer in another browser: %v", err)
	}
	f, _ := i.openFlow(secondCarried)
	forged := url.Values{"state": {f.State}, "code": stolen["code"]}
	if _, _, err := i.FinishOpenID(ctx, secondCarried, forged, "b"); code(err) != "login.refused" {
		t.Errorf("a stolen code with a state of our own: %v", err)
	}
	for _, c := range []string{"", "x", firstCarried[1:], firstCarried[:20]} {
		if _, _, err := i.FinishOpenID(ctx, c, stolen, "c"); code(err) != "login.refused" {
			t.Errorf("carried %.10q: %v", c, err)
		}
	}
	if _, _, err := i.FinishOpenID(ctx, firstCarried, url.Values{"state": {mustFlow(t, i, firstCarried).State}, "error": {"access_denied"}}, "d"); code(err) != "login.refused" {
		t.Errorf("a refusal of the provider: %v", err)
	}

	// No group, no role; a name that is somebody else's is not given away.
	address, carried, _ = i.BeginOpenID(ctx, "/")
	if _, _, err := i.FinishOpenID(ctx, carried, atProvider(t, address, "test-user2", "verysecure"), "e"); code(err) != "signon.role" {
		t.Errorf("somebody without a group: %v", err)
	}
	if _, err := store.Change(st, store.Users, name, func(u *store.User) error { u.Source, u.Subject = "", ""; return nil }); err != nil {
		t.Fatal(err)
	}
	address, carried, _ = i.BeginOpenID(ctx, "/")
	if _, _, err := i.FinishOpenID(ctx, carried, atProvider(t, address, name, "verysecure"), "f"); code(err) != "user.clash" {
		t.Errorf("a name that an account of ours has: %v", err)
	}
}

func mustFlow(t *testing.T, i *Identity, carried string) flow {
	t.Helper()
	f, err := i.openFlow(carried)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// hostile is a provider of our own that lies in one way at a time. It is no real
// one: it exists to be refused.
type hostile struct {
	key    *ecdsa.PrivateKey
	issuer string
	lie    func(claims map[string]any)
	signer *ecdsa.PrivateKey
	nonce  string
	info   map[string]any
}

func (h *hostile) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer := func(v any) {
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(v)
	}
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		answer(map[string]any{"issuer": h.issuer, "authorization_endpoint": h.issuer + "/auth", "token_endpoint": h.issuer + "/token", "jwks_uri": h.issuer + "/keys",
			"userinfo_endpoint": h.issuer + "/userinfo", "id_token_signing_alg_values_supported": []string{"ES256"}})
	case "/keys":
		answer(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: h.key.Public(), KeyID: "k", Algorithm: "ES256", Use: "sig"}}})
	case "/userinfo":
		answer(h.info)
	case "/token":
		claims := map[string]any{"iss": h.issuer, "aud": clientID, "sub": "s1", "exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix(), "nonce": h.nonce, "preferred_username": "mallory", "groups": []string{"dr-admins"}}
		h.lie(claims)
		text, _ := json.Marshal(claims)
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: h.signer, KeyID: "k"}}, nil)
		if err != nil {
			http.Error(w, err.Error(), 500)
			return
		}
		signed, _ := signer.Sign(text)
		token, _ := signed.CompactSerialize()
		answer(map[string]any{"access_token": "a", "token_type": "Bearer", "id_token": token})
	}
}

func TestALyingProviderIsRefused(t *testing.T) {
	i, _, _ := claimed(t)
	i.now = time.Now
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	other, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	h := &hostile{key: key}
	server := httptest.NewTLSServer(h)
	defer server.Close()
	h.issuer = server.URL
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	if err := i.SaveOpenID(t.Context(), "anna", openIDSettings(server.URL, ca)); err != nil {
		t.Fatal(err)
	}
	for n, row := range []struct {
		name string
		lie  func(map[string]any)
		key  *ecdsa.PrivateKey
		info map[string]any
		want string
	}{
		{"the truth", func(map[string]any) {}, key, nil, ""},
		{"another nonce", func(c map[string]any) { c["nonce"] = "old" }, key, nil, "login.refused"},
		{"no nonce", func(c map[string]any) { delete(c, "nonce") }, key, nil, "login.refused"},
		{"another audience", func(c map[string]any) { c["aud"] = "another" }, key, nil, "login.refused"},
		{"another issuer", func(c map[string]any) { c["iss"] = "https://evil.example" }, key, nil, "login.refused"},
		{"expired", func(c map[string]any) { c["exp"] = time.Now().Add(-time.Hour).Unix() }, key, nil, "login.refused"},
		{"another key", func(map[string]any) {}, other, nil, "login.refused"},
		{"claims of somebody else", func(c map[string]any) { delete(c, "groups") }, key, map[string]any{"sub": "s2", "groups": []string{"dr-admins"}}, "login.refused"},
		{"claims from elsewhere", func(c map[string]any) { delete(c, "groups") }, key, map[string]any{"sub": "s1", "groups": "dr-ops"}, ""},
		{"a group that is no text", func(c map[string]any) { c["groups"] = 7 }, key, nil, "signon.role"},
		{"a name that is none", func(c map[string]any) { c["preferred_username"] = "a\nb" }, key, nil, "user.name"},
		{"another person of this name", func(c map[string]any) { c["sub"] = "s9" }, key, nil, "user.clash"},
	} {
		_, carried, err := i.BeginOpenID(t.Context(), "/")
		if err != nil {
			t.Fatal(err)
		}
		f := mustFlow(t, i, carried)
		h.lie, h.signer, h.nonce, h.info = row.lie, row.key, f.Nonce, row.info
		_, _, err = i.FinishOpenID(t.Context(), carried, url.Values{"state": {f.State}, "code": {"c"}}, string(rune('a'+n)))
		if code(err) != row.want {
			t.Errorf("%s: %v, want %q", row.name, err, row.want)
		}
	}
}

func TestSettingsOfASignInServiceAreChecked(t *testing.T) {
	i, st, _ := claimed(t)
	issuer, ca := provider(t, nil)
	for name, change := range map[string]func(*api.OpenID){
		"no TLS": func(o *api.OpenID) { o.Issuer = "http://idp.example" }, "no address of ours": func(o *api.OpenID) { o.Address = "dr" }, "no client": func(o *api.OpenID) { o.ClientID = "" },
		"no rule": func(o *api.OpenID) { o.Roles = nil }, "a rule without a role": func(o *api.OpenID) { o.Roles[0].Role = "emperor" }, "a certificate that is none": func(o *api.OpenID) { o.CA = "x" },
	} {
		o := openIDSettings(issuer, ca)
		change(&o)
		if err := i.SaveOpenID(t.Context(), "anna", o); code(err) != "signon.invalid" {
			t.Errorf("%s: %v", name, err)
		}
	}
	untrusted := openIDSettings(issuer, "")
	if err := i.SaveOpenID(t.Context(), "anna", untrusted); code(err) != "signon.unreachable" {
		t.Errorf("a certificate that nobody vouches for: %v", err)
	}
	o := openIDSettings(issuer, ca)
	if err := i.SaveOpenID(t.Context(), "anna", o); err != nil {
		t.Fatal(err)
	}
	got, _, err := i.SignOn()
	if err != nil || got.Secret != "" || !got.HasSecret || got.Issuer != issuer {
		t.Errorf("the settings: %+v, %v; want them without the secret", got, err)
	}
	if err := st.View(func(tx *store.Tx) error {
		s, err := tx.Settings().Get(openIDSetting)
		if strings.Contains(string(s.Value), clientSecret) {
			t.Error("the secret is kept in clear")
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	o.Enabled = false
	if err := i.SaveOpenID(t.Context(), "anna", o); err != nil {
		t.Fatal(err)
	}
	if _, _, err := i.BeginOpenID(t.Context(), "/"); code(err) != "signon.off" {
		t.Errorf("a service that is turned off: %v", err)
	}
}

// TestASignInServiceIsNotFollowedElsewhere: where it redirects to, nobody has set.
func TestASignInServiceIsNotFollowedElsewhere(t *testing.T) {
	i, _, _ := claimed(t)
	var s *httptest.Server
	s = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/elsewhere" {
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
			return
		}
		json.NewEncoder(w).Encode(map[string]any{"issuer": s.URL, "authorization_endpoint": s.URL + "/a", "token_endpoint": s.URL + "/t", "jwks_uri": s.URL + "/k"})
	}))
	defer s.Close()
	o := openIDSettings(s.URL, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})))
	if err := i.SaveOpenID(t.Context(), "anna", o); code(err) != "signon.unreachable" {
		t.Errorf("a service that redirects: %v, want signon.unreachable", err)
	}
}
