package web

import (
	"fmt"
	"slices"
	"time"

	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/store"
	"riparo/web/view"
)

// windows are the stretches of time that a timeline can show.
var windows = []struct {
	value string
	span  time.Duration // 0: all there is
}{{"10m", 10 * time.Minute}, {"1h", time.Hour}, {"24h", 24 * time.Hour}, {"all", 0}}

// timelineSlots bounds what is drawn: points closer than one part in so many
// share a sign.
const timelineSlots = 200

// inWindow gives the points of a window, its name and its length.
func inWindow(points []replication.RecoveryPoint, window string, now time.Time) ([]replication.RecoveryPoint, string, time.Duration) {
	chosen := windows[0]
	var newest, oldest time.Duration // ages; the vault's order is not that of a clock that was set
	if len(points) > 0 {
		newest, oldest = now.Sub(points[0].Time), now.Sub(points[0].Time)
	}
	for _, p := range points {
		newest, oldest = min(newest, now.Sub(p.Time)), max(oldest, now.Sub(p.Time))
	}
	found := false
	for _, w := range windows {
		if w.value == window {
			chosen, found = w, true
		}
	}
	if !found && len(points) > 0 { // the shortest that shows all, or else an hour, or else something
		for _, w := range windows {
			chosen = w
			if oldest < w.span || w.span >= time.Hour && newest < w.span {
				break
			}
		}
	}
	span := chosen.span
	if span == 0 {
		span = max(time.Minute, oldest)
	}
	var in []replication.RecoveryPoint
	for _, p := range points {
		if now.Sub(p.Time) <= span {
			in = append(in, p)
		}
	}
	return in, chosen.value, span
}

func timelineOf(v visit, points []replication.RecoveryPoint, window string, link func(window string) string) view.Timeline {
	w := v.words
	l := view.Timeline{Title: w.T("machine.points")}
	if len(points) == 0 {
		l.Empty = &view.Empty{Icon: "point", Title: w.T("timeline.none"), Text: w.T("timeline.none-text")}
		return l
	}
	in, chosen, span := inWindow(points, window, v.now)
	for _, each := range windows {
		l.Windows = append(l.Windows, view.Choice{Href: link(each.value), Text: w.T("timeline." + each.value), Selected: each.value == chosen})
	}
	type slot struct {
		at    int
		kind  replication.Consistency
		worth string
	}
	drawn := map[slot]int{}
	counts := map[replication.Consistency]int{}
	// Oldest first, so that the rarer signs of later kinds lie on top of the marks.
	for _, kind := range []replication.Consistency{replication.CrashConsistent, replication.AppConsistent, replication.Clean} {
		for _, p := range in {
			if p.Consistency != kind {
				continue
			}
			counts[kind]++
			share := place(p.Time, v.now, span)
			s := slot{int(share * timelineSlots), kind, worth(p)}
			if i, ok := drawn[s]; ok {
				l.Points[i].Count++
				l.Points[i].Title = w.N("timeline.several", l.Points[i].Count, "Kind", kindName(w, kind), "Time", w.Short(p.Time, v.now))
				continue
			}
			drawn[s] = len(l.Points)
			l.Points = append(l.Points, view.TimelinePoint{At: fmt.Sprintf("%.2f%%", share*100), Kind: string(kind), Count: 1, Worth: s.worth,
				Title: w.Short(p.Time, v.now) + " · " + kindName(w, kind) + signsText(w, p)})
		}
		if counts[kind] > 0 {
			l.Counts = append(l.Counts, view.Fact{Label: kindName(w, kind), Value: w.Int(int64(counts[kind])), Note: string(kind)})
		}
	}
	for _, share := range []float64{0, 0.25, 0.5, 0.75} {
		at := v.now.Add(-time.Duration((1 - share) * float64(span)))
		label := w.Clock(at)
		if span > 36*time.Hour {
			label = w.Day(at)
		}
		l.X = append(l.X, view.Mark{At: fmt.Sprintf("%.0f%%", share*100), Label: label})
	}
	l.Description = w.N("timeline.description", len(in), "Span", w.Duration(span.Round(time.Second)),
		"App", w.Int(int64(counts[replication.AppConsistent])), "Clean", w.Int(int64(counts[replication.Clean])))
	return l
}

