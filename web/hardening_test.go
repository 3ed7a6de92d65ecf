package web_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"riparo/store"
	"riparo/web"
	"riparo/web/api"
)

// TestEveryPostRefusesOtherSites sends every form and call as another site's page
// could make a browser send it, with the session of an administrator.
func TestEveryPostRefusesOtherSites(t *testing.T) {
	h := newHouse(t, true).claimed()
	b := h.signedIn("")
	before, asked := len(h.lines()), len(h.appliance.asked)
	sent := 0
	for _, pattern := range h.console.Patterns() {
		method, path := pathOf(pattern)
		if method == "GET" {
			continue
		}
		for _, header := range []http.Header{{"Sec-Fetch-Site": {"cross-site"}}, {"Sec-Fetch-Site": {"same-site"}}, {"Origin": {"https://evil.example"}}, {"Origin": {"null"}}} {
			b.header = header
			for _, kind := range []string{"application/x-www-form-urlencoded", "text/plain", "application/json"} {
				sent++
				if got := b.do(method, path, strings.NewReader("{}"), kind); got.status != http.StatusForbidden {
					t.Errorf("%s with %v as %s: got %d, want 403", pattern, header, kind, got.status)
				}
			}
		}
	}
	if sent < 400 || len(h.appliance.asked) > asked || len(h.lines()) > before {
		t.Errorf("%d requests were sent; %d reached the appliance, %d the audit log", sent, len(h.appliance.asked)-asked, len(h.lines())-before)
	}
	b.header = http.Header{}
	if got := b.get("/"); got.status != http.StatusOK {
		t.Errorf("the session afterwards: got %d", got.status)
	}
}

// TestEveryAnswerIsHardened asks every route, signed in and not, and looks at what
// protects the answer.
func TestEveryAnswerIsHardened(t *testing.T) {
	h := newHouse(t, true).claimed().populated()
	signedIn, stranger := h.signedIn(""), h.browser()
	paths := []string{"/nothing", "/api/v1/nothing", "//evil.example", "/machines/../settings"}
	for _, pattern := range h.console.Patterns() {
		if method, path := pathOf(pattern); method == "GET" && !endless(path) && path != "/live" {
			paths = append(paths, path)
		}
	}
	for _, p := range everyPage {
		paths = append(paths, p.path)
	}
	for _, path := range paths {
		for who, b := range map[string]*browser{"signed in": signedIn, "a stranger": stranger} {
			got := b.get(path)
			csp := got.header.Get("Content-Security-Policy")
			for _, want := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'"} {
				if !strings.Contains(csp, want) {
					t.Errorf("%s, %s: the content security policy lacks %s: %q", path, who, want, csp)
				}
			}
			if strings.Contains(csp, "unsafe") || strings.Contains(csp, "*") {
				t.Errorf("%s, %s: the content security policy is lax: %q", path, who, csp)
			}
			for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin"} {
				if got.header.Get(name) != want {
					t.Errorf("%s, %s: %s is %q, want %q", path, who, name, got.header.Get(name), want)
				}
			}
			if got.header.Get("Server") != "" || got.header.Get("X-Powered-By") != "" {
				t.Errorf("%s, %s: the answer says what it was made by", path, who)
			}
			if got.header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%s, %s: other sites may read the answer", path, who)
			}
			if !strings.HasPrefix(path, "/static/") && !strings.Contains(got.header.Get("Cache-Control"), "no-store") {
				t.Errorf("%s, %s: the answer may be kept by others", path, who)
			}
			if kind := got.header.Get("Content-Type"); len(got.body) > 0 && kind == "" {
				t.Errorf("%s, %s: the answer does not say what it is", path, who)
			}
		}
	}
}

