package web_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"riparo/store"
	"riparo/web/api"
)

var placeholder = regexp.MustCompile(`\{[^}]*\}`)

// FuzzAPI calls the operations of the API as an administrator's program that sends
// what it likes. Whatever that is, the answer is no failure of the server, and one that
// refuses it is a problem.
func FuzzAPI(f *testing.F) {
	h := newHouse(f, true).claimed()
	operations := slices.DeleteFunc(h.console.Patterns(), func(p string) bool {
		return !strings.Contains(p, " /api/") || strings.HasSuffix(p, "/events") || strings.HasSuffix(p, "/stream") // those do not end
	})
	slices.Sort(operations)
	token := func(t testing.TB) string {
		secret, _, err := h.identity.CreateToken(user, "fuzz", store.Administrator, 0)
		if err != nil {
			t.Fatal(err)
		}
		return secret
	}
	secret := token(f)
	for i := range operations {
		f.Add(uint8(i), "m-4f7c21aa", "limit=10", []byte(`{"name":"gold","point":"latest","target":"torino","hours":1,"role":"viewer"}`))
	}
	f.Add(uint8(1), "\x00", "limit=-1&before=%zz&since=x", []byte(`[`))
	f.Add(uint8(7), "ü/../x", "q=%22\f&level=9", []byte("\xff\xfe{}"))
	f.Fuzz(func(t *testing.T, which uint8, id, query string, body []byte) {
		method, path, _ := strings.Cut(operations[int(which)%len(operations)], " ")
		path = placeholder.ReplaceAllLiteralString(path, url.PathEscape(id))
		target, err := url.ParseRequestURI(path)
		if err != nil {
			return // net/http refuses it before anybody sees it
		}
		target.RawQuery = query
		r := httptest.NewRequest(method, "/", strings.NewReader(string(body)))
		r.URL, r.RequestURI = target, target.RequestURI()
		r.Header.Set("Authorization", "Bearer "+secret)
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		h.console.ServeHTTP(w, r)
		judge(t, r, w)
		if w.Code == http.StatusUnauthorized { // the token was revoked, as asked
			secret = token(t)
		}
	})
}

// judge looks at the answer to a call.
func judge(t *testing.T, r *http.Request, w *httptest.ResponseRecorder) {
	t.Helper()
	if w.Code >= http.StatusInternalServerError {
		t.Fatalf("%s %s: %d\n%s", r.Method, r.RequestURI, w.Code, w.Body)
	}
	if w.Code < http.StatusBadRequest {
		return
	}
	var p api.Problem
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Status != w.Code || p.Detail == "" || w.Header().Get("Content-Type") != "application/problem+json" {
		t.Fatalf("%s %s: %d as %q, which is no problem: %s, %v", r.Method, r.RequestURI, w.Code, w.Header().Get("Content-Type"), w.Body, err)
	}
}

// FuzzWhoAsks sends credentials that nobody was given: as a token of the API, as the
// cookie of a browser, as the token of the setup. None of them opens anything.
func FuzzWhoAsks(f *testing.F) {
	claimed, unclaimed := newHouse(f, false).claimed(), newHouse(f, false)
	secret, _, err := claimed.identity.CreateToken(user, "program", store.Viewer, 0)
	if err != nil {
		f.Fatal(err)
	}
	for _, text := range []string{secret[:len(secret)-1], "riparo__", "riparo_\x00_x", strings.ToUpper(secret), "a; b=c", strings.Repeat("_", 5000), "AAAA-BBBB"} {
		f.Add("Bearer "+text, text, text)
	}
	f.Add("Basic YTpi", "", "")
	f.Fuzz(func(t *testing.T, authorization, cookie, setup string) {
		if strings.Contains(authorization, secret) {
			return
		}
		call := func(h *house, method, path, body string) *httptest.ResponseRecorder {
			r := httptest.NewRequest(method, path, strings.NewReader(body))
			r.Header["Authorization"] = []string{authorization}
			r.Header["Cookie"] = []string{"__Host-riparo=" + cookie}
			r.Header.Set("Content-Type", "application/json")
			w := httptest.NewRecorder()
			h.console.ServeHTTP(w, r)
			return w
		}
		if w := call(claimed, "GET", "/api/v1/machines", ""); w.Code != http.StatusUnauthorized {
			t.Fatalf("%q and the cookie %q: %d, want 401: %s", authorization, cookie, w.Code, w.Body)
		}
		if w := call(claimed, "GET", "/machines", ""); w.Code != http.StatusSeeOther {
			t.Fatalf("the cookie %q: %d, want the way to the sign-in: %s", cookie, w.Code, w.Body)
		}
		body, err := json.Marshal(api.SetupBody{SetupToken: setup, Name: user, Password: password, TokenName: "x"})
		if err != nil {
			t.Fatal(err)
		}
		w := call(unclaimed, "POST", "/api/v1/setup", string(body))
		if w.Code < http.StatusBadRequest {
			t.Fatalf("the setup token %q: %d: %s", setup, w.Code, w.Body)
		}
		judge(t, httptest.NewRequest("POST", "/api/v1/setup", nil), w)
	})
}
