package web_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"riparo/store"
)

// patience is for a machine on which much else happens. Nothing waits for it that
// goes well.
const patience = 90 * time.Second

// chrome is a real browser on the console.
type chrome struct {
	*testing.T
	ctx  context.Context
	base string

	mu       sync.Mutex // guards complaint
	messages []string
}

// openChrome starts Chromium, or skips the test where there is none.
func (h *house) openChrome() *chrome {
	h.Helper()
	var bin string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			bin = path
			break
		}
	}
	if bin == "" {
		h.Skip("Chromium is not installed")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(bin), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.IgnoreCertErrors, chromedp.UserDataDir(h.TempDir()), chromedp.WindowSize(1440, 900),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("lang", "en-US"), chromedp.Env("TZ=Europe/Rome"))
	ctx, stop := context.WithTimeout(h.Context(), 8*time.Minute)
	ctx, end := chromedp.NewExecAllocator(ctx, options...)
	ctx, leave := chromedp.NewContext(ctx)
	c := &chrome{T: h.T, ctx: ctx, base: h.server.URL}
	var listening sync.WaitGroup
	h.Cleanup(func() {
		leave()
		end()
		stop()
		listening.Wait()
	})
	// The browser lives as long as the context of the first action.
	if err := chromedp.Do(ctx, chromedp.Navigate("about:blank")); err != nil {
		h.Fatal(err)
	}
	listening.Go(func() {
		for m, err := range chromedp.Console(ctx) {
			if err != nil {
				return
			}
			if m.Type == chromedp.ConsoleError || m.Type == chromedp.ConsoleWarning || m.Type == chromedp.ConsoleException {
				c.mu.Lock()
				c.messages = append(c.messages, fmt.Sprintf("%s: %s (%s)", m.Type, m.Text, m.URL))
				c.mu.Unlock()
			}
		}
	})
	return c
}

func (c *chrome) do(what string, actions ...chromedp.Action[chromedp.Void]) {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		c.Fatalf("%s: %v", what, err)
	}
}

func (c *chrome) visit(path string) {
	c.Helper()
	c.do("visit "+path, chromedp.Navigate(c.base+path), chromedp.WaitReady("main"))
	c.until("the script", `document.readyState === "complete"`)
}

// js evaluates an expression to a text.
func (c *chrome) js(expression string) string {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.ctx, patience)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string]("String("+expression+")"))
	if err != nil {
		c.Fatalf("%.80s: %v", expression, err)
	}
	return text
}

// until waits for an expression to become true. It asks again and again, because
// the page may be left for another one meanwhile.
func (c *chrome) until(what, expression string) {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.ctx, patience)
	defer cancel()
	look := time.NewTicker(40 * time.Millisecond)
	defer look.Stop()
	for {
		ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("(() => { try { return Boolean("+expression+") } catch { return false } })()"))
		if err == nil && ok {
			return
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			c.Fatalf("waited for %s (last: %v)\nthe page is %s: %.400s", what, err, c.js("location.href"), c.js("document.body.innerText"))
		}
	}
}

// press presses keys as on a keyboard.
func (c *chrome) press(keys string) {
	c.Helper()
	c.do("press "+strconv.Quote(keys), chromedp.KeyEvent(keys))
}

// complaints are what the browser wrote to its console.
func (c *chrome) complaints() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.messages...)
}

// overflow names the elements that make a page scroll sideways.
func (c *chrome) overflow() string {
	return c.js(`(() => { const w = document.documentElement.clientWidth; if (document.documentElement.scrollWidth <= w) return "";
		return [...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > w + 1 && !e.closest(".scroll, svg, .vh")).slice(0, 4).map(e => e.tagName + "." + (e.className.baseVal ?? e.className) + " " + Math.round(e.getBoundingClientRect().right)).join(", ") || "something" })()`)
}

func (c *chrome) size(width, height int64) {
	c.Helper()
	c.do("resize", chromedp.EmulateViewport(width, height))
}

