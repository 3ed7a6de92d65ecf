package web_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"riparo/store"
	"riparo/web/browsertest"
)

// TestTheStoryOfAnOperator goes by keyboard from a fresh appliance to a test
// failover whose progress moves by itself.
func TestTheStoryOfAnOperator(t *testing.T) {
	h := newHouse(t, true)
	c := h.openChrome()
	c.Visit("/")
	c.Until("the claim", `location.pathname === "/setup" && document.activeElement.id === "token"`)
	c.Press(h.token + kb.Tab + user + kb.Tab + password)
	// Whoever claims sooner has the question refused, which the browser tells.
	c.Until("how strong the password is", `document.querySelector("#strength").innerText`)
	c.Press(kb.Tab + password)
	c.Leave("what the claim leads to", func() { c.Press(kb.Enter) })
	c.Until("the overview", `location.pathname === "/" && document.querySelector("h1").textContent.includes("3 of 6")`)
	c.signOut()
	c.Until("the sign-in", `location.pathname === "/login" && document.activeElement.id === "name"`)
	c.Leave("what the sign-in leads to", func() { c.Press(user + kb.Tab + password + kb.Enter) })
	c.Until("the overview again", `location.pathname === "/" && document.querySelector("#live")?.textContent === "Live"`)
	c.Until("times in the zone of the reader", `!document.body.innerText.includes("UTC")`)

	c.Visit("/machines")
	c.Press("/")
	c.Until("the search by key", `document.activeElement.name === "q"`)
	// The driver types the slash although the page has taken the key; people's
	// browsers do not.
	c.Leave("what was found", func() { c.Press(kb.Backspace + "web" + kb.Enter) })
	c.Until("one machine", `document.querySelectorAll("#machines-list tbody tr").length === 1`)
	c.Do("focus the machine", chromedp.Focus("#machines-list .row-link"))
	c.Leave("what the machine leads to", func() { c.Press(kb.Enter) })
	c.Until("the machine", `location.pathname === "/machines/m-4f7c21aa"`)

	c.Do("focus the verb", chromedp.Focus(`a[href$="/test-failover"]`))
	c.Press(kb.Enter)
	c.Until("the dialog", `document.querySelector("#dialog").open && document.querySelector("#dialog [type=range]")`)
	if inside := c.JS(`document.querySelector("#dialog").contains(document.activeElement)`); inside != "true" {
		t.Error("the focus is not in the dialog")
	}
	c.Press(kb.Escape)
	c.Until("the dialog gone", `!document.querySelector("#dialog").open`)
	if back := c.JS(`document.activeElement.getAttribute("href")`); back != "/machines/m-4f7c21aa/test-failover" {
		t.Errorf("after Escape the focus is on %q, not on what opened the dialog", back)
	}
	c.Press(kb.Enter)
	c.Until("the dialog again", `document.querySelector("#dialog").open && document.querySelector("#dialog [type=range]")`)
	// The browser tells late that the dialog was closed, with its next frame.
	if kept := c.JS(`(() => { const d = document.querySelector("#dialog"); d.dispatchEvent(new Event("close")); return d.querySelector("[type=range]") !== null })()`); kept != "true" {
		t.Error("a dialog that was opened again is emptied because it was closed before")
	}
	c.Do("focus the slider", chromedp.Focus("#dialog [type=range]"))
	c.Press(kb.ArrowLeft + kb.ArrowLeft)
	if point := c.JS(`document.querySelector("#dialog select").value`); len(point) < 20 {
		t.Errorf("the arrow keys chose %q: want a recovery point", point)
	}
	c.Do("focus the button", chromedp.Focus("#dialog footer button"))
	c.Leave("what the failover leads to", func() { c.Press(kb.Enter) })
	c.Until("the job", `location.pathname.startsWith("/jobs/") && document.querySelector("#live")?.textContent === "Live"`)

	job := strings.TrimPrefix(c.JS("decodeURIComponent(location.pathname)"), "/jobs/")
	c.Until("the first frame", `document.querySelector("#step-1 progress")?.value === 0`)
	c.Do("focus", chromedp.Focus(`#job-head .acts button`))
	for want := 25; want <= 75; want += 25 {
		if err := h.appliance.advance(job); err != nil {
			t.Fatal(err)
		}
		c.Until(fmt.Sprintf("%d %%", want), fmt.Sprintf(`document.querySelector("#step-1 progress").value === %d`, want))
	}
	if kept := c.JS(`document.activeElement.closest("#job-head .acts") !== null`); kept != "true" {
		t.Error("the focus was lost while progress moved")
	}
	for range 20 {
		if err := h.appliance.advance(job); err != nil {
			t.Fatal(err)
		}
	}
	c.Until("the end of the job", `document.querySelector("#job-head .badge").textContent.includes("Succeeded")`)
	c.Do("open the evidence", chromedp.Click("#step-4-evidence summary"))
	if err := h.appliance.change(job, func(j *store.Job) { j.Actor = "somebody else" }); err != nil {
		t.Fatal(err)
	}
	c.Until("another fact", `document.body.innerText.includes("somebody else")`)
	if open := c.JS(`document.querySelector("#step-4-evidence").open`); open != "true" {
		t.Error("the open evidence was closed by a frame")
	}
	if said := c.Complaints(); len(said) > 0 {
		t.Errorf("the browser complains: %s", strings.Join(said, "; "))
	}
}

