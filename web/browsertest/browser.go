package browsertest

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// Patience is for a machine on which much else happens. Nothing waits for it that
// goes well.
const Patience = 90 * time.Second

// Browser is a real browser on one site.
type Browser struct {
	*testing.T
	ctx  context.Context
	base string

	mu       sync.Mutex // guards messages
	messages []string
}

// programs are the names under which distributions have Chromium.
var programs = []string{"chromium", "chromium-browser", "google-chrome"}

// Open starts Chromium for the site at base, or skips the test where there is none.
// The site's certificate need not be known to it.
func Open(t *testing.T, base string) *Browser {
	t.Helper()
	var bin string
	for _, name := range programs {
		if path, err := exec.LookPath(name); err == nil {
			bin = path
			break
		}
	}
	if bin == "" {
		t.Skip("Chromium is not installed")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(bin), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.IgnoreCertErrors, chromedp.UserDataDir(t.TempDir()), chromedp.WindowSize(1440, 900),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("lang", "en-US"), chromedp.Env("TZ=Europe/Rome"))
	ctx, stop := context.WithTimeout(t.Context(), 15*time.Minute)
	ctx, end := chromedp.NewExecAllocator(ctx, options...)
	ctx, leave := chromedp.NewContext(ctx)
	b := &Browser{T: t, ctx: ctx, base: base}
	var listening sync.WaitGroup
	t.Cleanup(func() {
		leave()
		end()
		stop()
		listening.Wait()
	})
	// The browser lives as long as the context of the first action.
	if err := chromedp.Do(ctx, chromedp.Navigate("about:blank")); err != nil {
		t.Fatal(err)
	}
	listening.Go(func() {
		for m, err := range chromedp.Console(ctx) {
			if err != nil {
				return
			}
			if m.Type == chromedp.ConsoleError || m.Type == chromedp.ConsoleWarning || m.Type == chromedp.ConsoleException {
				b.mu.Lock()
				b.messages = append(b.messages, fmt.Sprintf("%s: %s (%s)", m.Type, m.Text, m.URL))
				b.mu.Unlock()
			}
		}
	})
	return b
}

// Context is the browser's, for actions of chromedp.
func (b *Browser) Context() context.Context { return b.ctx }

// Do does what a person would, within Patience.
func (b *Browser) Do(what string, actions ...chromedp.Action[chromedp.Void]) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, Patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.Fatalf("%s: %v\nthe page is %s: %.600s", what, err, b.JS("location.href"), b.JS("document.body.innerText"))
	}
}

// Leave does something that leads to another document, such as a click on a link or a
// form that is sent, and waits until that one has come and its script has run.
//
// The old document stands there until the first bytes of the new one come, and much
// that is true of the new one is true of the old one too: whoever waits for that alone
// goes on too early. The next step then meets a navigation under way, which aborts it
// or takes the page from under it. So the old window gets a mark, which goes with it.
func (b *Browser) Leave(what string, act func()) {
	b.Helper()
	b.JS("(window.left = true)")
	act()
	// Scripts are deferred: they have run when a document is complete.
	b.Until(what, `!window.left && document.readyState === "complete" && document.querySelector("main")`)
}

// Visit opens a page and waits for its script.
func (b *Browser) Visit(path string) {
	b.Helper()
	b.Leave("the page "+path, func() { b.Do("visit "+path, chromedp.Navigate(b.base+path)) })
}

// JS evaluates an expression to a text.
func (b *Browser) JS(expression string) string {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, Patience)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string]("String("+expression+")"))
	if err != nil {
		b.Fatalf("%.80s: %v", expression, err)
	}
	return text
}

// Until waits for an expression to become true. It asks again and again, because
// the page may be left for another one meanwhile.
func (b *Browser) Until(what, expression string) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, Patience)
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
			b.Fatalf("waited for %s (last: %v)\nthe page is %s: %.600s", what, err, b.JS("location.href"), b.JS("document.body.innerText"))
		}
	}
}

// Click clicks on the first element that a selector finds. What leads to another
// document is clicked on within Leave.
func (b *Browser) Click(selector string) {
	b.Helper()
	b.Do("click on "+selector, chromedp.Click(selector))
}

// Press presses keys as on a keyboard.
func (b *Browser) Press(keys string) {
	b.Helper()
	b.Do("press "+strconv.Quote(keys), chromedp.KeyEvent(keys))
}

// Size makes the window another size.
func (b *Browser) Size(width, height int64) {
	b.Helper()
	b.Do("resize", chromedp.EmulateViewport(width, height))
}

// Complaints are what the browser wrote to its console.
func (b *Browser) Complaints() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.messages)
}
