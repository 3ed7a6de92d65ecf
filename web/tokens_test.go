package web_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"riparo/store"
)

// TestATokenSaysWhoMadeIt: on the page and in the API, so that it is found when somebody
// leaves.
func TestATokenSaysWhoMadeIt(t *testing.T) {
	h := newHouse(t, true).claimed()
	tokens, err := h.client(store.Administrator).Tokens(t.Context())
	if err != nil || len(tokens) != 1 || tokens[0].By != user {
		t.Errorf("the API: %+v, %v", tokens, err)
	}
	b := h.signedIn("")
	if page := b.get("/settings/tokens"); !strings.Contains(page.body, "made by "+user) {
		t.Error("the page does not say who made it")
	}
	if err := h.identity.SetLanguage(user, "it"); err != nil {
		t.Fatal(err)
	}
	if page := b.get("/settings/tokens"); !strings.Contains(page.body, "creato da "+user) {
		t.Error("the page does not say it in Italian")
	}
}

// TestATokenOfAClosedAccountOpensNothing: and says so to who holds it.
func TestATokenOfAClosedAccountOpensNothing(t *testing.T) {
	h := newHouse(t, true).claimed().populated()
	secret, _, err := h.identity.CreateToken("carla", "ci", store.Administrator, 0)
	if err != nil {
		t.Fatal(err)
	}
	b := h.browser()
	b.header.Set("Authorization", "Bearer "+secret)
	if got := b.get("/api/v1/machines"); got.status != http.StatusOK {
		t.Errorf("while the account is open: got %d", got.status)
	}
	if got := b.get("/api/v1/users"); got.status != http.StatusForbidden { // carla is an operator
		t.Errorf("more than its person may: got %d, want 403", got.status)
	}
	if err := h.identity.SetDisabled(user, "carla", true); err != nil {
		t.Fatal(err)
	}
	if got := b.get("/api/v1/machines"); got.status != http.StatusUnauthorized || !strings.Contains(got.body, "is closed") {
		t.Errorf("when it is closed: got %d and %s", got.status, got.body)
	}
}

// TestAStreamEndsWithWhatOpenedIt: a token that is revoked, an account that is closed and
// a session that has ended leave no stream open behind them. One that holds goes on.
func TestAStreamEndsWithWhatOpenedIt(t *testing.T) {
	h := newHouse(t, true).claimed().populated()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	listen := func(b *browser, path string) *bufio.Reader {
		t.Helper()
		r, err := http.NewRequestWithContext(ctx, "GET", b.base+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for k, v := range b.header {
			r.Header[k] = v
		}
		response, err := b.client.Do(r)
		if err != nil || response.StatusCode != http.StatusOK {
			t.Fatalf("%s: %v, %v", path, response, err)
		}
		t.Cleanup(func() { response.Body.Close() })
		lines := bufio.NewReader(response.Body)
		if _, err := lines.ReadString('\n'); err != nil { // it listens
			t.Fatal(err)
		}
		return lines
	}
	program := func(by string) (*browser, string) {
		t.Helper()
		secret, token, err := h.identity.CreateToken(by, "ci", store.Viewer, 0)
		if err != nil {
			t.Fatal(err)
		}
		b := h.browser()
		b.header.Set("Authorization", "Bearer "+secret)
		return b, token.ID
	}
	holds, _ := program(user)
	revoked, id := program(user)
	closed, _ := program("carla")
	session := h.signedIn(store.Viewer)
	ends := map[string]*bufio.Reader{}
	for _, path := range []string{"/api/v1/events", "/api/v1/logs/stream"} {
		ends["a revoked token at "+path], ends["a closed account at "+path], ends["an ended session at "+path] = listen(revoked, path), listen(closed, path), listen(session, path)
	}
	stays := listen(holds, "/api/v1/events")
	if err := errors.Join(h.identity.RevokeToken(user, id), h.identity.SetDisabled(user, "carla", true)); err != nil {
		t.Fatal(err)
	}
	session.post("/logout")
	began := time.Now()
	for name, lines := range ends {
		// The deadline of the last message may have cut its end off: an end it is.
		if _, err := io.Copy(io.Discard, lines); ctx.Err() != nil || time.Since(began) > 30*time.Second {
			t.Fatalf("%s: %v after %s, want the end of the stream", name, err, time.Since(began))
		}
	}
	for beats := 0; beats < 1; {
		line, err := stays.ReadString('\n')
		if err != nil {
			t.Fatalf("a stream whose token holds ended after %d beats: %v", beats, err)
		}
		if strings.HasPrefix(line, "event: beat") {
			beats++
		}
	}
}

// deadlined keeps the deadline that is set for reading.
type deadlined struct {
	*httptest.ResponseRecorder
	read time.Time
}

func (d *deadlined) SetReadDeadline(at time.Time) error { d.read = at; return nil }

// TestAStreamIsNotEndedByTheTimeForBodies: who listens sends nothing more, and would be cut
// off when the time of a slow body is over.
func TestAStreamIsNotEndedByTheTimeForBodies(t *testing.T) {
	h := newHouse(t, true).claimed()
	for _, row := range []struct {
		request *http.Request
		bounded bool
	}{{httptest.NewRequest("GET", "/healthz", nil), false}, {httptest.NewRequest("POST", "/login", strings.NewReader("name=anna")), true}} {
		w := &deadlined{ResponseRecorder: httptest.NewRecorder()}
		h.console.ServeHTTP(w, row.request)
		if w.read.IsZero() == row.bounded {
			t.Errorf("%s %s: the time for its body ends at %v", row.request.Method, row.request.URL, w.read)
		}
	}
}
