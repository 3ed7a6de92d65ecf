package web_test

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/store"
)

// These tests do with plain forms what the script only makes quicker: everything
// works without it.

func TestAMachineIsProtectedByForm(t *testing.T) {
	h := newHouse(t, true).claimed()
	b := h.signedIn("")
	page := b.get("/protect?site=Milano&ref=r-9")
	for _, want := range []string{`name="disk" value="vda" checked`, `name="disk" value="vdb" checked`, `<option value="Roma"`, `name="boot_sign"`, `dr-front`} {
		if !strings.Contains(page.body, want) {
			t.Errorf("the form lacks %s", want)
		}
	}
	if strings.Contains(page.body, `<option value="Milano"`) {
		t.Error("the source is offered as its own target")
	}
	if got := b.post("/protect", "site", "Milano", "ref", "r-9", "target", "Roma", "policy", "gold"); got.status != http.StatusConflict || !strings.Contains(got.body, "No disk is chosen") || !strings.Contains(got.body, `<option value="gold" selected`) {
		t.Errorf("without a disk: got %d; what was chosen is kept", got.status)
	}
	got := b.post("/protect", "site", "Milano", "ref", "r-9", "disk", "vda", "target", "Roma", "policy", "gold", "network", "dr-front", "boot_sign", " login: ")
	if got.status != http.StatusSeeOther || !strings.HasPrefix(got.header.Get("Location"), "/jobs/") {
		t.Fatalf("got %d to %q, want 303 to the job", got.status, got.header.Get("Location"))
	}
	if page := b.get(got.header.Get("Location")); !strings.Contains(page.body, "Enable protection") {
		t.Error("the job is not shown")
	}
}

func TestAVerbIsAskedByForm(t *testing.T) {
	h := newHouse(t, true).claimed()
	b := h.signedIn("")
	if got := b.post("/machines/m-4f7c21aa/unplanned-failover", "confirm", "web02"); got.status != http.StatusConflict || !strings.Contains(got.body, "is not that of the machine") || !strings.Contains(got.body, `id="confirm"`) {
		t.Errorf("a wrong name: got %d; the form is shown again with the reason", got.status)
	}
	points := h.appliance.points["m-4f7c21aa"]
	got := b.post("/machines/m-4f7c21aa/unplanned-failover", "confirm", "web01", "point", string(points[7].ID), "sync_first", "true")
	if got.status != http.StatusSeeOther {
		t.Fatalf("got %d, want 303", got.status)
	}
	asked := h.appliance.asked[len(h.appliance.asked)-1]
	if asked.Verb != lifecycle.UnplannedFailover || asked.Point != points[7].ID || !asked.SyncFirst || asked.Confirm != "web01" || asked.Actor != user {
		t.Errorf("the appliance was asked %+v", asked)
	}
	if got := b.post("/machines/m-4f7c21aa/commit"); got.status != http.StatusConflict || !strings.Contains(got.body, "</html>") {
		t.Errorf("a verb that is not allowed now: got %d, want 409 with why", got.status)
	}
	if got := b.post("/machines/m-a2b3c4d5/pause"); got.status != http.StatusSeeOther || got.header.Get("Location") != "/machines/m-a2b3c4d5" {
		t.Errorf("pause: got %d to %q, want back to the machine", got.status, got.header.Get("Location"))
	}
	if got := b.post("/machines/m-none/pause"); got.status != http.StatusNotFound {
		t.Errorf("an unknown machine: got %d, want 404", got.status)
	}
}

