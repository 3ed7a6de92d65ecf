package appliance

import (
	"errors"
	"testing"
	"time"

	"riparo/appliance/discovery"
	"riparo/hypervisor"
	"riparo/replication"
	"riparo/store"
)

// TestASourceThatCannotBeSeenIsNotTakenToBeDown: the alarm of two active copies goes by
// what is known, and a site, or one machine there, may give no answer just now.
func TestASourceThatCannotBeSeenIsNotTakenToBeDown(t *testing.T) {
	at := func(power hypervisor.Power) discovery.Seen {
		return discovery.Seen{Site: store.Site{Name: "milano"}, Listed: time.Unix(1, 0), Machines: []hypervisor.Machine{{Ref: "web01", Power: power}}}
	}
	away := at(hypervisor.Running)
	away.Problem = &replication.Problem{Code: "site.away", Err: errors.New("no route")}
	m := store.Machine{Source: store.Place{Site: "milano", Ref: "web01"}}
	for name, c := range map[string]struct {
		sites       []discovery.Seen
		runs, known bool
	}{
		"running":      {[]discovery.Seen{at(hypervisor.Running)}, true, true},
		"stopped":      {[]discovery.Seen{at(hypervisor.Stopped)}, false, true},
		"suspended":    {[]discovery.Seen{at(hypervisor.Suspended)}, false, true},
		"unknown":      {[]discovery.Seen{at(hypervisor.PowerUnknown)}, false, false},
		"site away":    {[]discovery.Seen{away}, false, false},
		"never listed": {nil, false, false},
	} {
		if runs, known := sourceRuns(c.sites, m); known != c.known || known && runs != c.runs {
			t.Errorf("%s: runs %v, known %v; want %v, %v", name, runs, known, c.runs, c.known)
		}
	}
}