func TestTypingTheNameArmsAFailover(t *testing.T) {
	h := newHouse(t, true).claimed()
	c := h.openChrome()
	c.signIn()
	c.Visit("/machines/m-4f7c21aa")
	c.Do("open", chromedp.Click(`a[href$="/planned-failover"]`))
	c.Until("the dialog", `document.querySelector("#confirm")`)
	if armed := c.JS(`document.querySelector("#dialog footer button").disabled`); armed != "true" {
		t.Error("the failover can be asked for before the name is typed")
	}
	c.Do("type", chromedp.Focus("#confirm"))
	c.Press("web01")
	c.Until("the button", `!document.querySelector("#dialog footer button").disabled`)
	c.Leave("what the failover leads to", func() { c.Press(kb.Enter) })
	c.Until("the job", `location.pathname.startsWith("/jobs/")`)
	if said := c.Complaints(); len(said) > 0 {
		t.Errorf("the browser complains: %s", strings.Join(said, "; "))
	}
}

// chrome is a real browser on the console of a house.
type chrome struct{ *browsertest.Browser }

func (h *house) openChrome() *chrome {
	return &chrome{browsertest.Open(h.TB.(*testing.T), h.server.URL)}
}

func (c *chrome) signIn() {
	c.Helper()
	c.Visit("/login")
	c.Until("the sign-in", `document.activeElement.id === "name"`)
	c.Leave("what the sign-in leads to", func() { c.Press(user + kb.Tab + password + kb.Enter) })
	c.Until("the overview", `location.pathname === "/"`)
}

func (c *chrome) signOut() {
	c.Helper()
	c.Leave("what signing out leads to", func() { c.Do("sign out", chromedp.Submit(`form[action="/logout"]`)) })
}

// TestAPageSaysWhenItIsStaleAndComesBack restarts the console under an open page.
func TestAPageSaysWhenItIsStaleAndComesBack(t *testing.T) {
	h := newHouse(t, true).claimed()
	c := h.openChrome()
	c.signIn()
	c.Visit("/jobs/" + runningJob)
	c.Until("the socket", `document.querySelector("#live").textContent === "Live"`)
	h.console.Close()
	c.Until("the banner", `!document.querySelector("#stale").hidden && document.querySelector("#stale").textContent.includes("old")`)
	if said := c.JS(`document.querySelector("#live").textContent`); said != "Not connected" {
		t.Errorf("the page says %q while it is not connected", said)
	}
	age := c.JS(`document.querySelector("#job-head time.age").textContent`)
	if err := h.appliance.change(runningJob, func(j *store.Job) { j.Steps[2].Done = 30 * gib }); err != nil {
		t.Fatal(err)
	}
	c.Until("the banner to count", `!/ [0-4] s old/.test(document.querySelector("#stale").textContent)`)
	if now := c.JS(`document.querySelector("#job-head time.age").textContent`); now != age {
		t.Errorf("an age went on from %s to %s although nobody knows", age, now)
	}
	h.open()
	c.Until("the page to catch up", `document.querySelector("#stale").hidden && document.querySelector("#step-3").textContent.includes("30 GiB")`)
}

// pages that are looked at in every width.
var widths = []int64{390, 640, 1440}

func TestNoPageScrollsSideways(t *testing.T) {
	h := newHouse(t, true).claimed().populated()
	c := h.openChrome()
	c.signIn()
	languages := []string{"it"} // whose words are the longer ones
	if os.Getenv("RIPARO_LONG") != "" {
		languages = []string{"it", "en"}
	}
	for _, lang := range languages {
		if err := h.identity.SetLanguage(user, lang); err != nil {
			t.Fatal(err)
		}
		for _, p := range everyPage {
			c.Visit(p.path)
			for _, width := range widths {
				c.Size(width, 900)
				if what := c.Overflow(); what != "" {
					t.Errorf("%s in %s at %d px scrolls sideways: %s", p.path, lang, width, what)
				}
			}
		}
	}
	if said := c.Complaints(); len(said) > 0 {
		t.Errorf("the browser complains: %s", strings.Join(said, "; "))
	}
}
