package appliance

import (
	"bytes"
	"cmp"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"riparo/replication/lifecycle"
	"riparo/store"
)

// The goal: with 1,000 machines, 50,000 recovery points and 10,000 jobs every page
// takes less than this of the server, in 95 of 100 cases, and weighs less than that.
const (
	mostPageTime  = 100 * time.Millisecond
	mostPageBytes = 200_000
	// slack is by how much a short run may miss the time: it tells a page that reads
	// everything from one that does not, on any machine and beside anything.
	slack = 10
)

// addresses are what is asked for in place of a route whose address has blanks or
// filters; the others are asked for as they are. A new route with blanks has to be
// added.
func (c *crowded) addresses() map[string][]string {
	machine := "/machines/" + crowdID(7)
	newest, drill := "", "" // jobs
	err := c.store.View(func(tx *store.Tx) error {
		for j, err := range tx.Jobs().All() {
			if err != nil {
				return err
			}
			if newest = j.ID; j.Kind == string(lifecycle.TestFailover) && j.State == store.Succeeded {
				drill = j.ID
			}
		}
		return nil
	})
	if err != nil {
		c.Fatal(err)
	}
	all := map[string][]string{
		"GET /{$}":                            {"/"},
		"GET /machines":                       {"/machines", "/machines?page=6", "/machines?q=erp", "/machines?health=attention&sort=-rpo", "/machines?q=no+such+name"},
		"GET /machines/{id}":                  {machine, machine + "?window=all", "/machines/" + crowdID(98)},
		"GET /machines/{id}/dismiss-alarm":    {machine + "/dismiss-alarm"},
		"GET /jobs":                           {"/jobs", "/jobs?state=failed", "/jobs?state=succeeded", "/jobs?state=unfinished", "/jobs?state=waiting+for+input"},
		"GET /jobs/{id}":                      {"/jobs/" + newest, "/jobs/" + drill},
		"GET /events":                         {"/events", "/events?severity=critical", "/events?severity=critical&machine=" + crowdID(3), "/events?machine=" + crowdID(7)},
		"GET /reports":                        {"/reports", "/reports?days=365", "/reports?days=365&machine=" + crowdID(7)},
		"GET /reports/drills/{id}":            {"/reports/drills/" + drill},
		"GET /logs":                           {"/logs", "/logs?level=error", "/logs?q=job:nobody", "/logs?machine=" + crowdID(7)},
		"GET /settings/users/{name}":          {"/settings/users/anna", "/settings/users/person-007@example.com"},
		"GET /audit":                          {"/audit", "/audit?q=pause", "/audit?q=no+such+thing"},
		"GET /protect":                        {"/protect?site=" + c.site(0) + "&ref=" + url.QueryEscape(string(c.shape(c.size.machines+7).Ref))},
		"GET /infrastructure/kept/{id}/erase": {"/infrastructure/kept/by-hand/erase"},
		"GET /infrastructure/{name}/remove":   {"/infrastructure/" + c.site(3) + "/remove"},
		"GET /infrastructure/{name}/trust":    {"/infrastructure/" + c.site(3) + "/trust"},
		"GET /policies/{name}":                {"/policies/policy-07"},
		"GET /help/{page...}":                 {"/help?q=failover", "/help/failover", "/help/security"},
		"GET /setup/{step}":                   {"/setup/appliance", "/setup/site", "/setup/checks", "/setup/finish"},
		"GET /settings/backup/{name}":         nil, // no backup is kept
		"GET /settings/licenses/{id}":         nil, // those that this program has
		"GET /static/":                        {"/static/live.js"},

		"GET /api/v1/machines":             {"/api/v1/machines", "/api/v1/machines?limit=1000"},
		"GET /api/v1/machines/{id}":        {"/api/v1" + machine},
		"GET /api/v1/machines/{id}/points": {"/api/v1" + machine + "/points"},
		"GET /api/v1/jobs/{id}":            {"/api/v1/jobs/" + newest},
		"GET /api/v1/policies/{name}":      {"/api/v1/policies/policy-07"},
		"GET /api/v1/sites/{name}/peer":    nil, // asks the site, and nobody is there
		"GET /api/v1/backups/{name}":       nil,
		"GET /api/v1/users/{name}":         {"/api/v1/users/anna"},
		"GET /api/v1/events":               nil, // the three that do not end
		"GET /api/v1/logs/stream":          nil,
		"GET /live":                        nil,
	}
	for _, l := range licensed() {
		if route := "GET /settings/licenses/{id}"; len(all[route]) < 3 {
			all[route] = append(all[route], "/settings/licenses/"+l.ID)
		}
	}
	for _, v := range lifecycle.Verbs() {
		if v != lifecycle.EnableProtection {
			of := machine
			if v == lifecycle.Commit || v == lifecycle.ChangePoint {
				of = "/machines/" + crowdID(98)
			}
			all["GET /machines/{id}/"+string(v)] = []string{of + "/" + string(v)}
		}
	}
	return all
}

