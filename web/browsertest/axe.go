package browsertest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/chromedp/chromedp"
)

// axeFile names, in the environment, the file axe.min.js of axe-core. build.sh test
// gets it; it is not part of this project.
const axeFile = "RIPARO_AXE"

// axeRules are those of WCAG 2.2 A and AA, and the best practices.
const axeRules = `["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]`

// violation is a rule that a page does not keep.
type violation struct {
	ID    string
	Help  string
	Nodes []struct{ HTML, FailureSummary string }
}

// HasAxe reports whether axe-core is there; without it the pages are judged by the
// tests' own rules only.
func HasAxe() bool { return os.Getenv(axeFile) != "" }

// Axe gives what axe-core finds wrong with the page, a line each.
func (b *Browser) Axe() []string {
	b.Helper()
	script, err := os.ReadFile(os.Getenv(axeFile))
	if err != nil {
		b.Fatalf("axe-core, named by %s: %v", axeFile, err)
	}
	ctx, cancel := context.WithTimeout(b.ctx, Patience)
	defer cancel()
	if _, err := chromedp.Run(ctx, chromedp.Evaluate[string]("(() => { if (!window.axe) {"+string(script)+"\n} return 'ready' })()")); err != nil {
		b.Fatalf("load axe-core: %v", err)
	}
	b.JS(`(window.found = "", axe.run({runOnly: ` + axeRules + `}).then(r => { window.found = JSON.stringify(r.violations.map(v => ({ID: v.id, Help: v.help, Nodes: v.nodes.map(n => ({HTML: n.html, FailureSummary: n.failureSummary}))}))) }, e => { window.found = "axe: " + e }), "")`)
	b.Until("axe-core", `window.found`)
	var found []violation
	if text := b.JS("window.found"); json.Unmarshal([]byte(text), &found) != nil {
		b.Fatal(text)
	}
	var lines []string
	for _, v := range found {
		for _, n := range v.Nodes {
			lines = append(lines, fmt.Sprintf("%s: %s: %.160s (%s)", v.ID, v.Help, n.HTML, strings.ReplaceAll(n.FailureSummary, "\n", " ")))
		}
	}
	return lines
}
