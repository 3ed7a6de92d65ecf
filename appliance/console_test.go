package appliance_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"riparo/appliance"
	"riparo/hypervisor"
	"riparo/replication/lifecycle"
	"riparo/store"
	"riparo/web/browsertest"
)

// TestTheWholeStoryInABrowser goes from a fresh appliance to a machine that came back
// from its failover, on the console alone: once by mouse, once by keyboard only.
func TestTheWholeStoryInABrowser(t *testing.T) {
	t.Run("by mouse, in English, light", func(t *testing.T) {
		newVisitor(t, "en", "light", false).story()
	})
	t.Run("by keyboard, in Italian, dark", func(t *testing.T) {
		newVisitor(t, "it", "dark", true).story()
	})
}

// visitor is a person at a browser in front of a real appliance.
type visitor struct {
	*browsertest.Browser
	th       *theater
	lang     string
	theme    string
	keyboard bool
	looked   map[string]bool // pages that were judged
	again    chan *appliance.Appliance
}

func newVisitor(t *testing.T, lang, theme string, keyboard bool) *visitor {
	th := &theater{T: t, primary: "milano", secondary: "torino"}
	v := &visitor{th: th, lang: lang, theme: theme, keyboard: keyboard, looked: map[string]bool{}, again: make(chan *appliance.Appliance, 1)}
	v.serve(appliance.Config{Data: filepath.Join(t.TempDir(), "data"), Listen: "127.0.0.1:0", RetryUnit: 200 * time.Millisecond,
		Log: slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelInfo}))})
	v.Browser = browsertest.Open(t, strings.TrimSuffix(th.a.URL, "/"))
	return v
}

// serve opens an appliance that lives until the end of the test.
func (v *visitor) serve(c appliance.Config) {
	v.th.a, _ = serveAgain(v.th.T, c, v.again)
	v.th.data = c.Data
}

// serveAgain does what riparo serve does: an appliance that begins again, because its
// vault has moved or a backup was restored, is opened again at the same address.
func serveAgain(t *testing.T, c appliance.Config, again chan *appliance.Appliance) (a *appliance.Appliance, stop func()) {
	first, err := appliance.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		a := first
		for {
			err := a.Run(ctx)
			if errors.Is(err, appliance.ErrRestart) {
				c.Listener = a.HandOn()
			}
			closed := a.Close()
			if !errors.Is(err, appliance.ErrRestart) || closed != nil {
				ended <- errors.Join(err, closed)
				return
			}
			if a, err = appliance.Open(ctx, c); err != nil {
				ended <- err
				return
			}
			again <- a
		}
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the appliance ended with: %v", err)
		}
	})
	t.Cleanup(stop)
	return first, stop
}

const consolePassword = "quattro passi nel bosco"

func (v *visitor) story() {
	v.Helper()
	v.claim()
	v.setUp()
	v.protect()
	v.drill()
	v.failOver()
	v.comeBack()
	if said := v.Complaints(); len(said) > 0 {
		v.Errorf("the browser complains: %s", strings.Join(said, "; "))
	}
	if !browsertest.HasAxe() {
		v.Log("judged without axe-core: it is not here (build.sh test gets it where there is npm)")
	}
}

func (v *visitor) claim() {
	v.Helper()
	v.Visit("/")
	v.Until("the claim", `location.pathname === "/setup" && document.activeElement.id === "token"`)
	v.look("claim")
	v.fill("#token", v.th.a.SetupToken)
	v.fill("#name", "anna")
	v.fill("#password", consolePassword)
	v.Until("how strong the password is", `document.querySelector("#strength").innerText`)
	v.fill("#again", consolePassword)
	v.choose("#language", v.lang)
	v.leave("main form .btn.primary")
	v.Until("to be inside", `document.querySelector("#nav")`)
	v.Until("the first step of the setup", `location.pathname === "/setup/appliance"`)
	v.act(fmt.Sprintf(`[data-theme-switch] button[value=%q]`, v.theme))
	v.Until("the theme", fmt.Sprintf(`document.documentElement.dataset.theme === %q && document.documentElement.lang === %q`, v.theme, v.lang))
}

