package web_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	auditlog "riparo/appliance/audit"
	"riparo/appliance/identity"
	"riparo/store"
	"riparo/store/logs"
	"riparo/web"
)

const (
	password = "a calm sentence"
	user     = "anna"
)

// house is a console over a real store, behind TLS as in real life.
type house struct {
	testing.TB
	store     *store.Store
	identity  *identity.Identity
	audit     *auditlog.Log
	appliance *appliance
	console   *web.Console
	serving   atomic.Pointer[web.Console]
	server    *httptest.Server
	full      atomic.Bool // the audit log cannot be written
	token     string      // to claim it
	log       *logs.Log
	logFolder string
}

var manual = fstest.MapFS{
	"index.md":    {Data: []byte("# Riparo\n\nA *shelter*. See [failover](failover.md) and `riparo <verb>`.\n\n- one\n- two\n\n| a | b |\n|---|---|\n| 1 | <script>alert(1)</script> |\n\n```\nriparo serve\n```\n[bad](javascript:alert(1))\n")},
	"failover.md": {Data: []byte("# Failover\n\n1. first\n2. second\n")},
}

// newHouse opens an unclaimed console. furnished ones have lived.
func newHouse(t testing.TB, furnished bool) *house {
	t.Helper()
	dir := t.TempDir()
	st, err := store.Open(filepath.Join(dir, "state.db"), store.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	id, err := identity.New(st, identity.Options{})
	if err != nil {
		t.Fatal(err)
	}
	log, err := auditlog.Open(st, auditlog.Options{KeyFile: filepath.Join(dir, "audit.key")})
	if err != nil {
		t.Fatal(err)
	}
	token, err := id.OfferSetup("")
	if err != nil {
		t.Fatal(err)
	}
	h := &house{TB: t, store: st, identity: id, audit: log, token: token, appliance: &appliance{store: st, now: time.Now, people: id}}
	h.logFolder = t.TempDir()
	if furnished {
		h.beginLog()
	}
	if h.log, err = logs.Open(logs.Options{Dir: h.logFolder}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.log.Close(); err != nil {
			t.Error(err)
		}
	})
	if furnished {
		if err := h.appliance.furnish(); err != nil {
			t.Fatal(err)
		}
		h.writeLog(250)
	}
	h.open()
	h.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.serving.Load().ServeHTTP(w, r) }))
	h.server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	h.server.StartTLS()
	t.Cleanup(func() {
		h.console.Close()
		h.server.Close()
	})
	return h
}

// open opens the console, again after it was closed: as after a restart.
func (h *house) open() {
	h.Helper()
	console, err := web.New(web.Config{Store: h.store, Appliance: h.appliance, Identity: h.identity, Audit: brittle{h.audit, &h.full}, Version: "0.1.0-test", Docs: manual, Licenses: licensed,
		Logs: logs.NewReader(h.logFolder), Log: h.log,
		Logger: slog.New(slog.NewTextHandler(testWriter{h.TB}, &slog.HandlerOptions{Level: slog.LevelWarn}))})
	if err != nil {
		h.Fatal(err)
	}
	h.console = console
	h.serving.Store(console)
}

// brittle is an audit log whose disk can be full.
type brittle struct {
	*auditlog.Log
	full *atomic.Bool
}

func (b brittle) Append(line store.AuditLine) (store.AuditLine, error) {
	if b.full.Load() {
		return line, errors.New("no space left on device")
	}
	return b.Log.Append(line)
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	if _, fuzzing := w.t.(*testing.F); fuzzing {
		return len(p), nil // its Log may not be called while it tries inputs
	}
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// claimed is a house with its administrator.
func (h *house) claimed() *house {
	h.Helper()
	if _, err := h.identity.Claim(h.Context(), h.token, user, password, "en", "test"); err != nil {
		h.Fatal(err)
	}
	return h
}

// browser is a client with its own cookies that does not follow redirects.
type browser struct {
	testing.TB
	base   string
	client *http.Client
	header http.Header
}

func (h *house) browser() *browser {
	jar, _ := cookiejar.New(nil)
	client := &http.Client{Jar: jar, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	h.Cleanup(client.CloseIdleConnections)
	return &browser{TB: h.TB, base: h.server.URL, client: client, header: http.Header{}}
}

// signedIn is a browser of a new account of this role; of the administrator when
// the role is empty.
func (h *house) signedIn(role store.Role) *browser {
	h.Helper()
	name := user
	if role != "" {
		name = strings.ReplaceAll(string(role), " ", "-")
		h.add(name, role)
	}
	b := h.browser()
	if a := b.post("/login", "name", name, "password", password); a.status != http.StatusSeeOther {
		h.Fatalf("sign-in as %s: got %d, want 303\n%s", name, a.status, a.body)
	}
	return b
}

// add makes an account whose owner has chosen the password already.
func (h *house) add(name string, role store.Role) {
	h.Helper()
	if err := h.identity.AddUser(context.Background(), user, name, password, role); err != nil {
		h.Fatal(err)
	}
	if _, err := store.Change(h.store, store.Users, name, func(u *store.User) error { u.MustChange = false; return nil }); err != nil {
		h.Fatal(err)
	}
}

// populated is a house with another account, an operator.
func (h *house) populated() *house {
	h.Helper()
	h.add("carla", store.Operator)
	return h
}

type reply struct {
	status int
	header http.Header
	body   string
}

func (b *browser) do(method, path string, body io.Reader, kind string) reply {
	b.Helper()
	r, err := http.NewRequest(method, b.base+path, body)
	if err != nil {
		b.Fatal(err)
	}
	for k, v := range b.header {
		r.Header[k] = v
	}
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	return b.reply(b.client.Do(r))
}

// reply reads an answer.
func (b *browser) reply(response *http.Response, err error) reply {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		b.Fatal(err)
	}
	return reply{response.StatusCode, response.Header, string(text)}
}

func (b *browser) get(path string) reply {
	b.Helper()
	return b.do("GET", path, nil, "")
}

func (b *browser) post(path string, pairs ...string) reply {
	b.Helper()
	form := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		form.Add(pairs[i], pairs[i+1])
	}
	return b.do("POST", path, strings.NewReader(form.Encode()), "application/x-www-form-urlencoded")
}

// lang sets the language that the browser prefers.
func (b *browser) lang(l string) *browser {
	b.header.Set("Accept-Language", l)
	return b
}