// TestTheStoryOfAnOperator goes by keyboard from a fresh appliance to a test
// failover whose progress moves by itself.
func TestTheStoryOfAnOperator(t *testing.T) {
	h := newHouse(t, true)
	c := h.openChrome()
	c.visit("/")
	c.until("the claim", `location.pathname === "/setup" && document.activeElement.id === "token"`)
	c.press(h.token + kb.Tab + user + kb.Tab + password + kb.Tab + password)
	c.press(kb.Enter)
	c.until("the overview", `location.pathname === "/" && document.querySelector("h1").textContent.includes("3 of 6")`)
	c.do("sign out", chromedp.Submit(`form[action="/logout"]`))
	c.until("the sign-in", `location.pathname === "/login" && document.activeElement.id === "name"`)
	c.press(user + kb.Tab + password + kb.Enter)
	c.until("the overview again", `location.pathname === "/" && document.querySelector("#live")?.textContent === "Live"`)
	c.until("times in the zone of the reader", `!document.body.innerText.includes("UTC")`)

	c.visit("/machines")
	c.press("/")
	c.until("the search by key", `document.activeElement.name === "q"`)
	// The driver types the slash although the page has taken the key; people's
	// browsers do not.
	c.press(kb.Backspace + "web" + kb.Enter)
	c.until("one machine", `document.querySelectorAll("#machines-list tbody tr").length === 1`)
	c.do("focus the machine", chromedp.Focus("#machines-list .row-link"))
	c.press(kb.Enter)
	c.until("the machine", `location.pathname === "/machines/m-4f7c21aa"`)

	c.do("focus the verb", chromedp.Focus(`a[href$="/test-failover"]`))
	c.press(kb.Enter)
	c.until("the dialog", `document.querySelector("#dialog").open && document.querySelector("#dialog [type=range]")`)
	if inside := c.js(`document.querySelector("#dialog").contains(document.activeElement)`); inside != "true" {
		t.Error("the focus is not in the dialog")
	}
	c.press(kb.Escape)
	c.until("the dialog gone", `!document.querySelector("#dialog").open`)
	if back := c.js(`document.activeElement.getAttribute("href")`); back != "/machines/m-4f7c21aa/test-failover" {
		t.Errorf("after Escape the focus is on %q, not on what opened the dialog", back)
	}
	c.press(kb.Enter)
	c.until("the dialog again", `document.querySelector("#dialog").open && document.querySelector("#dialog [type=range]")`)
	c.do("focus the slider", chromedp.Focus("#dialog [type=range]"))
	c.press(kb.ArrowLeft + kb.ArrowLeft)
	if point := c.js(`document.querySelector("#dialog select").value`); len(point) < 20 {
		t.Errorf("the arrow keys chose %q: want a recovery point", point)
	}
	c.do("focus the button", chromedp.Focus("#dialog footer button"))
	c.press(kb.Enter)
	c.until("the job", `location.pathname.startsWith("/jobs/") && document.querySelector("#live")?.textContent === "Live"`)

	job := strings.TrimPrefix(c.js("decodeURIComponent(location.pathname)"), "/jobs/")
	c.until("the first frame", `document.querySelector("#step-1 progress")?.value === 0`)
	c.do("focus", chromedp.Focus(`#job-head .acts button`))
	for want := 25; want <= 75; want += 25 {
		if err := h.appliance.advance(job); err != nil {
			t.Fatal(err)
		}
		c.until(fmt.Sprintf("%d %%", want), fmt.Sprintf(`document.querySelector("#step-1 progress").value === %d`, want))
	}
	if kept := c.js(`document.activeElement.closest("#job-head .acts") !== null`); kept != "true" {
		t.Error("the focus was lost while progress moved")
	}
	for range 20 {
		if err := h.appliance.advance(job); err != nil {
			t.Fatal(err)
		}
	}
	c.until("the end of the job", `document.querySelector("#job-head .badge").textContent.includes("Succeeded")`)
	c.do("open the evidence", chromedp.Click("#step-4-evidence summary"))
	if err := h.appliance.change(job, func(j *store.Job) { j.Actor = "somebody else" }); err != nil {
		t.Fatal(err)
	}
	c.until("another fact", `document.body.innerText.includes("somebody else")`)
	if open := c.js(`document.querySelector("#step-4-evidence").open`); open != "true" {
		t.Error("the open evidence was closed by a frame")
	}
	if said := c.complaints(); len(said) > 0 {
		t.Errorf("the browser complains: %s", strings.Join(said, "; "))
	}
}