// protect sees the initial replication move by itself.
func (v *visitor) protect() {
	v.Helper()
	v.th.ref = "WEB01"
	site := v.th.provider(v.th.primary).(interface {
		SlowDisk(ref hypervisor.Ref, key string, delay time.Duration) error
	})
	if err := site.SlowDisk(v.th.ref, "vda", 300*time.Millisecond); err != nil {
		v.Fatal(err)
	}
	v.Visit("/machines")
	v.act(`a[href^="/protect?"]`)
	v.Until("what to protect", `document.querySelector("#ask #target, #dialog #target")`)
	v.leave("#ask footer .btn.primary")
	v.Until("the job", `location.pathname.startsWith("/jobs/") && document.querySelector("#live").textContent`)
	v.JS("(window.notReloaded = true)")
	moved := `[...document.querySelectorAll("#job-steps progress")].some(p => p.value > 0 && p.value < p.max)`
	v.Until("the initial replication to move", moved)
	v.look("initial replication")
	if err := site.SlowDisk(v.th.ref, "vda", 0); err != nil {
		v.Fatal(err)
	}
	v.Until("the protection", `document.querySelector("#job-head .badge.ok")`)
	if v.JS("window.notReloaded === true") != "true" {
		v.Error("the page was loaded again while the job went on")
	}
	for _, m := range v.th.machines() {
		v.th.id = m.ID
	}
	v.look("job")
}

func (v *visitor) drill() {
	v.Helper()
	v.verb(lifecycle.TestFailover)
	m := v.th.machine()
	if m.Test == nil {
		v.Fatal("there is no test machine after the test failover")
	}
	if power := v.power(v.th.secondary, m.Test.Ref); power != hypervisor.Running {
		v.Errorf("the test machine is %q, want it running", power)
	}
	v.verb(lifecycle.CleanupTest)
	if m := v.th.machine(); m.LastDrill == nil || !m.LastDrill.Passed || m.Test != nil {
		v.Errorf("after the cleanup: last drill %+v, test %+v", m.LastDrill, m.Test)
	}
}

func (v *visitor) failOver() {
	v.Helper()
	v.th.points(4)
	v.verb(lifecycle.UnplannedFailover)
	first := v.th.machine().Failover
	if first == nil {
		v.Fatal("there is no failover")
	}
	if power := v.power(v.th.secondary, v.th.machine().Target.Ref); power != hypervisor.Running {
		v.Errorf("the replica is %q, want it running", power)
	}
	v.verb(lifecycle.ChangePoint)
	if second := v.th.machine().Failover; second == nil || second.Point == first.Point || !second.PointTime.Before(first.PointTime) {
		v.Errorf("the point was changed from %+v to %+v, want an older one", first, second)
	}
	v.verb(lifecycle.Commit)
}

func (v *visitor) comeBack() {
	v.Helper()
	v.verb(lifecycle.ReverseReplicate)
	v.verb(lifecycle.Failback)
	m := v.th.machine()
	if m.State != lifecycle.Protected || m.Direction != lifecycle.Forward {
		v.Errorf("at the end the machine is %s, %s; want protected, forward", m.State, m.Direction)
	}
	if power := v.power(v.th.primary, m.Source.Ref); power != hypervisor.Running {
		v.Errorf("the original is %q, want it running", power)
	}
	v.Visit("/machines")
	v.look("machines")
	v.Visit("/jobs")
	v.look("jobs")
	v.Visit("/events")
	v.look("events")
	v.Visit("/")
	v.look("overview")
}

// verb asks for something on the machine's page, fills what the dialog wants, and
// waits for the job to succeed.
func (v *visitor) verb(verb lifecycle.Verb) {
	v.Helper()
	link := fmt.Sprintf(`main a[href="/machines/%s/%s"]`, v.th.id, verb)
	v.Visit("/machines/" + string(v.th.id))
	v.Until("the machine to allow "+string(verb), fmt.Sprintf("document.querySelector(%q)", link))
	v.look("machine before " + string(verb))
	v.act(link)
	v.Until("the dialog", `document.querySelector("#dialog").open && document.querySelector("#dialog footer button")`)
	v.look("dialog of " + string(verb))
	switch verb {
	case lifecycle.ChangePoint:
		v.focus(`#dialog [type="range"]`)
		v.Press(kb.ArrowLeft + kb.ArrowLeft)
	case lifecycle.CleanupTest:
		v.fill("#dialog #notes", "the login page answered")
	}
	if v.JS(`document.querySelector("#dialog #confirm") !== null`) == "true" {
		v.fill("#dialog #confirm", "WEB01")
	}
	v.leave("#dialog footer button")
	v.Until("the job of "+string(verb), `location.pathname.startsWith("/jobs/")`)
	v.Until("the job to end", `document.querySelector("#job-head .badge.ok, #job-head .badge.bad")`)
	if v.JS(`document.querySelector("#job-head .badge.bad") !== null`) == "true" {
		v.Fatalf("%s: %s", verb, v.JS(`document.querySelector("main").innerText`))
	}
}

