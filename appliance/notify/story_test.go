package notify

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/store"
)

// catcher is a web hook that keeps what it gets.
type catcher struct {
	*httptest.Server
	mu     sync.Mutex // guards what follows
	got    []payload
	heads  []http.Header
	bodies [][]byte
	status int // what it answers; 0 is 204
}

func newCatcher(t *testing.T) *catcher {
	c := &catcher{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.status == http.StatusFound {
			w.Header().Set("Location", c.URL+"/elsewhere")
		}
		if c.status != 0 {
			w.WriteHeader(c.status)
			return
		}
		var p payload
		if err := json.Unmarshal(body, &p); err != nil {
			t.Error(err)
		}
		c.got, c.heads, c.bodies = append(c.got, p), append(c.heads, r.Header), append(c.bodies, body)
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *catcher) answer(status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status = status
}

func (c *catcher) take() []payload {
	c.mu.Lock()
	defer c.mu.Unlock()
	got := c.got
	c.got = nil
	return got
}

func (s *stage) away(names ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.world.Sites = nil
	for _, name := range names {
		s.world.Sites = append(s.world.Sites, Site{Name: name, Problem: &replication.Problem{Cause: "it does not answer", Action: "look at it"}})
	}
}

func (s *stage) hooked(c *catcher, severity string, ended bool) store.Notifications {
	return store.Notifications{Hooks: []store.Hook{{ID: "h1", URL: c.URL, Secret: s.Secret.Seal("shared"), Severity: severity, Ended: ended}}}
}

func TestAnAlertIsToldOnceAgainAndWhenItIsOver(t *testing.T) {
	s, c := newStage(t), newCatcher(t)
	s.save(s.hooked(c, store.SeverityWarning, true))
	s.away("Roma")
	s.pass(110 * time.Second)
	if got := c.take(); len(got) != 0 {
		t.Fatalf("told before the site was away for two minutes: %+v", got)
	}
	s.pass(time.Minute)
	got := c.take()
	if len(got) != 1 || len(got[0].Alerts) != 1 || got[0].Alerts[0].What != store.AlertRaised || got[0].Alerts[0].Name != "Roma" || !strings.Contains(got[0].Alerts[0].Text, "Roma has not answered") {
		t.Fatalf("got %+v, want one message that Roma is away", got)
	}
	s.pass(11 * time.Hour)
	if got := c.take(); len(got) != 0 {
		t.Fatalf("told again too early: %+v", got)
	}
	s.pass(2 * time.Hour)
	if got := c.take(); len(got) != 1 || got[0].Alerts[0].What != store.AlertReminded {
		t.Fatalf("got %+v, want a reminder", got)
	}
	s.away()
	s.pass(30 * time.Second)
	if _, active := s.alerts(); len(active) != 1 {
		t.Fatalf("the alert ended at once, want a minute of calm first")
	}
	s.away("Roma") // it flickers
	s.pass(30 * time.Second)
	s.away()
	s.pass(3 * time.Minute)
	got = c.take()
	if len(got) != 1 || got[0].Alerts[0].What != store.AlertEnded || got[0].Alerts[0].Ended.IsZero() {
		t.Fatalf("got %+v, want one message that it is over", got)
	}
	if all, active := s.alerts(); len(active) != 0 || len(all) != 1 {
		t.Errorf("%d alerts in the history, %d stand; want 1 and 0", len(all), len(active))
	}
}

func TestAStormIsOneMessageForEach(t *testing.T) {
	s, c := newStage(t), newCatcher(t)
	n := s.hooked(c, store.SeverityInfo, true)
	n.Hooks = append(n.Hooks, store.Hook{ID: "h2", URL: c.URL, Severity: store.SeverityCritical})
	s.save(n)
	s.put(func(tx *store.Tx) error {
		if err := tx.Policies().Put(store.Policy{Policy: replication.Policy{Name: "gold", RPOThreshold: time.Minute}}); err != nil {
			return err
		}
		for i := range 200 {
			if err := tx.Machines().Put(store.Machine{ID: replication.MachineID(fmt.Sprintf("m-%03d", i)), Name: fmt.Sprintf("web%03d", i), Policy: "gold",
				State: lifecycle.Protected, Created: noon, LastPoint: &replication.RecoveryPoint{Time: noon.Add(-3 * time.Minute)}}); err != nil {
				return err
			}
		}
		return nil
	})
	s.away("Roma")
	s.pass(10 * time.Second) // the machines
	s.mu.Lock()
	s.world.Sites[0].Away = noon.Add(-time.Hour)
	s.mu.Unlock()
	s.pass(50 * time.Second)
	got := c.take()
	if len(got) != 1 || len(got[0].Alerts) != maxItems || got[0].More != 150 {
		t.Fatalf("%d messages, want one with %d alerts and 150 more", len(got), maxItems)
	}
	if all, _ := s.alerts(); len(all) != 200 {
		t.Errorf("%d alerts kept, want all 200", len(all))
	}
	s.pass(20 * time.Minute) // worse than before: told at once, and to who hears of the worst only
	worse := c.take()
	critical := 0
	for _, p := range worse {
		for _, a := range p.Alerts {
			if a.Severity == store.SeverityCritical && a.Kind == RPOBreached {
				critical++
			}
		}
	}
	if critical != 2*maxItems || len(worse) > 4 {
		t.Errorf("%d messages with %d alerts that became critical; want few with %d", len(worse), critical, 2*maxItems)
	}
}

func TestABlipIsNotTold(t *testing.T) {
	s, c := newStage(t), newCatcher(t)
	n := s.hooked(c, store.SeverityInfo, true)
	n.Rules = store.DefaultRules()
	n.Rules.Gather = 10 * time.Minute
	s.save(n)
	s.away("Roma")
	s.pass(3 * time.Minute)
	s.away()
	s.pass(20 * time.Minute)
	if got, left := c.take(), s.messages(); len(got) != 0 || len(left) != 0 {
		t.Errorf("told %+v, %+v left; want neither", got, left)
	}
	if all, _ := s.alerts(); len(all) != 1 {
		t.Errorf("%d alerts in the history, want the blip", len(all))
	}
}

func TestAMessageIsSignedTriedAgainAndTheSame(t *testing.T) {
	s, c := newStage(t), newCatcher(t)
	s.save(s.hooked(c, store.SeverityInfo, true))
	c.answer(http.StatusServiceUnavailable)
	s.away("Roma")
	s.pass(3 * time.Minute)
	waiting := s.messages()
	if len(waiting) != 1 || waiting[0].Attempts != 1 || !waiting[0].Waiting() || !strings.Contains(waiting[0].Problem.Cause, "503") {
		t.Fatalf("%+v; want one message, tried once, refused with 503", waiting)
	}
	if wait := waiting[0].NextTry.Sub(waiting[0].Problem.Since); wait != time.Minute {
		t.Errorf("the second attempt comes after %s, want the schedule's first step of 1m0s", wait)
	}
	s.pass(8 * time.Minute) // 1 + 2 + 4
	c.answer(http.StatusFound)
	s.pass(9 * time.Minute)
	if d := s.messages()[0]; d.Attempts != 5 || !strings.Contains(d.Problem.Cause, "302") {
		t.Fatalf("%+v; want five attempts, the last one not led elsewhere", d)
	}
	c.answer(0)
	s.pass(11 * time.Minute)
	got := c.take()
	if len(got) != 1 || got[0].ID != waiting[0].ID || got[0].Appliance != "Milano 1" {
		t.Fatalf("got %+v, want the message %s", got, waiting[0].ID)
	}
	head := c.heads[0]
	if want := Sign("shared", head.Get(HeaderTimestamp), c.bodies[0]); head.Get(HeaderSignature) != want || head.Get(HeaderDelivery) != got[0].ID {
		t.Errorf("signature %q, want %q; delivery %q", head.Get(HeaderSignature), want, head.Get(HeaderDelivery))
	}
	// As openssl dgst -sha256 -hmac key has it.
	if known := Sign("key", "1", []byte("{}")); known != "v1=1ba6b8171186efc613e8bcc0cbdab2748f24984d7c5a84faa2637afa0e40d224" {
		t.Errorf("the signature of a known text is %s", known)
	}
	if d := s.messages()[0]; d.Waiting() || d.Sent.IsZero() {
		t.Errorf("%+v; want it sent", d)
	}
}

func TestAMessageThatNobodyTakesIsAnAlertOfItsOwn(t *testing.T) {
	s, c := newStage(t), newCatcher(t)
	n := s.hooked(c, store.SeverityInfo, true)
	n.Rules = store.DefaultRules()
	n.Rules.Repeat = 0
	s.save(n)
	c.answer(http.StatusInternalServerError)
	s.away("Roma")
	s.pass(24*time.Hour + time.Minute)
	lost := func() bool {
		_, active := s.alerts()
		for _, a := range active {
			if a.Kind == MessageLost {
				return true
			}
		}
		return false
	}
	if d := s.messages()[0]; d.GivenUp.IsZero() || !lost() {
		t.Fatalf("%+v, alert %v; want it given up after a day, and an alert", d, lost())
	}
	c.answer(0)
	s.pass(time.Hour) // the message of that alert arrives, which ends it
	if lost() {
		t.Error("a message arrived and the alert stands")
	}
}

// TestAClockThatIsSetBackSilencesNobody: messages that wait for a time which is far again
// go out, what is away stays away, and what is over ends.
func TestAClockThatIsSetBackSilencesNobody(t *testing.T) {
	s, c := newStage(t), newCatcher(t)
	s.save(s.hooked(c, store.SeverityInfo, true))
	setBack := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.now = s.now.Add(-30 * 24 * time.Hour)
	}
	told := func(want, name string) {
		t.Helper()
		for _, p := range c.take() {
			for _, a := range p.Alerts {
				if a.What == want && a.Name == name {
					return
				}
			}
		}
		t.Fatalf("nobody is told that %s is %s: %+v", name, want, s.messages())
	}
	s.away("Roma")
	s.pass(130 * time.Second) // the message gathers
	if got := c.take(); len(got) != 0 {
		t.Fatalf("told before the clock was set back: %+v; the test shows nothing", got)
	}
	setBack()
	s.pass(10 * time.Second)
	told(store.AlertRaised, "Roma")
	if all, active := s.alerts(); len(active) != 1 || len(all) != 1 {
		t.Errorf("%d alerts, %d of them stand; want the one", len(all), len(active))
	}
	s.pass(time.Minute)
	told(store.AlertReminded, "Roma") // when it was last told is a time to come

	c.answer(http.StatusServiceUnavailable)
	s.away("Roma", "Torino")
	s.pass(3 * time.Minute)
	setBack()
	c.answer(0)
	s.pass(10 * time.Second)
	told(store.AlertRaised, "Torino")

	s.away("Torino")
	s.pass(30 * time.Second)
	setBack()
	s.pass(3 * time.Minute)
	told(store.AlertEnded, "Roma")
}

