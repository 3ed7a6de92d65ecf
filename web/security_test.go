package web_test

import (
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"riparo/web"
)

func TestEveryAnswerCarriesTheHeadersThatProtectIt(t *testing.T) {
	h := newHouse(t, true).claimed()
	signedIn, stranger := h.signedIn(""), h.browser()
	for _, got := range []reply{signedIn.get("/"), signedIn.get("/nothing"), stranger.get("/login"), stranger.get("/machines"), stranger.get("/api/v1/machines"), stranger.get("/healthz"),
		signedIn.post("/machines/m-4f7c21aa/pause")} {
		for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "same-origin", "Cache-Control": "no-store"} {
			if !strings.Contains(strings.Join(got.header.Values(name), ","), want) {
				t.Errorf("%s: got %q, want %q", name, got.header.Values(name), want)
			}
		}
		csp := got.header.Get("Content-Security-Policy")
		if !strings.Contains(csp, "default-src 'none'") || !strings.Contains(csp, "frame-ancestors 'none'") || strings.Contains(csp, "unsafe") {
			t.Errorf("Content-Security-Policy: got %q", csp)
		}
		if got.header.Get("Strict-Transport-Security") != "" {
			t.Error("HSTS is sent although browsers do not trust the certificate: exchanging it would lock people out")
		}
	}
}

func TestACookieIsForThisHostOverTLSAndNotForScripts(t *testing.T) {
	h := newHouse(t, true).claimed()
	got := h.browser().post("/login", "name", user, "password", password)
	cookie := got.header.Get("Set-Cookie")
	for _, want := range []string{"__Host-riparo=", "Path=/", "HttpOnly", "Secure", "SameSite=Lax"} {
		if !strings.Contains(cookie, want) {
			t.Errorf("the session's cookie %q lacks %s", cookie, want)
		}
	}
	for _, wrong := range []string{"Domain=", "Expires=", "Max-Age="} {
		if strings.Contains(cookie, wrong) {
			t.Errorf("the session's cookie %q has %s", cookie, wrong)
		}
	}
}

func TestAnotherSiteCannotPost(t *testing.T) {
	h := newHouse(t, true).claimed()
	b := h.signedIn("")
	for _, header := range []http.Header{{"Sec-Fetch-Site": {"cross-site"}}, {"Origin": {"https://evil.example"}}, {"Sec-Fetch-Site": {"same-site"}}} {
		b.header = header
		if got := b.post("/machines/m-4f7c21aa/pause"); got.status != http.StatusForbidden {
			t.Errorf("a post with %v: got %d, want 403", header, got.status)
		}
		if got := b.do("POST", "/api/v1/machines/m-4f7c21aa/pause", strings.NewReader("{}"), "application/json"); got.status != http.StatusForbidden {
			t.Errorf("an API call by cookie with %v: got %d, want 403", header, got.status)
		}
	}
	if len(h.appliance.asked) > 0 {
		t.Error("another site's request reached the appliance")
	}
	b.header = http.Header{"Sec-Fetch-Site": {"same-origin"}}
	if got := b.post("/machines/m-4f7c21aa/pause"); got.status != http.StatusSeeOther {
		t.Errorf("a post of our own: got %d, want 303", got.status)
	}
}

func TestAPlantedSessionIsWorthNothing(t *testing.T) {
	h := newHouse(t, true).claimed()
	b := h.browser()
	b.get("/login")
	first := b.post("/login", "name", user, "password", password).header.Get("Set-Cookie")
	stolen := strings.SplitN(first, ";", 2)[0]
	// The victim's browser has a cookie that the attacker knows, then signs in.
	victim := h.browser()
	victim.header.Set("Cookie", stolen)
	second := victim.post("/login", "name", user, "password", password).header.Get("Set-Cookie")
	if fresh := strings.SplitN(second, ";", 2)[0]; fresh == stolen || fresh == "" {
		t.Errorf("the sign-in kept the session %q", fresh)
	}
	attacker := h.browser()
	attacker.header.Set("Cookie", stolen)
	if got := attacker.get("/"); got.status == http.StatusOK {
		t.Error("the planted session is signed in")
	}
	attacker.header.Set("Cookie", "__Host-riparo=madeup")
	if got := attacker.get("/"); got.status != http.StatusSeeOther {
		t.Errorf("an invented session: got %d, want 303", got.status)
	}
}

func TestASignOutEndsTheSession(t *testing.T) {
	h := newHouse(t, true).claimed()
	b := h.browser()
	cookie := strings.SplitN(b.post("/login", "name", user, "password", password).header.Get("Set-Cookie"), ";", 2)[0]
	if got := b.post("/logout"); got.status != http.StatusSeeOther || got.header.Get("Location") != "/login" {
		t.Errorf("the sign-out: got %d to %q", got.status, got.header.Get("Location"))
	}
	again := h.browser()
	again.header.Set("Cookie", cookie)
	if got := again.get("/"); got.status != http.StatusSeeOther {
		t.Errorf("the cookie after the sign-out: got %d, want 303", got.status)
	}
	if got := b.get("/logout"); got.status == http.StatusOK {
		t.Error("a link can sign somebody out")
	}
}

