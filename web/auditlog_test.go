package web_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"riparo/store"
	"riparo/web"
)

// lines are the audit log, oldest first.
func (h *house) lines() []store.AuditLine {
	h.Helper()
	lines, err := h.audit.Page(0, store.MaxPage)
	if err != nil {
		h.Fatal(err)
	}
	slices.Reverse(lines)
	return lines
}

// TestEveryChangeLeavesALineBeforeAndAfter crawls every route that can change
// something, as a form and as a call, and looks for its two lines.
func TestEveryChangeLeavesALineBeforeAndAfter(t *testing.T) {
	h := newHouse(t, true).claimed()
	b := h.signedIn("")
	secret, _, err := h.identity.CreateToken(user, "ci", store.Administrator, 0)
	if err != nil {
		t.Fatal(err)
	}
	program := h.browser()
	program.header.Set("Authorization", "Bearer "+secret)
	crawled := 0
	for _, pattern := range h.console.Patterns() {
		method, path := pathOf(pattern)
		if method == "GET" || strings.HasPrefix(pattern, "POST /preferences") || pattern == "POST /password/estimate" || pattern == "POST /login/passkey/begin" || pattern == "POST /logout" || pattern == "POST /api/v1/setup" {
			continue
		}
		before := h.lines()
		client, actor := b, user
		var got reply
		if strings.HasPrefix(path, "/api/") {
			client, actor = program, "token ci"
			got = client.do(method, path, strings.NewReader("{}"), "application/json")
		} else {
			got = client.post(path)
		}
		fresh := h.lines()[len(before):]
		if path == "/login" || path == "/login/second" || path == "/login/passkey" || path == "/setup" { // asked for by strangers: one line, or none when nothing was tried
			continue
		}
		crawled++
		if len(fresh) != 2 || fresh[0].Outcome != store.AuditAsked || fresh[1].Of != fresh[0].Sequence || fresh[0].Actor != actor || fresh[0].Address != "127.0.0.1" || fresh[0].Role != store.Administrator {
			t.Errorf("%s left %+v: want what was asked for and its outcome", pattern, fresh)
			continue
		}
		want := store.AuditDone
		if got.status >= 500 {
			want = store.AuditFailed
		} else if got.status >= 400 {
			want = store.AuditRefused
		}
		if fresh[1].Outcome != want {
			t.Errorf("%s answered %d and is recorded as %s", pattern, got.status, fresh[1].Outcome)
		}
		if b.get("/").status != http.StatusOK { // a route has ended the session
			b = h.signedInAgain()
		}
	}
	if crawled < 30 {
		t.Errorf("only %d routes were crawled", crawled)
	}
	if r, err := h.audit.Verify(t.Context()); err != nil || !r.Sound {
		t.Errorf("the chain after the crawl: %+v, %v", r, err)
	}
}

// signedInAgain is a new session of the administrator.
func (h *house) signedInAgain() *browser {
	h.Helper()
	b := h.browser()
	if got := b.post("/login", "name", user, "password", password); got.status != http.StatusSeeOther {
		h.Fatalf("sign in again: got %d", got.status)
	}
	return b
}

func TestARefusalByRoleIsRecorded(t *testing.T) {
	h := newHouse(t, true).claimed()
	viewer := h.signedIn(store.Viewer)
	if got := viewer.post("/machines/m-4f7c21aa/pause"); got.status != http.StatusForbidden {
		t.Fatalf("got %d", got.status)
	}
	lines := h.lines()
	asked, came := lines[len(lines)-2], lines[len(lines)-1]
	if asked.Actor != "viewer" || asked.Action != "machines.pause" || asked.Object != "m-4f7c21aa" || came.Outcome != store.AuditRefused {
		t.Errorf("got %+v and %+v", asked, came)
	}
}

func TestSignInsAreRecordedAndGuessersCannotFlood(t *testing.T) {
	h := newHouse(t, true).claimed()
	h.signedIn("")
	lines := h.lines()
	if last := lines[len(lines)-1]; last.Action != "session.begin" || last.Actor != user || last.Outcome != store.AuditDone || last.Of != 0 {
		t.Errorf("a sign-in left %+v", last)
	}
	b := h.browser()
	before := len(lines)
	for range 40 {
		b.post("/login", "name", user, "password", "secret-canary")
		b.post("/login", "name", "my-password-canary", "password", "x")
		b.do("POST", "/login", strings.NewReader("{}"), "application/json")
		b.post("/machines/m-4f7c21aa/pause")
		// What no lockout counts.
		b.post("/login/passkey", "response", "{}")
		b.post("/setup", "token", "x", "name", "x", "password", "a", "again", "b")
		b.do("POST", "/api/v1/setup", strings.NewReader(`{"nothing":"like it"}`), "application/json")
		b.header.Set("Cookie", "__Host-riparo-signon=rubbish")
		b.get("/login/openid/callback")
		b.header.Del("Cookie")
	}
	fresh := h.lines()[before:]
	if len(fresh) == 0 || len(fresh) > 20 {
		t.Errorf("320 requests of a stranger left %d lines, want at most 20", len(fresh))
	}
	for _, line := range fresh {
		if line.Outcome != store.AuditRefused || line.Object != user && line.Object != "" || strings.Contains(line.Detail, "canary") {
			t.Errorf("got %+v: want a refusal that tells no more than the account", line)
		}
	}
}

