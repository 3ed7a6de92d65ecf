package browsertest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/chromedp/chromedp"
)

// shotsFolder names, in the environment, the folder for pictures. build.sh test keeps
// them in dist/shots.
const shotsFolder = "RIPARO_SHOTS"

// Shots is the folder for pictures of pages, or empty when nobody wants any.
func Shots() string { return os.Getenv(shotsFolder) }

// Shot writes a picture into a file: of the whole page, or of the window when a dialog
// is open, whose backdrop covers no more.
func (b *Browser) Shot(file string) {
	b.Helper()
	take := chromedp.FullScreenshot(100)
	if b.JS(`document.querySelector("dialog[open]") !== null`) == "true" {
		take = chromedp.CaptureScreenshot()
	} else {
		b.JS("(scrollTo(0, 0), 0)") // what sticks to the window stands where a reader begins
	}
	picture, err := chromedp.Run(b.ctx, take)
	if err != nil {
		b.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(file, picture, 0o644); err != nil {
		b.Fatal(err)
	}
}

// Overflow names the elements that make a page scroll sideways.
func (b *Browser) Overflow() string {
	b.Helper()
	return b.JS(`(() => { const w = document.documentElement.clientWidth; if (document.documentElement.scrollWidth <= w) return "";
		return [...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > w + 1 && !e.closest(".scroll, svg, .vh")).slice(0, 4).map(e => e.tagName + "." + (e.className.baseVal ?? e.className) + " " + Math.round(e.getBoundingClientRect().right)).join(", ") || "something" })()`)
}

// Status is the HTTP status that the page was answered with.
func (b *Browser) Status() string {
	b.Helper()
	return b.JS(`performance.getEntriesByType("navigation")[0]?.responseStatus`)
}

// unspoken are marks of words that nobody wrote, or that were not filled in.
var unspoken = []string{"⟦", "<no value>", "%!", "MISSING", "undefined", "NaN", "{{"}

// Faults are what is wrong with how a page came and stands there, a line each: it
// has another status than the wanted one, scrolls sideways, or shows unfilled words.
func (b *Browser) Faults(status string) []string {
	b.Helper()
	var faults []string
	if got := b.Status(); got != status {
		faults = append(faults, fmt.Sprintf("answered %s, want %s", got, status))
	}
	if what := b.Overflow(); what != "" {
		faults = append(faults, "scrolls sideways: "+what)
	}
	text := b.JS("document.body.innerText")
	for _, mark := range unspoken {
		if at := strings.Index(text, mark); at >= 0 {
			faults = append(faults, fmt.Sprintf("shows %q: %.60s", mark, text[at:]))
		}
	}
	return faults
}
