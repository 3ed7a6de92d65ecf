package web_test

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"riparo/web/asset"
	"riparo/web/browsertest"
)

// audit looks in the page itself for what keeps people out: things without a name,
// names given twice, headings that jump, targets too small for a finger.
const audit = `(() => {
	const faults = [], seen = new Set();
	const name = e => (e.getAttribute("aria-label") || e.labels?.[0]?.textContent || e.textContent || e.title || document.getElementById(e.getAttribute("aria-labelledby"))?.textContent || "").trim();
	const visible = e => e.checkVisibility({ contentVisibilityAuto: true, visibilityProperty: true });
	for (const e of document.querySelectorAll("[id]")) { if (seen.has(e.id)) faults.push("id twice: " + e.id); seen.add(e.id); }
	for (const e of document.querySelectorAll("button, a[href], input:not([type=hidden]), select, textarea, summary, dialog, nav, progress, [role=img], [role=region]"))
		if (visible(e) && !name(e) && !(e.getAttribute("aria-labelledby") || "").split(" ").some(i => document.getElementById(i))) faults.push("no name: " + e.outerHTML.slice(0, 90));
	for (const l of document.querySelectorAll("label[for]")) if (!document.getElementById(l.htmlFor)) faults.push("label of nothing: " + l.htmlFor);
	for (const a of ["aria-labelledby", "aria-describedby"]) for (const e of document.querySelectorAll("[" + a + "]"))
		for (const i of e.getAttribute(a).split(" ")) if (!document.getElementById(i)) faults.push(a + " of nothing: " + i);
	let level = 0;
	for (const h of document.querySelectorAll("main h1, main h2, main h3, main h4")) { const n = +h.tagName[1]; if (n > level + 1) faults.push("heading jumps to h" + n + ": " + h.textContent.trim().slice(0, 30)); level = n; }
	if (document.querySelectorAll("h1").length !== 1) faults.push(document.querySelectorAll("h1").length + " h1");
	for (const t of document.querySelectorAll("table")) if (!t.querySelector("th")) faults.push("table without heads");
	for (const e of document.querySelectorAll("ul, ol")) for (const c of e.children) if (c.tagName !== "LI") faults.push("list with " + c.tagName);
	for (const e of document.querySelectorAll("dl > div")) if (!e.querySelector("dt") || !e.querySelector("dd")) faults.push("dl without pair");
	for (const e of document.querySelectorAll("button, a.btn, select, input:not([type=hidden], [type=checkbox], [type=range])")) { const r = e.getBoundingClientRect(); if (visible(e) && (r.width < 24 || r.height < 24)) faults.push("smaller than 24 px: " + e.outerHTML.slice(0, 80) + " " + Math.round(r.width) + "x" + Math.round(r.height)); }
	for (const e of document.querySelectorAll("[style], [onclick]")) if (!e.closest("dialog")) faults.push("inline: " + e.outerHTML.slice(0, 60));
	if (!document.title || !document.documentElement.lang) faults.push("no title or language");
	return faults.join("\n");
})()`

func TestNoPageKeepsAnybodyOut(t *testing.T) {
	h := newHouse(t, true)
	c := h.openChrome()
	look := func(path string) {
		t.Helper()
		c.Visit(path)
		if faults := c.JS(audit); faults != "" {
			t.Errorf("%s:\n%s", path, faults)
		}
		if browsertest.HasAxe() {
			if faults := c.Axe(); len(faults) > 0 {
				t.Errorf("%s: axe-core:\n%s", path, strings.Join(faults, "\n"))
			}
		}
	}
	look("/setup")
	h.claimed().populated()
	look("/login")
	c.signIn()
	for _, p := range everyPage {
		look(p.path)
	}
	if !browsertest.HasAxe() {
		t.Log("judged by our own rules only: axe-core is not here (build.sh test gets it where there is npm)")
	}
}