func TestGuessingIsSlowedDownAndSaidSo(t *testing.T) {
	h := newHouse(t, true).claimed()
	b := h.browser()
	for i := range 5 {
		if got := b.post("/login", "name", user, "password", "wrong"); got.status != http.StatusUnprocessableEntity || !strings.Contains(got.body, "The name or the password is wrong") {
			t.Fatalf("wrong password %d: got %d", i+1, got.status)
		}
	}
	got := b.post("/login", "name", strings.ToUpper(user), "password", password)
	if got.status != http.StatusTooManyRequests || !strings.Contains(got.body, "Try again in") {
		t.Errorf("the right password after five wrong ones: got %d, want 429 and how long to wait", got.status)
	}
	if wait, err := strconv.Atoi(got.header.Get("Retry-After")); err != nil || wait < 1 || wait > 60 {
		t.Errorf("Retry-After is %q, want some seconds", got.header.Get("Retry-After"))
	}
	if got := h.browser().lang("it").post("/login", "name", user, "password", password); !strings.Contains(got.body, "iprovare tra") {
		t.Error("the wait is not told in Italian")
	}
	if got := b.post("/login", "name", "nobody", "password", "wrong"); got.status != http.StatusUnprocessableEntity {
		t.Errorf("another account from here: got %d, want 422", got.status)
	}
}

func TestNobodyIsSentElsewhere(t *testing.T) {
	for next, want := range map[string]string{
		"/machines?q=a": "/machines?q=a", "": "/", "https://evil.example/": "/", "//evil.example/": "/", "/\\evil.example": "/", "\\\\evil.example": "/",
		"javascript:alert(1)": "/", "/a\r\nSet-Cookie: b=c": "/", "///evil.example": "/", "machines": "/", "/\tevil": "/", "http:/evil.example": "/",
	} {
		if got := web.Local(next); got != want {
			t.Errorf("next=%q goes to %q, want %q", next, got, want)
		}
	}
	h := newHouse(t, true).claimed()
	b := h.browser()
	if got := b.get("/machines?q=web"); got.header.Get("Location") != "/login?next=%2Fmachines%3Fq%3Dweb" {
		t.Errorf("a page asked for too early leads to %q", got.header.Get("Location"))
	}
	if got := b.post("/login", "name", user, "password", password, "next", "//evil.example"); got.header.Get("Location") != "/" {
		t.Errorf("the sign-in leads to %q", got.header.Get("Location"))
	}
	if got := b.post("/preferences", "theme", "dark", "next", "https://evil.example"); got.header.Get("Location") != "/" {
		t.Errorf("the preferences lead to %q", got.header.Get("Location"))
	}
}

func TestLargeRequestsAreRefused(t *testing.T) {
	h := newHouse(t, true).claimed()
	b := h.signedIn("")
	got := b.post("/machines/m-4f7c21aa/test-failover", "notes", strings.Repeat("a", 1<<20))
	if got.status != http.StatusRequestEntityTooLarge {
		t.Errorf("a form of 1 MiB: got %d, want 413", got.status)
	}
	if got := b.do("POST", "/machines/m-4f7c21aa/test-failover", strings.NewReader(`{"point":"x"}`), "application/json"); got.status != http.StatusUnsupportedMediaType {
		t.Errorf("a form that is none: got %d, want 415", got.status)
	}
	if got := b.do("POST", "/api/v1/machines/m-4f7c21aa/test-failover", strings.NewReader(`{"notes":"`+strings.Repeat("a", 1<<20)+`"}`), "application/json"); got.status < 400 {
		t.Errorf("a call of 1 MiB was taken: %d", got.status)
	}
	if len(h.appliance.asked) > 0 {
		t.Error("a part of a request was done")
	}
}

func TestWhatPeopleWriteIsEscaped(t *testing.T) {
	h := newHouse(t, true).claimed()
	b := h.signedIn("")
	evil := `"><script>alert(1)</script>`
	if got := b.post("/settings/tokens", "name", evil, "role", "viewer"); strings.Contains(got.body, "<script>alert") {
		t.Error("a token's name is script")
	}
	for _, path := range []string{"/machines?q=" + "%22%3E%3Cscript%3Ealert(1)", "/events?machine=%22%3E%3Cscript%3Ealert(1)", "/login?next=/%22%3E%3Cscript%3Ealert(1)", "/protect?site=%22%3E%3Cscript%3Ealert(1)&ref=x"} {
		if got := b.get(path); strings.Contains(got.body, "<script>alert") {
			t.Errorf("%s is script", path)
		}
	}
}

