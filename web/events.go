package web

import (
	"cmp"
	"strings"

	"riparo/store"
	"riparo/web/api"
	"riparo/web/view"
)

func (k *Console) events(v visit) (built, error) {
	w := v.words
	severity, machine, before := v.query.Get("severity"), v.query.Get("machine"), v.query.Get("before")
	rows, err := k.eventRows(v, severity, machine, before, pageSize)
	if err != nil {
		return built{}, err
	}
	e := view.Events{Now: v.now, Rows: rows, Empty: view.Empty{Icon: "event", Title: w.T("events.none"), Text: w.T("events.none-text")}}
	for _, s := range []string{"", store.SeverityInfo, store.SeverityWarning, store.SeverityCritical} {
		name := s
		if name == "" {
			name = "all"
		}
		e.Filter = append(e.Filter, view.Choice{Href: address("/events", "severity", s, "machine", machine), Text: w.T("events.filter-" + name), Selected: s == severity})
	}
	if machine != "" {
		e.Machine, e.All = machine, address("/events", "severity", severity)
		err := k.Store.View(func(tx *store.Tx) error {
			if m, err := tx.Machines().Get(machine); err == nil { // else it is not protected any more
				e.Machine = m.Name
			}
			return nil
		})
		if err != nil {
			return built{}, err
		}
	}
	if len(rows) == pageSize {
		e.Older = address("/events", "severity", severity, "machine", machine, "before", rows[len(rows)-1].ID)
	}
	if before != "" {
		e.Newer = address("/events", "severity", severity, "machine", machine)
	}
	return built{title: w.T("events.title"), place: "events", body: view.EventsPage(e), live: true, on: []string{"event"},
		parts: []part{{"events-list", view.EventsList(e)}}}, nil
}

// eventRows reads a page of events.
func (k *Console) eventRows(v visit, severity, machine, before string, limit int) ([]view.EventRow, error) {
	var events []store.Event
	err := k.Store.View(func(tx *store.Tx) (err error) {
		events, err = api.EventPage(tx, severity, machine, before, limit)
		return err
	})
	var rows []view.EventRow
	for _, e := range events {
		rows = append(rows, eventRow(v.words, e, machine == ""))
	}
	return rows, err
}

// eventRow tells an event in the reader's language, by its code.
func eventRow(w *view.Words, e store.Event, named bool) view.EventRow {
	tone := toneOf(e.Severity)
	if tone == view.Info && strings.HasSuffix(e.Code, ".succeeded") {
		tone = view.OK
	}
	row := view.EventRow{ID: e.ID, Tone: tone, Time: e.Time, Text: eventText(w, e), Action: sentence(w.Said(e.Action))}
	if named && e.Machine != "" {
		row.Machine, row.MachineURL = cmp.Or(e.Name, e.Machine), "/machines/"+e.Machine
	}
	if e.Job != "" {
		row.JobURL = "/jobs/" + e.Job
	}
	return row
}

// eventText is an event in the reader's language: by its code and what it carries
// when the catalog has it, and otherwise as it was told. The machine's name stands
// beside it already.
func eventText(w *view.Words, e store.Event) string {
	if key := "event." + e.Code; w.Has(key) {
		blanks := []any{}
		for name, value := range e.Args {
			switch name {
			case "kind":
				value = jobKind(w, value)
			case "step":
				value = w.Named("step", value)
			case "cause", "effect", "question", "threshold":
				value = w.Said(value)
			}
			blanks = append(blanks, name, value)
		}
		if text := w.T(key, blanks...); !strings.Contains(text, noValue) {
			return sentence(text)
		}
	}
	return sentence(w.Said(strings.TrimPrefix(e.Text, e.Name+": ")))
}

// noValue is what a template prints for a blank that it was not given.
const noValue = "<no value>"