// pairs are what is written on what, with the least contrast that WCAG 2.2 AA asks
// for: 4.5 for text, 3 for what is not.
var pairs = []struct {
	ink, ground string
	least       float64
}{
	{"ink", "ground", 4.5}, {"ink", "surface", 4.5}, {"ink", "raised", 4.5}, {"ink-2", "ground", 4.5}, {"ink-2", "surface", 4.5}, {"ink-2", "raised", 4.5},
	{"ink-3", "ground", 4.5}, {"ink-3", "surface", 4.5}, {"ink-3", "raised", 4.5}, {"accent", "surface", 4.5}, {"accent", "ground", 4.5}, {"accent", "raised", 4.5}, {"accent", "accent-soft", 4.5},
	{"on-accent", "accent", 4.5}, {"on-accent", "accent-strong", 4.5}, {"on-bad", "bad", 4.5}, {"on-bad", "bad-strong", 4.5},
	{"ok", "ok-soft", 4.5}, {"warn", "warn-soft", 4.5}, {"bad", "bad-soft", 4.5}, {"info", "info-soft", 4.5}, {"warn", "surface", 4.5}, {"bad", "surface", 4.5}, {"warn", "raised", 4.5},
	{"ink", "ok-soft", 4.5}, {"ink", "warn-soft", 4.5}, {"ink", "bad-soft", 4.5}, {"ink", "info-soft", 4.5}, {"ink-2", "warn-soft", 4.5}, {"ink-3", "warn-soft", 4.5},
	{"side-ink", "side", 4.5}, {"side-dim", "side", 4.5}, {"side-bright", "side-on", 4.5}, {"side-ink", "side-on", 4.5}, {"side-accent", "side", 3},
	{"field-edge", "surface", 3}, {"accent", "line", 3}, {"surface", "ok", 3},
}

func TestEveryColorPairHasEnoughContrast(t *testing.T) {
	style, err := asset.Style()
	if err != nil {
		t.Fatal(err)
	}
	light, dark := tokens(t, style)
	for theme, colors := range map[string]map[string][3]float64{"light": light, "dark": dark} {
		for _, p := range pairs {
			a, okA := colors[p.ink]
			b, okB := colors[p.ground]
			if !okA || !okB {
				t.Errorf("no token %s or %s", p.ink, p.ground)
				continue
			}
			if got := contrast(a, b); got < p.least {
				t.Errorf("%s on %s in %s: contrast %.2f, want at least %.1f", p.ink, p.ground, theme, got, p.least)
			}
		}
	}
}

func TestOnlyTokensNameColors(t *testing.T) {
	style, err := asset.Style()
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(style, "@layer base {")
	for _, m := range regexp.MustCompile(`#[0-9a-fA-F]{3,8}\b|\brgb\(|\boklch\(|\bhsl\(`).FindAllString(rest, -1) {
		t.Errorf("a color beside the tokens: %s", m)
	}
	for _, m := range regexp.MustCompile(`var\((--[a-z0-9-]+)\)`).FindAllStringSubmatch(style, -1) {
		if !strings.Contains(style, m[1]+":") {
			t.Errorf("%s is used and nowhere set", m[1])
		}
	}
}

var token = regexp.MustCompile(`--([a-z0-9-]+): (?:light-dark\((oklch\([^)]*\)), (oklch\([^)]*\))\)|(oklch\([^)]*\)));`)

// tokens reads the colors of the style sheet as linear sRGB.
func tokens(t *testing.T, style string) (light, dark map[string][3]float64) {
	t.Helper()
	light, dark = map[string][3]float64{}, map[string][3]float64{}
	for _, m := range token.FindAllStringSubmatch(style, -1) {
		if m[4] != "" {
			m[2], m[3] = m[4], m[4]
		}
		light[m[1]], dark[m[1]] = linear(t, m[2]), linear(t, m[3])
	}
	if len(light) < 25 {
		t.Fatalf("found %d tokens: the test does not read the style sheet any more", len(light))
	}
	return light, dark
}

// linear turns oklch(L C H) into linear sRGB (Björn Ottosson's matrices).
func linear(t *testing.T, text string) [3]float64 {
	t.Helper()
	fields := strings.Fields(strings.TrimSuffix(strings.TrimPrefix(text, "oklch("), ")"))
	value := func(i int) float64 {
		v, err := strconv.ParseFloat(strings.TrimSuffix(fields[i], "%"), 64)
		if err != nil {
			t.Fatalf("color %s: %v", text, err)
		}
		return v
	}
	L, C, H := value(0)/100, value(1), value(2)*math.Pi/180
	a, b := C*math.Cos(H), C*math.Sin(H)
	cube := func(v float64) float64 { return v * v * v }
	l, m, s := cube(L+0.3963377774*a+0.2158037573*b), cube(L-0.1055613458*a-0.0638541728*b), cube(L-0.0894841775*a-1.2914855480*b)
	clip := func(v float64) float64 { return min(max(v, 0), 1) }
	return [3]float64{clip(4.0767416621*l - 3.3077115913*m + 0.2309699292*s), clip(-1.2684380046*l + 2.6097574011*m - 0.3413193965*s), clip(-0.0041960863*l - 0.7034186147*m + 1.7076147010*s)}
}

func contrast(a, b [3]float64) float64 {
	luminance := func(c [3]float64) float64 { return 0.2126*c[0] + 0.7152*c[1] + 0.0722*c[2] }
	x, y := luminance(a), luminance(b)
	if x < y {
		x, y = y, x
	}
	return (x + 0.05) / (y + 0.05)
}