func TestTypingTheNameArmsAFailover(t *testing.T) {
	h := newHouse(t, true).claimed()
	c := h.openChrome()
	c.signIn()
	c.visit("/machines/m-4f7c21aa")
	c.do("open", chromedp.Click(`a[href$="/planned-failover"]`))
	c.until("the dialog", `document.querySelector("#confirm")`)
	if armed := c.js(`document.querySelector("#dialog footer button").disabled`); armed != "true" {
		t.Error("the failover can be asked for before the name is typed")
	}
	c.do("type", chromedp.Focus("#confirm"))
	c.press("web01")
	c.until("the button", `!document.querySelector("#dialog footer button").disabled`)
	c.press(kb.Enter)
	c.until("the job", `location.pathname.startsWith("/jobs/")`)
	if said := c.complaints(); len(said) > 0 {
		t.Errorf("the browser complains: %s", strings.Join(said, "; "))
	}
}

func (c *chrome) signIn() {
	c.Helper()
	c.visit("/login")
	c.until("the sign-in", `document.activeElement.id === "name"`)
	c.press(user + kb.Tab + password + kb.Enter)
	c.until("the overview", `location.pathname === "/"`)
}

// TestAPageSaysWhenItIsStaleAndComesBack restarts the console under an open page.
func TestAPageSaysWhenItIsStaleAndComesBack(t *testing.T) {
	h := newHouse(t, true).claimed()
	c := h.openChrome()
	c.signIn()
	c.visit("/jobs/" + runningJob)
	c.until("the socket", `document.querySelector("#live").textContent === "Live"`)
	h.console.Close()
	c.until("the banner", `!document.querySelector("#stale").hidden && document.querySelector("#stale").textContent.includes("old")`)
	if said := c.js(`document.querySelector("#live").textContent`); said != "Not connected" {
		t.Errorf("the page says %q while it is not connected", said)
	}
	age := c.js(`document.querySelector("#job-head time.age").textContent`)
	if err := h.appliance.change(runningJob, func(j *store.Job) { j.Steps[2].Done = 30 * gib }); err != nil {
		t.Fatal(err)
	}
	c.until("the banner to count", `/ [5-9] s old/.test(document.querySelector("#stale").textContent)`)
	if now := c.js(`document.querySelector("#job-head time.age").textContent`); now != age {
		t.Errorf("an age went on from %s to %s although nobody knows", age, now)
	}
	h.open()
	c.until("the page to catch up", `document.querySelector("#stale").hidden && document.querySelector("#step-3").textContent.includes("30 GiB")`)
}

// pages that are looked at in every width.
var widths = []int64{390, 640, 1440}

func TestNoPageScrollsSideways(t *testing.T) {
	h := newHouse(t, true).claimed()
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
			c.visit(p.path)
			for _, width := range widths {
				c.size(width, 900)
				if what := c.overflow(); what != "" {
					t.Errorf("%s in %s at %d px scrolls sideways: %s", p.path, lang, width, what)
				}
			}
		}
	}
	if said := c.complaints(); len(said) > 0 {
		t.Errorf("the browser complains: %s", strings.Join(said, "; "))
	}
}

