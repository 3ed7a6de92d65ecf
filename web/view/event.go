package view

import "time"

// EventRow is an event in a list.
type EventRow struct {
	ID                  string
	Tone                Tone
	Text, Action        string
	Time                time.Time
	Machine, MachineURL string
	JobURL              string
}

// Events is the page of events.
type Events struct {
	Now          time.Time
	Filter       []Choice
	Rows         []EventRow
	Older, Newer string
	Empty        Empty
	Machine      string // the filter, to be seen and taken away
	All          string
}
