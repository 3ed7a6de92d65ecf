package web

import (
	"riparo/store"
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
