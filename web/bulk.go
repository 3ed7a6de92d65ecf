package web

import (
	"net/http"
	"slices"
	"strconv"

	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/store"
	"riparo/web/view"
)

// bulkVerbs can be asked for on several machines at once: none of them moves production.
var bulkVerbs = []lifecycle.Verb{lifecycle.TestFailover, lifecycle.CleanupTest, lifecycle.Pause, lifecycle.Resume, lifecycle.Resynchronize}

// maxBulk is a page of machines.
const maxBulk = machinesPage

// bulkActions are the buttons above the list of machines.
func bulkActions(v visit) []view.Choice {
	if !v.may("POST /machines/bulk") {
		return nil
	}
	var list []view.Choice
	for _, verb := range bulkVerbs {
		list = append(list, view.Choice{Value: string(verb), Text: verbName(v.words, verb), Note: faces[verb].icon})
	}
	return list
}

// bulk asks back with what would be done to which machine, and does it when that was
// confirmed: each machine is asked by itself, and what it says is told.
func (k *Console) bulk(w http.ResponseWriter, r *http.Request) {
	v := k.visitOf(r)
	verb, chosen, sure := lifecycle.Verb(r.PostFormValue("verb")), r.PostForm["machine"], r.PostFormValue("sure") == "yes"
	rec, err := k.records()
	switch {
	case err != nil:
	case !slices.Contains(bulkVerbs, verb):
		err = &replication.Problem{Code: "verb.unknown", Cause: "this cannot be done to several machines at once", Action: "open the machine and choose it there", Remedy: replication.Stop}
	case len(chosen) == 0:
		err = &replication.Problem{Code: "machine.none", Cause: "no machine was selected", Effect: "nothing was done", Action: "mark the machines in the list first", Remedy: replication.Stop}
	case len(chosen) > maxBulk:
		err = &replication.Problem{Code: "machine.many", Cause: "more machines were selected than a page has", Effect: "nothing was done", Action: "do it page by page", Remedy: replication.Stop}
	}
	if err != nil {
		k.fail(w, r, err)
		return
	}
	t := v.words
	b := view.Bulk{Verb: string(verb), Name: verbName(t, verb), Icon: faces[verb].icon, Lead: t.T("bulk.lead"), Done: sure}
	for _, m := range rec.machines {
		if !slices.Contains(chosen, string(m.ID)) {
			continue
		}
		row := view.BulkRow{ID: string(m.ID), Name: m.Name, Href: machineHref(m)}
		if sure {
			k.bulkOne(v, r, m, verb, &row)
		} else if why := lifecycle.Why(rec.situation(m, m.LastPoint != nil), verb); why != "" {
			row.State, row.Text = view.Badge{Tone: view.Mute, Icon: "none", Text: t.T("bulk.not-now")}, sentence(t.Said(why))
		} else {
			row.State, row.Can = view.Badge{Tone: view.OK, Text: t.T("bulk.can")}, true
		}
		if row.Can {
			b.Count++
		}
		b.Rows = append(b.Rows, row)
	}
	b.Submit = t.N("bulk.go", b.Count)
	if sure {
		b.Lead = t.T("bulk.done", "Count", strconv.Itoa(b.Count), "All", strconv.Itoa(len(b.Rows)))
	}
	k.print(w, v, built{title: b.Name, place: "machines", body: view.BulkPage(b)})
}

// bulkOne asks for a verb on one of several machines.
func (k *Console) bulkOne(v visit, r *http.Request, m store.Machine, verb lifecycle.Verb, row *view.BulkRow) {
	t := v.words
	job, err := k.Appliance.Ask(r.Context(), Request{Actor: v.user.Name, Person: v.user.Name, Verb: verb, Machine: m.ID})
	switch {
	case err != nil:
		p := replication.AsProblem(err)
		if p.Code == "internal" {
			k.Logger.Error("a verb on several machines went wrong for one", "machine", m.ID, "verb", verb, "error", err)
		}
		row.State, row.Text = view.Badge{Tone: view.Bad, Text: t.T("bulk.refused")}, sentence(t.Said(p.Cause))
		if p.Action != "" {
			row.Text += " " + sentence(t.Said(p.Action))
		}
	case job == "":
		row.State, row.Can = view.Badge{Tone: view.OK, Text: t.T("done")}, true
	default:
		row.State, row.Can, row.Job = view.Badge{Tone: view.OK, Text: t.T("bulk.started")}, true, "/jobs/"+job
	}
}
