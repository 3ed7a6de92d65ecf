package web_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"riparo/store"
	"riparo/web"
	"riparo/web/browsertest"
)

// tap is a browser's live socket.
type tap struct {
	testing.TB
	conn *websocket.Conn
}

// dial opens the socket of a page.
func (b *browser) dial(page string, header http.Header) (*tap, int) {
	b.Helper()
	dialer := websocket.Dialer{Jar: b.client.Jar, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, EnableCompression: true, HandshakeTimeout: browsertest.Patience}
	conn, response, err := dialer.Dial(strings.Replace(b.base, "https", "wss", 1)+"/live?page="+page, header)
	if err != nil {
		if response == nil {
			b.Fatal(err)
		}
		return nil, response.StatusCode
	}
	b.Cleanup(func() { conn.Close() })
	return &tap{b.TB, conn}, response.StatusCode
}

// frame reads the next frame; the error is that of a socket that was closed.
func (t *tap) frame() (string, error) {
	t.conn.SetReadDeadline(time.Now().Add(browsertest.Patience))
	_, text, err := t.conn.ReadMessage()
	return string(text), err
}

// until reads frames up to one that contains a text, and gives it.
func (t *tap) until(text string) string {
	t.Helper()
	for {
		frame, err := t.frame()
		if err != nil {
			t.Fatalf("waited for %q: %v", text, err)
		}
		if strings.Contains(frame, text) {
			return frame
		}
	}
}

const runningJob = "20261123T080000.000Z-0000001"

func TestALivePageSendsWhatChangedAndNothingElse(t *testing.T) {
	h := newHouse(t, true).claimed()
	s, _ := h.signedIn("").dial("/jobs/"+runningJob, nil)
	first := s.until(`data-as-of`)
	for _, want := range []string{`id="job-head"`, `id="job-steps"`, `id="count-jobs"`} {
		if !strings.Contains(first, want) {
			t.Errorf("the first frame lacks %s: a page that was away must catch up", want)
		}
	}
	if err := h.appliance.change(runningJob, func(j *store.Job) { j.Steps[2].Done = 20 * gib }); err != nil {
		t.Fatal(err)
	}
	second := s.until("20 GiB")
	if strings.Contains(second, `id="job-head"`) || strings.Contains(second, `id="count-jobs"`) {
		t.Error("a frame sends parts that did not change")
	}
}

func TestAFragmentIsWhatThePageShows(t *testing.T) {
	h := newHouse(t, true).claimed()
	b := h.signedIn("")
	s, _ := b.dial("/policies", nil)
	frame := s.until(`id="policies-list"`)
	begin := strings.Index(frame, `<section class="cards" id="policies-list"`)
	fragment := frame[begin:]
	fragment = fragment[:strings.Index(fragment, "</section>")]
	if page := b.get("/policies").body; !strings.Contains(page, fragment) {
		t.Error("the fragment is not part of the page as it is printed")
	}
}

