package web_test

import (
	"encoding/csv"
	"net/http"
	"slices"
	"strings"
	"testing"

	"riparo/store"
)

// csvOf reads a file of comma-separated values into rows by column.
func csvOf(t *testing.T, b *browser, path string) []map[string]string {
	t.Helper()
	a := b.get(path)
	if a.status != http.StatusOK || !strings.HasPrefix(a.header.Get("Content-Type"), "text/csv") || !strings.Contains(a.header.Get("Content-Disposition"), ".csv") {
		t.Fatalf("%s: got %d, %v", path, a.status, a.header)
	}
	all, err := csv.NewReader(strings.NewReader(a.body)).ReadAll()
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	var rows []map[string]string
	for _, cells := range all[1:] {
		row := map[string]string{}
		for i, cell := range cells {
			row[all[0][i]] = cell
		}
		rows = append(rows, row)
	}
	return rows
}

func names(rows []map[string]string) []string {
	var out []string
	for _, r := range rows {
		out = append(out, r["name"])
	}
	return out
}

func TestAListIsAFileWithTheSameFilter(t *testing.T) {
	h := newHouse(t, true).claimed()
	b := h.signedIn("")
	all := csvOf(t, b, "/machines.csv?sort=name")
	if len(all) < 5 || !slices.IsSorted(names(all)) {
		t.Errorf("sorted by name: %v", names(all))
	}
	turned := names(csvOf(t, b, "/machines.csv?sort=-name"))
	slices.Reverse(turned)
	if !slices.Equal(turned, names(all)) {
		t.Errorf("turned round: %v, want the reverse of %v", turned, names(all))
	}
	if away := csvOf(t, b, "/machines.csv?health=elsewhere"); len(away) == 0 || len(away) == len(all) {
		t.Errorf("%d machines of %d failed over", len(away), len(all))
	}
	if one := csvOf(t, b, "/machines.csv?q=web01"); len(one) != 1 || one[0]["machine"] != "m-4f7c21aa" || one[0]["policy"] == "" || one[0]["size_bytes"] == "0" {
		t.Errorf("one machine: %v", one)
	}
	if failed := csvOf(t, b, "/jobs.csv?state=failed"); len(failed) != 1 || failed[0]["kind"] != "test-failover" || failed[0]["seconds"] != "94.0" || failed[0]["cause"] == "" {
		t.Errorf("failed jobs: %v", failed)
	}
}

func TestNoNameIsAFormula(t *testing.T) {
	h := newHouse(t, true).claimed()
	const name = `=HYPERLINK("https://evil.example","x")`
	err := h.store.Update(func(tx *store.Tx) error {
		m, err := tx.Machines().Get("m-4f7c21aa")
		if err != nil {
			return err
		}
		m.Name = name
		return tx.Machines().Put(m)
	})
	if err != nil {
		t.Fatal(err)
	}
	if rows := csvOf(t, h.signedIn(""), "/machines.csv?q=HYPERLINK"); len(rows) != 1 || rows[0]["name"] != "'"+name {
		t.Errorf("got %v", rows)
	}
}

func TestColumnsAreHiddenAndSortedByTheAddress(t *testing.T) {
	h := newHouse(t, true).claimed()
	b := h.signedIn("")
	page := b.get("/machines?hide=route,drill&sort=rpo&health=untested").body
	if n := strings.Count(page, `class="c-route" hidden`); n == 0 || strings.Contains(page, `class="c-rpo r num rpo" hidden`) {
		t.Errorf("%d cells of the route are hidden", n)
	}
	for _, want := range []string{`aria-sort="ascending"`, `sort=-rpo`, `/machines.csv?health=untested`, `name="hide" value="route,drill"`} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if page := b.get("/machines?hide=evil&sort=%3Cb%3E").body; strings.Contains(page, `c-health" hidden`) || strings.Contains(page, "aria-sort") {
		t.Error("an unknown column is taken")
	}
}

func TestADrillIsReportedWithWhatWasSeen(t *testing.T) {
	h := newHouse(t, true).claimed()
	b := h.signedIn("")
	rows := csvOf(t, b, "/reports/drills.csv?days=30")
	states := map[string]string{}
	for _, r := range rows {
		states[r["name"]] = r["passed"]
	}
	if states["web01"] != "true" || states["sql-prod-01"] != "false" {
		t.Errorf("the drills: %v", rows)
	}
	if rows := csvOf(t, b, "/reports/drills.csv?days=7&machine=m-5b10c3d2"); len(rows) != 1 || rows[0]["cause"] == "" || rows[0]["rto_achieved_seconds"] != "" {
		t.Errorf("those of one machine: %v", rows)
	}
	report := b.get("/reports/drills/20261122T070000.000Z-0000004").body
	for _, want := range []string{"token ci", "41 s", `/logs?job=20261122T070000.000Z-0000004`, "data-print"} {
		if !strings.Contains(report, want) && !strings.Contains(report, strings.ReplaceAll(want, "?", "?level=debug%2Cinfo%2Cwarn%2Cerror&amp;")) && want[0] != '/' {
			t.Errorf("the report lacks %q", want)
		}
	}
	for _, path := range []string{"/reports/drills/none", "/reports/drills/" + runningJob} { // the other is no drill
		if a := b.get(path); a.status != http.StatusNotFound {
			t.Errorf("%s: got %d, want 404", path, a.status)
		}
	}
}

func TestTheObjectiveIsReportedByMachine(t *testing.T) {
	h := newHouse(t, true).claimed()
	rows := csvOf(t, h.signedIn(store.Auditor), "/reports/rpo.csv?days=7")
	late, judged := 0, 0
	for _, r := range rows {
		if r["met_percent"] != "" {
			judged++
		}
		if r["late_seconds"] != "0" {
			late++
		}
	}
	if judged == 0 || len(rows) < 5 {
		t.Errorf("%d of %d machines are judged, %d were late", judged, len(rows), late)
	}
}
