package web_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"riparo/web/browsertest"
)

// look is how a page may look. Words are the longest in Italian, and room is the
// scarcest at 390 px; a tablet's 640 px are looked at in the story of the appliance.
type look struct {
	width       int64
	lang, theme string
}

// looks show every language with every theme and every width.
var looks = []look{{1440, "en", "light"}, {1440, "it", "dark"}, {390, "it", "light"}, {390, "en", "dark"}}

// sight is a page, or a moment of it.
type sight struct {
	name, path string
	then       func(c *chrome) // what is done there before the picture
	status     string          // that the page is answered with; empty is 200
	print      bool            // as on paper
}

// dialog opens what a link on a page asks.
func dialog(verb string) func(*chrome) {
	return func(c *chrome) {
		c.Click(`a[href$="/` + verb + `"]`)
		c.Until("the dialog", `document.querySelector("#dialog form")`)
	}
}

// photographer takes pictures of a house for people to look at, and judges each page
// by itself: it fails for one that does not come, overflows or complains.
type photographer struct {
	*chrome
	folder, only string
}

// photographer skips the test when nobody wants pictures. RIPARO_SHOTS names the
// folder for them, and RIPARO_SHOTS_ONLY what the names of those wanted contain.
func (h *house) photographer() *photographer {
	h.Helper()
	if browsertest.Shots() == "" {
		h.Skip("RIPARO_SHOTS names no folder for pictures: build.sh test does")
	}
	return &photographer{chrome: h.openChrome(), folder: browsertest.Shots(), only: os.Getenv("RIPARO_SHOTS_ONLY")}
}

// wants reports whether a picture of this name is taken.
func (p *photographer) wants(name string) bool { return strings.Contains(name, p.only) }

// take writes a picture of the page that is open.
func (p *photographer) take(name string, l look, status string) {
	p.Helper()
	p.JS(fmt.Sprintf("(document.documentElement.dataset.theme = %q)", l.theme))
	p.JS("(document.activeElement?.blur(), 0)")
	for _, fault := range p.Faults(status) {
		p.Errorf("%s in %s at %d px: %s", name, l.lang, l.width, fault)
	}
	p.Shot(filepath.Join(p.folder, fmt.Sprintf("%s-%s-%s-%d.png", name, l.lang, l.theme, l.width)))
}

// see goes to a page and takes its picture.
func (p *photographer) see(s sight, l look) {
	p.Helper()
	if !p.wants(s.name) || s.print && l.width != 1440 {
		return
	}
	p.Size(l.width, 900)
	p.Visit(s.path)
	if s.then != nil {
		s.then(p.chrome)
	}
	if s.print {
		p.medium("print")
		defer p.medium("")
	}
	status := s.status
	if status == "" {
		status = "200"
	}
	p.take(s.name, l, status)
}

// refused are addresses that answer no on purpose: the browser tells that as well.
var refused = []string{"/nothing", "/setup/restore"}

// done fails the test when the browser has complained.
func (p *photographer) done() {
	p.Helper()
	said := slices.DeleteFunc(p.Complaints(), func(line string) bool {
		return slices.ContainsFunc(refused, func(page string) bool { return strings.Contains(line, page) })
	})
	if len(said) > 0 {
		p.Errorf("the browser complains: %s", strings.Join(said, "; "))
	}
}

// medium shows pages as on a screen, which is the empty one, or on paper.
func (c *chrome) medium(name string) {
	c.Helper()
	c.Do("choose the medium", func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Media: name})
		return chromedp.Void{}, err
	})
}

// beginnings are seen by whoever is not signed in.
var beginnings = []sight{{name: "setup", path: "/setup"}, {name: "login", path: "/login"}}

