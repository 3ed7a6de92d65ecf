package web_test

import (
	"context"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
)

// key sends one event of the Enter key.
func (c *chrome) key(what input.DispatchKeyEventType, repeat bool) {
	c.Helper()
	p := input.DispatchKeyEventParams{Type: what, Key: "Enter", Code: "Enter", WindowsVirtualKeyCode: 13, AutoRepeat: &repeat}
	if what != input.DispatchKeyEventTypeKeyUp {
		p.Text, p.UnmodifiedText = "\r", "\r"
	}
	c.Do("the Enter key", func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		_, err := cdp.Call(ctx, t, input.DispatchKeyEvent, p)
		return chromedp.Void{}, err
	})
}

// Whoever holds the Enter key with which a dialog was opened has not answered it.
func TestAHeldEnterKeyAnswersNoDialog(t *testing.T) {
	h := newHouse(t, true)
	h.claimed().populated()
	c := h.openChrome()
	c.signIn()
	c.Visit("/machines/m-4f7c21aa")
	c.Do("focus what opens the dialog", chromedp.Focus(`a[href$="/test-failover"]`))
	c.key(input.DispatchKeyEventTypeKeyDown, false)
	c.Until("the dialog", `document.querySelector("#dialog").open && document.querySelector("#dialog footer button")`)
	before := c.JS("location.href")
	c.JS(`document.querySelector("#dialog footer button").focus()`)
	for range 5 {
		c.key(input.DispatchKeyEventTypeKeyDown, true)
	}
	c.key(input.DispatchKeyEventTypeChar, false) // of the press that opened it, if it comes late
	if open := c.JS(`document.querySelector("#dialog").open`); open != "true" || c.JS("location.href") != before {
		t.Fatalf("the dialog is answered: open %s, the page is %s", open, c.JS("location.href"))
	}
	c.key(input.DispatchKeyEventTypeKeyUp, false)
	c.Leave("the job", func() { c.key(input.DispatchKeyEventTypeKeyDown, false) })
	c.Until("the job", `location.pathname.startsWith("/jobs/")`)
}
