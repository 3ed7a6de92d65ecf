package web

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"riparo/replication/lifecycle"
	"riparo/store"
	"riparo/web/view"
)

// Bounds of the overview: what does not fit is behind a link.
const (
	maxNeeds   = 8
	maxRunning = 8
	maxNews    = 7
)

func (k *Console) overview(v visit) (built, error) {
	sv, err := k.survey(v)
	if err != nil {
		return built{}, err
	}
	r, rep, s := sv.records, sv.report, sv.summary
	w := v.words
	o := view.Overview{Now: sv.now}
	b := built{title: w.T("nav.overview"), place: "overview", live: true, on: []string{"machine/", "job/", "event", "site/", "report"}}
	if len(r.machines) == 0 {
		start := k.start(v, r)
		o.Start, o.Headline, o.Sub = &start, w.T("start.headline"), w.T("start.sub")
		b.shape = "start"
		b.body = view.OverviewPage(o)
		b.parts = []part{{"overview-head", view.OverviewHead(o)}, {"overview-start", view.OverviewStart(start)}}
		return b, nil
	}
	o.Headline, o.Sub, o.Tone = headline(w, s)
	o.Figures = k.figures(v, r, rep, s)
	o.RPO, o.Sent = rpoChart(w, sv), sentChart(w, rep)
	o.Needs = needs(v, sv, k.clockNeeds(v))
	o.Calm = w.T("overview.calm")
	if s.drillDue > 0 {
		o.Calm = w.N("overview.calm-drills", s.drillDue)
	}
	for i := len(r.unfinished) - 1; i >= 0 && len(o.Running) < maxRunning; i-- {
		o.Running = append(o.Running, jobRow(w, r.unfinished[i]))
	}
	events, err := k.eventRows(v, "", "", "", maxNews)
	if err != nil {
		return built{}, err
	}
	o.Events = events
	b.body = view.OverviewPage(o)
	b.parts = []part{{"overview-head", view.OverviewHead(o)}, {"overview-figures", view.OverviewFigures(o)}, {"overview-rpo", view.OverviewRPO(o)},
		{"overview-needs", view.OverviewNeeds(o)}, {"overview-running", view.OverviewRunning(o)}, {"overview-sent", view.OverviewSent(o)},
		{"overview-events", view.OverviewEvents(o)}}
	return b, nil
}

// headline tells the state in a sentence.
func headline(w *view.Words, s summary) (title, sub string, tone view.Tone) {
	switch {
	case s.needy > 0:
		title, tone = w.N("overview.needy", s.needy, "Total", w.Int(int64(s.total))), view.Warn
		if s.critical > 0 {
			tone = view.Bad
		}
	case s.protected == s.total:
		title, tone = w.N("overview.all-well", s.total), view.OK
	default:
		title, tone = w.N("overview.some-protected", s.protected, "Total", w.Int(int64(s.total))), view.Info
	}
	switch {
	case s.worst != nil:
		sub = w.T("overview.sub", "RPO", w.Duration(s.worstAge.Truncate(time.Second)), "Machine", s.worst.Name)
	default:
		sub = w.T("overview.sub-none")
	}
	if s.elsewhere > 0 {
		sub += " " + w.N("overview.elsewhere", s.elsewhere)
	}
	return title, sub, tone
}

func (k *Console) figures(v visit, r records, rep Report, s summary) []view.Figure {
	w := v.words
	protected := view.Figure{Label: w.T("figure.protected"), Value: w.Int(int64(s.protected)), Unit: "/ " + w.Int(int64(s.total)), Note: w.T("figure.protected-note"), Href: "/machines"}
	worst := view.Figure{Label: w.T("figure.rpo"), Value: w.T("unknown"), Note: w.T("figure.rpo-none")}
	if s.worst != nil {
		worst = view.Figure{Label: w.T("figure.rpo"), Since: rep.Time.Add(-s.worstAge), Note: s.worst.Name, Href: machineHref(*s.worst)}
		if r.late(*s.worst, s.worstAge, true) {
			worst.Tone = view.Warn
		}
	}
	if s.unknown > 0 {
		worst = view.Figure{Label: w.T("figure.rpo"), Value: w.T("unknown"), Note: w.N("figure.rpo-unknown", s.unknown), Href: "/machines", Tone: view.Warn}
	}
	rate, unit := w.BytesParts(rep.SentPerSecond)
	sent := view.Figure{Label: w.T("figure.sent"), Value: rate, Unit: unit + "/s", Note: w.T("figure.sent-note"), Spark: view.Spark(rep.Throughput)}
	tested := view.Figure{Label: w.T("figure.tested"), Value: w.Int(int64(s.tested)), Unit: "/ " + w.Int(int64(s.total)), Note: w.T("figure.tested-note")}
	figures := []view.Figure{protected, worst, sent, tested}
	return append(figures, k.vaultFigure(v))
}