func TestASocketEndsWithItsSession(t *testing.T) {
	h := newHouse(t, true).claimed()
	b := h.signedIn("")
	s, _ := b.dial("/jobs", nil)
	s.until("data-as-of")
	b.post("/logout")
	for {
		_, err := s.frame()
		if closed := (*websocket.CloseError)(nil); errors.As(err, &closed) {
			if closed.Code != 4401 {
				t.Errorf("the socket closed with %d, want 4401", closed.Code)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestASocketIsRefusedToOthers(t *testing.T) {
	h := newHouse(t, true).claimed()
	b := h.signedIn("")
	for _, row := range []struct {
		who    *browser
		page   string
		header http.Header
		want   int
	}{
		{h.browser(), "/", nil, http.StatusUnauthorized},
		{b, "/", http.Header{"Origin": {"https://evil.example"}}, http.StatusForbidden},
		{b, "/nothing", nil, http.StatusNotFound},
		{b, "https://evil.example/", nil, http.StatusSwitchingProtocols}, // is the overview: nothing foreign is asked
		{b, "/machines/m-none", nil, http.StatusSwitchingProtocols},      // says so in its first frame
		{h.signedIn(store.Viewer), "/policies/new", nil, http.StatusNotFound},
	} {
		s, got := row.who.dial(row.page, row.header)
		if got != row.want {
			t.Errorf("socket of %s with %v: got %d, want %d", row.page, row.header, got, row.want)
		}
		if row.page == "/machines/m-none" && s != nil {
			s.until("data-as-of")
		}
	}
}

func TestAPageThatTurnsIntoAnotherIsSentWhole(t *testing.T) {
	h := newHouse(t, false).claimed()
	s, _ := h.signedIn("").dial("/", nil)
	if first := s.until("data-as-of"); !strings.Contains(first, `id="overview-start"`) {
		t.Fatalf("the first frame of an empty appliance: %.200s", first)
	}
	if err := h.appliance.furnish(); err != nil {
		t.Fatal(err)
	}
	if frame := s.until("3 of 6"); !strings.Contains(frame, `<main id="main"`) {
		t.Error("the page was not sent whole although all of it is another")
	}
}

func TestAMachineThatGoesAwayIsSaid(t *testing.T) {
	h := newHouse(t, true).claimed()
	s, _ := h.signedIn("").dial("/machines/m-4f7c21aa", nil)
	s.until("data-as-of")
	if err := h.store.Update(func(tx *store.Tx) error { return tx.Machines().Delete("m-4f7c21aa") }); err != nil {
		t.Fatal(err)
	}
	s.until("There is nothing here")
}

// TestASlowBrowserHoldsUpNobody leaves sockets unread while thousands of changes
// happen, then reads one: it finds the newest state after few frames.
func TestASlowBrowserHoldsUpNobody(t *testing.T) {
	h := newHouse(t, true).claimed()
	b := h.signedIn("")
	s, _ := b.dial("/jobs/"+runningJob, nil)
	for range 4 {
		b.dial("/", nil) // never read
	}
	start := time.Now()
	for i := range 2000 {
		if err := h.appliance.change(runningJob, func(j *store.Job) { j.Steps[2].Done = int64(i) << 20 }); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.appliance.change(runningJob, func(j *store.Job) { j.Steps[2].Done = 39 * gib }); err != nil {
		t.Fatal(err)
	}
	frames := 0
	for {
		frame, err := s.frame()
		if err != nil {
			t.Fatal(err)
		}
		frames++
		if strings.Contains(frame, "39 GiB") {
			break
		}
	}
	// At most one frame per quarter of a second, and what lay in the pipe.
	took := time.Since(start)
	if most := int(took/(250*time.Millisecond)) + 6; frames > most {
		t.Errorf("2,001 changes in %s came as %d frames: want at most %d", took, frames, most)
	}
}

// TestNothingIsSentWhenNothingDiffers moves a job on, which concerns every page as far as
// the navigation counts jobs, while a browser looks at policies, where nothing changes.
func TestNothingIsSentWhenNothingDiffers(t *testing.T) {
	h := newHouse(t, true).claimed()
	b := h.signedIn("")
	job, _ := b.dial("/jobs/"+runningJob, nil)
	policies, _ := b.dial("/policies", nil)
	policies.until("data-as-of")
	began := time.Now()
	for i := range 5 {
		if err := h.appliance.change(runningJob, func(j *store.Job) { j.Steps[2].Done = int64(20+i) * gib }); err != nil {
			t.Fatal(err)
		}
		job.until(fmt.Sprintf("%d GiB", 20+i))
	}
	if _, err := store.Change(h.store, store.Policies, "gold", func(p *store.Policy) error { p.RPOThreshold = 77 * time.Minute; return nil }); err != nil {
		t.Fatal(err)
	}
	frames := 0
	for {
		frame, err := policies.frame()
		if err != nil {
			t.Fatal(err)
		}
		if frames++; strings.Contains(frame, `id="policies-list"`) {
			break
		}
	}
	// At each pulse it is told that the server is there.
	if most := 1 + int(time.Since(began)/web.SampleEvery) + 1; frames > most {
		t.Errorf("it had %d frames until something differed, want at most %d", frames, most)
	}
}

// TestOneChangeIsOneReport has forty browsers look at four pages in two languages, which
// all show the figures of replication, and renames a machine. However many look, and in
// however many ways, the figures are copied once.
func TestOneChangeIsOneReport(t *testing.T) {
	h := newHouse(t, true).claimed()
	h.add("bruno", store.Viewer)
	if err := h.identity.SetLanguage("bruno", "it"); err != nil {
		t.Fatal(err)
	}
	italian := h.browser()
	italian.post("/login", "name", "bruno", "password", password)
	english := h.signedIn("")
	var taps []*tap
	for range 5 {
		for _, page := range []string{"/machines", "/machines?sort=name", "/machines?sort=-name", "/machines/m-4f7c21aa"} {
			for _, b := range []*browser{english, italian} {
				s, _ := b.dial(url.QueryEscape(page), nil)
				s.until("data-as-of")
				taps = append(taps, s)
			}
		}
	}
	before, began := h.appliance.reports.Load(), time.Now()
	if _, err := store.Change(h.store, store.Machines, "m-4f7c21aa", func(m *store.Machine) error { m.Name = "renamed"; return nil }); err != nil {
		t.Fatal(err)
	}
	for _, s := range taps {
		s.until("renamed")
	}
	// One for the change, and one more for each pulse that came meanwhile.
	most := 3 + int64(time.Since(began)/web.SampleEvery)
	if n := h.appliance.reports.Load() - before; n < 1 || n > most {
		t.Errorf("%d browsers that look at 8 pages were told of one change with %d reports, want 1 and at most %d", len(taps), n, most)
	}
}

func TestClosingTheConsoleEndsEverySocket(t *testing.T) {
	h := newHouse(t, true).claimed()
	b := h.signedIn("")
	var taps []*tap
	for range 5 {
		s, _ := b.dial("/", nil)
		s.until("data-as-of")
		taps = append(taps, s)
	}
	var closing sync.WaitGroup
	closing.Go(func() { h.console.Close() })
	for _, s := range taps {
		for {
			if _, err := s.frame(); err != nil {
				if !websocket.IsCloseError(err, websocket.CloseGoingAway) {
					t.Errorf("the socket ended with %v", err)
				}
				break
			}
		}
	}
	closing.Wait()
}

func TestAPanicEndsOneSocketAndNothingElse(t *testing.T) {
	h := newHouse(t, true).claimed()
	b := h.signedIn("")
	const machine = "m-4f7c21aa"
	s, _ := b.dial("/machines/"+machine, nil)
	s.until("data-as-of")
	other, _ := b.dial("/jobs/"+runningJob, nil)
	other.until("data-as-of")
	h.appliance.panics.Store(true)
	rename := func(tx *store.Tx) error {
		m, err := tx.Machines().Get(machine)
		if err != nil {
			return err
		}
		m.Name = "renamed"
		return tx.Machines().Put(m)
	}
	if err := h.store.Update(rename); err != nil {
		t.Fatal(err)
	}
	for err := error(nil); err == nil; {
		_, err = s.frame()
	}
	if h.appliance.panics.Load() {
		t.Error("the socket ended by something else")
	}
	if err := h.appliance.change(runningJob, func(j *store.Job) { j.Steps[2].Done = 20 * gib }); err != nil {
		t.Fatal(err)
	}
	other.until("20 GiB")
	again, _ := b.dial("/machines/"+machine, nil)
	again.until("renamed")
}

func TestTheLanguageOfAFragmentIsThatOfItsReader(t *testing.T) {
	h := newHouse(t, true).claimed()
	english := h.signedIn("")
	h.add("bruno", store.Viewer)
	if err := h.identity.SetLanguage("bruno", "it"); err != nil {
		t.Fatal(err)
	}
	italian := h.browser()
	italian.post("/login", "name", "bruno", "password", password)
	a, _ := english.dial("/", nil)
	b, _ := italian.dial("/", nil)
	a.until("need attention")
	frame := b.until("richiedono attenzione")
	if strings.Contains(frame, "/commit") {
		t.Error("a viewer's fragment offers a verb that only others may use")
	}
}
