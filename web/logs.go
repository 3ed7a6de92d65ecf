package web

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"riparo/replication"
	"riparo/store"
	"riparo/store/logs"
	"riparo/web/api"
	"riparo/web/view"
)

const (
	// logRows is how many lines a page has, and how far back a browser that follows
	// catches up.
	logRows = 100
	// logContext is how many lines are shown on each side of one.
	logContext = 50
	logsPath   = "/logs"
	logsRoute  = "GET /logs"
)

// logFilter is what the address of the page says.
type logFilter struct {
	levels                  logs.Levels
	component, machine, job string
	text, at                string
	wrap                    bool
}

// defaultLevels are those of an operator's story.
const defaultLevels = logs.Info | logs.Warn | logs.Error

func logFilterOf(q url.Values) logFilter {
	f := logFilter{component: q.Get("component"), machine: q.Get("machine"), job: q.Get("job"), text: strings.TrimSpace(q.Get("q")), at: q.Get("at"), wrap: q.Get("wrap") != ""}
	for name := range strings.SplitSeq(q.Get("level"), ",") {
		l, _ := logs.LevelsNamed(name)
		f.levels |= l
	}
	if f.levels == 0 {
		f.levels = defaultLevels
	}
	return f
}

// address is the page with this filter, and with pairs in addition.
func (f logFilter) address(path string, pairs ...string) string {
	level, wrap := "", ""
	if f.levels != defaultLevels {
		level = levelList(f.levels)
	}
	if f.wrap {
		wrap = "1"
	}
	all := []string{"level", level, "component", f.component, "machine", f.machine, "job", f.job, "q", f.text, "wrap", wrap}
	return address(path, append(all, pairs...)...)
}

func levelList(l logs.Levels) string {
	var names []string
	for i, name := range logs.LevelNames {
		if l&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ",")
}

// filter is what the reader is asked for. Levels in the text come before the toggles.
func (f logFilter) filter() logs.Filter {
	out := logs.ParseQuery(f.text)
	out.Levels = cmp.Or(out.Levels, f.levels)
	for key, value := range map[string]string{logs.KeyComponent: f.component, logs.KeyMachine: f.machine, logs.KeyJob: f.job} {
		out.Terms = append(out.Terms, logs.Is(key, value)...)
	}
	return out
}

// logs is the page of the log: the newest lines, which it follows, or those before,
// after or around a place.
func (k *Console) logs(v visit) (built, error) {
	if v.query.Get("around") != "" {
		return k.logContext(v)
	}
	w, f := v.words, logFilterOf(v.query)
	page, follows, err := k.logPage(v, f)
	if err != nil {
		return built{}, err
	}
	l := view.Logs{Now: v.now, Wrap: f.wrap, Live: follows && k.Log != nil, PageSize: strconv.Itoa(logRows), Unread: page.Unread, Download: f.address("/logs/download"),
		Empty: view.Empty{Icon: "log", Title: w.T("logs.none"), Text: w.T("logs.none-text")}}
	if v.may("GET /logs/bundle") {
		l.Bundle = "/logs/bundle"
	}
	if l.Form, err = k.logForm(v, f); err != nil {
		return built{}, err
	}
	if l.Rows, err = k.logLines(v, f, page.Lines); err != nil {
		return built{}, err
	}
	if !page.Older.IsZero() && (len(page.Lines) > 0 || !page.Reached.IsZero()) {
		l.Older = f.address(logsPath, "before", page.Older.String())
	}
	if !follows {
		l.Newest = f.address(logsPath)
		if len(page.Lines) > 0 {
			l.Newer = f.address(logsPath, "after", page.Next.String())
		}
	}
	if !page.Reached.IsZero() {
		l.Reached = w.T("logs.reached", "Time", w.Time(page.Reached))
	}
	if l.Sub, err = k.logSub(v); err != nil {
		return built{}, err
	}
	b := built{title: w.T("logs.title"), place: "logs", body: view.LogsPage(l), live: l.Live}
	for _, row := range l.Rows {
		b.parts = append(b.parts, part{row.ID, view.LogLine(row)})
	}
	return b, nil
}

// logPage reads what the address asks for; follows says that it is the newest.
func (k *Console) logPage(v visit, f logFilter) (page logs.Page, follows bool, err error) {
	filter := f.filter()
	before, err := logs.ParsePosition(v.query.Get("before"))
	after, errAfter := logs.ParsePosition(v.query.Get("after"))
	if err != nil || errAfter != nil {
		return page, false, noLogPlace(cmp.Or(err, errAfter))
	}
	switch {
	case !before.IsZero():
		page, err = k.Logs.Before(v.ctx, filter, before, logRows)
	case !after.IsZero():
		page, err = k.Logs.After(v.ctx, filter, after, logRows)
	case f.at != "":
		at, wrong := time.ParseInLocation("2006-01-02T15:04", clip(f.at, len("2006-01-02T15:04")), v.words.Zone())
		if wrong != nil {
			return page, false, &replication.Problem{Code: "logs.time", Cause: "the time to go to could not be read", Action: "choose a date and a time", Remedy: replication.Stop}
		}
		filter.Since = at
		page, err = k.Logs.After(v.ctx, filter, logs.Position{}, logRows)
	default:
		page, err = k.Logs.Before(v.ctx, filter, logs.Position{}, logRows)
		follows = true
	}
	return page, follows, err
}

