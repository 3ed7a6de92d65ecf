package web_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"riparo/store"
	"riparo/web/api"
)

// sight is a page, or a moment of it, that is seen seldom.
type sight struct {
	name, path string
	then       func(c *chrome) // what is done there before the picture
	print      bool            // as on paper
}

// rareSights are those that TestShots does not come by.
var rareSights = []sight{
	{name: "second-code", path: "/account", then: func(c *chrome) {
		c.Do("the password", chromedp.SendKeys("#second-password", password))
		c.Click(`form[action="/account/second/begin"] button`)
		c.Until("the picture", `location.pathname === "/account/second" && document.querySelector(".offer img")?.complete`)
	}},
	{name: "account-passkeys", path: "/account"},
	{name: "approvals", path: "/policies"},
	{name: "alarm", path: "/machines/m-4f7c21aa"},
	{name: "dialog-alarm", path: "/machines/m-4f7c21aa", then: func(c *chrome) {
		c.Click(`a[href$="/dismiss-alarm"]`)
		c.Until("the dialog", `document.querySelector("#dialog form")`)
	}},
	{name: "bulk", path: "/machines", then: func(c *chrome) {
		c.Click("#bulk-all")
		c.Click(`#bulk button[value="test-failover"]`)
		c.Until("what would be done", `location.pathname === "/machines/bulk" && document.readyState === "complete"`)
	}},
	{name: "columns", path: "/machines?hide=drill", then: func(c *chrome) { c.Click("#machines-columns summary") }},
	{name: "seeds", path: "/protect?site=Milano&ref=r-9", then: func(c *chrome) { c.Click(".seeds summary") }},
	{name: "reports", path: "/reports"},
	{name: "drill", path: "/reports/drills/20261122T070000.000Z-0000004"},
	{name: "print-reports", path: "/reports", print: true},
	{name: "print-drill", path: "/reports/drills/20261122T070000.000Z-0000004", print: true},
	{name: "log-context", path: "/logs", then: func(c *chrome) {
		c.Visit(c.JS(`document.querySelector('a[href*="around="]').getAttribute("href")`))
	}},
	{name: "help-search", path: "/help?q=failover"},
	{name: "license", path: "/settings/licenses/0011223344ff"},
	{name: "cleanup", path: "/machines/m-a2b3c4d5/cleanup-test-failover"},
	{name: "disable", path: "/machines/m-4f7c21aa/disable-protection"},
	{name: "site-form", path: "/infrastructure/add"},
	{name: "support", path: "/logs/bundle"},
}

// TestShotsOfRareSights writes pictures of them, see TestShots.
func TestShotsOfRareSights(t *testing.T) {
	folder, only := os.Getenv("RIPARO_SHOTS"), os.Getenv("RIPARO_SHOTS_ONLY")
	if folder == "" {
		t.Skip("RIPARO_SHOTS names no folder")
	}
	h := newHouse(t, true).claimed().populated()
	h.guarded("m-4f7c21aa")
	disk := h.appliance.disksOf("Milano", "r-9")[0]
	h.appliance.seeds = []api.Seed{{Name: "print01-system.raw", Bytes: disk.Size}, {Name: "print01-system-of-october.raw", Bytes: disk.Size}}
	if _, err := store.Change(h.store, store.Users, user, func(u *store.User) error {
		began := time.Now().Add(-40 * 24 * time.Hour)
		u.Passkeys = []store.Passkey{{ID: []byte{1}, Name: "laptop", Host: "riparo.example", Created: began, LastUsed: time.Now().Add(-time.Hour)}, {ID: []byte{2}, Name: "the key in the safe of Milano", Host: "riparo.example", Created: began}}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	c := h.openChrome()
	c.signIn()
	for _, look := range []struct {
		width       int64
		lang, theme string
	}{{1440, "en", "light"}, {1440, "it", "dark"}, {390, "it", "light"}, {390, "en", "dark"}} {
		if err := h.identity.SetLanguage(user, look.lang); err != nil {
			t.Fatal(err)
		}
		for _, s := range rareSights {
			if !strings.Contains(s.name, only) || s.print && look.width != 1440 {
				continue
			}
			c.Size(look.width, 900)
			c.Visit(s.path)
			if s.then != nil {
				s.then(c)
			}
			medium := ""
			if s.print {
				medium = "print"
			}
			c.medium(medium)
			c.JS(fmt.Sprintf("(document.documentElement.dataset.theme = %q)", look.theme))
			c.JS("(document.activeElement?.blur(), 0)")
			c.Shot(filepath.Join(folder, fmt.Sprintf("%s-%s-%s-%d.png", s.name, look.lang, look.theme, look.width)))
			c.medium("")
			if what := c.Overflow(); what != "" {
				t.Errorf("%s in %s at %d px scrolls sideways: %s", s.name, look.lang, look.width, what)
			}
		}
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
