package view

import "time"

// Timeline shows the recovery points of a stretch of time, each kind in its own
// shape.
type Timeline struct {
	Title, Description string
	Windows            []Choice // the last hour, the last day, all
	Points             []TimelinePoint
	X                  []Mark
	Counts             []Fact // how many of each kind
	Empty              *Empty
}

// TimelinePoint is where points of one kind are; several that would overlap are
// drawn as one.
type TimelinePoint struct {
	At    string // percent
	Kind  string // crash, app, clean
	Title string
	Worth string // what is known about it: damaged, suspect, last-clean or nothing
	Count int
}

// Picker chooses a recovery point. Without a script it is a list; with one, a
// slider beside it.
type Picker struct {
	Windows  []Choice
	Choices  []PointChoice
	Timeline Timeline
	Shown    string // "120 of 870 points shown" when the list was thinned
	Now      time.Time
}

// PointChoice is a recovery point to choose.
type PointChoice struct {
	Value    string // the point's ID, or "" and "app" for the newest ones
	Text     string
	Kind     string
	Loss     string // what would be lost, in words
	Selected bool
	At       string // on the slider, percent
}
