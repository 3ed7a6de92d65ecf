package web

import (
	"cmp"
	"net/url"
	"slices"
	"strings"
	"time"

	"riparo/store"
	"riparo/web/view"
)

// machineColumns are those that can be hidden and sorted by, besides the name.
var machineColumns = []string{"health", "state", "rpo", "route", "drill"}

// machineFilter is what the address says of the list of machines.
type machineFilter struct {
	search, health string
	sort           string // a column or "name"; a minus before it turns it round; empty is the worst first
	hide           []string
}

func machineFilterOf(q url.Values) machineFilter {
	l, _ := listNamed("machines")
	v := l.viewOf(q)
	return machineFilter{search: strings.TrimSpace(q.Get("q")), health: q.Get("health"), sort: v.Sort, hide: v.Hide}
}

// address is a path with this filter, and with pairs in addition.
func (f machineFilter) address(path string, pairs ...string) string {
	return address(path, append([]string{"q", f.search, "health", f.health, "sort", f.sort, "hide", strings.Join(f.hide, ",")}, pairs...)...)
}

// machineGroup is a choice of machines.
type machineGroup struct {
	value string
	holds func(store.Machine) bool
}

func machineGroups(r records, rep Report, now time.Time) []machineGroup {
	return []machineGroup{
		{"", func(store.Machine) bool { return true }},
		{"attention", func(m store.Machine) bool {
			age, known := rpo(m, rep.Machines[m.ID], now)
			return needy(m, counted(m) && r.late(m, age, known))
		}},
		{"elsewhere", func(m store.Machine) bool { return m.Failover != nil }},
		{"untested", func(m store.Machine) bool { return m.LastDrill == nil || !m.LastDrill.Passed }},
	}
}

// chosenMachines are the machines that a filter chooses, in its order.
func (k *Console) chosenMachines(f machineFilter, r records, rep Report, now time.Time) []store.Machine {
	groups := machineGroups(r, rep, now)
	holds := groups[0].holds
	for _, g := range groups {
		if g.value == f.health {
			holds = g.holds
		}
	}
	var found []store.Machine
	for _, m := range r.machines {
		if holds(m) && matches(m, f.search) {
			found = append(found, m)
		}
	}
	by, turned := strings.CutPrefix(f.sort, "-")
	compare := machineOrder(by, r, rep, now)
	slices.SortStableFunc(found, func(a, b store.Machine) int {
		order := compare(a, b)
		if turned {
			order = -order
		}
		return cmp.Or(order, strings.Compare(a.Name, b.Name))
	})
	return found
}

// machineOrder compares two machines by a column; the worst is first.
func machineOrder(by string, r records, rep Report, now time.Time) func(a, b store.Machine) int {
	text := func(of func(store.Machine) string) func(a, b store.Machine) int {
		return func(a, b store.Machine) int { return strings.Compare(of(a), of(b)) }
	}
	// An age that is unknown is worse than any, and none is wanted of what is not
	// replicated.
	age := func(m store.Machine) time.Duration {
		if !counted(m) {
			return -1
		}
		if d, known := rpo(m, rep.Machines[m.ID], now); known {
			return d
		}
		return 1<<63 - 1
	}
	tested := func(m store.Machine) time.Time {
		if m.LastDrill == nil || !m.LastDrill.Passed {
			return time.Time{}
		}
		return m.LastDrill.Finished
	}
	switch by {
	case "name":
		return text(func(m store.Machine) string { return m.Name })
	case "state":
		return text(func(m store.Machine) string { return string(m.State) })
	case "route":
		return text(route)
	case "rpo":
		return func(a, b store.Machine) int { return cmp.Compare(age(b), age(a)) }
	case "drill":
		return func(a, b store.Machine) int { return tested(a).Compare(tested(b)) }
	}
	return func(a, b store.Machine) int {
		return cmp.Compare(weight(toneOf(string(a.Health.Level))), weight(toneOf(string(b.Health.Level))))
	}
}

// machineHeads are the heads of the columns, each a button that sorts by it.
func machineHeads(w *view.Words, f machineFilter) map[string]view.Head {
	heads := map[string]view.Head{}
	for _, name := range append([]string{"name"}, machineColumns...) {
		head := view.Head{Text: columnName(w, name), Hidden: slices.Contains(f.hide, name)}
		sorted := store.ListView{Sort: name, Hide: f.hide}
		switch f.sort {
		case name:
			head.Sorted, sorted.Sort = "ascending", "-"+name
		case "-" + name:
			head.Sorted = "descending"
		}
		head.View = viewQuery(sorted).Encode()
		heads[name] = head
	}
	return heads
}
