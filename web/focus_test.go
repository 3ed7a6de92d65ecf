package web_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"riparo/replication"
	"riparo/store"
)

// TestTheFocusStaysWhateverComesAndGoes has a person with a keyboard on one thing after
// another, while frames of the socket add and remove others beside it. The focus stays
// on the same element, and what Enter asks for is the same.
func TestTheFocusStaysWhateverComesAndGoes(t *testing.T) {
	const machine = "m-4f7c21aa"
	h := newHouse(t, true).claimed()
	c := h.openChrome()
	c.signIn()
	change := func(id string, change func(*store.Machine)) {
		t.Helper()
		if _, err := store.Change(h.store, store.Machines, id, func(m *store.Machine) error { change(m); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	// focused gives the focus to what a selector finds, and remembers it.
	focused := func(selector string) {
		t.Helper()
		c.Do("focus "+selector, chromedp.Focus(selector))
		c.JS(`(window.had = document.activeElement, 0)`)
	}
	stays := func(what, leads string) {
		t.Helper()
		if got := c.JS(`document.activeElement.href || document.activeElement.form?.action || document.activeElement.nodeName`); got != h.server.URL+leads {
			t.Errorf("%s: the focus is on %s, want %s", what, got, h.server.URL+leads)
		}
		if c.JS(`document.activeElement === window.had`) != "true" {
			t.Errorf("%s: the focus is not on the element that had it", what)
		}
	}
	live := func(path string) {
		t.Helper()
		c.Visit(path)
		c.Until("the socket", `document.querySelector("#live")?.textContent === "Live"`)
	}

	// Verbs before it go, and come back.
	live("/machines/" + machine)
	disable := `#machine-now a[href$="/disable-protection"]`
	c.Until("the verbs", `document.querySelectorAll("#machine-now .more .acts a").length > 1`)
	focused(disable)
	change(machine, func(m *store.Machine) { m.Paused = true })
	c.Until("another verb", `document.querySelector('#machine-now a[href$="/resume"]') && !document.querySelector('a[href$="/pause"]')`)
	stays("verbs that went", "/machines/"+machine+"/disable-protection")
	change(machine, func(m *store.Machine) { m.Paused = false })
	c.Until("the verb again", `document.querySelector('#machine-now a[href$="/pause"]')`)
	stays("verbs that came", "/machines/"+machine+"/disable-protection")

	// A new point comes above the one that is about to be pinned.
	c.Do("open the points", chromedp.Click("#points-table > summary"))
	point := h.appliance.points[machine][3]
	focused(`#machine-points form[action*="` + string(point.ID) + `"] button`)
	h.appliance.mu.Lock()
	fresh := h.appliance.points[machine][0]
	fresh.ID, fresh.Time = replication.NewPointID(time.Now()), time.Now()
	h.appliance.points[machine] = slices.Insert(slices.Clone(h.appliance.points[machine]), 0, fresh)
	h.appliance.mu.Unlock()
	change(machine, func(m *store.Machine) { m.LastPoint = &fresh })
	c.Until("the new point", `document.querySelector('#machine-points form[action*="`+string(fresh.ID)+`"]')`)
	stays("a new point", "/machines/"+machine+"/points/"+string(point.ID)+"/pin")

	// A verb goes from the banner to the others.
	const failed = "m-77aa01fe"
	live("/machines/" + failed)
	focused(`.banner a[href$="/commit"]`)
	change(failed, func(m *store.Machine) { m.Failover = nil })
	c.Until("no banner", `!document.querySelector("#machine-head .banner") && document.querySelector('a[href$="/commit"]')`)
	if got := c.JS(`document.activeElement.getAttribute("href")`); got != "/machines/"+failed+"/commit" {
		t.Errorf("a verb that stands elsewhere now: the focus is on %q", got)
	}

	// A machine before it is well again.
	live("/")
	focused(`#overview-needs a[href="/machines/` + failed + `"]`)
	before := c.JS(`document.querySelectorAll("#overview-needs .finding").length`)
	for _, m := range []string{"m-c0ffee00", "m-5b10c3d2"} {
		change(m, func(m *store.Machine) { m.Health, m.Failures = store.Health{Level: store.Healthy}, 0 })
	}
	c.Until("fewer findings", `document.querySelectorAll("#overview-needs .finding").length < `+before)
	stays("findings that went", "/machines/"+failed)

	// A row goes elsewhere in its list, in a browser that cannot move it.
	live("/machines?sort=name")
	c.JS(`(delete Element.prototype.moveBefore, 0)`)
	for _, name := range []string{"zz-last", "aa-first", "zz-last"} {
		focused(`#machine-` + machine + ` .row-link`)
		change(machine, func(m *store.Machine) { m.Name = name })
		c.Until(name, `document.querySelector("#machine-`+machine+` .row-link").textContent === "`+name+`"`)
		stays("a row that moved", "/machines/"+machine)
	}
	// What is wrong comes above a question that is being answered.
	ask := func(problem *store.Finding) {
		t.Helper()
		if err := h.appliance.change(runningJob, func(j *store.Job) { j.State, j.Question, j.Error = store.WaitingForInput, "Which one?", problem }); err != nil {
			t.Fatal(err)
		}
	}
	ask(nil)
	live("/jobs/" + runningJob)
	focused("#answer")
	c.Press("the sec")
	for _, problem := range []*store.Finding{{Code: "x", Cause: "it is slow"}, nil} {
		ask(problem)
		c.Until("the problem to come and go", fmt.Sprintf(`document.querySelector("#job-head").innerText.includes("slow") === %t`, problem != nil))
		stays("a problem", "/jobs/"+runningJob+"/answer")
	}
	c.Press("ond")
	if got := c.JS(`document.activeElement.value`); got != "the second" {
		t.Errorf("the answer is %q, want %q", got, "the second")
	}
	if said := c.Complaints(); len(said) > 0 {
		t.Errorf("the browser complains: %q", said)
	}
}
