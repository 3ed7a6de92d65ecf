package appliance_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"riparo/appliance"
	"riparo/web/api"
)

// journal is a log that is kept in memory, every level of it.
type journal struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// opened is a whole appliance that runs until it is closed.
func opened(t *testing.T, data string, log io.Writer) (a *appliance.Appliance, end func()) {
	t.Helper()
	a, err := appliance.Open(t.Context(), appliance.Config{Data: data, Listen: "127.0.0.1:0", Version: "test", RetryUnit: time.Second,
		Log: slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	end = sync.OnceFunc(func() {
		cancel()
		if err := errors.Join(<-ended, a.Close()); err != nil {
			t.Errorf("the appliance ended with: %v", err)
		}
	})
	t.Cleanup(end)
	return a, end
}

// person is a browser of the console.
type person struct {
	*testing.T
	base   string
	client *http.Client
}

func (p person) read(r *http.Response, err error) (int, string) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		p.Fatal(err)
	}
	return r.StatusCode, string(text)
}

func (p person) post(path string, pairs ...string) string {
	p.Helper()
	form := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		form.Set(pairs[i], pairs[i+1])
	}
	status, text := p.read(p.client.PostForm(p.base+path, form))
	if status >= 400 {
		p.Fatalf("POST %s: %d\n%.1500s", path, status, text)
	}
	return text
}