func TestEveryOfferedPointCanBeChosen(t *testing.T) {
	h := newHouse(t, true).claimed()
	b := h.signedIn("")
	option := regexp.MustCompile(`<option value="([^"]*)" data-kind="([^"]*)" data-loss="([^"]*)" data-at="([^"]*)"`)
	known := map[string]replication.RecoveryPoint{}
	apps := 0
	for _, p := range h.appliance.points["m-4f7c21aa"] {
		known[string(p.ID)] = p
		if p.Consistency != replication.CrashConsistent {
			apps++
		}
	}
	got := b.get("/machines/m-4f7c21aa/test-failover?window=all")
	found, offered := option.FindAllStringSubmatch(got.body, -1), 0
	if found[0][1] != "" || found[1][1] != "app" {
		t.Errorf("the first choices are %q and %q: want the latest and the latest application-consistent", found[0][1], found[1][1])
	}
	for _, o := range found[2:] {
		p, ok := known[o[1]]
		if !ok || string(p.Consistency) != o[2] || o[3] == "" || o[4] == "" {
			t.Errorf("offered: %q", o)
		}
		if p.Consistency != replication.CrashConsistent {
			offered++
		}
	}
	if offered != apps {
		t.Errorf("%d application-consistent and clean points are offered: want all %d", offered, apps)
	}
	if !strings.Contains(got.body, "points are offered here") {
		t.Error("the list was thinned and does not say so")
	}
	chosen := string(h.appliance.points["m-4f7c21aa"][41].ID)
	if got := b.get("/machines/m-4f7c21aa/test-failover?point=" + chosen); !strings.Contains(got.body, `<option value="`+chosen+`"`) || !regexp.MustCompile(`value="`+regexp.QuoteMeta(chosen)+`"[^>]* selected`).MatchString(got.body) {
		t.Error("a point named in the address is not chosen")
	}
	// What runs now is chosen at first when another one can be.
	current := string(h.appliance.points["m-77aa01fe"][3].ID)
	if got := b.get("/machines/m-77aa01fe/change-recovery-point"); !regexp.MustCompile(`value="` + regexp.QuoteMeta(current) + `"[^>]* selected>[^<]*runs now`).MatchString(got.body) {
		t.Error("the point that runs now is not marked and chosen")
	}
}

func TestPoliciesAreMadeAndChangedByForm(t *testing.T) {
	h := newHouse(t, true).claimed()
	b := h.signedIn("")
	form := func(pairs ...string) []string {
		values := url.Values{"name": {"silver"}, "copy_frequency": {"2 min"}, "app_frequency": {"off"}, "rpo_threshold": {"10m"}, "freeze_limit": {"5s"}, "retention": {"1h:all,7d:1h"}, "lock_for": {"30d"}, "limit": {"2,5"}}
		for i := 0; i+1 < len(pairs); i += 2 {
			values.Set(pairs[i], pairs[i+1])
		}
		var list []string
		for k, v := range values {
			list = append(list, k, v[0])
		}
		return list
	}
	for field, row := range map[string][2]string{"copy_frequency": {"1s", "the shortest is 5s"}, "app_frequency": {"soon", "not a duration"}, "retention": {"x", "retention rule"}, "limit": {"many", "not a number"}, "rpo_threshold": {"1s", "not below the copy frequency"}, "lock_for": {"367d", "0 to 366 d"}, "name": {"", "needs a name"}} {
		got := b.post("/policies", form("new", "true", field, row[0])...)
		if got.status != http.StatusUnprocessableEntity || !strings.Contains(strings.ToLower(got.body), strings.ToLower(row[1])) {
			t.Errorf("%s %q: got %d, want 422 and %q", field, row[0], got.status, row[1])
		}
	}
	if got := b.post("/policies", form("new", "true", "name", "gold")...); got.status != http.StatusUnprocessableEntity || !strings.Contains(got.body, "already") {
		t.Errorf("a new policy with the name of an old one: got %d, want 422", got.status)
	}
	if got := b.post("/policies", form("new", "true")...); got.status != http.StatusSeeOther {
		t.Fatalf("got %d\n%s", got.status, got.body)
	}
	h.store.View(func(tx *store.Tx) error {
		p, err := tx.Policies().Get("silver")
		if err != nil || p.CopyFrequency.String() != "2m0s" || p.AppConsistentFrequency != 0 || p.BytesPerSecond != 5<<19 || p.LockFor != 30*24*time.Hour || p.Retention.String() != "1h:all,7d:1h" {
			t.Errorf("kept: %+v, %v", p, err)
		}
		return nil
	})
	if got := b.get("/policies/silver"); !strings.Contains(got.body, `value="2m"`) || !strings.Contains(got.body, `value="2.5"`) || !strings.Contains(got.body, `value="30d"`) {
		t.Error("the form does not show what was kept as it can be typed again")
	}
	if got := b.get("/policies"); !strings.Contains(got.body, "not even an administrator") {
		t.Error("the page does not say what a lock means")
	}
	if got := b.post("/policies", form("copy_frequency", "3m")...); got.status != http.StatusSeeOther {
		t.Errorf("a change: got %d", got.status)
	}
}

