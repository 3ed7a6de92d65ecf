package appliance_test

import (
	"crypto/tls"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"riparo/appliance"
	"riparo/web/browsertest"
)

// TestNobodyIsTurnedAwayWhileTheApplianceBeginsAgain moves the vault of an appliance
// that begins again with it, while a program asks it without a pause, on a new connection
// each time and on one that it keeps. Every question has its answer.
func TestNobodyIsTurnedAwayWhileTheApplianceBeginsAgain(t *testing.T) {
	again := make(chan *appliance.Appliance, 1)
	a, _ := serveAgain(t, appliance.Config{Data: filepath.Join(t.TempDir(), "data"), Listen: "127.0.0.1:0"}, again)
	clients := []*http.Client{}
	for _, anew := range []bool{true, false} {
		transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: anew, ForceAttemptHTTP2: true}
		t.Cleanup(transport.CloseIdleConnections)
		clients = append(clients, &http.Client{Transport: transport, Timeout: browsertest.Patience})
	}
	ask := func() {
		t.Helper()
		for i, c := range clients {
			answer, err := c.Get(a.URL + "healthz")
			if err != nil {
				t.Fatalf("client %d: %v", i, err)
			}
			answer.Body.Close()
			if answer.StatusCode != http.StatusOK {
				t.Fatalf("client %d: %s", i, answer.Status)
			}
		}
	}
	ask()
	if err := a.MoveVault(t.Context(), "anna", filepath.Join(t.TempDir(), "elsewhere")); err != nil {
		t.Fatal(err)
	}
	for asked := 0; ; asked++ {
		ask()
		select {
		case now := <-again:
			if now.URL != a.URL {
				t.Errorf("it is at %s now, it was at %s", now.URL, a.URL)
			}
			ask()
			t.Logf("%d questions were answered meanwhile", asked)
			return
		default:
		}
	}
}

// TestABrowserMeetsNoErrorWhileTheApplianceBeginsAgain is the same for a person who goes
// from page to page meanwhile.
func TestABrowserMeetsNoErrorWhileTheApplianceBeginsAgain(t *testing.T) {
	again := make(chan *appliance.Appliance, 1)
	a, _ := serveAgain(t, appliance.Config{Data: filepath.Join(t.TempDir(), "data"), Listen: "127.0.0.1:0"}, again)
	b := browsertest.Open(t, strings.TrimSuffix(a.URL, "/"))
	b.Visit("/setup")
	if err := a.MoveVault(t.Context(), "anna", filepath.Join(t.TempDir(), "elsewhere")); err != nil {
		t.Fatal(err)
	}
	longest := time.Duration(0)
	for back := false; !back; {
		select {
		case <-again:
			back = true
		default:
		}
		for _, page := range []string{"/setup", "/setup/restore"} {
			began := time.Now()
			if err := chromedp.Do(b.Context(), chromedp.Navigate(a.URL+page[1:])); err != nil {
				t.Fatalf("%s: %v", page, err)
			}
			if b.JS(`document.querySelector("main form") !== null`) != "true" {
				t.Fatalf("%s: the browser shows %.300s", page, b.JS("document.body.innerText"))
			}
			longest = max(longest, time.Since(began))
		}
	}
	t.Logf("the longest that a page took is %s", longest)
	if said := b.Complaints(); len(said) > 0 {
		t.Errorf("the browser complains: %s", strings.Join(said, "; "))
	}
}