// TestNoSecretIsShownAgainLoggedOrKeptInClear plants every kind of secret that the
// appliance is told or makes, uses them, and then looks for them wherever it writes:
// pages, answers of the API, logs, the audit log, and all files but those that are
// there to hold one.
func TestNoSecretIsShownAgainLoggedOrKeptInClear(t *testing.T) {
	data, log := t.TempDir(), &journal{}
	a, end := opened(t, data, log)
	jar, _ := cookiejar.New(nil)
	p := person{t, strings.TrimSuffix(a.URL, "/"), &http.Client{Jar: jar, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}}
	defer p.client.CloseIdleConnections()

	first, second, third := "canary of the first password", "canary of the second password", "canary of somebody else"
	secrets := map[string]string{"the setup token": a.SetupToken, "the first password": first, "the second password": second, "somebody's password": third,
		"a mistyped password": "canary mistyped", "the password of the directory": "canary-directory", "the secret of the sign-in service": "canary-openid"}
	client, err := api.New(a.URL, "", a.Fingerprint)
	if err != nil {
		t.Fatal(err)
	}
	claimed, err := client.Setup(t.Context(), api.SetupBody{SetupToken: a.SetupToken, Name: "anna", Password: first, TokenName: "first"})
	client.Close()
	if err != nil {
		t.Fatal(err)
	}
	secrets["the first API token"] = claimed.Token.Secret
	p.read(p.client.PostForm(p.base+"/login", url.Values{"name": {"anna"}, "password": {"canary mistyped"}}))
	p.read(p.client.PostForm(p.base+"/login", url.Values{"name": {"canary mistyped"}, "password": {first}}))
	p.post("/login", "name", "anna", "password", first)
	p.post("/account/password", "old", first, "password", second, "again", second)
	p.post("/account/second/begin", "old", second)
	_, offer := p.read(p.client.Get(p.base + "/account/second"))
	shown := regexp.MustCompile(`id="secret" tabindex="0">([A-Z2-7 ]+)<`).FindStringSubmatch(offer)
	if shown == nil {
		t.Fatal("no secret of one-time codes is shown")
	}
	secret := strings.ReplaceAll(shown[1], " ", "")
	secrets["the secret of one-time codes"], secrets["the same in groups"] = secret, shown[1]
	code, err := totp.GenerateCode(secret, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	codes := regexp.MustCompile(`<code>([A-Z2-7-]{19})</code>`).FindAllStringSubmatch(p.post("/account/second", "code", code), -1)
	if len(codes) != 10 {
		t.Fatalf("%d recovery codes are shown", len(codes))
	}
	for n, c := range codes {
		secrets[fmt.Sprintf("recovery code %d", n+1)] = c[1]
	}
	made := regexp.MustCompile(`riparo_[a-z0-9]{8}_[A-Z0-9]{26}`).FindString(p.post("/settings/tokens", "name", "ci", "scope", "administer", "life", "7"))
	if made == "" {
		t.Fatal("no token is shown")
	}
	secrets["the second API token"] = made
	p.post("/settings/users", "name", "bruno", "role", "viewer", "password", third)
	p.post("/settings/sign-in/directory", "url", "ldaps://dc1.example", "bind_dn", "cn=reader,dc=example", "base_dn", "dc=example", "group_base_dn", "dc=example", "filter", "(uid={name})", "name_attribute", "uid",
		"group_filter", "(member={dn})", "rules", "a = viewer", "secret", "canary-directory")
	p.post("/settings/sign-in/openid", "issuer", "https://idp.example", "client_id", "riparo", "own_address", "https://dr.example", "name_claim", "n", "role_claim", "r", "rules", "a = viewer", "secret", "canary-openid")
	for _, c := range jar.Cookies(must(url.Parse(a.URL))) {
		if strings.HasPrefix(c.Name, "__Host-riparo") {
			secrets["the cookie "+c.Name] = c.Value
		}
	}
	if len(secrets) < 21 {
		t.Fatalf("only %d secrets were planted", len(secrets))
	}

	look := func(where, text string) {
		t.Helper()
		for what, s := range secrets {
			if s != "" && strings.Contains(text, s) {
				t.Errorf("%s is in %s", what, where)
			}
		}
	}
	for _, path := range []string{"/", "/machines", "/jobs", "/events", "/infrastructure", "/policies", "/settings", "/settings/users", "/settings/users/bruno", "/settings/tokens", "/settings/sign-in", "/account", "/audit", "/audit?verify=now", "/audit/export", "/help", "/metrics", "/healthz", "/readyz"} {
		status, text := p.read(p.client.Get(p.base + path))
		if status != http.StatusOK {
			t.Errorf("GET %s: %d", path, status)
		}
		look("page "+path, text)
	}
	description := get(t, p, made, "/api/openapi.json")
	for _, m := range regexp.MustCompile(`"(/api/v1/[^"{]+)":\{"get"`).FindAllStringSubmatch(description, -1) {
		if m[1] != "/api/v1/events" && m[1] != "/api/v1/logs/stream" { // they do not end
			look("the answer to "+m[1], get(t, p, made, m[1]))
		}
	}
	end()
	look("the log", log.String())
	if !strings.Contains(log.String(), "sign-in refused") {
		t.Error("the log that was looked at is not the one that is written")
	}
	// The key of the console's certificate and the like are secrets of their own, and
	// in files of their own.
	err = filepath.WalkDir(data, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(data, path)
		look("the file "+name, string(text))
		if info, err := e.Info(); err == nil && info.Mode().Perm()&0o077 != 0 && strings.HasPrefix(name, "pki") && strings.HasSuffix(name, ".key") {
			t.Errorf("%s may be read by others: %v", name, info.Mode())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, p person, token, path string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.base+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	_, text := p.read(p.client.Do(r))
	return text
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestTheConsoleSpeaksTLS13AndNothingOlder asks the listener itself.
func TestTheConsoleSpeaksTLS13AndNothingOlder(t *testing.T) {
	a, _ := opened(t, t.TempDir(), io.Discard)
	at := must(url.Parse(a.URL)).Host
	for name, version := range map[string]uint16{"1.0": tls.VersionTLS10, "1.1": tls.VersionTLS11, "1.2": tls.VersionTLS12} {
		if conn, err := tls.Dial("tcp", at, &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version}); err == nil {
			conn.Close()
			t.Errorf("TLS %s is spoken", name)
		}
	}
	conn, err := tls.Dial("tcp", at, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	state := conn.ConnectionState()
	conn.Close()
	if state.Version != tls.VersionTLS13 || state.CipherSuite != tls.TLS_AES_128_GCM_SHA256 && state.CipherSuite != tls.TLS_AES_256_GCM_SHA384 && state.CipherSuite != tls.TLS_CHACHA20_POLY1305_SHA256 {
		t.Errorf("the connection has version %x and %s", state.Version, tls.CipherSuiteName(state.CipherSuite))
	}
	answer, err := http.Get("http://" + at + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if text, _ := io.ReadAll(answer.Body); answer.StatusCode != http.StatusBadRequest || answer.Header.Get("Set-Cookie") != "" {
		t.Errorf("a request in clear: %d %s", answer.StatusCode, text)
	}
	// Headers that do not end.
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer client.CloseIdleConnections()
	r := must(http.NewRequest(http.MethodGet, a.URL, nil))
	r.Header.Set("X-Long", strings.Repeat("a", 128<<10))
	large, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	large.Body.Close()
	if large.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("headers of 128 KiB: %d, want 431", large.StatusCode)
	}
}