func (k *Console) vaultFigure(v visit) view.Figure {
	w := v.words
	f := view.Figure{Label: w.T("vault"), Href: "/infrastructure", Value: w.T("unknown")}
	u, err := k.vault(v)
	if err != nil {
		f.Tone, f.Note = view.Bad, w.T("figure.vault-problem")
		return f
	}
	f.Value, f.Unit = w.BytesParts(float64(u.StoredBytes))
	f.Note = w.T("figure.vault-free", "Free", freeBytes(w, u))
	if share, known := vaultShare(u); known {
		f.Tone = vaultTone(share)
	}
	return f
}

func freeBytes(w *view.Words, u VaultUsage) string {
	if u.FreeBytes < 0 {
		return w.T("unknown")
	}
	return w.Bytes(u.FreeBytes)
}

// need is what a person should look at. It is put into words when it is shown: of a
// thousand machines, telling all would be most of the work of the page.
type need struct {
	tone view.Tone
	tell func() view.Finding
}

// needs is what a person should look at: findings, worst first, and decisions that
// wait for somebody.
func needs(v visit, sv survey, first []view.Finding) []view.Finding {
	w, r := v.words, sv.records
	var list []need
	add := func(tone view.Tone, tell func() view.Finding) { list = append(list, need{tone, tell}) }
	for _, f := range first {
		add(f.Tone, func() view.Finding { return f })
	}
	for i := range r.unfinished {
		if j := &r.unfinished[i]; j.State == store.WaitingForInput {
			add(view.Warn, func() view.Finding {
				return view.Finding{Tone: view.Warn, Name: j.Name, Href: "/jobs/" + j.ID, Cause: w.Said(j.Question), Since: j.Created,
					Mend: &view.Action{Href: "/jobs/" + j.ID, Text: w.T("answer"), Kind: "small"}}
			})
		}
	}
	for _, n := range sv.needy {
		list = append(list, machineNeeds(v, r, n.machine, n.late)...)
	}
	for _, name := range slices.Sorted(keysOf(r.sites)) {
		if problem := r.sites[name].Problem; problem != nil {
			add(toneOf(problem.Level), func() view.Finding {
				f := findingOf(w, *problem)
				f.Name, f.Href = name, "/infrastructure"
				f.Mend = &view.Action{Href: "/infrastructure", Text: w.T("nav.infrastructure"), Kind: "small"}
				return f
			})
		}
	}
	slices.SortStableFunc(list, func(a, b need) int { return cmp.Compare(weight(a.tone), weight(b.tone)) })
	var told []view.Finding
	for _, n := range list[:min(len(list), maxNeeds)] {
		told = append(told, n.tell())
	}
	if more := len(list) - maxNeeds; more > 0 {
		told = append(told, view.Finding{Tone: view.Info, Cause: w.N("overview.more", more),
			Mend: &view.Action{Href: "/machines?health=attention", Text: w.T("all"), Kind: "small"}})
	}
	return told
}

// clockNeeds is the finding that the clock is ahead of the time that the vault trusts.
func (k *Console) clockNeeds(v visit) []view.Finding {
	u, err := k.vault(v)
	if err != nil || u.Clock == nil {
		return nil // that the vault does not answer is told in its figure
	}
	f := findingOf(v.words, *u.Clock)
	f.Name, f.Href = v.words.T("vault"), "/infrastructure"
	f.Mend = &view.Action{Href: "/infrastructure", Text: v.words.T("nav.infrastructure"), Kind: "small"}
	return []view.Finding{f}
}

func keysOf[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for key := range m {
			if !yield(key) {
				return
			}
		}
	}
}

func weight(t view.Tone) int {
	switch t {
	case view.Bad:
		return 0
	case view.Warn:
		return 1
	}
	return 2
}

// machineNeeds are the findings of one machine with the one action that mends each.
func machineNeeds(v visit, r records, m *store.Machine, late bool) []need {
	w := v.words
	var list []need
	breached := false
	for i := range m.Health.Findings {
		f := &m.Health.Findings[i]
		breached = breached || f.Code == "rpo.breached"
		list = append(list, need{toneOf(f.Level), func() view.Finding {
			n := findingOf(w, *f)
			n.Name, n.Href = m.Name, machineHref(*m)
			n.Mend = mend(v, r, *m, f.Code)
			return n
		}})
	}
	add := func(tone view.Tone, key string, since time.Time, verb lifecycle.Verb) {
		list = append(list, need{tone, func() view.Finding {
			f := view.Finding{Tone: tone, Name: m.Name, Href: machineHref(*m), Cause: w.T("need." + key), Effect: w.T("need." + key + "-effect"), Since: since}
			if a, ok := verbAction(v, r, *m, verb); ok {
				a.Kind = "small"
				f.Mend = &a
			} else {
				f.Mend = &view.Action{Href: machineHref(*m), Text: w.T("open"), Kind: "small"}
			}
			return f
		}})
	}
	if late && !breached {
		add(view.Warn, "late", time.Time{}, "")
	}
	if m.State == lifecycle.CommitPending {
		add(view.Warn, "commit", m.Since, lifecycle.Commit)
	}
	if m.State == lifecycle.ResyncRequired && len(m.Health.Findings) == 0 {
		add(view.Warn, "resync", m.Since, lifecycle.Resynchronize)
	}
	if m.Drill == lifecycle.DrillUnhealthy {
		add(view.Bad, "drill", time.Time{}, lifecycle.CleanupTest)
	}
	return list
}

