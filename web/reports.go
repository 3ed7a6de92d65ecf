package web

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/store"
	"riparo/web/api"
	"riparo/web/view"
)

// reportPeriods are those that can be chosen, in days; the second is the default.
var reportPeriods = []int{7, 30, 90, 365}

func periodOf(text string) int {
	for _, days := range reportPeriods {
		if text == strconv.Itoa(days) {
			return days
		}
	}
	return reportPeriods[1]
}

// reportRows is how many rows each list of the page has; the files have all.
const reportRows = 40

// reported is what a report is made of.
type reported struct {
	days       int
	machine    string
	drills     []api.Drill
	compliance []api.Compliance
}

func (k *Console) reported(days, machine string) (reported, error) {
	r := reported{days: periodOf(days), machine: machine}
	now := k.Now()
	since := now.AddDate(0, 0, -r.days)
	var err error
	if r.drills, err = k.past.Drills(replication.MachineID(machine), since); err != nil {
		return r, err
	}
	r.compliance, err = k.past.Compliance(replication.MachineID(machine), since, now)
	return r, err
}

// reports is the page of drills and of the recovery point objective.
func (k *Console) reports(v visit) (built, error) {
	w := v.words
	r, err := k.reported(v.query.Get("days"), v.query.Get("machine"))
	if err != nil {
		return built{}, err
	}
	p := view.Reports{Now: v.now, EmptyDrills: view.Empty{Icon: "test", Title: w.T("reports.no-drills"), Text: w.T("reports.no-drills-text")},
		EmptyRPO: view.Empty{Icon: "machine", Title: w.T("machines.none"), Text: w.T("reports.no-machines-text")}}
	days := strconv.Itoa(r.days)
	for _, n := range reportPeriods {
		text := strconv.Itoa(n)
		p.Periods = append(p.Periods, view.Choice{Href: address("/reports", "days", text, "machine", r.machine), Text: w.N("reports.days", n), Selected: n == r.days})
	}
	if r.machine != "" {
		p.All, p.Machine = address("/reports", "days", days), r.machine
	}
	p.Since = w.Time(v.now.AddDate(0, 0, -r.days))
	p.DrillsCSV, p.RPOCSV = address("/reports/drills.csv", "days", days, "machine", r.machine), address("/reports/rpo.csv", "days", days, "machine", r.machine)
	since := v.now.AddDate(0, 0, -r.days).UTC().Format(time.RFC3339)
	p.DrillsJSON = address("/api/v1/reports/drills", "since", since, "machine", r.machine)
	p.RPOJSON = address("/api/v1/reports/rpo", "since", since, "machine", r.machine)
	passed := 0
	for _, d := range r.drills {
		if d.Passed {
			passed++
		}
	}
	for _, c := range r.compliance {
		if r.machine == string(c.Machine) {
			p.Machine = c.Name
		}
	}
	// Two lists with pages of their own: turning one leaves the other where it is.
	turned := v.query.Get("page")
	drilled := v.query.Get("drills")
	turn := func(page, drills string) string {
		return address("/reports", "days", days, "machine", r.machine, "page", page, "drills", drills)
	}
	from, to := pageOf(drilled, len(r.drills), reportRows)
	for _, d := range r.drills[from:to] {
		p.Drills = append(p.Drills, drillRow(w, d))
	}
	p.DrillsCount = w.Int(int64(len(r.drills)))
	p.DrillsPrior, p.DrillsNext = turns(from, to, len(r.drills), reportRows, func(page string) string { return turn(turned, page) })
	from, to = pageOf(turned, len(r.compliance), reportRows)
	for _, c := range r.compliance[from:to] {
		p.RPO = append(p.RPO, complianceRow(w, c, r.days))
	}
	p.RPOCount = w.Int(int64(len(r.compliance)))
	p.RPOPrior, p.RPONext = turns(from, to, len(r.compliance), reportRows, func(page string) string { return turn(page, drilled) })
	p.Facts = k.reportFacts(v, r, passed)
	return built{title: w.T("reports.title"), place: "reports", body: view.ReportsPage(p)}, nil
}

