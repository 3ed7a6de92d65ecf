package web

import (
	"net/http"
	"slices"

	"riparo/hypervisor"
	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/store"
	"riparo/web/view"
)

// face is how a verb looks.
type face struct {
	icon    string
	kind    string // of its button on the page that asks back
	confirm bool   // the machine's name has to be typed
	first   bool   // stands at the top of the machine's page
}

var faces = map[lifecycle.Verb]face{
	lifecycle.TestFailover:      {icon: "test", kind: "primary", first: true},
	lifecycle.CleanupTest:       {icon: "clean", kind: "primary", first: true},
	lifecycle.PlannedFailover:   {icon: "failover", kind: "primary", confirm: true, first: true},
	lifecycle.UnplannedFailover: {icon: "bolt", kind: "danger", confirm: true, first: true},
	lifecycle.ChangePoint:       {icon: "point", kind: "primary", first: true},
	lifecycle.Commit:            {icon: "commit", kind: "primary", first: true},
	lifecycle.CompleteMigration: {icon: "commit", kind: "primary", confirm: true, first: true},
	lifecycle.ReverseReplicate:  {icon: "reverse", kind: "primary", first: true},
	lifecycle.Failback:          {icon: "back", kind: "primary", confirm: true, first: true},
	lifecycle.Resynchronize:     {icon: "refresh", kind: "primary"},
	lifecycle.Pause:             {icon: "pause", kind: "primary"},
	lifecycle.Resume:            {icon: "play", kind: "primary"},
	lifecycle.DisableProtection: {icon: "unlink", kind: "danger", confirm: true},
}

func verbHref(m store.Machine, verb lifecycle.Verb) string {
	return machineHref(m) + "/" + string(verb)
}

func verbName(w *view.Words, verb lifecycle.Verb) string { return w.Named("verb", string(verb)) }

// allowed gives the action of a verb when the lifecycle and the visitor's role
// allow it.
func allowed(v visit, r records, m store.Machine, verb lifecycle.Verb, hasPoints bool) (view.Action, bool) {
	if verb == "" || !v.may("POST /machines/{id}/"+string(verb)) || lifecycle.Why(r.situation(m, hasPoints), verb) != "" {
		return view.Action{}, false
	}
	return view.Action{Href: verbHref(m, verb), Text: verbName(v.words, verb), Icon: faces[verb].icon, Dialog: true}, true
}

// verbAction is allowed for pages that have not read the points.
func verbAction(v visit, r records, m store.Machine, verb lifecycle.Verb) (view.Action, bool) {
	return allowed(v, r, m, verb, m.LastPoint != nil)
}

// verbActions sorts the verbs: those to offer first, the other ones that can be
// asked for, and those that cannot, with why.
func verbActions(v visit, r records, m store.Machine, hasPoints bool) (first, more, denied []view.Action) {
	rules, err := lifecycle.RulesFor(m.Scenario)
	for _, verb := range lifecycle.Verbs() {
		f, known := faces[verb]
		if !known || err == nil && verb == lifecycle.CompleteMigration && !rules.Migration {
			continue // a verb of other scenarios is not worth a line
		}
		a := view.Action{Href: verbHref(m, verb), Text: verbName(v.words, verb), Icon: f.icon, Dialog: true}
		switch why := lifecycle.Why(r.situation(m, hasPoints), verb); {
		case why != "":
			a.Why = v.words.Said(why)
			denied = append(denied, a)
		case !v.may("POST /machines/{id}/" + string(verb)):
			a.Why = v.words.T("verb.role", "Role", v.words.Named("role", string(v.user.Role)))
			denied = append(denied, a)
		case f.first:
			if verb == lifecycle.TestFailover {
				a.Kind = "primary"
			}
			first = append(first, a)
		default:
			a.Kind = "small"
			more = append(more, a)
		}
	}
	return first, more, denied
}

// asking is the page that asks back before a verb.
func asking(verb lifecycle.Verb) func(*Console, visit) (built, error) {
	return func(k *Console, v visit) (built, error) { return k.askPage(v, verb, nil) }
}

