package view

import "time"

// Overview is the first page: how things stand and what to do about it.
type Overview struct {
	Now      time.Time
	Headline string
	Sub      string
	Tone     Tone
	Actions  []Action
	Figures  []Figure
	RPO      Chart
	Sent     Chart
	Needs    []Finding
	Calm     string // instead of Needs
	Running  []JobRow
	Events   []EventRow
	Start    *Start // what to do first, while nothing is protected
}

// Figure is one of the large ones.
type Figure struct {
	Label       string
	Value, Unit string
	Note        string
	Tone        Tone
	Since       time.Time // the value is an age that ticks
	Spark       string
	Href        string
}

// Start leads from an empty appliance to the first protected machine.
type Start struct{ Steps []StartStep }

// StartStep is one of its steps.
type StartStep struct {
	Title, Text string
	Done, Next  bool
	Action      *Action
}