// reportFacts sum a report up.
func (k *Console) reportFacts(v visit, r reported, passed int) []view.Fact {
	w := v.words
	tested, met, judged := 0, 0.0, 0
	recs, err := k.records()
	for _, m := range recs.machines {
		if d := m.LastDrill; d != nil && d.Passed && v.now.Sub(d.Finished) <= lifecycle.DrillInterval && (r.machine == "" || r.machine == string(m.ID)) {
			tested++
		}
	}
	late := 0.0
	for _, c := range r.compliance {
		if c.Met != nil {
			met, judged = met+*c.Met, judged+1
		}
		late = max(late, c.Longest)
	}
	facts := []view.Fact{
		{Label: w.T("reports.drills-passed"), Value: w.T("reports.of", "N", w.Int(int64(passed)), "Of", w.Int(int64(len(r.drills))))},
		{Label: w.T("reports.tested"), Value: w.T("reports.of", "N", w.Int(int64(tested)), "Of", w.Int(int64(len(r.compliance)))), Note: w.T("reports.tested-note")},
	}
	if err != nil {
		facts[1].Value = w.T("unknown")
	}
	average := view.Fact{Label: w.T("reports.met"), Value: w.T("unknown")}
	if judged > 0 {
		average.Value = w.Number(met/float64(judged), 2) + " %"
	}
	return append(facts, average, view.Fact{Label: w.T("reports.longest"), Value: w.Duration(time.Duration(late * float64(time.Second)).Round(time.Second))})
}

func drillRow(w *view.Words, d api.Drill) view.DrillRow {
	row := view.DrillRow{ID: d.Job, Href: "/reports/drills/" + pathSegment(d.Job), Machine: d.Name, Started: d.Started, Actor: d.Actor, RPO: d.Age, Notes: d.Notes,
		Cleaned: d.Cleaned, CleanedBy: d.CleanedBy, Due: d.Due, Result: drillResult(w, d)}
	if d.Passed {
		row.RTO = w.Duration(time.Duration(d.RTO * float64(time.Second)).Round(time.Millisecond))
	}
	return row
}

func drillResult(w *view.Words, d api.Drill) view.Badge {
	switch {
	case d.Passed:
		return view.Badge{Tone: view.OK, Text: w.T("drill.passed")}
	case d.State.Ended():
		return view.Badge{Tone: view.Bad, Text: w.T("drill.failed")}
	}
	return view.Badge{Tone: view.Info, Icon: "run", Text: w.T("drill.running")}
}

// complianceGood is the share of the time from which on an objective counts as met,
// and complianceFair the one below which it does not: two nines, and nine in ten.
const (
	complianceGood = 99.0
	complianceFair = 90.0
)

func complianceRow(w *view.Words, c api.Compliance, days int) view.ComplianceRow {
	row := view.ComplianceRow{ID: string(c.Machine), Href: "/machines/" + pathSegment(string(c.Machine)), Machine: c.Name, Policy: c.Policy,
		Threshold: w.Setting(time.Duration(c.Threshold * float64(time.Second))), Breaches: w.Int(int64(c.Breaches)),
		Late: w.Duration(time.Duration(c.Late * float64(time.Second)).Round(time.Second)), Longest: w.Duration(time.Duration(c.Longest * float64(time.Second)).Round(time.Second)),
		Met: view.Badge{Tone: view.Mute, Text: w.T("reports.no-objective")}, Percent: -1,
		DrillHref: address("/reports", "days", strconv.Itoa(days), "machine", string(c.Machine))}
	if c.Met != nil {
		row.Percent = *c.Met
		row.Met = view.Badge{Tone: view.OK, Text: w.Number(floor(*c.Met), 2) + " %"}
		if *c.Met < complianceGood {
			row.Met.Tone = view.Warn
		}
		if *c.Met < complianceFair {
			row.Met.Tone = view.Bad
		}
	}
	if c.Partial {
		row.Note = w.T("reports.partial", "Since", w.Time(c.Since))
	}
	return row
}

// floor rounds down to hundredths: 99.999 % is not 100 %.
func floor(percent float64) float64 { return float64(int64(percent*100)) / 100 }