// sights are what an operator comes by.
var sights = []sight{
	{name: "overview", path: "/"},
	{name: "machines", path: "/machines"},
	{name: "machines-filtered", path: "/machines?q=web&health=attention"},
	{name: "machine", path: "/machines/m-4f7c21aa"},
	{name: "machine-late", path: "/machines/m-5b10c3d2"},
	{name: "machine-commit", path: "/machines/m-77aa01fe?window=24h"},
	{name: "machine-critical", path: "/machines/m-c0ffee00"},
	{name: "machine-initial", path: "/machines/m-91ce0b33"},
	{name: "machine-tested", path: "/machines/m-a2b3c4d5"},
	{name: "dialog-test", path: "/machines/m-4f7c21aa", then: dialog("test-failover")},
	{name: "dialog-unplanned", path: "/machines/m-4f7c21aa", then: dialog("unplanned-failover")},
	{name: "dialog-change", path: "/machines/m-77aa01fe", then: dialog("change-recovery-point")},
	{name: "ask-planned", path: "/machines/m-4f7c21aa/planned-failover"},
	{name: "protect", path: "/protect?site=Milano&ref=r-9"},
	{name: "jobs", path: "/jobs"},
	{name: "job", path: "/jobs/20261123T080000.000Z-0000001"},
	{name: "job-failed", path: "/jobs/20261123T070000.000Z-0000003"},
	{name: "job-waiting", path: "/jobs/20261123T080100.000Z-0000002"},
	{name: "alerts", path: "/alerts"},
	{name: "events", path: "/events"},
	{name: "infrastructure", path: "/infrastructure"},
	{name: "trust", path: "/infrastructure/Roma/trust"},
	{name: "policies", path: "/policies"},
	{name: "policy", path: "/policies/gold"},
	{name: "logs", path: "/logs"},
	{name: "logs-errors", path: "/logs?level=error&wrap=1"},
	{name: "settings", path: "/settings"},
	{name: "account", path: "/account"},
	{name: "users", path: "/settings/users"},
	{name: "user", path: "/settings/users/carla"},
	{name: "tokens", path: "/settings/tokens"},
	{name: "signon", path: "/settings/sign-in"},
	{name: "audit", path: "/audit?verify=now"},
	{name: "wizard-appliance", path: "/setup/appliance"},
	{name: "wizard-network", path: "/setup/network"},
	{name: "wizard-certificate", path: "/setup/certificate"},
	{name: "wizard-roles", path: "/setup/roles"},
	{name: "wizard-vault", path: "/setup/vault"},
	{name: "wizard-site", path: "/setup/site"},
	{name: "wizard-policy", path: "/setup/policy"},
	{name: "wizard-checks", path: "/setup/checks"},
	{name: "wizard-finish", path: "/setup/finish"},
	{name: "conf-appliance", path: "/settings/appliance"},
	{name: "conf-certificate", path: "/settings/certificate"},
	{name: "conf-notifications", path: "/settings/notifications"},
	{name: "conf-backup", path: "/settings/backup"},
	{name: "conf-about", path: "/settings/about"},
	{name: "help", path: "/help"},
	{name: "missing", path: "/nothing", status: "404"},
}

// TestShots takes pictures of every page for people to look at.
func TestShots(t *testing.T) {
	h := newHouse(t, true)
	p := h.photographer()
	h.settle()
	p.see(beginnings[0], looks[0])
	p.see(beginnings[0], looks[3])
	if p.wants("restore") {
		h.shootRestore(p)
	}
	h.claimed().populated()
	p.see(beginnings[1], look{1440, "en", "dark"})
	p.Size(1440, 900)
	p.signIn()
	for _, l := range looks {
		if err := h.identity.SetLanguage(user, l.lang); err != nil {
			t.Fatal(err)
		}
		for _, s := range sights {
			p.see(s, l)
		}
	}
	p.see(sight{name: "menu", path: "/", then: func(c *chrome) { c.Click(".bar button") }}, look{390, "en", "light"})
	p.done()
}

// TestShotsOfAnEmptyAppliance takes pictures of how it begins.
func TestShotsOfAnEmptyAppliance(t *testing.T) {
	h := newHouse(t, false)
	p := h.photographer()
	h.claimed()
	p.signIn()
	for _, l := range looks {
		if err := h.identity.SetLanguage(user, l.lang); err != nil {
			t.Fatal(err)
		}
		p.see(sight{name: "start", path: "/"}, l)
		p.see(sight{name: "machines-none", path: "/machines"}, l)
		p.see(sight{name: "jobs-none", path: "/jobs"}, l)
		p.see(sight{name: "alerts-none", path: "/alerts"}, l)
		p.see(sight{name: "reports-none", path: "/reports"}, l)
	}
	p.done()
}

// shootRestore takes pictures of a restore: before a backup came, after, and done.
func (h *house) shootRestore(p *photographer) {
	h.Helper()
	file := h.TempDir() + "/milano.riparo-backup"
	write(h.TB.(*testing.T), file, "a backup")
	for _, l := range []look{{1440, "en", "light"}, {390, "it", "dark"}} {
		p.Size(l.width, 900)
		p.Visit("/setup/restore?token=" + h.token)
		p.Leave("the language", func() {
			p.JS(fmt.Sprintf(`(document.querySelector('.prefs button[name="language"][value=%q]').click(), 0)`, l.lang))
		})
		p.Visit("/setup/restore?token=" + h.token)
		p.take("restore", l, "200")
		p.Do("choose the file", chromedp.SetUploadFiles("#backup", []string{file}))
		p.Leave("the second form", func() { p.Click(`form[enctype] footer button`) })
		p.Until("the passphrase", `document.activeElement.id === "passphrase"`)
		p.take("restore-came", l, "200")
		p.Do("a passphrase", chromedp.Focus("#passphrase"))
		p.Leave("the answer", func() { p.Press("wrong" + kb.Enter) })
		p.Until("the problem", `document.querySelector(".message.bad")`)
		p.take("restore-wrong", l, "422")
		p.Do("the passphrase", chromedp.Focus("#passphrase"))
		p.Leave("the end", func() { p.Press(password + kb.Enter) })
		p.Until("to be asked to sign in", `document.querySelector('form[action="/login"]')`)
		p.take("restore-done", l, "200")
	}
}