// TestWhatStrangersWereRefusedBesidesIsCounted: who signs in to read the log finds the
// number in it.
func TestWhatStrangersWereRefusedBesidesIsCounted(t *testing.T) {
	h := newHouse(t, true).claimed()
	before := len(h.lines())
	b := h.browser()
	for range 50 {
		if got := b.post("/login/passkey", "response", "{}"); got.status != http.StatusUnprocessableEntity {
			t.Fatalf("got %d, want 422: the test shows nothing", got.status)
		}
	}
	h.signedInAgain()
	h.signedInAgain()
	var sums []store.AuditLine
	for _, line := range h.lines()[before:] {
		if line.Action == "strangers.refused" {
			sums = append(sums, line)
		}
	}
	if len(sums) != 1 || sums[0].Detail != "count=30" || sums[0].Outcome != store.AuditRefused {
		t.Errorf("50 refusals, of which 20 have a line, are summed as %+v; want one of 30", sums)
	}
	if r, err := h.audit.Verify(t.Context()); err != nil || !r.Sound {
		t.Errorf("the chain: %+v, %v", r, err)
	}
}

// TestACallIsRecordedWithItsDetailWhateverKindOfBodyItNames: the API takes a body
// without a kind, and every kind of JSON.
func TestACallIsRecordedWithItsDetailWhateverKindOfBodyItNames(t *testing.T) {
	h := newHouse(t, true).claimed()
	secret, _, err := h.identity.CreateToken(user, "ci", store.Administrator, 0)
	if err != nil {
		t.Fatal(err)
	}
	program := h.browser()
	program.header.Set("Authorization", "Bearer "+secret)
	for _, kind := range []string{"application/json", "", "application/vnd.acme+json", "Application/JSON"} {
		before := len(h.lines())
		program.do("POST", "/api/v1/users", strings.NewReader(`{"name":"bruno","role":"nobody","password":"canary and a calm sentence"}`), kind)
		fresh := h.lines()[before:]
		if len(fresh) != 2 || fresh[0].Detail != "name=bruno password=••• role=nobody" {
			t.Errorf("a body of the kind %q left %+v: want what was asked for", kind, fresh)
		}
	}
}

func TestSecretsAreNotWrittenToTheLogOfWhoDidWhat(t *testing.T) {
	h := newHouse(t, true).claimed()
	b := h.signedIn("")
	b.post("/settings/users", "name", "bruno", "role", "viewer", "password", "canary and a calm sentence", "something_new", "canary")
	b.post("/settings/password", "old", "canary", "password", "canary", "again", "canary")
	h.client(store.Administrator).CreateToken(t.Context(), apiToken("canary-free"))
	for _, line := range h.lines() {
		if strings.Contains(line.Detail+line.Before+line.After+line.Object, "canary and") || strings.Contains(line.Detail, "=canary ") || strings.HasSuffix(line.Detail, "=canary") {
			t.Errorf("a secret is in %+v", line)
		}
	}
	found := slices.IndexFunc(h.lines(), func(l store.AuditLine) bool {
		return l.Action == "users.add" && l.Detail == "name=bruno password=••• role=viewer something_new=•••"
	})
	if found < 0 {
		t.Errorf("what was asked for is not told without its secrets: %+v", h.lines())
	}
}

func TestWhatCannotBeRecordedIsNotDone(t *testing.T) {
	h := newHouse(t, true).claimed()
	b := h.signedIn("")
	h.full.Store(true)
	if got := b.post("/machines/m-4f7c21aa/pause"); got.status != http.StatusServiceUnavailable || !strings.Contains(got.body, "audit log cannot be written") {
		t.Errorf("got %d: want 503 and why", got.status)
	}
	if len(h.appliance.asked) > 0 {
		t.Error("what was not recorded was done")
	}
	h.full.Store(false)
	if got := b.post("/machines/m-4f7c21aa/pause"); got.status != http.StatusSeeOther {
		t.Errorf("afterwards: got %d, want 303", got.status)
	}
}

