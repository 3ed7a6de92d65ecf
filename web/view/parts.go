package view

import (
	"cmp"
	"strconv"
	"time"
)

// Tone is what a thing says by color; the word and the icon beside it say the
// same.
type Tone string

const (
	Plain Tone = ""
	OK    Tone = "ok"
	Warn  Tone = "warn"
	Bad   Tone = "bad"
	Info  Tone = "info"
	Mute  Tone = "mute"
)

// Badge is a state in a word.
type Badge struct {
	Tone Tone
	Icon string // empty: the tone's own
	Text string
}

func (b Badge) icon() string {
	if b.Icon != "" {
		return b.Icon
	}
	switch b.Tone {
	case OK, Warn, Bad, Info:
		return string(b.Tone)
	}
	return "none"
}

// Action is something that can be asked for: a link to the page that asks back.
type Action struct {
	Href string
	Text string
	Icon string
	Kind string // "", "primary", "danger", "quiet"
	// Why is the reason why it cannot be asked for now.
	Why string
	// Dialog: with a script, the page opens over this one.
	Dialog bool
	// Post: one press does it; the action is a form of its own.
	Post bool
}

func (a Action) class() string {
	switch a.Kind {
	case "":
		return "btn"
	}
	return "btn " + a.Kind
}

// Fact is a labeled figure.
type Fact struct {
	Label string
	Value string
	Note  string
	Tone  Tone
	// Since, if set, makes the value an age that ticks.
	Since time.Time
	Href  string
	// Across takes the whole width.
	Across bool
	// Bytes says that the value is bytes with colons between them, such as a
	// fingerprint, which wraps between two of them.
	Bytes bool
}

// Finding is something that is not good: cause, effect and what to do.
type Finding struct {
	Tone                  Tone
	Cause, Effect, Action string
	Since                 time.Time
	Name, Href            string // of the machine, where the page is not about it
	Mend                  *Action
}

// key tells a finding apart by where it leads. One that leads nowhere is told apart by
// what it says.
func (f Finding) key() string {
	if f.Mend != nil {
		return f.Href + " " + f.Mend.Href
	}
	return cmp.Or(f.Href, f.Cause)
}

// Progress of something under way.
type Progress struct {
	Percent int  // 0 to 100
	Known   bool // false: it moves, but nobody knows how far
	Text    string
}

func (p Progress) value() string { return strconv.Itoa(p.Percent) }

// NewProgress is done of total bytes.
func NewProgress(w *Words, done, total int64) Progress {
	if total <= 0 {
		return Progress{}
	}
	percent := int(float64(min(done, total)) * 100 / float64(total))
	return Progress{Percent: percent, Known: true, Text: w.Bytes(done) + " / " + w.Bytes(total)}
}

// Empty tells what would stand here and how to get it.
type Empty struct {
	Icon, Title, Text string
	Action            *Action
}

// Choice is an option of a select or a segmented control.
type Choice struct {
	Value, Text, Note string
	Href              string
	Selected          bool
	Disabled          bool
}

// Message is what a page says about what was just asked for.
type Message struct {
	Tone                  Tone
	Cause, Effect, Action string
}

// messageRole makes a screen reader say a problem at once.
func messageRole(m *Message) string {
	if m.Tone == Bad || m.Tone == Warn {
		return "alert"
	}
	return "status"
}