// TestShots writes pictures for a person to look at into the folder that
// RIPARO_SHOTS names.
func TestShots(t *testing.T) {
	folder := os.Getenv("RIPARO_SHOTS")
	if folder == "" {
		t.Skip("RIPARO_SHOTS names no folder")
	}
	only := os.Getenv("RIPARO_SHOTS_ONLY")
	h := newHouse(t, true)
	c := h.openChrome()
	shot := func(name string, width int64, lang, theme string) {
		c.size(width, 900)
		c.js(fmt.Sprintf("(document.documentElement.dataset.theme = %q)", theme))
		c.js("(document.activeElement?.blur(), 0)")
		picture, err := chromedp.Run(c.ctx, chromedp.FullScreenshot(100))
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(folder, fmt.Sprintf("%s-%s-%s-%d.png", name, lang, theme, width))
		if err := os.WriteFile(file, picture, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	looks := []struct {
		width       int64
		lang, theme string
	}{{1440, "en", "light"}, {1440, "it", "dark"}, {390, "it", "light"}, {390, "en", "dark"}}
	if only == "" || strings.Contains("setup", only) {
		c.visit("/setup")
		shot("setup", 1440, "en", "light")
		shot("setup", 390, "en", "dark")
	}
	h.claimed()
	if only == "" || strings.Contains("login", only) {
		c.visit("/login")
		shot("login", 1440, "en", "dark")
	}
	c.size(1440, 900)
	c.signIn()
	pages := []struct{ name, path, dialog string }{
		{"overview", "/", ""}, {"machines", "/machines", ""}, {"machine", "/machines/m-4f7c21aa", ""}, {"machine-late", "/machines/m-5b10c3d2", ""}, {"machine-commit", "/machines/m-77aa01fe?window=24h", ""},
		{"machine-critical", "/machines/m-c0ffee00", ""}, {"machine-initial", "/machines/m-91ce0b33", ""},
		{"dialog-test", "/machines/m-4f7c21aa", "test-failover"}, {"dialog-unplanned", "/machines/m-4f7c21aa", "unplanned-failover"}, {"ask-planned", "/machines/m-4f7c21aa/planned-failover", ""},
		{"dialog-change", "/machines/m-77aa01fe", "change-recovery-point"}, {"protect", "/protect?site=Milano&ref=r-9", ""},
		{"jobs", "/jobs", ""}, {"job", "/jobs/20261123T080000.000Z-0000001", ""}, {"job-failed", "/jobs/20261123T070000.000Z-0000003", ""}, {"job-waiting", "/jobs/20261123T080100.000Z-0000002", ""},
		{"events", "/events", ""}, {"infrastructure", "/infrastructure", ""}, {"policies", "/policies", ""}, {"policy", "/policies/gold", ""}, {"settings", "/settings", ""}, {"audit", "/audit?verify=now", ""}, {"help", "/help", ""}, {"missing", "/nothing", ""},
	}
	for _, look := range looks {
		if err := h.identity.SetLanguage(user, look.lang); err != nil {
			t.Fatal(err)
		}
		for _, p := range pages {
			if only != "" && !strings.Contains(p.name, only) {
				continue
			}
			c.size(look.width, 900)
			c.visit(p.path)
			if p.dialog != "" {
				c.do("open", chromedp.Click(`a[href$="/`+p.dialog+`"]`))
				c.until("the dialog", `document.querySelector("#dialog form")`)
			}
			shot(p.name, look.width, look.lang, look.theme)
		}
	}
	if only == "" || only == "menu" {
		c.size(390, 900)
		c.visit("/")
		c.do("menu", chromedp.Click(".bar button"))
		shot("menu", 390, "en", "light")
	}
	empty := newHouse(t, false).claimed()
	if only == "" || only == "start" {
		d := empty.openChrome()
		d.signIn()
		*c = chrome{T: t, ctx: d.ctx, base: d.base}
		shot("start", 1440, "en", "light")
		shot("start", 390, "en", "dark")
	}
}