func (v *visitor) power(site, ref string) hypervisor.Power {
	v.Helper()
	m, err := v.th.provider(site).Machine(v.Browser.T.Context(), hypervisor.Ref(ref))
	if err != nil {
		v.Errorf("machine %s at %s: %v", ref, site, err)
	}
	return m.Power
}

// act clicks on something, or goes there with the Tab key and presses Enter.
func (v *visitor) act(selector string) {
	v.Helper()
	if !v.keyboard {
		v.Click(selector)
		return
	}
	v.focus(selector)
	v.Press(kb.Enter)
}

// leave does that with what leads to another page, and waits until that one is there.
func (v *visitor) leave(selector string) {
	v.Helper()
	v.Leave("what "+selector+" leads to", func() { v.act(selector) })
}

// farthest is how many times a person would press Tab before giving up.
const farthest = 120

// focus moves the focus by the Tab key, as a person without a mouse must.
func (v *visitor) focus(selector string) {
	v.Helper()
	if !v.keyboard {
		v.Do("focus "+selector, chromedp.Focus(selector))
		return
	}
	there := fmt.Sprintf("document.querySelector(%q) === document.activeElement", selector)
	for range farthest {
		if v.JS(there) == "true" {
			return
		}
		v.Press(kb.Tab)
	}
	v.Fatalf("%s is not reached by the Tab key; the focus is on %s", selector, v.JS("document.activeElement.outerHTML.slice(0, 200)"))
}

func (v *visitor) fill(selector, text string) {
	v.Helper()
	v.focus(selector)
	v.Press(text)
}

// replace types over what a field holds.
func (v *visitor) replace(selector, text string) {
	v.Helper()
	v.focus(selector)
	v.Press(kb.End)
	v.Do("select what is in "+selector, chromedp.KeyEvent(kb.Home, chromedp.KeyModifiers(chromedp.ModifierShift)))
	v.Press(text)
}

// choose chooses in a list with the arrow keys, as both do: the list that a mouse
// would open belongs to the system, not to the page.
func (v *visitor) choose(selector, value string) {
	v.Helper()
	v.focus(selector)
	chosen := fmt.Sprintf("document.querySelector(%q).value === %q", selector, value)
	v.Press(kb.Home)
	for range 20 {
		if v.JS(chosen) == "true" {
			return
		}
		v.Press(kb.ArrowDown)
	}
	v.Fatalf("%s has no choice %s", selector, value)
}

// look judges a page: nobody is kept out, nothing scrolls sideways at any width.
func (v *visitor) look(name string) {
	v.Helper()
	if v.looked[name] {
		return
	}
	v.looked[name] = true
	if browsertest.HasAxe() {
		for _, fault := range v.Axe() {
			v.Errorf("%s: %s", name, fault)
		}
	}
	for _, width := range []int64{390, 640, 1440} {
		v.Size(width, 900)
		for _, fault := range v.Faults("200") {
			v.Errorf("%s at %d px: %s", name, width, fault)
		}
		if folder := browsertest.Shots(); folder != "" {
			v.Shot(filepath.Join(folder, fmt.Sprintf("story-%s-%s-%s-%d.png", strings.ReplaceAll(name, " ", "-"), v.lang, v.theme, width)))
		}
	}
}

// machines are those that are protected.
func (th *theater) machines() []store.Machine {
	th.Helper()
	var list []store.Machine
	err := th.a.Rooms().Store.View(func(tx *store.Tx) error {
		for m, err := range tx.Machines().All() {
			if err != nil {
				return err
			}
			list = append(list, m)
		}
		return nil
	})
	if err != nil {
		th.Fatal(err)
	}
	return list
}