// drillReport is one drill with all that was seen, to be printed and filed.
func (k *Console) drillReport(v visit) (built, error) {
	w := v.words
	var drill *api.Drill
	err := k.Store.View(func(tx *store.Tx) error {
		j, err := tx.Jobs().Get(v.id)
		if err != nil {
			return err
		}
		if lifecycle.Verb(j.Kind) != lifecycle.TestFailover {
			return store.ErrNotFound
		}
		drills, err := api.Drills(tx, replication.MachineID(j.Machine), j.Created)
		for i := range drills {
			if drills[i].Job == j.ID {
				drill = &drills[i]
			}
		}
		return err
	})
	if err != nil {
		return built{}, err
	}
	if drill == nil {
		return built{}, store.ErrNotFound
	}
	d := *drill
	p := view.DrillReport{Now: v.now, ID: d.Job, Machine: d.Name, Result: drillResult(w, d), Job: "/jobs/" + pathSegment(d.Job), Console: d.Console, Notes: d.Notes,
		Cause: sentence(w.Said(d.Cause)), Printed: w.T("reports.printed", "Time", w.Time(v.now), "Name", v.user.Name)}
	p.Log = address(logsPath, "job", d.Job, "level", "debug,info,warn,error")
	row := drillRow(w, d)
	fact := func(key, value string) {
		if value != "" {
			p.Facts = append(p.Facts, view.Fact{Label: w.T(key), Value: value})
		}
	}
	fact("began", w.Time(d.Started))
	fact("job.actor", d.Actor)
	fact("reports.rpo-achieved", d.Age)
	fact("reports.rto-achieved", row.RTO)
	fact("point", d.Point)
	network := d.Network
	if network == "" {
		network = w.T("reports.isolated")
	}
	fact("network", network)
	if !d.Cleaned.IsZero() {
		fact("reports.cleaned", strings.TrimSpace(w.Time(d.Cleaned)+" "+d.CleanedBy))
	}
	if !d.Due.IsZero() {
		fact("reports.due", w.Date(d.Due))
	}
	for i, s := range d.Steps {
		step := stepOf(w, i, s)
		step.Open = true
		p.Steps = append(p.Steps, step)
	}
	return built{title: w.T("reports.drill-title", "Machine", d.Name), place: "reports", body: view.DrillReportPage(p)}, nil
}

func (k *Console) drillsSheet(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	var drills []api.Drill
	err := k.Store.View(func(tx *store.Tx) (err error) {
		drills, err = api.Drills(tx, replication.MachineID(q.Get("machine")), k.Now().AddDate(0, 0, -periodOf(q.Get("days"))))
		return err
	})
	if err != nil {
		k.fail(w, r, err)
		return
	}
	s := sheet{name: "drills", head: []string{"machine", "name", "started", "by", "state", "passed", "recovery_point", "rpo_achieved", "rto_achieved_seconds", "console", "cause", "cleaned_up", "cleaned_up_by", "notes", "next_due", "job"}}
	for _, d := range drills {
		rto := ""
		if d.Passed {
			rto = decimal(d.RTO, 3)
		}
		s.rows = append(s.rows, []string{string(d.Machine), d.Name, instant(d.Started), d.Actor, string(d.State), strconv.FormatBool(d.Passed), d.Point, d.Age, rto, d.Console, d.Cause,
			instant(d.Cleaned), d.CleanedBy, d.Notes, instant(d.Due), d.Job})
	}
	k.sendSheet(w, s)
}

func (k *Console) rpoSheet(w http.ResponseWriter, r *http.Request) {
	rep, err := k.reported(r.URL.Query().Get("days"), r.URL.Query().Get("machine"))
	if err != nil {
		k.fail(w, r, err)
		return
	}
	s := sheet{name: "rpo", head: []string{"machine", "name", "policy", "rpo_threshold_seconds", "since", "until", "observed_seconds", "late_seconds", "breaches", "longest_breach_seconds", "met_percent"}}
	for _, c := range rep.compliance {
		met := ""
		if c.Met != nil {
			met = decimal(floor(*c.Met), 2)
		}
		s.rows = append(s.rows, []string{string(c.Machine), c.Name, c.Policy, decimal(c.Threshold, 0), instant(c.Since), instant(c.Until), decimal(c.Observed, 0), decimal(c.Late, 0),
			strconv.Itoa(c.Breaches), decimal(c.Longest, 0), met})
	}
	k.sendSheet(w, s)
}
