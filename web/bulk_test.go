package web_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp/kb"

	"riparo/replication/lifecycle"
	"riparo/store"
	"riparo/web"
	"riparo/web/browsertest"
)

// TestSeveralMachinesAtOnce: with plain forms, first what would be done, then each
// machine by itself, and what came of it.
func TestSeveralMachinesAtOnce(t *testing.T) {
	h := newHouse(t, true).claimed()
	b := h.signedIn(store.Operator)
	if page := b.get("/machines"); !strings.Contains(page.body, `form="bulk" name="machine" value="m-4f7c21aa"`) {
		t.Fatal("the list has nothing to mark")
	}
	if page := h.signedIn(store.Viewer).get("/machines"); strings.Contains(page.body, `form="bulk"`) {
		t.Error("a viewer can mark what they cannot do")
	}
	// m-91ce0b33 is busy with its initial replication.
	ask := b.post("/machines/bulk", "verb", "test-failover", "machine", "m-4f7c21aa", "machine", "m-91ce0b33")
	if ask.status != http.StatusOK || len(h.appliance.asked) != 0 {
		t.Fatalf("got %d; %d were asked before it was confirmed", ask.status, len(h.appliance.asked))
	}
	if !strings.Contains(ask.body, "Do it on 1 machine") || !strings.Contains(ask.body, "not now") {
		t.Errorf("it is not told what would be done: %s", ask.body)
	}
	done := b.post("/machines/bulk", "sure", "yes", "verb", "test-failover", "machine", "m-4f7c21aa", "machine", "m-91ce0b33")
	if done.status != http.StatusOK || !strings.Contains(done.body, "1 of 2 machines took it") || !strings.Contains(done.body, `href="/jobs/`) || !strings.Contains(done.body, "refused") {
		t.Errorf("got %d %s", done.status, done.body)
	}
	if len(h.appliance.asked) != 2 || h.appliance.asked[0].Verb != lifecycle.TestFailover || h.appliance.asked[0].Person != "operator" {
		t.Errorf("the appliance was asked %+v", h.appliance.asked)
	}
	for _, wrong := range [][]string{{"verb", "unplanned-failover", "machine", "m-4f7c21aa", "sure", "yes"}, {"verb", "pause", "sure", "yes"}} {
		if got := b.post("/machines/bulk", wrong...); got.status < 400 || len(h.appliance.asked) != 2 {
			t.Errorf("%v: got %d", wrong, got.status)
		}
	}
}

// TestMarksSurviveAnUpdate: what a person has marked, by mouse and by keyboard, stays
// marked while the list changes under it.
func TestMarksSurviveAnUpdate(t *testing.T) {
	h := newHouse(t, true).claimed()
	c := h.openChrome()
	c.signIn()
	c.Visit("/machines")
	c.Until("the socket", `document.querySelector("#live").textContent`)
	c.Click(`.pick[value="m-4f7c21aa"]`)
	c.JS(`(document.querySelector('.pick[value="m-5b10c3d2"]').focus(), 0)`)
	c.Press(" ")
	if _, err := store.Change(h.store, store.Machines, "m-4f7c21aa", func(m *store.Machine) error { m.Policy = "silver-by-now"; return nil }); err != nil {
		t.Fatal(err)
	}
	c.Until("the update", `document.querySelector("#machine-m-4f7c21aa").textContent.includes("silver-by-now")`)
	marked := strings.Split(c.JS(`[...document.querySelectorAll(".pick:checked")].map(e => e.value).sort().join(" ")`), " ")
	if !slices.Equal(marked, []string{"m-4f7c21aa", "m-5b10c3d2"}) {
		t.Fatalf("after the update %q are marked", marked)
	}
	c.Click("#bulk-all")
	if c.JS(`document.querySelectorAll(".pick:not(:checked)").length`) != "0" {
		t.Error("one box does not mark all")
	}
	c.JS(`(document.querySelector('#bulk button[value="pause"]').focus(), 0)`)
	c.Leave("the question", func() { c.Press(kb.Enter) })
	c.Until("to be asked", `document.querySelector("#bulk-ask button.primary")`)
	if browsertest.HasAxe() {
		for _, fault := range c.Axe() {
			t.Error(fault)
		}
	}
	for _, width := range []int64{390, 640, 1440} {
		c.Size(width, 900)
		if what := c.Overflow(); what != "" {
			t.Errorf("at %d px it scrolls sideways: %s", width, what)
		}
	}
	c.Leave("the answer", func() { c.Click("#bulk-ask button.primary") })
	c.Until("what came of it", `document.querySelector("#bulk-ask") && !document.querySelector("#bulk-ask button.primary")`)
	if !slices.ContainsFunc(h.appliance.asked, func(r web.Request) bool { return r.Verb == lifecycle.Pause }) {
		t.Error("nothing was paused")
	}
}
