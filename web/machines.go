package web

import (
	"cmp"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"riparo/hypervisor"
	"riparo/store"
	"riparo/web/view"
)

func (k *Console) machines(v visit) (built, error) {
	r, err := k.records()
	if err != nil {
		return built{}, err
	}
	rep := k.report(v)
	w := v.words
	f := machineFilterOf(v.query)
	m := view.Machines{Now: v.now, Search: f.search, Health: f.health, Sort: f.sort, Hide: strings.Join(f.hide, ","), Total: len(r.machines), CanProtect: v.may("POST /protect"),
		CSV: f.address("/machines.csv"), Bulk: bulkActions(v)}
	l, _ := listNamed("machines")
	m.Heads, m.Columns = machineHeads(w, f), l.columnsOf(w, store.ListView{Sort: f.sort, Hide: f.hide})
	for _, g := range machineGroups(r, rep, v.now) {
		n := 0
		for _, machine := range r.machines {
			if g.holds(machine) {
				n++
			}
		}
		group := f
		group.health = g.value
		m.Filter = append(m.Filter, view.Choice{Href: group.address("/machines"), Text: w.T("machines.filter-" + cmp.Or(g.value, "all")), Note: w.Int(int64(n)), Selected: g.value == f.health})
	}
	found := k.chosenMachines(f, r, rep, v.now)
	m.Found = len(found)
	from, to := pageOf(v.query.Get("page"), len(found), machinesPage)
	for _, machine := range found[from:to] {
		m.Rows = append(m.Rows, machineRow(v, r, rep, machine))
	}
	m.Prior, m.Next = turns(from, to, len(found), machinesPage, func(page string) string { return f.address("/machines", "page", page) })
	m.Empty = view.Empty{Icon: "machine", Title: w.T("machines.none"), Text: w.T("machines.none-text")}
	if len(r.machines) > 0 {
		m.Empty = view.Empty{Icon: "machine", Title: w.T("machines.no-match"), Text: w.T("machines.no-match-text"),
			Action: &view.Action{Href: "/machines", Text: w.T("filter.remove")}}
	}
	if m.Discovered, err = k.discovered(v, m.Search); err != nil {
		return built{}, err
	}
	return built{title: w.T("machines.title"), place: "machines", body: view.MachinesPage(m), live: true, on: []string{"machine/", "job/", "site/", "report"},
		parts: []part{{"machines-list", view.MachinesList(m)}, {"machines-discovered", view.MachinesDiscovered(m)}}}, nil
}

// Bounds of the page: what is beyond is a page, or a search, away.
const (
	machinesPage   = 100
	discoveredRows = 50
)

// pageOf is where a page of a list begins and ends; pages count from 1.
func pageOf(page string, length, size int) (from, to int) {
	number, err := strconv.Atoi(page)
	if err != nil || number < 1 || (number-1)*size >= length {
		number = 1
	}
	from = (number - 1) * size
	return from, min(from+size, length)
}

// turns are the addresses of the pages before and after one.
func turns(from, to, length, size int, at func(page string) string) (prior, next string) {
	if number := from / size; number > 0 {
		prior = at(strconv.Itoa(number))
	}
	if to < length {
		next = at(strconv.Itoa(from/size + 2))
	}
	return prior, next
}

// address is a path with a query of the pairs that are not empty.
func address(path string, pairs ...string) string {
	q := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	if len(q) == 0 {
		return path
	}
	return path + "?" + q.Encode()
}

func matches(m store.Machine, search string) bool {
	search = strings.ToLower(search)
	for _, text := range []string{m.Name, string(m.ID), m.Policy, m.Source.Site, m.Target.Site} {
		if strings.Contains(strings.ToLower(text), search) {
			return true
		}
	}
	return search == ""
}

func machineRow(v visit, r records, rep Report, m store.Machine) view.MachineRow {
	w := v.words
	report := rep.Machines[m.ID]
	age, known := rpo(m, report, v.now)
	row := view.MachineRow{ID: string(m.ID), Href: machineHref(m), Name: m.Name, State: stateBadge(w, m), Health: healthBadge(w, m.Health),
		PointTime: pointTime(m, report), Route: route(m), Policy: m.Policy, Drill: drillBadge(w, m, v.now), Replicates: counted(m),
		Note: activity(w, m, report)}
	if counted(m) && r.late(m, age, known) {
		row.RPOTone = view.Warn
	}
	if len(m.Health.Findings) > 0 {
		row.Note = sentence(w.Said(m.Health.Findings[0].Cause))
	}
	switch j := r.jobOf(m); {
	case j == nil:
	case j.State == store.InProgress:
		row.Progress = jobProgress(w, *j)
	default:
		row.State = jobBadge(w, j.State)
	}
	return row
}

