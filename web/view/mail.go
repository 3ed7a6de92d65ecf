package view

import (
	"fmt"
	"strings"
	"time"
)

// Mail is a message to a person.
type Mail struct {
	Words          *Words
	Appliance, URL string
	ID             string
	Created        time.Time
	Test           bool
	Items          []AlertItem
	More           int
}

// Subject says the most important thing, and how much more there is.
func (m Mail) Subject() string {
	from := "Riparo"
	if m.Appliance != "" {
		from += " " + m.Appliance
	}
	switch {
	case m.Test:
		return from + ": " + m.Words.T("mail.test-subject")
	case len(m.Items) == 0:
		return from
	}
	first := m.Items[0].Title
	if m.Items[0].What == "ended" {
		first = m.Words.T("mail.ended") + ": " + first
	}
	if more := len(m.Items) - 1 + m.More; more > 0 {
		first += " " + m.Words.N("mail.and-more", more)
	}
	return from + ": " + first
}

// Text is the message without HTML.
func (m Mail) Text() string {
	w := m.Words
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	if m.Test {
		line("%s", w.T("mail.test"))
		line("")
	}
	for _, item := range m.Items {
		line("%s: %s", strings.ToUpper(m.what(item)), item.Title)
		for _, said := range []string{item.Cause, item.Effect} {
			if said != "" {
				line("  %s", said)
			}
		}
		if item.Action != "" {
			line("  → %s", item.Action)
		}
		line("  %s", m.when(item))
		line("")
	}
	if m.More > 0 {
		line("%s", w.N("mail.more", m.More))
		line("")
	}
	line("%s", w.T("mail.from", "Appliance", m.named(), "URL", m.URL))
	line("%s", w.T("mail.why"))
	return b.String()
}

// named is what the appliance is called.
func (m Mail) named() string {
	if m.Appliance == "" {
		return "Riparo"
	}
	return m.Appliance
}

// what is the state of an item in a word.
func (m Mail) what(item AlertItem) string {
	switch item.What {
	case "ended":
		return m.Words.T("mail.ended")
	case "reminded":
		return m.Words.T("mail.reminded")
	}
	return m.Words.T("severity." + item.Severity)
}

func (m Mail) when(item AlertItem) string {
	if item.Ended.IsZero() {
		return m.Words.T("mail.since", "Time", m.Words.Time(item.Since))
	}
	return m.Words.T("mail.until", "Since", m.Words.Time(item.Since), "Ended", m.Words.Time(item.Ended), "Took", m.Words.Duration(item.Ended.Sub(item.Since).Truncate(time.Second)))
}

// edge is the color at the side of an item. Mail programs know no style sheets of
// ours, so these few colors are written here; each is readable on white and on black.
func (item AlertItem) edge() string {
	switch item.Tone {
	case OK:
		return "border-left:4px solid #2e8b57;padding:4px 0 4px 14px;margin:0 0 22px"
	case Bad:
		return "border-left:4px solid #c9342d;padding:4px 0 4px 14px;margin:0 0 22px"
	case Warn:
		return "border-left:4px solid #b9770e;padding:4px 0 4px 14px;margin:0 0 22px"
	}
	return "border-left:4px solid #2f78a8;padding:4px 0 4px 14px;margin:0 0 22px"
}
