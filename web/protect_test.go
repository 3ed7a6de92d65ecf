package web_test

import (
	"maps"
	"net/http"
	"strings"
	"testing"

	"riparo/store"
	"riparo/web/api"
)

// TestADiskIsFilledFromAnImageOnThePage: only images that fit are offered, each disk its
// own, and what was chosen is still chosen when something is wrong with it.
func TestADiskIsFilledFromAnImageOnThePage(t *testing.T) {
	h := newHouse(t, true).claimed()
	b := h.signedIn("")
	const page = "/protect?site=Milano&ref=r-9"
	disks := h.appliance.disksOf("Milano", "r-9")
	if len(disks) == 0 {
		t.Fatal("print01 has no disk: the test shows nothing")
	}
	disk := disks[0]
	if got := b.get(page).body; !strings.Contains(got, "/srv/riparo/seeds") || !strings.Contains(got, "No image is there yet") || strings.Contains(got, `name="seed-`) {
		t.Errorf("without an image the page says\n%s", got)
	}
	h.appliance.seeds = []api.Seed{{Name: "short.raw", Bytes: disk.Size - 1}}
	if got := b.get(page).body; !strings.Contains(got, "has the size of none") || strings.Contains(got, `name="seed-`) {
		t.Errorf("with an image that does not fit the page says\n%s", got)
	}
	h.appliance.seeds = append(h.appliance.seeds, api.Seed{Name: "print01 \"C\".raw", Bytes: disk.Size})
	got := b.get(page).body
	if !strings.Contains(got, `name="seed-`+disk.Key+`"`) || !strings.Contains(got, "print01 &#34;C&#34;.raw") || strings.Contains(got, "short.raw") {
		t.Errorf("with an image that fits the page says\n%s", got)
	}
	form := func(seed string) []string {
		return []string{"site", "Milano", "ref", "r-9", "target", "Roma", "policy", "gold", "disk", disk.Key, "seed-" + disk.Key, seed}
	}
	refused := b.post("/protect", form("gone.raw")...)
	if refused.status != http.StatusConflict || !strings.Contains(refused.body, "here is no image gone.raw") || !strings.Contains(refused.body, `<option value="gone.raw" selected`) || !strings.Contains(refused.body, `class="seeds" open`) {
		t.Errorf("an image that is gone: %d\n%s", refused.status, refused.body)
	}
	if done := b.post("/protect", form(`print01 "C".raw`)...); done.status != http.StatusSeeOther {
		t.Errorf("protected: %d\n%s", done.status, done.body)
	}
	if done := b.post("/protect", form("")...); done.status != http.StatusSeeOther {
		t.Errorf("protected without: %d\n%s", done.status, done.body)
	}
	for i, want := range []map[string]string{{disk.Key: "gone.raw"}, {disk.Key: `print01 "C".raw`}, {}} {
		if asked := h.appliance.protects[i].Seeded; !maps.Equal(asked, want) {
			t.Errorf("request %d was seeded with %v, want %v", i, asked, want)
		}
	}
	list, err := h.client(store.Administrator).Seeds(t.Context())
	if err != nil || list.Folder != "/srv/riparo/seeds" || len(list.Images) != 2 {
		t.Errorf("the API lists %+v, %v", list, err)
	}
}
