package web_test

import (
	"fmt"
	"html"
	"regexp"
	"strings"
	"testing"
	"time"

	"riparo/replication"
	"riparo/store"
)

var nextPage = regexp.MustCompile(`href="([^"]+)"[^>]*>\s*(?:<[^>]+>\s*)*Next`)

// TestEveryRowOfALongListIsOnOnePage turns the pages of lists that are longer than a page
// by their links, and meets every row once.
func TestEveryRowOfALongListIsOnOnePage(t *testing.T) {
	h := newHouse(t, true).claimed()
	const many = 130
	now := time.Now()
	err := h.store.Update(func(tx *store.Tx) error {
		for i := range many {
			id := fmt.Sprintf("m-%08d", i)
			if err := tx.Machines().Put(store.Machine{ID: replication.MachineID(id), Name: fmt.Sprintf("row-%03d-server", i), Policy: "default", Created: now.Add(-90 * 24 * time.Hour)}); err != nil {
				return err
			}
			if err := tx.Users().Put(store.User{Name: fmt.Sprintf("row-%03d-person", i), Role: store.Viewer, Created: now}); err != nil {
				return err
			}
			at := now.Add(-time.Duration(i) * time.Minute)
			if err := tx.Jobs().Put(store.Job{ID: store.NewID(at), Kind: "test-failover", Machine: "m-gone", Name: fmt.Sprintf("row-%03d-drill", i), State: store.Succeeded, Created: at, Ended: at}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	b := h.signedIn("")
	for _, list := range []struct{ path, heading, row string }{
		{"/reports", `aria-labelledby="objective"`, "server"}, {"/reports", `aria-labelledby="drills"`, "drill"}, {"/settings/users", "<table", "person"}, {"/machines", `id="machines-list"`, "server"},
	} {
		row := regexp.MustCompile(`>\s*(row-\d+-` + list.row + `)\s*<`)
		seen := map[string]int{}
		pages := 0
		for path := list.path; path != ""; pages++ {
			if pages > 9 {
				t.Fatalf("%s, %s: the pages do not end", list.path, list.row)
			}
			_, rest, found := strings.Cut(b.get(path).body, list.heading)
			if !found {
				t.Fatalf("%s lacks %s", path, list.heading)
			}
			section, _, _ := strings.Cut(rest, "</section>")
			onPage := map[string]bool{}
			for _, m := range row.FindAllStringSubmatch(section, -1) {
				onPage[m[1]] = true
			}
			for name := range onPage {
				seen[name]++
			}
			path = ""
			if next := nextPage.FindStringSubmatch(section); next != nil {
				path = html.UnescapeString(next[1])
			}
		}
		if pages < 2 || len(seen) != many {
			t.Errorf("%s: %d rows named %s on %d pages, want %d", list.path, len(seen), list.row, pages, many)
		}
		for name, times := range seen {
			if times != 1 {
				t.Errorf("%s: %s is on %d pages", list.path, name, times)
			}
		}
	}
}

// TestAPageOfAlertsShowsTheWorstAndSaysHowManyMore: hundreds stand, the critical one was
// raised first, and it is there.
func TestAPageOfAlertsShowsTheWorstAndSaysHowManyMore(t *testing.T) {
	h := newHouse(t, true).claimed()
	now := time.Now()
	err := h.store.Update(func(tx *store.Tx) error {
		for i := range 300 {
			a := store.Alert{ID: fmt.Sprintf("a-%04d", i), Kind: "rpo.breached", Subject: fmt.Sprint(i), Name: fmt.Sprintf("late-%04d", i), Severity: store.SeverityWarning, Since: now,
				Args: map[string]string{"limit_seconds": "60", "point_time": now.UTC().Format(time.RFC3339)}}
			if i == 0 {
				a.Severity = store.SeverityCritical
			}
			if err := tx.Alerts().Put(a); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	page := h.signedIn("").get("/alerts").body
	if !strings.Contains(page, "late-0000") || !strings.Contains(page, "220 more") || strings.Count(page, "late-") < 80 {
		t.Errorf("the page has the critical one: %v, that there are more: %v, %d alerts", strings.Contains(page, "late-0000"), strings.Contains(page, "220 more"), strings.Count(page, "late-"))
	}
}
