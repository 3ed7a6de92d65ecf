package view

import (
	"context"
	"strconv"
	"strings"
	"time"
)

// AlertItem is an alert in the words of its reader.
type AlertItem struct {
	What     string // raised, reminded, ended
	Tone     Tone
	Severity string
	Title    string // the sentence that says it
	Cause    string
	Effect   string
	Action   string
	Name     string
	Href     string
	Since    time.Time
	Ended    time.Time
}

// NewAlertItem puts an alert into words. The title comes from the kind; names of args
// say what their values are: NAME_seconds, NAME_bytes, NAME_time.
func NewAlertItem(w *Words, what, kind, severity, name string, args map[string]string, cause, effect, action string, since, ended time.Time) AlertItem {
	blanks := []any{"name", name}
	for key, value := range args {
		blank, unit, _ := cutLast(key)
		blanks = append(blanks, blank, w.measure(unit, value))
	}
	item := AlertItem{What: what, Severity: severity, Tone: SeverityTone(severity), Name: name, Since: since, Ended: ended,
		Title: w.T("alert."+slug(strings.ReplaceAll(kind, ".", "-")), blanks...), Cause: w.Said(cause), Effect: w.Said(effect), Action: w.Said(action)}
	if what == "ended" {
		item.Tone = OK
	}
	return item
}

func cutLast(key string) (name, unit string, found bool) {
	i := strings.LastIndexByte(key, '_')
	if i < 0 {
		return key, "", false
	}
	return key[:i], key[i+1:], true
}

// measure writes a value of an alert as people read it.
func (w *Words) measure(unit, value string) string {
	switch unit {
	case "seconds":
		if n, err := strconv.ParseInt(value, 10, 64); err == nil {
			return w.Duration(time.Duration(n) * time.Second)
		}
	case "bytes":
		if n, err := strconv.ParseInt(value, 10, 64); err == nil {
			return w.Bytes(n)
		}
	case "time":
		t, err := time.Parse(time.RFC3339, value)
		if err != nil {
			return w.T("never")
		}
		return w.Time(t)
	case "":
		return w.Named("verb", value)
	}
	return value
}

// SeverityTone is the tone of a severity of an event or alert.
func SeverityTone(severity string) Tone {
	switch severity {
	case "critical":
		return Bad
	case "warning":
		return Warn
	}
	return Info
}

// open is the way to what an alert tells of.
func (i AlertItem) open(ctx context.Context) *Action {
	if i.Href == "" {
		return nil
	}
	return &Action{Href: i.Href, Text: t(ctx, "open"), Kind: "small"}
}