func TestAuditorsReadTheLogAndOthersDoNot(t *testing.T) {
	h := newHouse(t, true).claimed()
	auditor := h.signedIn(store.Auditor)
	auditor.post("/machines/m-4f7c21aa/pause")
	page := auditor.get("/audit")
	for _, want := range []string{"Audit log", "Sign in", "Refused", "m-4f7c21aa", "127.0.0.1", "auditor"} {
		if !strings.Contains(page.body, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if got := auditor.get("/audit?q=no-such-thing"); strings.Contains(got.body, "m-4f7c21aa") {
		t.Error("the search finds what was not searched")
	}
	if got := auditor.get("/audit?q=M-4F7C"); !strings.Contains(got.body, `id="line-`) {
		t.Error("the search does not find a machine")
	}
	if got := auditor.get("/audit?verify=now"); !strings.Contains(got.body, "The chain is sound") {
		t.Error("the verification of a sound chain does not say so")
	}
	export := auditor.get("/audit/export")
	if n := strings.Count(export.body, "\n"); export.status != http.StatusOK || n != len(h.lines()) || !strings.HasPrefix(export.body, `{"sequence":1,`) {
		t.Errorf("the export: got %d with %d lines", export.status, n)
	}
	for _, role := range []store.Role{store.Viewer, store.Operator, store.RecoveryOperator} {
		b := h.signedIn(role)
		for _, path := range []string{"/audit", "/audit/export"} {
			if got := b.get(path); got.status != http.StatusForbidden {
				t.Errorf("%s as %s: got %d, want 403", path, role, got.status)
			}
		}
		if strings.Contains(b.get("/").body, `href="/audit"`) {
			t.Errorf("the navigation offers the audit log to a %s", role)
		}
	}
	// A line is changed past the appliance.
	if err := h.store.Update(func(tx *store.Tx) error {
		line, err := tx.Audit().Get(store.AuditKey(2))
		if err != nil {
			return err
		}
		line.Actor = "nobody"
		return tx.Audit().Put(line)
	}); err != nil {
		t.Fatal(err)
	}
	if got := auditor.get("/audit?verify=now"); !strings.Contains(got.body, "Line 2 is not as it was written") {
		t.Error("the verification does not name the line that was changed")
	}
}

func TestTheAuditLogIsReadByTheAPI(t *testing.T) {
	h := newHouse(t, true).claimed()
	c, ctx := h.client(store.Auditor), t.Context()
	policy := h.signedIn("")
	policy.post("/policies", "name", "silver", "copy", "30s", "app", "1h", "freeze", "10s", "threshold", "5m", "retention", "24h:all")
	lines, err := c.AuditLines(ctx, 0, 10)
	if err != nil || len(lines) < 3 || lines[0].Sequence < lines[1].Sequence {
		t.Fatalf("lines: %+v, %v", lines, err)
	}
	if lines[0].Action != "policies.save" || lines[1].Action != "policies.save" {
		t.Errorf("the newest lines are %+v", lines[:2])
	}
	if older, err := c.AuditLines(ctx, lines[1].Sequence, 10); err != nil || older[0].Sequence != lines[1].Sequence-1 {
		t.Errorf("older lines: %+v, %v", older, err)
	}
	if r, err := c.VerifyAudit(ctx); err != nil || !r.Sound || r.Lines != len(h.lines()) {
		t.Errorf("verify: %+v, %v", r, err)
	}
	var export strings.Builder
	if err := c.ExportAudit(ctx, &export); err != nil || strings.Count(export.String(), "\n") != len(h.lines()) {
		t.Errorf("export: %v, %d lines", err, strings.Count(export.String(), "\n"))
	}
	if _, err := h.client(store.Operator).VerifyAudit(ctx); problemOf(t, err).Code != "access.denied" {
		t.Errorf("an operator's token: %v", err)
	}
}

func TestEveryRouteHasAnActionOfItsOwnName(t *testing.T) {
	h := newHouse(t, false)
	for _, pattern := range h.console.Patterns() {
		name := web.ActionOf(pattern)
		if strings.ContainsAny(name, "{} /") || name == "" {
			t.Errorf("%s is recorded as %q", pattern, name)
		}
	}
	for pattern, want := range map[string]string{"POST /machines/{id}/pause": "machines.pause", "POST /api/v1/machines/{id}/pause": "machines.pause",
		"PUT /api/v1/policies/{name}": "policies.save", "DELETE /api/v1/things/{name}": "things.delete", "POST /things": "things.post"} {
		if got := web.ActionOf(pattern); got != want {
			t.Errorf("%s is recorded as %q, want %q", pattern, got, want)
		}
	}
}
