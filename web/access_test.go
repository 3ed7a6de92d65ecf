package web_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"riparo/store"
	"riparo/web"
)

func TestEveryRouteIsInTheTableAndTheTableHasNoOther(t *testing.T) {
	h := newHouse(t, false)
	patterns := h.console.Patterns()
	table := web.Table()
	for _, p := range patterns {
		if _, ok := table[p]; !ok {
			t.Errorf("%s is in no row of the table: everybody is refused", p)
		}
	}
	for p := range table {
		if !slices.Contains(patterns, p) {
			t.Errorf("the table has %s, which is no route", p)
		}
	}
}

// pathOf fills the blanks of a pattern with what the house has.
func pathOf(pattern string) (method, path string) {
	method, path, _ = strings.Cut(pattern, " ")
	id := "m-4f7c21aa"
	if strings.Contains(path, "/jobs/") {
		id = "20261123T080000.000Z-0000001"
	}
	return method, strings.NewReplacer("{$}", "", "{id}", id, "{name}", "gold", "{page...}", "failover").Replace(path)
}

// endless are the streams: an answer that does not end is not read by a crawl.
func endless(path string) bool { return path == "/api/v1/events" || path == "/api/v1/logs/stream" }

// TestEveryRoleMeetsTheTable asks every route in every role. A route that a role
// may not use says 403, one that it may use says anything else: 401 and 403 come
// from nowhere else.
func TestEveryRoleMeetsTheTable(t *testing.T) {
	h := newHouse(t, true).claimed()
	for _, role := range []store.Role{store.Viewer, store.Auditor, store.Operator, store.RecoveryOperator, store.Administrator} {
		b := h.signedIn(role)
		secret, _, err := h.identity.CreateToken(user, string(role), role, 0)
		if err != nil {
			t.Fatal(err)
		}
		program := h.browser()
		program.header.Set("Authorization", "Bearer "+secret)
		for _, pattern := range h.console.Patterns() {
			method, path := pathOf(pattern)
			if path == "/logout" || endless(path) { // ends the session; does not end
				continue
			}
			client := b
			if strings.HasPrefix(path, "/api/") || path == "/metrics" {
				client = program
			}
			var got reply
			if method == "GET" {
				got = client.get(path)
			} else {
				got = client.do(method, path, strings.NewReader("{}"), "application/json")
			}
			allowed := web.May(role, pattern) || web.Open(pattern)
			if refused := got.status == http.StatusForbidden || got.status == http.StatusUnauthorized; refused == allowed && path != "/api/v1/setup" {
				t.Errorf("%s as %s: got %d, allowed is %v", pattern, role, got.status, allowed)
			}
		}
	}
}

func TestStrangersSeeTheSignInAndNothingElse(t *testing.T) {
	h := newHouse(t, true).claimed()
	b := h.browser()
	for _, pattern := range h.console.Patterns() {
		method, path := pathOf(pattern)
		if web.Open(pattern) {
			continue
		}
		got := b.do(method, path, nil, "")
		want := http.StatusSeeOther
		if strings.HasPrefix(path, "/api/") || path == "/live" {
			want = http.StatusUnauthorized
		}
		if got.status != want || want == http.StatusSeeOther && !strings.HasPrefix(got.header.Get("Location"), "/login") {
			t.Errorf("%s as nobody: got %d to %q, want %d", pattern, got.status, got.header.Get("Location"), want)
		}
		if strings.Contains(got.body, "web01") {
			t.Errorf("%s tells a stranger about a machine", pattern)
		}
	}
	for path, want := range map[string]int{"/nothing": 303, "/api/v1/nothing": 401, "/api/nothing": 401} {
		if got := b.get(path); got.status != want {
			t.Errorf("GET %s as nobody: got %d, want %d: what exists is not told", path, got.status, want)
		}
	}
}

func TestAnUnclaimedApplianceShowsOnlyItsClaim(t *testing.T) {
	h := newHouse(t, true)
	b := h.browser()
	for _, path := range []string{"/", "/machines", "/login", "/settings", "/nothing"} {
		if got := b.get(path); got.status != http.StatusSeeOther || got.header.Get("Location") != "/setup" {
			t.Errorf("GET %s: got %d to %q, want 303 to /setup", path, got.status, got.header.Get("Location"))
		}
	}
	if got := b.post("/setup", "token", "WRONG", "name", user, "password", password, "again", password, "language", "en"); got.status != http.StatusUnprocessableEntity || !strings.Contains(got.body, "etup token is not right") {
		t.Errorf("a wrong setup token: got %d", got.status)
	}
	if got := b.post("/setup", "token", h.token, "name", user, "password", password, "again", "other", "language", "en"); got.status != http.StatusUnprocessableEntity || !strings.Contains(got.body, h.token) {
		t.Errorf("passwords that differ: got %d; the token that was right is kept", got.status)
	}
	if got := b.post("/setup", "token", " "+strings.ToLower(h.token[:13])+"-"+h.token[13:], "name", user, "password", password, "again", password, "language", "it"); got.status != http.StatusSeeOther {
		t.Fatalf("the claim: got %d\n%s", got.status, got.body)
	}
	if got := b.get("/"); got.status != http.StatusOK || !strings.Contains(got.body, `lang="it"`) {
		t.Errorf("after the claim: got %d, want the overview in Italian", got.status)
	}
	if got := h.browser().post("/setup", "token", h.token, "name", "mallory", "password", password, "again", password); got.status == http.StatusSeeOther {
		t.Error("the appliance was claimed twice")
	}
	if got := h.browser().get("/setup"); got.status != http.StatusSeeOther {
		t.Errorf("GET /setup of a claimed appliance: got %d, want 303", got.status)
	}
}

func TestAnAPITokenIsNotASession(t *testing.T) {
	h := newHouse(t, true).claimed()
	secret, token, err := h.identity.CreateToken(user, "ci", store.Administrator, 0)
	if err != nil {
		t.Fatal(err)
	}
	b := h.browser()
	b.header.Set("Authorization", "Bearer "+secret)
	if got := b.get("/machines"); got.status != http.StatusSeeOther {
		t.Errorf("a page by token: got %d, want 303 to the sign-in", got.status)
	}
	if got := b.get("/api/v1/machines"); got.status != http.StatusOK {
		t.Errorf("the API by token: got %d, want 200", got.status)
	}
	if err := h.identity.RevokeToken(user, token.ID); err != nil {
		t.Fatal(err)
	}
	if got := b.get("/api/v1/machines"); got.status != http.StatusUnauthorized {
		t.Errorf("the API by a revoked token: got %d, want 401", got.status)
	}
	b.header.Set("Authorization", "Basic YTpi")
	if got := b.get("/api/v1/machines"); got.status != http.StatusUnauthorized || got.header.Get("WWW-Authenticate") == "" {
		t.Errorf("the API by a password: got %d, want 401 and how to ask", got.status)
	}
}