// TestAMessageWaitsNoLongerThanAMessageDoes holds when a message is due by what is ahead
// of it, for each number of attempts.
func TestAMessageWaitsNoLongerThanAMessageDoes(t *testing.T) {
	for _, row := range []struct {
		attempts int
		ahead    time.Duration
		want     bool
	}{
		{0, 0, true}, {0, -time.Hour, true}, {0, time.Second, false}, {0, 30 * time.Second, false}, {0, 30*time.Second + slack, false}, {0, 30*time.Second + slack + 1, true},
		{1, time.Minute, false}, {1, time.Minute + slack + 1, true}, {6, 30 * time.Minute, false}, {99, 30 * time.Minute, false}, {99, 24 * time.Hour, true},
	} {
		if got := isDue(store.Delivery{Attempts: row.attempts, NextTry: noon.Add(row.ahead)}, noon, 30*time.Second, time.Minute); got != row.want {
			t.Errorf("after %d attempts, %s ahead: due %v, want %v", row.attempts, row.ahead, got, row.want)
		}
	}
}

func TestATestMessageTellsWhatIsWrong(t *testing.T) {
	s, c := newStage(t), newCatcher(t)
	s.save(s.hooked(c, store.SeverityCritical, false))
	if err := s.Test(t.Context(), "hook:h1"); err != nil {
		t.Fatal(err)
	}
	if got := c.take(); len(got) != 1 || !got[0].Test {
		t.Errorf("got %+v, want a test", got)
	}
	c.answer(http.StatusUnauthorized)
	if err := s.Test(t.Context(), "hook:h1"); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("got %v, want what it answered", err)
	}
	if err := s.Test(t.Context(), "hook:h9"); err == nil || replication.AsProblem(err).Code != "notify.channel" {
		t.Errorf("got %v, want that there is no such recipient", err)
	}
}

