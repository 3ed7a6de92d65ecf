package web_test

import (
	"net/http"
	"runtime"
	"strings"
	"testing"

	"riparo/store"
	"riparo/web"
)

// licensed is what the consoles of the tests show.
var licensed = []web.License{
	{ID: "0011223344ff", Kind: "Apache-2.0", Body: "Apache License\n\n    Version 2.0 <of> January 2004\n", Of: []web.Licensed{{Module: "github.com/some/one", Version: "v1.2.3", File: "LICENSE"}, {Module: "github.com/some/two", Version: "v0.0.0-2026", File: "zstd/LICENSE.txt"}}},
	{ID: "aabbccddee00", Kind: "Notice", Body: "This product has parts of others.\n", Of: []web.Licensed{{Module: "github.com/some/one", Version: "v1.2.3", File: "NOTICE"}}},
	{ID: "123456789abc", Kind: "BSD-3-Clause", Body: "Copyright 2009 The Go Authors.\n", Of: []web.Licensed{{Module: "go", Version: "-", File: "LICENSE"}}},
}

func TestEveryPartShowsItsLicense(t *testing.T) {
	h := newHouse(t, true).claimed()
	b := h.signedIn(store.Viewer)
	about := b.get("/settings/about")
	for _, want := range []string{"github.com/some/two", "v0.0.0-2026", runtime.Version(), `href="/settings/licenses/0011223344ff"`, `href="/settings/licenses/aabbccddee00" title="NOTICE">Notice`} {
		if !strings.Contains(about.body, want) {
			t.Errorf("the page about the appliance lacks %q", want)
		}
	}
	if n := strings.Count(about.body, ">github.com/some/one<"); n != 1 {
		t.Errorf("a part with two texts stands there %d times", n)
	}
	text := b.get("/settings/licenses/0011223344ff")
	if text.status != http.StatusOK || !strings.Contains(text.body, "    Version 2.0 &lt;of&gt; January 2004") || !strings.Contains(text.body, "zstd/LICENSE.txt") {
		t.Errorf("a text: %d\n%s", text.status, text.body)
	}
	for _, none := range []string{"0011223344fe", "..", "0011223344ff%00"} {
		if got := b.get("/settings/licenses/" + none); got.status == http.StatusOK {
			t.Errorf("there is a license %q", none)
		}
	}
	if got := b.lang("it").get("/settings/licenses/aabbccddee00"); !strings.Contains(got.body, "Avviso") && !strings.Contains(got.body, "Notice") {
		t.Errorf("a notice has no name:\n%s", got.body)
	}
}