func noLogPlace(err error) error {
	return &replication.Problem{Code: "logs.place", Cause: "there is no such place in the log", Action: "begin again with the newest lines", Remedy: replication.Stop, Err: err}
}

func clip(text string, length int) string { return text[:min(len(text), length)] }

// logForm is what can be chosen.
func (k *Console) logForm(v visit, f logFilter) (view.LogForm, error) {
	w := v.words
	form := view.LogForm{Text: f.text, At: f.at, Job: f.job}
	if f.levels != defaultLevels {
		form.Level = levelList(f.levels)
	}
	for i, name := range logs.LevelNames {
		toggled := f
		toggled.levels ^= 1 << i
		if toggled.levels == 0 {
			toggled.levels = logs.AllLevels
		}
		form.Levels = append(form.Levels, view.Choice{Href: toggled.address(logsPath), Text: w.T("logs.level-" + name), Value: name, Selected: f.levels&(1<<i) != 0})
	}
	wrapped := f
	wrapped.wrap = !f.wrap
	form.Wrap = view.Choice{Href: wrapped.address(logsPath), Text: w.T("logs.wrap"), Selected: f.wrap}
	if f.job != "" {
		without := f
		without.job = ""
		form.AllJobs = without.address(logsPath)
	}
	components := k.Logs.Components()
	if f.component != "" && !slices.Contains(components, f.component) {
		components = append(components, f.component)
	}
	form.Components = []view.Choice{{Text: w.T("logs.all-components"), Selected: f.component == ""}}
	for _, name := range components {
		form.Components = append(form.Components, view.Choice{Value: name, Text: name, Selected: name == f.component})
	}
	r, err := k.records()
	form.Machines = []view.Choice{{Text: w.T("logs.all-machines"), Selected: f.machine == ""}}
	known := f.machine == ""
	for _, m := range r.machines {
		form.Machines = append(form.Machines, view.Choice{Value: string(m.ID), Text: m.Name, Selected: string(m.ID) == f.machine})
		known = known || string(m.ID) == f.machine
	}
	if !known { // it is not protected any more, but the log speaks of it
		form.Machines = append(form.Machines, view.Choice{Value: f.machine, Text: f.machine, Selected: true})
	}
	return form, err
}

// logSub says how much there is and how much is kept.
func (k *Console) logSub(v visit) (view.LogUsage, error) {
	w := v.words
	usage, err := k.Logs.Usage()
	u := view.LogUsage{Text: w.T("logs.sub", "Days", logs.Days, "Most", w.Bytes(logs.MostBytes))}
	if usage.Files > 0 {
		u.Text += " " + w.T("logs.sub-now", "Size", w.Bytes(usage.Bytes), "Since", w.Time(usage.Oldest))
	}
	if k.Log != nil && v.may("POST /logs/level") {
		least := strings.ToLower(k.Log.Level.Level().String())
		for _, name := range logs.LevelNames {
			u.Levels = append(u.Levels, view.Choice{Value: name, Text: w.T("logs.level-" + name), Selected: name == least})
		}
	}
	return u, err
}

// logContext shows a line with those around it, whatever they are about.
func (k *Console) logContext(v visit) (built, error) {
	w, f := v.words, logFilterOf(v.query)
	at, err := logs.ParsePosition(v.query.Get("around"))
	if err != nil {
		return built{}, noLogPlace(err)
	}
	page, index, err := k.Logs.Around(v.ctx, at, logContext)
	if err != nil {
		return built{}, err
	}
	if index < 0 {
		return built{}, noLogPlace(nil)
	}
	l := view.Logs{Now: v.now, Wrap: true, Back: f.address(logsPath), Download: f.address("/logs/download")}
	if l.Rows, err = k.logLines(v, f, page.Lines); err != nil {
		return built{}, err
	}
	l.Rows[index].Selected = true
	detail := logDetail(w, page.Lines[index])
	l.Detail = &detail
	return built{title: w.T("logs.context"), place: "logs", body: view.LogContextPage(l)}, nil
}

// setLogLevel changes from which level on the log is written, until the daemon
// starts again.
func (k *Console) setLogLevel(w http.ResponseWriter, r *http.Request) {
	if k.Log == nil {
		k.fail(w, r, store.ErrNotFound)
		return
	}
	k.onward(w, r, logsPath, api.SetLogLevel(k.Store, k.Log, userOf(r).Name, r.PostFormValue("level")))
}
