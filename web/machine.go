package web

import (
	"slices"
	"time"

	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/store"
	"riparo/web/api"
	"riparo/web/view"
)

// Bounds of a machine's page.
const (
	latestPoints  = 25
	machineJobs   = 8
	machineEvents = 8
)

func (k *Console) machine(v visit) (built, error) {
	r, err := k.records()
	if err != nil {
		return built{}, err
	}
	var m store.Machine
	var jobs []store.Job
	err = k.Store.View(func(tx *store.Tx) (err error) {
		if m, err = tx.Machines().Get(v.id); err != nil {
			return err
		}
		jobs, err = api.JobPage(tx, "", string(m.ID), "", machineJobs)
		return err
	})
	if err != nil {
		return built{}, err
	}
	w := v.words
	points, pointsErr := k.Appliance.Points(v.ctx, m.ID)
	rep := k.report(v)
	now := v.now
	mr := rep.Machines[m.ID]
	mv := view.Machine{Now: now, ID: string(m.ID), Name: m.Name, Route: route(m), Activity: activity(w, m, mr),
		Badges: []view.Badge{stateBadge(w, m), healthBadge(w, m.Health)}}
	if m.Paused {
		mv.Badges = append(mv.Badges, view.Badge{Tone: view.Mute, Icon: "none", Text: w.Named("state", string(m.State))})
	}
	if mr.Total > 0 {
		p := view.NewProgress(w, mr.Done, mr.Total)
		mv.Progress = &p
	}
	mv.Facts = machineFacts(v, r, m, mr, points)
	for _, f := range m.Health.Findings {
		mv.Findings = append(mv.Findings, findingOf(w, f))
	}
	if pointsErr != nil {
		p := replication.AsProblem(pointsErr)
		mv.Findings = append(mv.Findings, view.Finding{Tone: view.Bad, Cause: sentence(w.Said(p.Cause)), Effect: sentence(w.Said(p.Effect)), Action: sentence(w.Said(p.Action))})
	}
	mv.Banner = banner(v, r, m, len(points) > 0)
	mv.Alarm = alarmBanner(v, m)
	mv.Actions, mv.More, mv.Denied = verbActions(v, r, m, len(points) > 0)
	if mv.Banner != nil { // what it asks for stands there, once
		mv.Actions = slices.DeleteFunc(mv.Actions, func(a view.Action) bool {
			return slices.ContainsFunc(mv.Banner.Actions, func(b view.Action) bool { return a.Href == b.Href })
		})
	}
	mv.Timeline = timelineOf(v, points, v.query.Get("window"), func(window string) string { return address(machineHref(m), "window", window) })
	for _, p := range notable(points) {
		row := view.PointRow{ID: string(p.ID), Kind: string(p.Consistency), Text: kindName(w, p.Consistency), Time: p.Time,
			Changed: w.Bytes(p.ChangedBytes), Stored: w.Bytes(p.StoredBytes), Signs: pointSigns(w, p)}
		href := machineHref(m) + "/points/" + pathSegment(string(p.ID))
		switch {
		case p.Pinned && v.may("POST /machines/{id}/points/{point}/unpin"):
			row.Unpin = href + "/unpin"
		case !p.Pinned && v.may("POST /machines/{id}/points/{point}/pin"):
			row.Pin = href + "/pin"
		}
		mv.Latest = append(mv.Latest, row)
	}
	limit := 0.0
	if counted(m) {
		limit = r.policies[m.Policy].RPOThreshold.Seconds()
	}
	mv.RPO = view.Draw(w, rpoPlot(w, "machine-rpo-chart", len(mr.RPO), rep.Time, limit), view.Values{Name: w.T("rpo"), Class: "one", Samples: mr.RPO})
	mv.Disks = diskRows(w, m)
	mv.Drill = drillCard(v, r, m)
	for _, j := range jobs {
		mv.Jobs = append(mv.Jobs, jobRow(w, j))
	}
	if mv.Events, err = k.eventRows(v, "", string(m.ID), "", machineEvents); err != nil {
		return built{}, err
	}
	return built{title: m.Name, place: "machines", body: view.MachinePage(mv), live: true, on: []string{"machine/" + string(m.ID), "job/", "report"},
		parts: []part{{"machine-head", view.MachineHead(mv)}, {"machine-now", view.MachineNow(mv)}, {"machine-points", view.MachinePoints(mv)},
			{"machine-rpo", view.MachineRPO(mv)}, {"machine-drill", view.MachineDrill(mv)}, {"machine-disks", view.MachineDisks(mv)},
			{"machine-events", view.MachineEvents(mv)}, {"machine-jobs", view.MachineJobs(mv)}}}, nil
}