func TestSitesAreAddedAndRemovedByForm(t *testing.T) {
	h := newHouse(t, true).claimed()
	b := h.signedIn("")
	if got := b.post("/infrastructure", "name", "Torino", "kind", "lab", "address", "nowhere"); got.status != http.StatusConflict || !strings.Contains(got.body, "The folder nowhere does not exist") || !strings.Contains(got.body, `value="Torino"`) {
		t.Errorf("a site that is not there: got %d; what was typed is kept", got.status)
	}
	if got := b.post("/infrastructure", "name", "Torino / 2", "kind", "lab", "address", "/srv/lab/torino"); got.status != http.StatusSeeOther {
		t.Fatalf("got %d", got.status)
	}
	page := b.get("/infrastructure")
	if !strings.Contains(page.body, "/infrastructure/Torino%20%2F%202/remove") || strings.Contains(page.body, "/infrastructure/Milano/remove") {
		t.Error("an unused site can be removed, one in use cannot")
	}
	if got := b.get("/infrastructure/Torino%20%2F%202/remove"); got.status != http.StatusOK {
		t.Errorf("the question before: got %d", got.status)
	}
	if got := b.post("/infrastructure/Torino%20%2F%202/remove"); got.status != http.StatusSeeOther {
		t.Errorf("the removal: got %d", got.status)
	}
	if strings.Contains(b.get("/infrastructure").body, "Torino") {
		t.Error("the site is still there")
	}
	if got := b.post("/infrastructure/refresh", "next", "/machines"); got.header.Get("Location") != "/machines" {
		t.Errorf("a look at the sites leads to %q", got.header.Get("Location"))
	}
}

func TestJobsAreAnsweredAndRestartedByForm(t *testing.T) {
	h := newHouse(t, true).claimed()
	b := h.signedIn("")
	for path, check := range map[string]func(store.Job) bool{
		"/jobs/20261123T080100.000Z-0000002/answer":  func(j store.Job) bool { return j.Data["answer"] == "yes" && j.State == store.InProgress },
		"/jobs/20261123T070000.000Z-0000003/restart": func(j store.Job) bool { return j.State == store.InProgress },
		"/jobs/20261123T080000.000Z-0000001/cancel":  func(j store.Job) bool { return j.CancelAsk },
	} {
		id := strings.Split(path, "/")[2]
		if got := b.post(path, "answer", "yes"); got.status != http.StatusSeeOther || got.header.Get("Location") != "/jobs/"+id {
			t.Errorf("%s: got %d to %q", path, got.status, got.header.Get("Location"))
		}
		h.store.View(func(tx *store.Tx) error {
			if j, err := tx.Jobs().Get(id); err != nil || !check(j) {
				t.Errorf("%s left %+v, %v", path, j, err)
			}
			return nil
		})
	}
	if page := b.get("/jobs/" + runningJob); !strings.Contains(page.body, "Being canceled") {
		t.Error("a job that is being canceled does not say so")
	}
}

