package web

import (
	"cmp"
	"log/slog"
	"strings"
	"time"

	"riparo/store/logs"
	"riparo/web/view"
)

// logLines makes lines ready to be printed.
func (k *Console) logLines(v visit, f logFilter, lines []logs.Line) ([]view.LogRow, error) {
	r, err := k.records()
	if err != nil {
		return nil, err
	}
	names := map[string]string{}
	for _, m := range r.machines {
		names[string(m.ID)] = m.Name
	}
	var rows []view.LogRow
	day := v.words.Date(v.now)
	for _, l := range lines {
		l.Name = cmp.Or(l.Name, names[l.Machine])
		row := logLine(v.words, f, l)
		if d := v.words.Date(l.Time); d != day && !l.Time.IsZero() {
			row.Day, day = d, d
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// shownAttrs is how many attributes stand in a row; the rest is in the view of the
// line itself.
const shownAttrs = 8

func logLine(w *view.Words, f logFilter, l logs.Line) view.LogRow {
	place := l.Position.String()
	row := view.LogRow{ID: "log-" + place, Href: f.address(logsPath, "around", place) + "#log-" + place, Time: l.Time, Clock: w.Milli(l.Time), Tone: logTone(l),
		Level: levelName(l), Component: l.Component, Text: clipped(l.Message)}
	if l.Damaged {
		return row
	}
	if l.Machine != "" || l.Name != "" {
		row.Attrs = append(row.Attrs, view.LogAttr{Key: logs.KeyMachine, Value: cmp.Or(l.Name, l.Machine), Title: l.Machine, Href: machineLog(l.Machine)})
	}
	if l.Job != "" {
		row.Attrs = append(row.Attrs, view.LogAttr{Key: logs.KeyJob, Value: shortJob(l.Job), Title: l.Job, Href: "/jobs/" + pathSegment(l.Job)})
	}
	for i, a := range l.Attrs {
		if i == shownAttrs {
			row.Attrs = append(row.Attrs, view.LogAttr{Key: "…"})
			break
		}
		row.Attrs = append(row.Attrs, view.LogAttr{Key: a.Key, Value: clipped(a.Value)})
	}
	return row
}

// shortJob is the end of a job's ID: the beginning is the time, which stands in the
// row already.
func shortJob(id string) string { return id[strings.LastIndexByte(id, '-')+1:] }

func machineLog(id string) string {
	if id == "" {
		return ""
	}
	return "/machines/" + pathSegment(id)
}

// longestShown is the most of a text that stands in a row.
const longestShown = 600

func clipped(text string) string {
	if len(text) <= longestShown {
		return text
	}
	runes := []rune(text)
	return string(runes[:min(len(runes), longestShown)]) + "…"
}

func logTone(l logs.Line) view.Tone {
	switch {
	case l.Damaged, l.Level >= slog.LevelWarn && l.Level < slog.LevelError:
		return view.Warn
	case l.Level >= slog.LevelError:
		return view.Bad
	}
	return view.Mute
}

// levelName is a level as it is written in the log; a damaged line has a question
// mark.
func levelName(l logs.Line) string {
	if l.Damaged {
		return "?"
	}
	return strings.ToLower(logs.LevelName(l.Level))
}

// logDetail is all of a line.
func logDetail(w *view.Words, l logs.Line) view.LogDetail {
	d := view.LogDetail{Text: l.Message, Raw: l.Raw, Tone: logTone(l)}
	add := func(key, value string) {
		if value != "" {
			d.Facts = append(d.Facts, view.LogAttr{Key: key, Value: value})
		}
	}
	if l.Damaged {
		d.Damaged = w.T("logs.damaged")
		return d
	}
	d.Facts = []view.LogAttr{{Key: slog.TimeKey, Value: l.Time.Format(time.RFC3339Nano)}, {Key: slog.LevelKey, Value: levelName(l)}}
	add(logs.KeyComponent, l.Component)
	if l.Machine != "" {
		d.Facts = append(d.Facts, view.LogAttr{Key: logs.KeyMachine, Value: l.Machine, Href: machineLog(l.Machine)})
		d.Actions = append(d.Actions, view.Action{Href: address(logsPath, "machine", l.Machine, "level", levelList(logs.AllLevels)), Text: w.T("logs.of-machine"), Icon: "machine"})
	}
	add(logs.KeyName, l.Name)
	if l.Job != "" {
		d.Facts = append(d.Facts, view.LogAttr{Key: logs.KeyJob, Value: l.Job, Href: "/jobs/" + pathSegment(l.Job)})
		d.Actions = append(d.Actions, view.Action{Href: address(logsPath, "job", l.Job, "level", levelList(logs.AllLevels)), Text: w.T("logs.of-job"), Icon: "job"})
	}
	for _, a := range l.Attrs {
		add(a.Key, a.Value)
	}
	return d
}
