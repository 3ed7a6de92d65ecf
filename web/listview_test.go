package web_test

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"riparo/store"
)

var viewButton = regexp.MustCompile(`name="view" value="([^"]*)"`)

// TestAListIsAsItsReaderWantsIt: columns and order stay with the account, from one
// browser to the next, and are those of nobody else.
func TestAListIsAsItsReaderWantsIt(t *testing.T) {
	h := newHouse(t, true).claimed()
	b := h.signedIn("")
	page := b.get("/machines?health=attention")
	offered := viewButton.FindAllStringSubmatch(page.body, -1)
	if len(offered) != 11 { // five columns to hide, six heads to sort by
		t.Fatalf("the list offers %d views, want 11: %q", len(offered), offered)
	}
	for _, c := range []struct {
		list, view string
		fields     []string
		to         string
	}{
		{"machines", "hide=route", nil, "/machines?hide=route"},
		{"machines", "hide=route%2Cdrill&sort=-rpo", []string{"q", "web", "health", "attention"}, "/machines?health=attention&hide=route%2Cdrill&q=web&sort=-rpo"},
		{"jobs", "hide=took", []string{"state", "failed"}, "/jobs?hide=took&state=failed"},
	} {
		got := b.post("/preferences/"+c.list, append([]string{"view", c.view}, c.fields...)...)
		if got.status != http.StatusSeeOther || got.header.Get("Location") != c.to {
			t.Errorf("%s %q leads to %d %q, want %q", c.list, c.view, got.status, got.header.Get("Location"), c.to)
		}
	}
	other := h.signedInAgain()
	for from, to := range map[string]string{"/machines": "/machines?hide=route%2Cdrill&sort=-rpo", "/machines?q=a+b&page=2": "/machines?hide=route%2Cdrill&page=2&q=a+b&sort=-rpo", "/jobs": "/jobs?hide=took"} {
		if got := other.get(from); got.status != http.StatusFound || got.header.Get("Location") != to {
			t.Errorf("in another browser %s leads to %d %q, want %q", from, got.status, got.header.Get("Location"), to)
		}
	}
	seen := other.get("/machines?hide=route%2Cdrill&sort=-rpo").body
	for _, want := range []string{`class="c-route" hidden`, `class="c-drill" hidden`, `aria-sort="descending"`, `/machines.csv?hide=route%2Cdrill&amp;sort=-rpo`, `value="hide=drill&amp;sort=-rpo" aria-pressed="false"`} {
		if !strings.Contains(seen, want) {
			t.Errorf("the list lacks %s", want)
		}
	}
	// What an address says goes before what is kept, and nobody else sees it.
	if got := other.get("/machines?sort=name"); got.status != http.StatusOK || strings.Contains(got.body, `class="c-route" hidden`) {
		t.Errorf("an address that says how: %d", got.status)
	}
	if got := h.signedIn(store.Viewer).get("/machines"); got.status != http.StatusOK {
		t.Errorf("somebody else is sent to %q", got.header.Get("Location"))
	}
	// All columns again, in the list's own order.
	if got := b.post("/preferences/machines", "view", ""); got.header.Get("Location") != "/machines" {
		t.Errorf("the plain list is at %q", got.header.Get("Location"))
	}
	if got := other.get("/machines"); got.status != http.StatusOK {
		t.Errorf("after that the list leads to %q", got.header.Get("Location"))
	}
}

func TestAViewIsMadeOfWhatTheListHas(t *testing.T) {
	h := newHouse(t, true).claimed()
	b := h.signedIn("")
	for asked, to := range map[string]string{"hide=evil,route,route&sort=<b>": "/machines?hide=route", "sort=-name&x=y": "/machines?sort=-name", "hide=name&sort=--rpo": "/machines", "%zz": "/machines",
		"sort=rpo;hide=route": "/machines", strings.Repeat("hide=route&", 500): "/machines?hide=route"} {
		if got := b.post("/preferences/machines", "view", asked, "page", "9", "next", "https://evil.example"); got.header.Get("Location") != to {
			t.Errorf("%.40q leads to %q, want %q", asked, got.header.Get("Location"), to)
		}
		u, err := h.identity.User(user)
		if want, _ := url.Parse(to); err != nil || u.Views["machines"].Sort != want.Query().Get("sort") || strings.Join(u.Views["machines"].Hide, ",") != want.Query().Get("hide") {
			t.Errorf("%.40q is kept as %+v (%v)", asked, u.Views["machines"], err)
		}
	}
	if got := b.post("/preferences/nothing", "view", "hide=route"); got.status != http.StatusNotFound {
		t.Errorf("a list that is none: %d", got.status)
	}
	// A view that an older version kept, with a column that is no more.
	if err := h.identity.SetView(user, "machines", store.ListView{Sort: "gone", Hide: []string{"gone"}}); err != nil {
		t.Fatal(err)
	}
	if got := b.get("/machines"); got.status != http.StatusOK {
		t.Errorf("a view of columns that are no more leads to %d %q", got.status, got.header.Get("Location"))
	}
}

func TestAFileHasTheColumnsOfItsPage(t *testing.T) {
	h := newHouse(t, true).claimed()
	b := h.signedIn("")
	if got := b.post("/preferences/machines", "view", "hide=rpo"); got.status != http.StatusSeeOther {
		t.Fatalf("got %d", got.status)
	}
	for path, want := range map[string]string{
		"/machines.csv":                 "machine,name,health,why,state,rpo_seconds,rpo_threshold_seconds,source,target,policy,disks,size_bytes,last_recovery_point,last_test_failover,last_test_passed",
		"/machines.csv?hide=rpo,drill":  "machine,name,health,why,state,source,target,policy,disks,size_bytes",
		"/jobs.csv":                     "job,kind,machine,name,by,state,created,ended,seconds,step,cause",
		"/jobs.csv?hide=progress,began": "job,kind,machine,name,by,ended,seconds",
		"/jobs.csv?hide=job,x,machine":  "job,kind,by,state,created,ended,seconds,step,cause",
	} {
		head, rest, _ := strings.Cut(b.get(path).body, "\r\n")
		if head != want {
			t.Errorf("%s begins with\n%s\nwant\n%s", path, head, want)
		}
		row, _, _ := strings.Cut(rest, "\r\n")
		if got := strings.Count(row, ","); rest == "" || !strings.Contains(row, `"`) && got != strings.Count(want, ",") {
			t.Errorf("%s has a row of %d cells: %s", path, got+1, row)
		}
	}
}
