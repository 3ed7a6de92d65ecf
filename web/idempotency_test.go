package web_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"riparo/replication"
	"riparo/store"
	"riparo/web/api"
)

// program is a browser without cookies that calls the API with a new token.
func (h *house) program(role store.Role) *browser {
	h.Helper()
	secret, _, err := h.identity.CreateToken(user, string(role), role, 0)
	if err != nil {
		h.Fatal(err)
	}
	b := h.browser()
	b.header.Set("Authorization", "Bearer "+secret)
	return b
}

// ask sends a call with a key and gives the answer and the code of its problem.
func (b *browser) ask(key, path, body string) (reply, string) {
	b.Helper()
	b.header.Set("Idempotency-Key", key)
	defer b.header.Del("Idempotency-Key")
	got := b.do("POST", path, strings.NewReader(body), "application/json")
	var p struct{ Code string }
	json.Unmarshal([]byte(got.body), &p) // an answer has no code
	return got, p.Code
}

const drillPath = "/api/v1/machines/m-4f7c21aa/test-failover"

func TestACallThatIsSentTwiceIsDoneOnce(t *testing.T) {
	h := newHouse(t, true).claimed()
	b := h.program(store.Administrator)
	first, _ := b.ask("k-1", drillPath, `{"notes":"one"}`)
	second, _ := b.ask("k-1", drillPath, `{"notes":"one"}`)
	if first.status != http.StatusAccepted || second.status != first.status || second.body != first.body || second.header.Get("Content-Type") != first.header.Get("Content-Type") {
		t.Errorf("got %d %s, then %d %s; want the same", first.status, first.body, second.status, second.body)
	}
	if second.header.Get("Idempotency-Replayed") == "" || first.header.Get("Idempotency-Replayed") != "" {
		t.Error("it is not told which answer was given again")
	}
	if n := len(h.appliance.asked); n != 1 {
		t.Fatalf("the appliance was asked %d times, want once", n)
	}
	if got, code := b.ask("k-1", drillPath, `{"notes":"other"}`); got.status != http.StatusUnprocessableEntity || code != "key.reused" {
		t.Errorf("another content: got %d %s, want 422", got.status, code)
	}
	if got, code := b.ask("k-1", "/api/v1/machines/m-4f7c21aa/pause", `{"notes":"one"}`); got.status != http.StatusUnprocessableEntity || code != "key.reused" {
		t.Errorf("another call: got %d %s, want 422", got.status, code)
	}
	// Somebody else's key is another key: the machine is busy now.
	if got, code := h.program(store.Operator).ask("k-1", drillPath, `{"notes":"one"}`); got.status != http.StatusConflict || code != "verb.denied" {
		t.Errorf("the same key of another program: got %d %s, want that it is tried", got.status, code)
	}
	// What was refused did nothing, and is tried anew.
	for range 2 {
		before := len(h.appliance.asked)
		if got, code := b.ask("k-2", drillPath, `{}`); got.status != http.StatusConflict || code != "verb.denied" || len(h.appliance.asked) != before+1 {
			t.Errorf("a refused call: got %d %s", got.status, code)
		}
	}
	for _, key := range []string{strings.Repeat("k", 201), "k 1"} {
		if got, code := b.ask(key, drillPath, `{}`); got.status != http.StatusBadRequest || code != "key.invalid" {
			t.Errorf("the key %.10q: got %d %s, want 400", key, got.status, code)
		}
	}
	// Our own client does the same.
	c, once := h.client(store.Administrator), api.WithKey(t.Context(), "k-3")
	if _, err := c.CreateToken(once, api.TokenBody{Name: "x", Scope: api.ScopeRead}); err != nil {
		t.Error(err)
	}
	if _, err := c.CreateToken(once, api.TokenBody{Name: "x", Scope: api.ScopeRead}); err == nil || replication.AsProblem(err).Code != "key.secret" {
		t.Errorf("the same call by the client: %v, want key.secret", err)
	}
}

func TestAnAnswerOutlivesTheDaemonButNotTheDay(t *testing.T) {
	h := newHouse(t, true).claimed()
	b := h.program(store.Administrator)
	first, _ := b.ask("k-1", drillPath, `{}`)
	h.open() // another console on the same store, as after a restart
	if again, _ := b.ask("k-1", drillPath, `{}`); again.status != http.StatusAccepted || again.body != first.body {
		t.Errorf("after a restart: got %d %s, want %s", again.status, again.body, first.body)
	}
	change := func(do func(a *store.Answered)) {
		t.Helper()
		err := h.store.Update(func(tx *store.Tx) error {
			for a, err := range tx.Requests().All() {
				if err != nil {
					return err
				}
				do(&a)
				return tx.Requests().Put(a)
			}
			return store.ErrNotFound
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	// The daemon was killed meanwhile: what became of the call is not known, and it is
	// not done again.
	change(func(a *store.Answered) { a.Status, a.Content, a.Run = 0, nil, "an earlier one" })
	if got, code := b.ask("k-1", drillPath, `{}`); got.status != http.StatusConflict || code != "key.unknown" {
		t.Errorf("after a kill: got %d %s, want 409", got.status, code)
	}
	change(func(a *store.Answered) { a.Began = a.Began.Add(-25 * time.Hour) })
	before := len(h.appliance.asked)
	if _, code := b.ask("k-1", drillPath, `{}`); code != "verb.denied" || len(h.appliance.asked) != before+1 {
		t.Errorf("after a day: %s; want that it is tried anew", code)
	}
}

func TestASecretIsNotKeptForARepetition(t *testing.T) {
	h := newHouse(t, true).claimed()
	b := h.program(store.Administrator)
	made, _ := b.ask("k-1", "/api/v1/tokens", `{"name":"ci","scope":"read"}`)
	if made.status != http.StatusCreated || !strings.Contains(made.body, "riparo_") {
		t.Fatalf("got %d %s", made.status, made.body)
	}
	if got, code := b.ask("k-1", "/api/v1/tokens", `{"name":"ci","scope":"read"}`); got.status != http.StatusConflict || code != "key.secret" {
		t.Errorf("got %d %s, want 409", got.status, code)
	}
	err := h.store.View(func(tx *store.Tx) error {
		for a, err := range tx.Requests().All() {
			if err != nil || len(a.Content) > 0 {
				t.Errorf("%+v is kept (%v)", a, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if all, err := h.identity.Tokens(); err != nil || len(all) != 2 {
		t.Errorf("%d tokens, %v; want the program's and one more", len(all), err)
	}
}

// TestManyAtOnceAreOne: of the same call sent at once by many, one is done; the others
// have its answer or are told that it is under way.
func TestManyAtOnceAreOne(t *testing.T) {
	h := newHouse(t, true).claimed()
	b := h.program(store.Administrator)
	b.header.Set("Idempotency-Key", "k-1")
	var all sync.WaitGroup
	var mu sync.Mutex // guards seen
	seen := map[int]int{}
	for range 16 {
		all.Go(func() {
			got := b.do("POST", drillPath, strings.NewReader(`{}`), "application/json")
			mu.Lock()
			defer mu.Unlock()
			seen[got.status]++
		})
	}
	all.Wait()
	if len(h.appliance.asked) != 1 || seen[http.StatusAccepted] < 1 || seen[http.StatusAccepted]+seen[http.StatusConflict] != 16 {
		t.Errorf("the appliance was asked %d times; the answers were %v", len(h.appliance.asked), seen)
	}
}
