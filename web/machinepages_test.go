package web_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"riparo/replication"
	"riparo/replication/report"
	"riparo/store"
	"riparo/web/api"
)

// TestMachinesAndTheirFiguresComeInPages: an answer of the API stays small whatever the
// number of machines, and the client puts the pages together: each once, by name.
func TestMachinesAndTheirFiguresComeInPages(t *testing.T) {
	h := newHouse(t, true).claimed()
	const more = 1200 // three pages of the client, the last one not full
	err := h.store.Update(func(tx *store.Tx) error {
		for i := range more {
			// Names run against the IDs.
			if err := tx.Machines().Put(store.Machine{ID: replication.MachineID(fmt.Sprintf("m-%08d", i)), Name: fmt.Sprintf("row-%04d", more-i), Policy: "default"}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	h.appliance.mu.Lock()
	for i := range more {
		h.appliance.figure[replication.MachineID(fmt.Sprintf("m-%08d", i))] = report.Machine{Activity: "waiting for the next point"}
	}
	h.appliance.mu.Unlock()
	c, ctx := h.client(store.Administrator), t.Context()

	machines, err := c.Machines(ctx)
	if err != nil || len(machines) != more+6 {
		t.Fatalf("machines: got %d, %v, want %d", len(machines), err, more+6)
	}
	if !slices.IsSortedFunc(machines, func(x, y api.Machine) int { return strings.Compare(x.Name, y.Name) }) {
		t.Error("the client does not give them by name")
	}
	ids := map[replication.MachineID]bool{}
	for _, m := range machines {
		ids[m.ID] = true
	}
	if len(ids) != len(machines) {
		t.Errorf("%d machines have %d IDs: some came twice", len(machines), len(ids))
	}
	figures, err := c.Report(ctx)
	if err != nil || len(figures.Machines) != more+6 || len(figures.Throughput) != 360 {
		t.Errorf("report: got %d machines and %d samples, %v, want %d and 360", len(figures.Machines), len(figures.Throughput), err, more+6)
	}

	// A page by itself, as any program asks for it.
	b := h.signedIn("")
	for query, want := range map[string]struct {
		count       int
		first, last string
	}{
		"":                             {100, "m-00000000", "m-00000099"},
		"?limit=3&after=m-00000041":    {3, "m-00000042", "m-00000044"},
		"?limit=1000&after=m-00001198": {7, "m-00001199", "m-c0ffee00"},
	} {
		var list []api.Machine
		var page api.Figures
		for path, into := range map[string]any{"/api/v1/machines": &list, "/api/v1/report": &page} {
			if got := b.get(path + query); got.status != http.StatusOK || json.Unmarshal([]byte(got.body), into) != nil {
				t.Fatalf("GET %s%s: got %d", path, query, got.status)
			}
		}
		if len(list) != want.count || string(list[0].ID) != want.first || string(list[len(list)-1].ID) != want.last {
			t.Errorf("%q: got %d machines, want %d from %s to %s", query, len(list), want.count, want.first, want.last)
		}
		for _, m := range list {
			if _, there := page.Machines[m.ID]; !there || len(page.Machines) != want.count {
				t.Errorf("%q: the report has %d machines, %s among them: %v", query, len(page.Machines), m.ID, there)
			}
		}
	}
	for _, limit := range []string{"0", "1001", "x"} {
		if got := b.get("/api/v1/machines?limit=" + limit); got.status != http.StatusUnprocessableEntity {
			t.Errorf("a limit of %s: got %d, want 422", limit, got.status)
		}
	}
}