func TestATokenIsShownOnce(t *testing.T) {
	h := newHouse(t, true).claimed()
	b := h.signedIn("")
	got := b.post("/settings/tokens", "name", "ci", "scope", "operate", "life", "7")
	secret := regexp.MustCompile(`riparo_[a-z0-9]{8}_[A-Z0-9]{26}`).FindString(got.body)
	if secret == "" {
		t.Fatalf("the token is not shown: %d", got.status)
	}
	if token, err := h.identity.Bearer(secret); err != nil || token.Role != store.Operator || token.Expires.IsZero() {
		t.Errorf("the token: %+v, %v", token, err)
	}
	page := b.get("/settings/tokens")
	if !strings.Contains(page.body, "Operate") || strings.Contains(page.body, secret) {
		t.Error("the token is shown again")
	}
	id := strings.Split(secret, "_")[1]
	if got := b.post("/settings/tokens/" + id + "/revoke"); got.status != http.StatusSeeOther {
		t.Errorf("the revocation: got %d", got.status)
	}
	if got := b.post("/settings/tokens", "name", "", "scope", "operate"); got.status != http.StatusUnprocessableEntity {
		t.Errorf("a token without a name: got %d", got.status)
	}
	if got := b.post("/settings/tokens", "name", "ci", "scope", "everything"); got.status != http.StatusUnprocessableEntity {
		t.Errorf("a token of an unknown scope: got %d", got.status)
	}
	if got := b.post("/settings/users", "name", "bruno", "role", "viewer", "password", "short"); got.status != http.StatusUnprocessableEntity || !strings.Contains(got.body, "fewer than 12") {
		t.Errorf("an account with a short password: got %d", got.status)
	}
	if got := b.post("/settings/users", "name", "bruno", "role", "viewer", "password", password); got.status != http.StatusSeeOther {
		t.Errorf("an account: got %d", got.status)
	}
}

func TestThemeAndLanguageAreKept(t *testing.T) {
	h := newHouse(t, true).claimed()
	b := h.browser()
	b.post("/preferences", "theme", "dark", "language", "it", "next", "/login")
	if got := b.get("/login"); !strings.Contains(got.body, `data-theme="dark"`) || !strings.Contains(got.body, `lang="it"`) {
		t.Error("a stranger's theme and language are not kept")
	}
	b.post("/login", "name", user, "password", password)
	if got := b.get("/"); !strings.Contains(got.body, `lang="en"`) {
		t.Error("the language of the account does not win")
	}
	b.post("/preferences", "language", "it", "next", "/")
	if u, err := h.identity.User(user); err != nil || u.Language != "it" {
		t.Errorf("the account's language is %q, %v", u.Language, err)
	}
	b.post("/preferences", "theme", "purple", "language", "klingon", "next", "/")
	if got := b.get("/"); !strings.Contains(got.body, `data-theme="dark"`) {
		t.Error("a theme that is none was kept")
	}
}

func TestWhatARoleMayNotIsNotOffered(t *testing.T) {
	h := newHouse(t, true).claimed()
	viewer := h.signedIn(store.Viewer)
	for _, path := range []string{"/", "/machines", "/machines/m-4f7c21aa", "/jobs/" + runningJob, "/infrastructure", "/policies", "/settings"} {
		body := viewer.get(path).body
		body = regexp.MustCompile(`(?s)<dl class="denied">.*?</dl>`).ReplaceAllString(body, "")
		for _, verb := range []string{"/test-failover", "/cancel", "/protect?", "/policies/new", "/infrastructure/add", "/settings/tokens", "/settings/users", "/audit", "/commit", "/pause"} {
			if strings.Contains(body, verb+`"`) || strings.Contains(body, `="`+verb) {
				t.Errorf("%s offers a viewer %s", path, verb)
			}
		}
	}
	if body := viewer.get("/machines/m-4f7c21aa").body; !strings.Contains(body, "The role Viewer may not do this") {
		t.Error("the page does not say why a viewer has no verbs")
	}
	if body := h.signedIn(store.Operator).get("/machines/m-4f7c21aa").body; !strings.Contains(body, `/machines/m-4f7c21aa/test-failover"`) || strings.Contains(body, `href="/machines/m-4f7c21aa/planned-failover"`) {
		t.Error("an operator is offered tests, and not what moves production")
	}
}
