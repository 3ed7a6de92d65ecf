package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"riparo/replication"
	"riparo/store"
)

// clock is a time that tests set.
type clock struct {
	mu  sync.Mutex // guards now
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func open(t *testing.T) (*Identity, *store.Store, *clock) {
	t.Helper()
	st, err := store.Open(filepath.Join(t.TempDir(), "state.db"), store.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	c := &clock{now: time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)}
	i, err := New(st, Options{Now: c.Now})
	if err != nil {
		t.Fatal(err)
	}
	return i, st, c
}

const good = "a calm sentence"

func claimed(t *testing.T) (*Identity, *store.Store, *clock) {
	t.Helper()
	i, st, c := open(t)
	token, err := i.OfferSetup("")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := i.Claim(t.Context(), token, "Anna", good, "en", "here"); err != nil {
		t.Fatal(err)
	}
	return i, st, c
}

func code(err error) string {
	if err == nil {
		return ""
	}
	return replication.AsProblem(err).Code
}

func TestAPasswordIsKeptAsAnArgon2idHashOfItsOwn(t *testing.T) {
	h := newHasher()
	first, err := h.hash(t.Context(), good)
	if err != nil {
		t.Fatal(err)
	}
	second, err := h.hash(t.Context(), good)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(first, "$argon2id$v=19$m=19456,t=2,p=1$") || first == second {
		t.Errorf("got %s and %s: want two PHC strings with a salt each", first, second)
	}
	for password, want := range map[string]bool{good: true, good + " ": false, "": false} {
		if ok, stale, err := h.matches(t.Context(), first, password); ok != want || stale || err != nil {
			t.Errorf("matches(%q) = %v, %v, %v: want %v", password, ok, stale, err, want)
		}
	}
}

func TestAHashOfAnotherCostIsReadAndMadeAnew(t *testing.T) {
	i, st, _ := claimed(t)
	// 8 MiB, one pass; made with another program.
	h := newHasher()
	old := "$argon2id$v=19$m=8192,t=1,p=1$" + encoding.EncodeToString([]byte("0123456789abcdef")) + "$"
	if _, _, err := h.matches(t.Context(), old+"AAAA", good); err == nil {
		t.Error("a hash that was cut off is taken")
	}
	weak := weakHash(good)
	if err := st.Update(func(tx *store.Tx) error {
		u, err := tx.Users().Get("anna")
		if err != nil {
			return err
		}
		u.PasswordHash = weak
		return tx.Users().Put(u)
	}); err != nil {
		t.Fatal(err)
	}
	u, err := i.Login(t.Context(), "ANNA", good, "here")
	if err != nil || !strings.Contains(u.PasswordHash, "m=19456,t=2,p=1") {
		t.Errorf("after a sign-in with an old hash: %s, %v", u.PasswordHash, err)
	}
}

func TestADamagedHashIsRefusedWithoutHarm(t *testing.T) {
	h := newHasher()
	for _, phc := range []string{"", "x", "$argon2i$v=19$m=8,t=1,p=1$AAAA$AAAA", "$argon2id$v=16$m=8,t=1,p=1$AAAA$AAAA", "$argon2id$v=19$m=99999999,t=1,p=1$AAAA$AAAAAAAAAAAAAAAAAAAAAAAA",
		"$argon2id$v=19$m=8,t=1,p=0$AAAA$AAAAAAAAAAAAAAAAAAAAAAAA", "$argon2id$v=19$m=8,t=1,p=1$!$AAAAAAAAAAAAAAAAAAAAAAAA", "$argon2id$v=19$m=8,t=1,p=1$AAAA$"} {
		if ok, _, err := h.matches(t.Context(), phc, good); ok || err == nil {
			t.Errorf("matches(%q) = %v, %v: want an error", phc, ok, err)
		}
	}
}

func TestHashingWaitsItsTurnAndGivesUpWithTheRequest(t *testing.T) {
	h := newHasher()
	for range parallelHashes {
		h.turns <- struct{}{}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.hash(ctx, good); !errors.Is(err, context.Canceled) {
		t.Errorf("a third hash of a request that went away: %v", err)
	}
}

func TestAnApplianceIsClaimedOnce(t *testing.T) {
	i, _, _ := open(t)
	token, err := i.OfferSetup("")
	if err != nil || len(token) != setupTokenLength {
		t.Fatalf("OfferSetup: %q, %v", token, err)
	}
	again, err := i.OfferSetup(token + "\n")
	if err != nil || again != token {
		t.Errorf("a kept token: got %q, %v, want the same", again, err)
	}
	for _, wrong := range []string{"", "x", token[1:], token + "A"} {
		if _, err := i.Claim(t.Context(), wrong, "anna", good, "en", "here"); code(err) != "setup.token" {
			t.Errorf("Claim(%q): %v", wrong, err)
		}
	}
	var wait sync.WaitGroup
	outcomes := make(chan error, 8)
	for n := range cap(outcomes) {
		wait.Go(func() {
			_, err := i.Claim(t.Context(), token, fmt.Sprintf("anna%d", n), good, "en", fmt.Sprint("from ", n))
			outcomes <- err
		})
	}
	wait.Wait()
	close(outcomes)
	won := 0
	for err := range outcomes {
		if err == nil {
			won++
		} else if code(err) != "setup.token" && code(err) != "setup.claimed" {
			t.Errorf("a claim beside others: %v", err)
		}
	}
	if won != 1 {
		t.Errorf("%d of 8 claims at once succeeded: want 1", won)
	}
	if ok, err := i.Claimed(); !ok || err != nil {
		t.Errorf("Claimed: %v, %v", ok, err)
	}
	if token, err := i.OfferSetup(token); token != "" || err != nil {
		t.Errorf("a claimed appliance offers %q, %v", token, err)
	}
}

func TestGuessingTheSetupTokenIsSlowedDown(t *testing.T) {
	i, _, c := open(t)
	token, _ := i.OfferSetup("")
	for range freeTries {
		i.Claim(t.Context(), "wrong", "anna", good, "en", "here")
	}
	if _, err := i.Claim(t.Context(), token, "anna", good, "en", "here"); code(err) != "login.locked" {
		t.Errorf("the right token after %d wrong ones: %v", freeTries, err)
	}
	c.pass(firstPause + time.Second)
	if _, err := i.Claim(t.Context(), token, "anna", good, "en", "here"); err != nil {
		t.Errorf("after the pause: %v; there is no lock that needs a restart", err)
	}
}

func TestWrongPasswordsCloseTheAccountForAWhile(t *testing.T) {
	i, st, c := claimed(t)
	ctx := t.Context()
	for n := range freeTries {
		if _, err := i.Login(ctx, "anna", "wrong", "1.2.3.4"); code(err) != "login.refused" {
			t.Fatalf("try %d: %v", n+1, err)
		}
	}
	if _, err := i.Login(ctx, "anna", good, "1.2.3.4"); code(err) != "login.locked" || !strings.Contains(err.Error(), "30s") {
		t.Errorf("the right password now: %v", err)
	}
	if _, err := i.Login(ctx, "anna", good, "5.6.7.8"); err != nil {
		t.Errorf("from another address: %v; nobody can lock somebody else out", err)
	}
	c.pass(firstPause)
	if _, err := i.Login(ctx, "anna", "wrong", "1.2.3.4"); code(err) != "login.refused" {
		t.Errorf("after the pause: %v", err)
	}
	c.pass(firstPause)
	if _, err := i.Login(ctx, "anna", good, "1.2.3.4"); code(err) != "login.locked" {
		t.Errorf("the second pause is not longer: %v", err)
	}
	c.pass(firstPause)
	if _, err := i.Login(ctx, "anna", good, "1.2.3.4"); err != nil {
		t.Errorf("after the second pause: %v", err)
	}
	told := 0
	st.View(func(tx *store.Tx) error {
		for e, err := range tx.Events().All() {
			if err == nil && e.Code == "login.locked" {
				told++
			}
		}
		return nil
	})
	if told == 0 {
		t.Error("no event tells of the guessing")
	}
}

func TestGuessingOnePasswordForManyNamesIsSlowedDown(t *testing.T) {
	i, _, _ := claimed(t)
	for n := range addressTries {
		i.Login(t.Context(), fmt.Sprint("user", n), "wrong", "1.2.3.4")
	}
	if _, err := i.Login(t.Context(), "anna", good, "1.2.3.4"); code(err) != "login.locked" {
		t.Errorf("after %d names: %v", addressTries, err)
	}
}

func TestTheMemoryOfFailuresIsBounded(t *testing.T) {
	c := &clock{now: time.Now()}
	l := newLockout(c.Now)
	for n := range 3 * maxRemembered {
		l.failed(fmt.Sprint(n), 1)
		if n%1000 == 0 {
			c.pass(time.Second)
		}
	}
	if len(l.tries) > maxRemembered {
		t.Errorf("%d failures are remembered: limit %d", len(l.tries), maxRemembered)
	}
}

// TestAnUnknownAccountTakesAsLongAsAKnownOne does not measure time: it holds all
// turns of the hasher and sees that both wait for one.
func TestAnUnknownAccountTakesAsLongAsAKnownOne(t *testing.T) {
	i, _, _ := claimed(t)
	for range parallelHashes {
		i.hasher.turns <- struct{}{}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, name := range []string{"anna", "nobody"} {
		if _, err := i.Login(ctx, name, "wrong", "here"); !errors.Is(err, context.Canceled) {
			t.Errorf("a sign-in as %s hashes nothing: %v", name, err)
		}
	}
}

func TestPasswordsAreLongAndNamesPrintable(t *testing.T) {
	i, _, _ := claimed(t)
	for _, row := range []struct{ name, password, want string }{
		{"bruno", "short", "password.short"}, {"bruno", strings.Repeat("a", 2000), "password.long"}, {"bruno", strings.Repeat("a", 14), "password.weak"},
		{"a long enough name", "A long enough name", "password.weak"}, {"", good, "user.name"}, {"a\nb", good, "user.name"}, {strings.Repeat("a", 65), good, "user.name"},
		{"ANNA", good, "user.exists"}, {"bruno", "dodici lettere però", ""},
	} {
		if got := code(i.AddUser(t.Context(), "anna", row.name, row.password, store.Viewer)); got != row.want {
			t.Errorf("AddUser(%q, %q): got %q, want %q", row.name, row.password, got, row.want)
		}
	}
	if got := code(i.AddUser(t.Context(), "anna", "carla", good, "emperor")); got != "role.unknown" {
		t.Errorf("an unknown role: got %q", got)
	}
}

func TestATokenIsGoodUntilItExpiresOrIsRevoked(t *testing.T) {
	i, st, c := claimed(t)
	secret, token, err := i.CreateToken("anna", "ci", store.Operator, time.Hour)
	if err != nil || !strings.HasPrefix(secret, tokenPrefix) {
		t.Fatalf("CreateToken: %q, %v", secret, err)
	}
	if got, err := i.Bearer(secret); err != nil || got.Role != store.Operator || got.LastUsed.IsZero() {
		t.Errorf("Bearer: %+v, %v", got, err)
	}
	st.View(func(tx *store.Tx) error {
		kept, err := tx.Tokens().Get(token.ID)
		text, _ := json.Marshal(kept)
		if err != nil || strings.Contains(string(text), strings.TrimPrefix(secret, tokenPrefix+token.ID+"_")) {
			t.Errorf("the secret is kept: %s, %v", text, err)
		}
		return nil
	})
	for _, wrong := range []string{"", "riparo_", tokenPrefix + token.ID + "_", secret + "A", secret[:len(secret)-1], strings.Replace(secret, token.ID, "aaaaaaaa", 1), strings.TrimPrefix(secret, tokenPrefix)} {
		if _, err := i.Bearer(wrong); code(err) != "token.refused" {
			t.Errorf("Bearer(%q): %v", wrong, err)
		}
	}
	c.pass(time.Hour)
	if _, err := i.Bearer(secret); code(err) != "token.refused" {
		t.Errorf("an expired token: %v", err)
	}
	forever, token, err := i.CreateToken("anna", "cd", store.Viewer, 0)
	if err != nil {
		t.Fatal(err)
	}
	c.pass(10 * 365 * 24 * time.Hour)
	if _, err := i.Bearer(forever); err != nil {
		t.Errorf("a token without end: %v", err)
	}
	if err := i.RevokeToken("anna", token.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := i.Bearer(forever); code(err) != "token.refused" {
		t.Errorf("a revoked token: %v", err)
	}
	if err := i.RevokeToken("anna", token.ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("revoked twice: %v", err)
	}
}

func TestASessionEndsWhenItIsNotUsed(t *testing.T) {
	i, st, c := claimed(t)
	data, err := sessionCodec{}.Encode(c.Now().Add(lifetime), map[string]any{SessionUser: "anna"})
	if err != nil {
		t.Fatal(err)
	}
	s := i.sessions
	if err := s.Commit("cookie", data, c.Now().Add(idleTimeout)); err != nil {
		t.Fatal(err)
	}
	count := func() (n int) {
		st.View(func(tx *store.Tx) (err error) { n, err = tx.Sessions().Count(); return err })
		return n
	}
	st.View(func(tx *store.Tx) error {
		if _, err := tx.Sessions().Get("cookie"); err == nil {
			t.Error("the session is kept under its cookie, not under its hash")
		}
		return nil
	})
	c.pass(idleTimeout - time.Minute)
	if !i.SessionAlive("cookie") {
		t.Error("the session ended too early")
	}
	c.pass(time.Minute)
	if i.SessionAlive("cookie") || i.SessionAlive("") || i.SessionAlive("other") {
		t.Error("a session that was not used holds on")
	}
	if count() != 1 {
		t.Errorf("%d sessions are kept", count())
	}
	if err := i.SweepSessions(); err != nil || count() != 0 {
		t.Errorf("after the sweep %d sessions are kept, %v", count(), err)
	}
}

// TestASessionThatWasSeenEndsLikeAnyOther: what is remembered of a session's end neither
// keeps it alive when it was ended nor ends it when it was renewed.
func TestASessionThatWasSeenEndsLikeAnyOther(t *testing.T) {
	i, _, c := claimed(t)
	data, err := sessionCodec{}.Encode(c.Now().Add(lifetime), map[string]any{SessionUser: "anna"})
	if err != nil {
		t.Fatal(err)
	}
	commit := func() {
		t.Helper()
		if err := i.sessions.Commit("cookie", data, c.Now().Add(idleTimeout)); err != nil {
			t.Fatal(err)
		}
	}
	commit()
	for range 3 { // seen, it is renewed, and holds beyond the end that was seen
		if !i.SessionAlive("cookie") {
			t.Fatal("the session ended too early")
		}
		c.pass(idleTimeout - time.Minute)
		commit()
		c.pass(2 * time.Minute)
	}
	if !i.SessionAlive("cookie") {
		t.Error("the session ended although it was renewed")
	}
	if err := i.EndSessions("anna", ""); err != nil {
		t.Fatal(err)
	}
	if i.SessionAlive("cookie") {
		t.Error("the session was ended and is still taken for alive")
	}
	commit() // the same cookie would be another session
	c.pass(idleTimeout)
	if i.SessionAlive("cookie") {
		t.Error("a session that was not used holds on")
	}
}

func TestASessionIsWrittenOnceAMinute(t *testing.T) {
	i, st, c := claimed(t)
	s := i.sessions
	data, _ := sessionCodec{}.Encode(c.Now().Add(lifetime), map[string]any{SessionUser: "anna"})
	end := func() time.Time {
		var kept store.Session
		st.View(func(tx *store.Tx) (err error) { kept, err = tx.Sessions().Get(cookieHash("cookie")); return err })
		return kept.Expires
	}
	if err := s.Commit("cookie", data, c.Now().Add(idleTimeout)); err != nil {
		t.Fatal(err)
	}
	first := end()
	c.pass(30 * time.Second)
	s.Commit("cookie", data, c.Now().Add(idleTimeout))
	if !end().Equal(first) {
		t.Error("a request half a minute later writes the session again")
	}
	c.pass(40 * time.Second)
	s.Commit("cookie", data, c.Now().Add(idleTimeout))
	if end().Equal(first) {
		t.Error("a request more than a minute later does not renew the session")
	}
}

func TestTheSameSessionIsTheSameBytes(t *testing.T) {
	at := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	values := map[string]any{"user": "anna", "a": "1", "b": "2", "c": "3"}
	first, err := sessionCodec{}.Encode(at, values)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if again, _ := (sessionCodec{}).Encode(at, values); string(again) != string(first) {
			t.Fatalf("got %s, then %s", first, again)
		}
	}
	deadline, read, err := sessionCodec{}.Decode(first)
	if err != nil || !deadline.Equal(at) || len(read) != 4 || read["user"] != "anna" {
		t.Errorf("read back: %v, %v, %v", deadline, read, err)
	}
	if _, err := (sessionCodec{}).Encode(at, map[string]any{"n": 1}); err == nil {
		t.Error("a value that is no text is taken")
	}
	if _, _, err := (sessionCodec{}).Decode([]byte("{")); err == nil {
		t.Error("a session that was cut off is taken")
	}
}

func FuzzParsePHC(f *testing.F) {
	f.Add("$argon2id$v=19$m=19456,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$MDEyMzQ1Njc4OWFiY2RlZg")
	f.Add("$$$$$")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parsePHC(text)
		if err == nil && (p.memory == 0 || p.memory > 1<<20 || p.time == 0 || p.time > 16 || p.lanes == 0 || len(p.key) < 16) {
			t.Errorf("%q was read with %+v", text, p)
		}
	})
}