func TestAChangedPasswordEndsOtherSessions(t *testing.T) {
	h := newHouse(t, true).claimed()
	here, elsewhere := h.signedIn(""), h.signedIn("")
	if got := here.post("/account/password", "old", "wrong", "password", "another calm sentence", "again", "another calm sentence"); got.status != http.StatusUnprocessableEntity {
		t.Errorf("a wrong old password: got %d, want 422", got.status)
	}
	if got := here.post("/account/password", "old", password, "password", "short", "again", "short"); got.status != http.StatusUnprocessableEntity {
		t.Errorf("a short password: got %d, want 422", got.status)
	}
	if got := here.post("/account/password", "old", password, "password", "another calm sentence", "again", "another calm sentence"); got.status != http.StatusOK || !strings.Contains(got.body, "was changed") {
		t.Fatalf("the change: got %d", got.status)
	}
	if got := here.get("/"); got.status != http.StatusOK {
		t.Errorf("the session that changed it: got %d, want 200", got.status)
	}
	if got := elsewhere.get("/"); got.status != http.StatusSeeOther {
		t.Errorf("another session: got %d, want 303", got.status)
	}
	if _, err := h.identity.Login(t.Context(), user, password, "test"); err == nil {
		t.Error("the old password still works")
	}
}

// slowForm is a form of which nothing comes before the server asks for it: then its
// session is known. Meanwhile happens before the first byte.
type slowForm struct {
	io.Reader
	meanwhile func()
}

func (f *slowForm) Read(p []byte) (int, error) {
	if f.meanwhile != nil {
		f.meanwhile()
		f.meanwhile = nil
	}
	return f.Reader.Read(p)
}

func TestASessionThatEndsDuringARequestStaysEnded(t *testing.T) {
	h := newHouse(t, true).claimed()
	change := url.Values{"old": {password}, "password": {"another calm sentence"}, "again": {"another calm sentence"}}
	for _, row := range [][2]string{{"/preferences", "theme=dark"}, {"/account/password", change.Encode()}} {
		path, form := row[0], row[1]
		b := h.browser()
		cookie := strings.SplitN(b.post("/login", "name", user, "password", password).header.Get("Set-Cookie"), ";", 2)[0]
		b.client.Transport.(*http.Transport).ExpectContinueTimeout = time.Minute
		b.header.Set("Expect", "100-continue")
		slow := &slowForm{strings.NewReader(form), func() {
			list, err := h.identity.SessionList(user, "")
			if err != nil || len(list) != 1 {
				t.Errorf("sessions: %+v, %v", list, err)
				return
			}
			if _, err := h.identity.EndSession(list[0].ID, ""); err != nil {
				t.Error(err)
			}
		}}
		got := b.do("POST", path, slow, "application/x-www-form-urlencoded")
		if slow.meanwhile != nil || got.status >= http.StatusInternalServerError {
			t.Fatalf("%s: got %d", path, got.status)
		}
		b.header.Del("Expect")
		if again := b.get("/"); again.status != http.StatusSeeOther {
			t.Errorf("%s: the browser is signed in again: got %d, with %q", path, again.status, got.header.Values("Set-Cookie"))
		}
		thief := h.browser()
		thief.header.Set("Cookie", cookie)
		if again := thief.get("/"); again.status != http.StatusSeeOther {
			t.Errorf("%s: the ended session is back: got %d", path, again.status)
		}
		for _, set := range got.header.Values("Set-Cookie") {
			if strings.HasPrefix(set, "__Host-riparo=") && !strings.Contains(set, "Max-Age=0") {
				t.Errorf("%s: the answer gives the cookie %q", path, set)
			}
		}
		if list, err := h.identity.SessionList(user, ""); err != nil || len(list) != 0 {
			t.Errorf("%s: sessions that hold: %+v, %v", path, list, err)
		}
	}
}

func TestARemovedAccountIsSignedOut(t *testing.T) {
	h := newHouse(t, true).claimed()
	b := h.signedIn("viewer")
	if got := h.signedIn("").post("/settings/users/viewer/remove"); got.status != http.StatusSeeOther {
		t.Fatalf("the removal: got %d", got.status)
	}
	if got := b.get("/"); got.status != http.StatusSeeOther {
		t.Errorf("the removed account: got %d, want 303", got.status)
	}
	if got := h.signedIn("").post("/settings/users/" + user + "/remove"); got.status != http.StatusConflict || !strings.Contains(got.body, "your own account") {
		t.Errorf("the removal of one's own account: got %d, want 409", got.status)
	}
}

func TestSignsOfLife(t *testing.T) {
	h := newHouse(t, true)
	b := h.browser()
	for path, want := range map[string]string{"/healthz": "ok", "/readyz": "ready"} {
		if got := b.get(path); got.status != http.StatusOK || strings.TrimSpace(got.body) != want {
			t.Errorf("GET %s: got %d %q, want 200 %q", path, got.status, got.body, want)
		}
	}
	got := b.get("/metrics") // from loopback
	for _, want := range []string{`riparo_rpo_seconds{id="m-4f7c21aa",machine="web01"} 1`, `riparo_vault_stored_bytes 2.2`, `riparo_jobs_unfinished{state="in progress"} 1`,
		`riparo_machine_state{id="m-91ce0b33",machine="mail",state="initial replication"} 1`, `riparo_site_reachable{site="Milano"} 1`, `riparo_machine_health{id="m-c0ffee00",machine="dc-rome-legacy"} 2`} {
		if !strings.Contains(got.body, want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
	if strings.Contains(got.body, `riparo_rpo_seconds{id="m-91ce0b33"`) {
		t.Error("/metrics gives an RPO to a machine without a point")
	}
}
