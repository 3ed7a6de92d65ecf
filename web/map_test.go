package web

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/store"
	"riparo/web/view"
)

// TestTheMapShowsWhoSheltersWhom: every line is one change to a calm world of two
// machines at Milano, sheltered by Roma.
func TestTheMapShowsWhoSheltersWhom(t *testing.T) {
	words, err := view.Load()
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	var rates map[replication.MachineID]MachineReport
	for _, c := range []struct {
		name        string
		change      func(machines []store.Machine, sites []DiscoveredSite)
		left, right string // name, link, flow, sends, shelters
	}{
		{"calm", func([]store.Machine, []DiscoveredSite) {},
			"Milano ok right sends 2 machines · 2 MiB/s", "Roma ok  ready to run 2 machines"},
		{"a machine is critical", func(m []store.Machine, _ []DiscoveredSite) { m[1].Health.Level = store.Critical },
			"Milano bad right sends 2 machines · 2 MiB/s", "Roma bad  ready to run 2 machines"},
		{"a machine is late", func(m []store.Machine, _ []DiscoveredSite) {
			m[0].LastPoint = &replication.RecoveryPoint{Time: now.Add(-time.Hour)}
		}, "Milano warn right sends 2 machines · 2 MiB/s", "Roma warn  ready to run 2 machines"},
		{"a site does not answer", func(_ []store.Machine, s []DiscoveredSite) {
			s[1].Problem = replication.AsProblem(errors.New("no answer"))
		}, "Milano ok right sends 2 machines · 2 MiB/s", "Roma bad  ready to run 2 machines"},
		{"a machine replicates in reverse and keeps its place", func(m []store.Machine, _ []DiscoveredSite) {
			m[0].Direction, m[0].State, m[0].Failover = lifecycle.Reverse, lifecycle.ProtectedReverse, &store.Failover{}
		}, "Milano ok right sends 1 machine · 1 MiB/s ready to run 1 machine", "Roma ok left sends 1 machine · 1 MiB/s ready to run 1 machine"},
		{"a machine runs on its replica and is not committed", func(m []store.Machine, _ []DiscoveredSite) {
			m[0].State, m[0].Failover = lifecycle.CommitPending, &store.Failover{}
			delete(rates, m[0].ID)
		}, "Milano ok right sends 1 machine · 1 MiB/s", "Roma ok  ready to run 1 machine"},
	} {
		t.Run(c.name, func(t *testing.T) {
			machines := []store.Machine{calm("m-1", now), calm("m-2", now)}
			sites := []DiscoveredSite{{Site: store.Site{Name: "Milano", Kind: "lab"}, Seen: now}, {Site: store.Site{Name: "Roma", Kind: "lab"}, Seen: now}}
			rates = map[replication.MachineID]MachineReport{"m-1": {SentPerSecond: 1 << 20}, "m-2": {SentPerSecond: 1 << 20}}
			c.change(machines, sites)
			rep := Report{Machines: rates}
			r := records{machines: machines, policies: map[string]replication.Policy{"default": replication.DefaultPolicy()}}
			m := mapOf(visit{words: words.Words("en", time.UTC), now: now}, r, rep, sites, view.VaultCard{Text: "half"})
			if len(m.Left) != 1 || len(m.Right) != 1 {
				t.Fatalf("got %d sites on the left and %d on the right, want one each", len(m.Left), len(m.Right))
			}
			if got := tell(m.Left[0]); got != c.left {
				t.Errorf("left: got %q, want %q", got, c.left)
			}
			if got := tell(m.Right[0]); got != c.right {
				t.Errorf("right: got %q, want %q", got, c.right)
			}
		})
	}
}

func calm(id replication.MachineID, now time.Time) store.Machine {
	return store.Machine{ID: id, Name: string(id), Source: store.Place{Site: "Milano"}, Target: store.Place{Site: "Roma"}, Direction: lifecycle.Forward,
		State: lifecycle.Protected, Policy: "default", Health: store.Health{Level: store.Healthy}, LastPoint: &replication.RecoveryPoint{Time: now.Add(-time.Second)}}
}

func tell(s view.MapSite) string {
	words := []string{s.Name, string(s.Link), string(s.Flow)}
	return strings.Join(append(words, slices.DeleteFunc([]string{s.Sends, s.Shelters}, func(s string) bool { return s == "" })...), " ")
}

func TestLinksLeadFromEachBoxToTheMiddle(t *testing.T) {
	sites := make([]view.MapSite, 3)
	link(sites, true)
	for i, want := range []string{"M0 16.67 ", "M0 50.00 ", "M0 83.33 "} {
		if !strings.HasPrefix(sites[i].Path, want) || !strings.HasSuffix(sites[i].Path, "100 50") {
			t.Errorf("box %d: got %q, want it to begin with %q and to end in the middle", i, sites[i].Path, want)
		}
	}
}