// notable are the points that the page lists: the newest, and every one that is kept for
// a reason.
func notable(points []replication.RecoveryPoint) []replication.RecoveryPoint {
	var list []replication.RecoveryPoint
	for i, p := range points {
		if i < latestPoints || p.Pinned || p.LastClean {
			list = append(list, p)
		}
	}
	return list
}

func machineFacts(v visit, r records, m store.Machine, mr MachineReport, points []replication.RecoveryPoint) []view.Fact {
	w := v.words
	unknown := w.T("unknown")
	age, known := rpo(m, mr, v.now)
	now := view.Fact{Label: w.T("fact.rpo"), Value: unknown, Note: w.T("fact.rpo-none")}
	if known && counted(m) {
		now = view.Fact{Label: w.T("fact.rpo"), Since: pointTime(m, mr)}
		if limit := r.policies[m.Policy].RPOThreshold; limit > 0 {
			now.Note = w.T("fact.threshold", "Limit", w.Duration(limit))
		}
		if r.late(m, age, known) {
			now.Tone = view.Warn
		}
	} else if known {
		now.Value, now.Note = "–", w.T("fact.rpo-stopped")
	}
	newest := view.Fact{Label: w.T("fact.newest"), Value: unknown}
	app := view.Fact{Label: w.T("fact.app"), Value: w.T("never")}
	if len(points) > 0 {
		newest.Value, newest.Note = w.Short(points[0].Time, v.now), kindName(w, points[0].Consistency)
	}
	if m.LastApp != nil {
		app.Value, app.Note = w.Short(m.LastApp.Time, v.now), w.Ago(m.LastApp.Time, v.now)
	}
	count := view.Fact{Label: w.T("fact.points"), Value: w.Int(int64(len(points)))}
	if len(points) > 0 {
		count.Note = w.T("fact.oldest", "Time", w.Short(points[len(points)-1].Time, v.now))
	}
	cycle := view.Fact{Label: w.T("fact.cycle"), Value: unknown}
	if mr.LastCycle > 0 {
		cycle.Value, cycle.Note = w.Duration(mr.LastCycle.Round(time.Millisecond)), w.T("fact.sent", "Size", w.Bytes(mr.LastBytes))
	}
	next := view.Fact{Label: w.T("fact.next"), Value: "–"}
	if !mr.NextCycle.IsZero() {
		next.Value = w.Short(mr.NextCycle, v.now)
	}
	policy := view.Fact{Label: w.T("policy"), Value: m.Policy, Note: w.T("fact.every", "Every", w.Setting(r.policies[m.Policy].CopyFrequency))}
	if lock := r.policies[m.Policy].LockFor; lock > 0 {
		policy.Note += " · " + w.T("fact.locked", "For", w.Duration(lock))
	}
	return []view.Fact{now, newest, app, count, cycle, next, policy}
}

