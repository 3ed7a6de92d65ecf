package view

import "time"

// Logs is the page of the log, or of one line and what is around it.
type Logs struct {
	Now      time.Time
	Form     LogForm
	Sub      LogUsage
	Rows     []LogRow // oldest first
	Wrap     bool     // long lines are broken
	Live     bool     // it follows
	PageSize string   // how many lines a page has
	Older    string   // addresses
	Newer    string
	Newest   string
	Reached  string // up to when the search came, when it ended early
	Unread   []string
	Download string
	Bundle   string // empty: not for this reader
	Empty    Empty

	Back   string // from the context of a line
	Detail *LogDetail
}

// LogForm is the filter.
type LogForm struct {
	Levels               []Choice // each toggles one
	Level                string   // those chosen, for the form
	Components, Machines []Choice
	Text, At             string
	Job, AllJobs         string // the job that is followed, and the way out
	Wrap                 Choice
}

// LogUsage says what the log takes.
type LogUsage struct {
	Text   string
	Levels []Choice // from which it is written; empty: not for this reader
}

// LogRow is a line of the log.
type LogRow struct {
	ID        string
	Href      string // the line and what is around it
	Time      time.Time
	Clock     string // the time of day, to the millisecond
	Day       string // set where another day begins
	Tone      Tone
	Level     string // as it is written
	Component string
	Text      string
	Attrs     []LogAttr
	Selected  bool
}

// LogAttr is an attribute of a line.
type LogAttr struct{ Key, Value, Href, Title string }

// Pair is the attribute as it is written in short.
func (a LogAttr) Pair() string {
	if a.Value == "" {
		return a.Key
	}
	return a.Key + "=" + a.Value
}

// LogDetail is all of a line.
type LogDetail struct {
	Text, Raw string
	Tone      Tone
	Damaged   string // why it is shown as it is
	Facts     []LogAttr
	Actions   []Action
}

// Milli is the time of day to the millisecond.
func (w *Words) Milli(t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	return t.In(w.zone).Format("15:04:05.000")
}

// Date is a day with its year: 23 Nov 2026.
func (w *Words) Date(t time.Time) string {
	t = t.In(w.zone)
	return w.day(t) + " " + t.Format("2006")
}

// Zone is the reader's time zone.
func (w *Words) Zone() *time.Location { return w.zone }