// place is where an instant lies in a window that ends now, 0 to 1.
func place(t, now time.Time, span time.Duration) float64 {
	return min(max(1-float64(now.Sub(t))/float64(span), 0), 1)
}

// maxChoices bounds the list of a picker: beyond it only every so many crash-
// consistent points are offered, and all others.
const maxChoices = 300

// pickerOf offers recovery points. Without a script it is a list.
func pickerOf(v visit, points []replication.RecoveryPoint, m store.Machine, verb lifecycle.Verb) view.Picker {
	w := v.words
	p := view.Picker{Now: v.now}
	p.Timeline = timelineOf(v, points, v.query.Get("window"), func(window string) string { return address(verbHref(m, verb), "window", window) })
	p.Windows = p.Timeline.Windows
	in, _, span := inWindow(points, v.query.Get("window"), v.now)
	chosen := v.query.Get("point")
	if chosen == "" && verb == lifecycle.ChangePoint && m.Failover != nil { // from where one stands
		chosen = string(m.Failover.Point)
	}
	// What would be lost counts from the failover for a machine that has failed over
	// already, and from now for one that runs.
	end := v.now
	if m.Failover != nil {
		end = m.Failover.Started
	}
	loss := func(t time.Time) string { return w.Duration(max(0, end.Sub(t).Truncate(time.Second))) }
	at := func(t time.Time) string { return w.Number100(place(t, v.now, span)) }
	if verb != lifecycle.ChangePoint && len(points) > 0 {
		// A point that cannot be read back as a whole is not the latest good one.
		if i := slices.IndexFunc(points, func(p replication.RecoveryPoint) bool { return len(p.Damage) == 0 }); i >= 0 {
			p.Choices = append(p.Choices, view.PointChoice{Value: "", Text: w.T("picker.latest", "Time", w.Short(points[i].Time, v.now)) + signsText(w, points[i]),
				Kind: string(points[i].Consistency), Loss: loss(points[i].Time), At: at(points[i].Time)})
		}
		if i := slices.IndexFunc(points, func(p replication.RecoveryPoint) bool { return p.LastClean }); i >= 0 {
			p.Choices = append(p.Choices, view.PointChoice{Value: string(points[i].ID), Text: w.T("picker.clean", "Time", w.Short(points[i].Time, v.now)),
				Kind: string(points[i].Consistency), Loss: loss(points[i].Time), At: at(points[i].Time), Selected: chosen == ""})
		}
		if i := slices.IndexFunc(points, func(p replication.RecoveryPoint) bool {
			return p.Consistency == replication.AppConsistent && len(p.Damage) == 0
		}); i >= 0 {
			p.Choices = append(p.Choices, view.PointChoice{Value: "app", Text: w.T("picker.app", "Time", w.Short(points[i].Time, v.now)),
				Kind: string(replication.AppConsistent), Loss: loss(points[i].Time), At: at(points[i].Time)})
		}
	}
	step := max(1, (len(in)+maxChoices-1)/maxChoices)
	for i, point := range in {
		if i%step != 0 && point.Consistency == replication.CrashConsistent && string(point.ID) != chosen {
			continue
		}
		text := w.Short(point.Time, v.now) + " · " + kindName(w, point.Consistency) + signsText(w, point)
		if m.Failover != nil && point.ID == m.Failover.Point {
			text += " · " + w.T("picker.current")
		}
		p.Choices = append(p.Choices, view.PointChoice{Value: string(point.ID), Text: text, Kind: string(point.Consistency),
			Loss: loss(point.Time), At: at(point.Time), Selected: chosen != "" && string(point.ID) == chosen})
	}
	if step > 1 {
		p.Shown = w.T("picker.shown", "Shown", w.Int(int64(len(p.Choices))), "All", w.Int(int64(len(in))))
	}
	if len(p.Choices) > 0 && !slices.ContainsFunc(p.Choices, func(c view.PointChoice) bool { return c.Selected }) {
		p.Choices[0].Selected = true
	}
	return p
}