// mend is the action that ends a finding: the verb that fits its code, or a look
// at the machine.
func mend(v visit, r records, m store.Machine, code string) *view.Action {
	verb := lifecycle.Verb("")
	switch code {
	case "resync.required", "tracking.lost", "replica.invalid":
		verb = lifecycle.Resynchronize
	case "both.active":
		verb = lifecycle.ReverseReplicate
	}
	if a, ok := verbAction(v, r, m, verb); ok {
		a.Kind = "small"
		return &a
	}
	return &view.Action{Href: machineHref(m), Text: v.words.T("open"), Kind: "small"}
}

// rpoChart shows the worst machine at each moment and the one in the middle.
func rpoChart(w *view.Words, sv survey) view.Chart {
	c := sv.curves
	plot := rpoPlot(w, "overview-rpo-chart", len(c.worst), sv.report.Time, sv.limit)
	values := []view.Values{{Name: w.T("chart.worst"), Class: "one", Samples: c.worst}}
	if len(c.histories) > 2 {
		values = append(values, view.Values{Name: w.T("chart.middle"), Class: "three", Samples: c.middle})
	}
	return view.Draw(w, plot, values...)
}

// rpoPlot is a logarithmic plot: seconds and hours must both be readable.
func rpoPlot(w *view.Words, id string, samples int, now time.Time, limit float64) view.Plot {
	span := view.SpanFor(samples)
	return view.Plot{ID: id, Title: w.T("chart.rpo", "Span", w.Duration(time.Duration(span)*SampleEvery)), Now: now, Every: SampleEvery, Span: span, Log: true,
		Ticks: []float64{1, 2, 5, 10, 30, 60, 300, 900, 3600, 4 * 3600, 86400, 7 * 86400, 30 * 86400},
		Limit: limit, LimitName: w.T("chart.threshold", "Limit", w.Duration(seconds(limit))),
		Format: func(s float64) string { return w.Duration(seconds(math.Round(s))) }, Empty: w.T("chart.rpo-empty")}
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func sentChart(w *view.Words, rep Report) view.Chart {
	span := view.SpanFor(len(rep.Throughput))
	return view.Draw(w, view.Plot{ID: "overview-sent-chart", Title: w.T("chart.sent", "Span", w.Duration(time.Duration(span)*SampleEvery)), Now: rep.Time, Every: SampleEvery,
		Span: span, Format: w.Rate, Area: true, Empty: w.T("chart.sent-empty")},
		view.Values{Name: w.T("chart.sent-line"), Class: "one", Samples: rep.Throughput})
}

// start leads from an empty appliance to the first protected machine.
func (k *Console) start(v visit, r records) view.Start {
	w := v.words
	steps := []view.StartStep{
		{Title: w.T("start.claim"), Text: w.T("start.claim-text", "User", v.user.Name), Done: true},
		{Title: w.T("start.site"), Text: w.T("start.site-text"), Done: len(r.sites) > 0},
		{Title: w.T("start.policy"), Text: w.T("start.policy-text"), Done: len(r.policies) > 0},
		{Title: w.T("start.protect"), Text: w.T("start.protect-text")},
		{Title: w.T("start.test"), Text: w.T("start.test-text")},
	}
	actions := map[int]view.Action{
		1: {Href: "/infrastructure/add", Text: w.T("site.add"), Icon: "add", Kind: "primary", Dialog: true},
		2: {Href: "/policies/new", Text: w.T("policy.add"), Icon: "add", Kind: "primary", Dialog: true},
		3: {Href: "/machines", Text: w.T("start.choose"), Icon: "shield", Kind: "primary"},
	}
	for i := range steps {
		if steps[i].Done {
			continue
		}
		steps[i].Next = true
		if a, ok := actions[i]; ok && v.may("POST /protect") {
			steps[i].Action = &a
		}
		break
	}
	return view.Start{Steps: steps}
}

func machineHref(m store.Machine) string { return fmt.Sprintf("/machines/%s", m.ID) }
