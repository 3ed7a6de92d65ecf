package web_test

import (
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"riparo/store"
	"riparo/web/api"
)

// rareSights are those that an operator comes by seldom.
var rareSights = []sight{
	{name: "second-code", path: "/account", then: func(c *chrome) {
		c.Do("the password", chromedp.SendKeys("#second-password", password))
		c.Leave("the second step", func() { c.Click(`form[action="/account/second/begin"] button`) })
		c.Until("the picture", `location.pathname === "/account/second" && document.querySelector(".offer img")?.complete`)
	}},
	{name: "account-passkeys", path: "/account"},
	{name: "approvals", path: "/policies"},
	{name: "alarm", path: "/machines/m-4f7c21aa"},
	{name: "dialog-alarm", path: "/machines/m-4f7c21aa", then: dialog("dismiss-alarm")},
	{name: "bulk", path: "/machines", then: func(c *chrome) {
		c.Click("#bulk-all")
		c.Leave("what would be done", func() { c.Click(`#bulk button[value="test-failover"]`) })
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
	{name: "kept", path: "/infrastructure"},
	{name: "dialog-kept", path: "/infrastructure", then: dialog("kept/m-0b0b0b0b/erase")},
	{name: "support", path: "/logs/bundle"},
}

// TestShotsOfRareSights takes pictures of them, see TestShots.
func TestShotsOfRareSights(t *testing.T) {
	h := newHouse(t, true)
	p := h.photographer()
	h.claimed().populated()
	h.guarded("m-4f7c21aa")
	h.kept()
	disk := h.appliance.disksOf("Milano", "r-9")[0]
	h.appliance.seeds = []api.Seed{{Name: "print01-system.raw", Bytes: disk.Size}, {Name: "print01-system-of-october.raw", Bytes: disk.Size}}
	if _, err := store.Change(h.store, store.Users, user, func(u *store.User) error {
		began := time.Now().Add(-40 * 24 * time.Hour)
		u.Passkeys = []store.Passkey{{ID: []byte{1}, Name: "laptop", Host: "riparo.example", Created: began, LastUsed: time.Now().Add(-time.Hour)}, {ID: []byte{2}, Name: "the key in the safe of Milano", Host: "riparo.example", Created: began}}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	p.signIn()
	for _, l := range looks {
		if err := h.identity.SetLanguage(user, l.lang); err != nil {
			t.Fatal(err)
		}
		for _, s := range rareSights {
			p.see(s, l)
		}
	}
	p.done()
}