// TestAHostThatIsMadeUpIsNeverRepeated asks under a name that an attacker chose:
// nothing in an answer is made of it.
func TestAHostThatIsMadeUpIsNeverRepeated(t *testing.T) {
	h := newHouse(t, true).claimed()
	b := h.signedIn("")
	cookies := b.client.Jar.Cookies(mustURL(t, h.server.URL))
	for _, path := range []string{"/", "/login", "/machines", "/settings", "/account", "/nothing", "/machines/", "/api/openapi.json", "/api/v1/machines", "/help"} {
		for _, signed := range []bool{true, false} {
			r, err := http.NewRequest(http.MethodGet, h.server.URL+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Host = "evil.example"
			r.Header.Set("X-Forwarded-Host", "evil.example")
			r.Header.Set("X-Forwarded-For", "evil.example")
			r.Header.Set("Forwarded", "host=evil.example")
			if signed {
				for _, c := range cookies {
					r.AddCookie(c)
				}
			}
			got := b.reply(b.client.Transport.RoundTrip(r))
			for name, values := range got.header {
				if strings.Contains(strings.Join(values, " "), "evil.example") {
					t.Errorf("%s: the header %s repeats the host: %q", path, name, values)
				}
			}
			if strings.Contains(got.body, "evil.example") {
				t.Errorf("%s: the answer repeats the host", path)
			}
		}
	}
	for _, line := range h.lines() {
		if line.Address != "127.0.0.1" {
			t.Errorf("a header chose the address in the audit log: %+v", line)
		}
	}
}

func mustURL(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// TestATokenComesAsABearerAndOpensTheAPIOnly carries a token by every other way, and
// to every page.
func TestATokenComesAsABearerAndOpensTheAPIOnly(t *testing.T) {
	h := newHouse(t, true).claimed()
	secret, _, err := h.identity.CreateToken(user, "ci", store.Administrator, 0)
	if err != nil {
		t.Fatal(err)
	}
	for name, ask := range map[string]func(b *browser) reply{
		"in the address": func(b *browser) reply { return b.get("/api/v1/machines?access_token=" + secret + "&token=" + secret) },
		"as a cookie": func(b *browser) reply {
			b.header.Set("Cookie", "__Host-riparo="+secret+"; token="+secret)
			return b.get("/api/v1/machines")
		},
		"as a password": func(b *browser) reply {
			b.header.Set("Authorization", "Basic "+secret)
			return b.get("/api/v1/machines")
		},
		"as another scheme": func(b *browser) reply {
			b.header.Set("Authorization", "Token "+secret)
			return b.get("/api/v1/machines")
		},
		"in a header": func(b *browser) reply { b.header.Set("X-Api-Key", secret); return b.get("/api/v1/machines") },
		"in the form": func(b *browser) reply { return b.post("/api/v1/machines/m-4f7c21aa/pause", "access_token", secret) },
	} {
		if got := ask(h.browser()); got.status != http.StatusUnauthorized {
			t.Errorf("%s: got %d, want 401", name, got.status)
		}
	}
	program := h.browser()
	program.header.Set("Authorization", "Bearer "+secret)
	for _, pattern := range h.console.Patterns() {
		method, path := pathOf(pattern)
		if strings.HasPrefix(path, "/api/") || web.Open(pattern) {
			continue
		}
		if got := program.do(method, path, nil, ""); got.status == http.StatusOK || got.status == http.StatusSeeOther && !strings.HasPrefix(got.header.Get("Location"), "/login") {
			t.Errorf("%s by a token: got %d to %q", pattern, got.status, got.header.Get("Location"))
		}
	}
	if len(h.appliance.asked) > 0 {
		t.Error("a token moved a machine by a form")
	}
}

// TestEveryScopeMeetsTheTable asks every call of the API with a token of every scope
// and compares with the role that it stands for.
func TestEveryScopeMeetsTheTable(t *testing.T) {
	h := newHouse(t, true).claimed()
	for _, scope := range api.Scopes() {
		role, err := scope.Role()
		if err != nil {
			t.Fatal(err)
		}
		made, err := h.client(store.Administrator).CreateToken(t.Context(), api.TokenBody{Name: string(scope), Scope: scope, Hours: 1})
		if err != nil || made.Role != role || made.Scope != scope {
			t.Fatalf("a token of scope %s: %+v, %v", scope, made.Token, err)
		}
		b := h.browser()
		b.header.Set("Authorization", "Bearer "+made.Secret)
		for _, pattern := range h.console.Patterns() {
			method, path := pathOf(pattern)
			if !strings.HasPrefix(path, "/api/") || endless(path) || path == "/api/v1/setup" {
				continue
			}
			got := b.do(method, path, strings.NewReader("{}"), "application/json")
			if allowed := web.May(role, pattern) || web.Open(pattern); (got.status == http.StatusForbidden) == allowed || got.status == http.StatusUnauthorized {
				t.Errorf("%s with scope %s: got %d, allowed is %v", pattern, scope, got.status, allowed)
			}
		}
	}
}

// TestALiveSocketIsOnlyForItsOwnPage refuses other sites, strangers and sessions that
// are half begun.
func TestALiveSocketIsOnlyForItsOwnPage(t *testing.T) {
	h := newHouse(t, true).claimed()
	b := h.signedIn("")
	for _, origin := range []string{"https://evil.example", "https://127.0.0.1", "null", "http://" + strings.TrimPrefix(h.server.URL, "https://") + ".evil.example"} {
		if _, status := b.dial("/", http.Header{"Origin": {origin}}); status != http.StatusForbidden {
			t.Errorf("a socket from %s: got %d, want 403", origin, status)
		}
	}
	if _, status := h.browser().dial("/", nil); status != http.StatusUnauthorized {
		t.Errorf("a stranger's socket: got %d, want 401", status)
	}
	if _, status := b.dial("/", http.Header{"Origin": {h.server.URL}}); status != http.StatusSwitchingProtocols {
		t.Errorf("our own socket: got %d, want 101", status)
	}
}
