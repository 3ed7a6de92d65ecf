package api

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/sse"

	"riparo/replication"
	"riparo/store"
)

// Change names what changed: "machine/ID", "job/ID", "site/NAME", …
type Change struct {
	Names []string `json:"names" nullable:"false"`
}

// Beat is sent when nothing else was, so that both ends know of each other.
type Beat struct {
	Time time.Time `json:"time"`
}

type eventsInput struct {
	Severity string `query:"severity" enum:"info,warning,critical"`
	Machine  string `query:"machine" doc:"Only events of this machine."`
	Limit    int    `query:"limit" default:"100" minimum:"1" maximum:"1000"`
	Before   string `query:"before" doc:"Only events older than the one of this ID."`
}

type streamInput struct {
	After string `query:"after" doc:"First send what was recorded after the event of this ID, at most 1000."`
}

// beatEvery keeps connections open through proxies that end silent ones.
const beatEvery = 15 * time.Second

func (a *API) events() {
	add(a, operation{id: "list-events", method: "GET", path: "/api/v1/event-log", tag: "Events", summary: "The event log, newest first"}, a.listEvents)
	sse.Register(a.huma, huma.Operation{OperationID: "stream-events", Method: http.MethodGet, Path: "/api/v1/events", Tags: []string{"Events"},
		Summary: "Events and changes as they happen, as server-sent events"},
		map[string]any{"event": store.Event{}, "change": Change{}, "beat": Beat{}}, a.stream)
}

func (a *API) listEvents(ctx context.Context, in *eventsInput) (*body[[]store.Event], error) {
	var events []store.Event
	err := a.Store.View(func(tx *store.Tx) (err error) {
		events, err = EventPage(tx, in.Severity, in.Machine, in.Before, in.Limit)
		return err
	})
	return answer(events, err)
}

// EventPage is a page of events, newest first: of a severity, of a machine, of
// both, or all.
func EventPage(tx *store.Tx, severity, machine, before string, limit int) ([]store.Event, error) {
	all := tx.Events().Range
	switch {
	case machine != "":
		all = tx.EventsOf(replication.MachineID(machine))
	case severity != "":
		all = tx.EventsBy(severity)
	}
	events := []store.Event{}
	for {
		page, err := all.Page(before, limit, true)
		if err != nil {
			return nil, err
		}
		for _, e := range page {
			if severity == "" || e.Severity == severity {
				if events = append(events, e); len(events) == limit {
					return events, nil
				}
			}
		}
		if len(page) < limit {
			return events, nil
		}
		before = page[len(page)-1].ID
	}
}

// stream sends until the client goes, the API ends, a write takes too long, or the client
// may not read it any more.
func (a *API) stream(ctx context.Context, in *streamInput, send sse.Sender) {
	nudge, changed, cancel := a.Appliance.Subscribe()
	defer cancel()
	last, err := a.newest(in.After)
	if err != nil {
		return
	}
	beat := time.NewTicker(beatEvery)
	defer beat.Stop()
	if send.Data(Beat{Time: a.Now()}) != nil {
		return
	}
	for {
		if last, err = a.sendEvents(last, send); err != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-a.Done:
			return
		case <-beat.C:
			if !callerOf(ctx).holds() || send.Data(Beat{Time: a.Now()}) != nil {
				return
			}
		case <-nudge:
			names := slices.DeleteFunc(changed(), func(name string) bool { return name == "event" || name == "" })
			if len(names) > 0 && send.Data(Change{Names: names}) != nil {
				return
			}
		}
	}
}

// newest is the ID after which a stream begins: the one asked for, or else the
// newest there is.
func (a *API) newest(after string) (string, error) {
	if after != "" {
		return after, nil
	}
	err := a.Store.View(func(tx *store.Tx) error {
		page, err := tx.Events().Page("", 1, true)
		if len(page) > 0 {
			after = page[0].ID
		}
		return err
	})
	return after, err
}

// sendEvents sends what was recorded after last and gives the new last.
func (a *API) sendEvents(last string, send sse.Sender) (string, error) {
	var events []store.Event
	err := a.Store.View(func(tx *store.Tx) (err error) {
		events, err = tx.Events().Page(last, store.MaxPage, false)
		return err
	})
	if err != nil {
		return last, err
	}
	for _, e := range events {
		if err := send.Data(e); err != nil {
			return last, err
		}
		last = e.ID
	}
	return last, nil
}