func TestSecretsStaySealed(t *testing.T) {
	s := newStage(t)
	sealed := s.Secret.Seal("the mail password")
	if strings.Contains(string(sealed), "mail") || string(sealed) == string(s.Secret.Seal("the mail password")) {
		t.Error("the seal shows what it hides, or is the same twice")
	}
	if text, err := s.Secret.Open(sealed); err != nil || text != "the mail password" {
		t.Errorf("opened %q, %v", text, err)
	}
	sealed[len(sealed)-1] ^= 1
	if _, err := s.Secret.Open(sealed); err == nil {
		t.Error("a changed one opens")
	}
	if _, err := (Secret{}).Open(s.Secret.Seal("x")); err == nil {
		t.Error("another key opens it")
	}
}

// An alert that is raised while a message goes out must not be written into that
// message: what is on the wire lacks it. The look at the rules began a moment earlier,
// so by its clock the message still gathers.
func TestNothingIsAddedToAMessageThatIsOnItsWay(t *testing.T) {
	s, c := newStage(t), newCatcher(t)
	n := s.hooked(c, store.SeverityInfo, true)
	s.save(n)
	s.away("Roma")
	s.pass(130 * time.Second) // the message gathers
	before := s.clock()
	late := store.Alert{ID: "late", Kind: SiteAway, Subject: "Torino", Name: "Torino", Severity: store.SeverityCritical}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := s.Store.Update(func(tx *store.Tx) error {
			return queue(tx, before, channels(n), 30*time.Second, []store.Item{{What: store.AlertRaised, Alert: late}})
		}); err != nil {
			t.Error(err)
		}
	}))
	defer server.Close()
	n.Rules, n.Hooks[0].URL = store.DefaultRules(), server.URL
	s.save(n)
	s.mu.Lock()
	s.now = s.now.Add(time.Minute)
	s.mu.Unlock()
	if _, err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.Hooks[0].URL = c.URL
	s.save(n)
	s.pass(2 * time.Minute)
	told := 0
	for _, p := range c.take() {
		for _, a := range p.Alerts {
			if a.Name == "Torino" {
				told++
			}
		}
	}
	if told != 1 {
		t.Errorf("the alert raised while a message went out was told %d times, want once: %+v", told, s.messages())
	}
}