// banner is the decision that a machine waits for.
func banner(v visit, r records, m store.Machine, hasPoints bool) *view.Banner {
	w := v.words
	b := view.Banner{Tone: view.Warn}
	var verbs []lifecycle.Verb
	f := m.Failover
	switch {
	case m.State == lifecycle.CommitPending && f != nil:
		b.Title = w.T("banner.commit", "Site", replicaSite(m))
		b.Text = w.T("banner.commit-text", "Point", w.Time(f.PointTime), "Kind", kindName(w, f.Consistency), "Started", w.Short(f.Started, v.now))
		verbs = []lifecycle.Verb{lifecycle.Commit, lifecycle.ChangePoint}
	case m.State == lifecycle.Committed:
		b.Tone = view.Info
		b.Title, b.Text = w.T("banner.committed", "Site", replicaSite(m)), w.T("banner.committed-text")
		verbs = []lifecycle.Verb{lifecycle.ReverseReplicate, lifecycle.CompleteMigration}
	case m.State == lifecycle.ProtectedReverse:
		b.Tone = view.Info
		b.Title, b.Text = w.T("banner.reverse", "Site", m.Source.Site), w.T("banner.reverse-text")
		verbs = []lifecycle.Verb{lifecycle.Failback}
	case m.Drill == lifecycle.DrillRunning && m.Test != nil:
		b.Tone = view.Info
		b.Title, b.Text = w.T("banner.drill", "Site", m.Target.Site), w.T("banner.drill-text", "Started", w.Short(m.Test.Started, v.now))
		verbs = []lifecycle.Verb{lifecycle.CleanupTest}
	case m.Drill == lifecycle.DrillUnhealthy:
		b.Tone = view.Bad
		b.Title, b.Text = w.T("banner.drill-failed"), w.T("banner.drill-failed-text")
		verbs = []lifecycle.Verb{lifecycle.CleanupTest}
	default:
		return nil
	}
	for i, verb := range verbs {
		if a, ok := allowed(v, r, m, verb, hasPoints); ok {
			if i == 0 {
				a.Kind = "primary"
			}
			b.Actions = append(b.Actions, a)
		}
	}
	return &b
}

// replicaSite is where the machine runs after a failover.
func replicaSite(m store.Machine) string { return m.Target.Site }

func diskRows(w *view.Words, m store.Machine) []view.DiskRow {
	var rows []view.DiskRow
	for _, d := range m.Disks {
		row := view.DiskRow{Key: d.Key, ID: string(d.ID), Size: w.Bytes(d.Size), Boot: d.Boot, State: view.Badge{Tone: view.OK, Icon: "shield", Text: w.T("disk.protected")}}
		if d.Excluded {
			row.State = view.Badge{Tone: view.Mute, Text: w.T("disk.excluded")}
		}
		rows = append(rows, row)
	}
	return rows
}

// pointName is when a recovery point was taken, which people know it by.
func pointName(v visit, id replication.PointID) string {
	if at, ok := id.Time(); ok {
		return v.words.Short(at, v.now)
	}
	return string(id)
}

// drillCard tells of the test failover under way, or of the last one.
func drillCard(v visit, r records, m store.Machine) view.DrillCard {
	w := v.words
	c := view.DrillCard{State: drillBadge(w, m, v.now)}
	switch {
	case m.Test != nil:
		network := w.T("network.isolated")
		if m.Test.Network != "" {
			network = m.Test.Network
		}
		c.Text = w.T("drill.running-text", "Site", m.Target.Site)
		c.Facts = []view.Fact{{Label: w.T("since"), Value: w.Short(m.Test.Started, v.now)}, {Label: w.T("network"), Value: network}, {Label: w.T("point"), Value: pointName(v, m.Test.Point)}}
	case m.LastDrill != nil:
		d := m.LastDrill
		c.Text = w.T("drill.last", "Time", w.Time(d.Finished), "Took", took(w, d.Finished.Sub(d.Started)))
		if d.Notes != "" {
			c.Text += " – " + d.Notes
		}
		c.Evidence = facts(w, d.Evidence)
	default:
		c.Text = w.T("drill.never-text")
	}
	verb := lifecycle.TestFailover
	if m.Drill != lifecycle.NoDrill {
		verb = lifecycle.CleanupTest
	}
	if a, ok := verbAction(v, r, m, verb); ok {
		c.Action = &a
	}
	return c
}

func facts(w *view.Words, list []store.Fact) []view.Fact {
	var out []view.Fact
	for _, f := range list {
		out = append(out, view.Fact{Label: w.Named("evidence", f.Name), Value: f.Value})
	}
	return out
}