// activity is what replication does with a machine just now.
func activity(w *view.Words, m store.Machine, report MachineReport) string {
	if report.Activity == "" && counted(m) && !m.Paused || report.Activity == "idle" {
		return w.T("machine.idle")
	}
	if report.Activity == "" {
		return w.Named("state", string(m.State))
	}
	if w.Has("state." + strings.ReplaceAll(report.Activity, " ", "-")) {
		return w.Named("state", report.Activity)
	}
	return sentence(w.Said(report.Activity))
}

// discovered are the machines of all sites that are not protected.
func (k *Console) discovered(v visit, search string) ([]view.DiscoveredGroup, error) {
	sites, err := k.Appliance.Discovered(v.ctx, false)
	if err != nil {
		return nil, err
	}
	w := v.words
	var groups []view.DiscoveredGroup
	for _, s := range sites {
		g := view.DiscoveredGroup{Site: s.Site.Name, Emulated: s.About.Emulated, Seen: s.Seen}
		if s.Problem != nil {
			g.Problem = sentence(w.Said(s.Problem.Cause))
		}
		protected, replicas, hidden := 0, 0, 0
		for _, m := range s.Machines {
			switch {
			case s.Protects[m.Ref] != "":
				protected++
			case m.Replica:
				replicas++
			case !strings.Contains(strings.ToLower(m.Name), strings.ToLower(search)):
				hidden++
			default:
				g.Rows = append(g.Rows, discoveredRow(v, s.Site.Name, m))
			}
		}
		slices.SortFunc(g.Rows, func(a, b view.DiscoveredRow) int { return strings.Compare(a.Name, b.Name) })
		if more := len(g.Rows) - discoveredRows; more > 0 {
			g.Rows = g.Rows[:discoveredRows]
			hidden += more
		}
		if len(g.Rows) == 0 && g.Problem == "" && hidden == 0 {
			g.None = w.T("machines.nothing")
			if protected > 0 {
				g.None = w.T("machines.all-protected")
			}
		}
		var others []string
		if protected > 0 && len(g.Rows) > 0 {
			others = append(others, w.N("machines.others-protected", protected))
		}
		if replicas > 0 {
			others = append(others, w.N("machines.others-replicas", replicas))
		}
		if hidden > 0 {
			others = append(others, w.N("machines.others-hidden", hidden))
		}
		g.Others = strings.Join(others, " ")
		groups = append(groups, g)
	}
	return groups, nil
}

func discoveredRow(v visit, site string, m hypervisor.Machine) view.DiscoveredRow {
	w := v.words
	var size int64
	for _, d := range m.Disks {
		size += d.Size
	}
	facts := []string{w.N("cpus", m.CPUs), w.Bytes(int64(m.MemoryMiB) << 20), w.N("disks", len(m.Disks), "Size", w.Bytes(size))}
	if m.OS != "" {
		facts = append(facts, m.OS)
	}
	row := view.DiscoveredRow{Name: m.Name, Power: powerBadge(w, m.Power), Facts: strings.Join(facts, " · ")}
	for _, o := range m.Obstacles {
		row.Obstacles = append(row.Obstacles, sentence(w.SaidList(o)))
	}
	if len(m.Obstacles) == 0 && v.may("POST /protect") {
		row.Protect = &view.Action{Href: address("/protect", "site", site, "ref", string(m.Ref)), Text: w.T("protect"), Icon: "shield", Kind: "small", Dialog: true}
	}
	return row
}

func powerBadge(w *view.Words, p hypervisor.Power) view.Badge {
	b := view.Badge{Tone: view.Mute, Text: w.Named("power", string(p))}
	switch p {
	case hypervisor.Running:
		b.Tone, b.Icon = view.OK, "play"
	case hypervisor.Suspended:
		b.Tone, b.Icon = view.Warn, "pause"
	}
	return b
}