// measured is what one address takes.
type measured struct {
	path        string
	kind        string // "page", "file" or "call"
	status      int
	bytes       int
	median, p95 time.Duration
	allocated   int64 // bytes a request
}

// TestEveryPageIsQuickAndSmall asks for every address of the console as an
// administrator. By itself it holds the bound on size, and the one on time loosely;
// RIPARO_SCALE=1 asks for the goal, and prints a table in Markdown:
//
//	RIPARO_SCALE=1 go test -run TestEveryPageIsQuickAndSmall -v -timeout 30m ./appliance
//
// RIPARO_SCALE_ONLY is a part of an address, or "/", to look at one page.
func TestEveryPageIsQuickAndSmall(t *testing.T) {
	size, rounds, most := quickCrowd, 3, slack*mostPageTime
	long := os.Getenv("RIPARO_SCALE") != ""
	if long {
		size, rounds, most = largeCrowd, 100, mostPageTime
	}
	const seed = 20
	began := time.Now()
	c := newCrowded(t, size, seed)
	t.Logf("%d machines, %d recovery points, %d jobs, %d events, made in %s", size.machines, size.machines*size.points, size.jobs, size.events, time.Since(began).Round(time.Millisecond))
	addresses := c.addresses()
	var all []measured
	for _, pattern := range c.console.Patterns() {
		method, path, _ := strings.Cut(pattern, " ")
		if method != http.MethodGet {
			continue
		}
		list, known := addresses[pattern]
		if delete(addresses, pattern); !known {
			if list = []string{path}; strings.ContainsRune(path, '{') {
				t.Errorf("%s: say in addresses what is to be asked for", pattern)
				continue
			}
		}
		for _, path := range list {
			if only := os.Getenv("RIPARO_SCALE_ONLY"); path == only || only != "/" && strings.Contains(path, only) {
				all = append(all, c.measure(path, rounds))
			}
		}
	}
	for pattern := range addresses {
		t.Errorf("%s is in addresses and is no route", pattern)
	}
	slices.SortStableFunc(all, func(a, b measured) int {
		return cmp.Or(cmp.Compare(b.kind, a.kind), cmp.Compare(b.p95, a.p95))
	})
	var table bytes.Buffer
	fmt.Fprintf(&table, "| address | kind | answer | bytes | median ms | p95 ms | allocated KiB |\n|---|---|---:|---:|---:|---:|---:|\n")
	pages := 0
	for _, m := range all {
		fmt.Fprintf(&table, "| `%s` | %s | %d | %d | %.1f | %.1f | %d |\n", m.path, m.kind, m.status, m.bytes, m.median.Seconds()*1000, m.p95.Seconds()*1000, m.allocated>>10)
		if m.status >= 500 {
			t.Errorf("%s answers %d", m.path, m.status)
		}
		if m.kind != "page" {
			continue
		}
		pages++
		if m.status == http.StatusNotFound {
			t.Errorf("there is nothing at %s", m.path)
		}
		if m.bytes >= mostPageBytes {
			t.Errorf("%s takes %d bytes: want less than %d (seed %d)", m.path, m.bytes, mostPageBytes, seed)
		}
		// The median of a short run: one slow answer in three is the neighbor's.
		if took := map[bool]time.Duration{true: m.p95, false: m.median}[long]; took >= most {
			t.Errorf("%s takes %s: want less than %s (seed %d)", m.path, took, most, seed)
		}
	}
	if pages < 60 && os.Getenv("RIPARO_SCALE_ONLY") == "" {
		t.Errorf("only %d pages were looked at", pages)
	}
	t.Logf("\n%s", table.String())
}

// enough is how long one address is asked for at most: files of megabytes take seconds.
const enough = 10 * time.Second

// measure asks for an address, while machines go on being replicated.
func (c *crowded) measure(path string, rounds int) measured {
	c.Helper()
	m := measured{path: path}
	var took []time.Duration
	var before, after runtime.MemStats
	start := time.Now()
	for i := 0; i <= rounds && (i <= min(rounds, 3) || time.Since(start) < enough); i++ {
		c.replicate(5)
		if i == 1 { // the first one is for what is made once
			runtime.ReadMemStats(&before)
		}
		began := time.Now()
		got := c.get(path)
		if i > 0 {
			took = append(took, time.Since(began))
		} else if !strings.HasPrefix(got.Header().Get("Content-Type"), "text/html") {
			rounds = min(rounds, 20) // is not judged
		}
		m.status, m.bytes = got.Code, got.Body.Len()
		kind, _, _ := mime.ParseMediaType(got.Header().Get("Content-Type"))
		switch {
		case kind == "text/html":
			m.kind = "page"
		case strings.HasPrefix(path, "/api/"):
			m.kind = "call"
		default:
			m.kind = "file"
		}
	}
	runtime.ReadMemStats(&after)
	slices.Sort(took)
	m.median, m.p95, m.allocated = took[len(took)/2], took[len(took)*95/100], int64(after.TotalAlloc-before.TotalAlloc)/int64(len(took))
	return m
}
