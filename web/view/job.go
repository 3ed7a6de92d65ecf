package view

import "time"

// JobRow is a job in a list.
type JobRow struct {
	ID, Href            string
	Kind                string
	Detail              string // the step under way, or the error
	State               Badge
	Machine, MachineURL string
	Progress            *Progress
	Created             time.Time
	Took                string
	Running             bool
	Actor               string
}

// Jobs is the page of all jobs.
type Jobs struct {
	Now    time.Time
	Filter []Choice
	Rows   []JobRow
	Older  string // address of the next page
	Newer  string
	CSV    string
	Empty  Empty

	State   string          // that is filtered for
	Hidden  map[string]bool // columns
	Columns []Choice
}

// Job is the page of one.
type Job struct {
	Now                 time.Time
	ID                  string
	Title               string
	State               Badge
	Machine, MachineURL string
	Facts               []Fact
	Steps               []Step
	Problem             *Finding
	Question            string
	Actions             []Action
	Canceling           bool
}

// Step is a step of a job.
type Step struct {
	ID       string
	Name     string
	State    Badge
	Took     string
	Started  time.Time // set while it runs
	Progress *Progress
	Evidence []Fact
	Open     bool
}