func (k *Console) askPage(v visit, verb lifecycle.Verb, problem error) (built, error) {
	r, err := k.records()
	if err != nil {
		return built{}, err
	}
	i := slices.IndexFunc(r.machines, func(m store.Machine) bool { return string(m.ID) == v.id })
	if i < 0 {
		return built{}, store.ErrNotFound
	}
	m := r.machines[i]
	points, err := k.Appliance.Points(v.ctx, m.ID)
	if err != nil {
		return built{}, err
	}
	if why := lifecycle.Why(r.situation(m, len(points) > 0), verb); why != "" && problem == nil {
		return built{}, &replication.Problem{Code: "verb.denied", Cause: why, Action: "go back to the machine and see what can be done now", Remedy: replication.Stop}
	}
	w := v.words
	f := faces[verb]
	name := verbName(w, verb)
	a := view.Ask{Title: name, Name: m.Name, Lead: w.T("ask." + string(verb)), Action: verbHref(m, verb), Back: machineHref(m),
		Submit: w.T("ask." + string(verb) + "-go"), Icon: f.icon, Kind: f.kind, Effects: k.effects(v, r, m, verb)}
	if f.confirm {
		a.Confirm = m.Name
	}
	switch verb {
	case lifecycle.TestFailover, lifecycle.UnplannedFailover, lifecycle.ChangePoint:
		p := pickerOf(v, points, m, verb)
		a.Picker = &p
	}
	switch verb {
	case lifecycle.TestFailover:
		a.Networks = k.networks(v, testSite(m), w.T("network.isolated-long"))
		a.NetworkTip = w.T("network.isolated-tip")
	case lifecycle.UnplannedFailover:
		if rules, err := lifecycle.RulesFor(m.Scenario); err == nil && rules.SyncFirst {
			a.SyncFirst = &view.Check{Label: w.T("ask.sync-first"), Tip: w.T("ask.sync-first-tip")}
		}
		if lifecycle.Why(r.situation(m, len(points) > 0), lifecycle.PlannedFailover) == "" {
			a.Other = &view.Action{Href: verbHref(m, lifecycle.PlannedFailover), Text: w.T("ask.planned-instead")}
		}
	case lifecycle.CleanupTest:
		a.Notes = w.T("ask.notes")
	case lifecycle.DisableProtection:
		a.KeepPoints = &view.Check{Label: w.T("ask.keep-points"), Tip: w.T("ask.keep-points-tip")}
	}
	status := 0
	if problem != nil {
		msg := messageOf(w, replication.AsProblem(problem))
		a.Message = &msg
		status = http.StatusConflict
	}
	return built{title: name + " · " + m.Name, place: "machines", body: view.AskPage(a), status: status}, nil
}

// testSite is where a test machine would run: where a failover would take it.
func testSite(m store.Machine) string {
	if m.Direction == lifecycle.Reverse {
		return m.Source.Site
	}
	return m.Target.Site
}

// effects tell what a verb does at each place, before it is done.
func (k *Console) effects(v visit, r records, m store.Machine, verb lifecycle.Verb) []view.Effect {
	w := v.words
	source, target := m.Source.Site, m.Target.Site
	place := func(key, name string) string { return w.T("place."+key) + " " + name }
	var list []view.Effect
	add := func(key, site, icon string, tone view.Tone) {
		text := w.T("effect."+string(verb)+"-"+key, "Source", source, "Target", target, "Machine", m.Name)
		list = append(list, view.Effect{Place: place(key, site), Text: text, Icon: icon, Tone: tone})
	}
	switch verb {
	case lifecycle.TestFailover, lifecycle.CleanupTest:
		add("source", source, "machine", view.Plain)
		add("target", testSite(m), "test", view.Plain)
	case lifecycle.PlannedFailover:
		add("source", source, "machine", view.Warn)
		add("target", target, "failover", view.Plain)
		add("loss", "", "shield", view.Plain)
	case lifecycle.UnplannedFailover:
		add("source", source, "machine", view.Warn)
		add("target", target, "failover", view.Plain)
	case lifecycle.ChangePoint:
		add("target", target, "point", view.Warn)
	case lifecycle.Commit:
		add("target", target, "commit", view.Plain)
		add("points", "", "point", view.Warn)
	case lifecycle.ReverseReplicate:
		add("source", source, "machine", view.Warn)
		add("target", target, "machine", view.Plain)
	case lifecycle.Failback:
		add("target", target, "machine", view.Warn)
		add("source", source, "back", view.Plain)
		add("loss", "", "shield", view.Plain)
	case lifecycle.DisableProtection:
		add("source", source, "machine", view.Plain)
		add("points", "", "point", view.Bad)
	case lifecycle.Resynchronize:
		add("source", source, "machine", view.Plain)
		add("points", "", "point", view.Plain)
	case lifecycle.Pause:
		add("points", "", "point", view.Warn)
	}
	return list
}

// networks are those of a site to choose from, after one that stands for none.
func (k *Console) networks(v visit, site, none string) []view.Choice {
	choices := []view.Choice{{Value: "", Text: none, Selected: true}}
	sites, err := k.Appliance.Discovered(v.ctx, false)
	if err != nil {
		return choices
	}
	for _, s := range sites {
		if s.Site.Name == site {
			choices = append(choices, networkChoices(v.words, "", s.Networks)...)
		}
	}
	return choices
}

func networkChoices(w *view.Words, prefix string, networks []hypervisor.Network) []view.Choice {
	var choices []view.Choice
	for _, n := range networks {
		text := prefix + n.Name
		if n.Isolated {
			text += " · " + w.T("network.isolated")
		}
		choices = append(choices, view.Choice{Value: n.Name, Text: text})
	}
	return choices
}

// ask does what a page asked back for.
func (k *Console) ask(verb lifecycle.Verb) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v := k.visitOf(r)
		id := replication.MachineID(v.id)
		job, err := k.Appliance.Ask(r.Context(), Request{Actor: v.user.Name, Person: v.user.Name, Verb: verb, Machine: id,
			Point: replication.PointID(r.PostFormValue("point")), Network: r.PostFormValue("network"),
			SyncFirst: r.PostFormValue("sync_first") == "true", Confirm: r.PostFormValue("confirm"),
			Notes: r.PostFormValue("notes"), KeepPoints: r.PostFormValue("keep_points") == "true"})
		if err != nil {
			b, failed := k.askPage(v, verb, err)
			if failed != nil {
				k.fail(w, r, failed)
				return
			}
			k.print(w, v, b)
			return
		}
		if job == "" {
			k.back(w, r, "/machines/"+v.id)
			return
		}
		k.back(w, r, "/jobs/"+job)
	}
}
