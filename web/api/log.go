package api

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/sse"

	"riparo/replication"
	"riparo/store"
	"riparo/store/logs"
)

// LogLine is a line of the log.
type LogLine struct {
	Position   string      `json:"position" doc:"Where it stands; holds when the file is rotated."`
	Time       time.Time   `json:"time"`
	Level      string      `json:"level" enum:"DEBUG,INFO,WARN,ERROR,?" doc:"? for a damaged line."`
	Component  string      `json:"component,omitempty"`
	Machine    string      `json:"machine,omitempty" doc:"ID."`
	Name       string      `json:"name,omitempty" doc:"Of the machine."`
	Job        string      `json:"job,omitempty"`
	Message    string      `json:"message"`
	Attributes []logs.Attr `json:"attributes,omitempty" doc:"All others, in their order."`
	Damaged    bool        `json:"damaged,omitempty" doc:"The line could not be understood; the message is the line as it is."`
}

// LogPage is a part of the log, oldest line first.
type LogPage struct {
	Lines   []LogLine `json:"lines" nullable:"false"`
	Older   string    `json:"older,omitempty" doc:"Give it as before to read on into the past; empty at the beginning of the log."`
	Next    string    `json:"next,omitempty" doc:"Give it as after to read what came since."`
	Reached time.Time `json:"reached,omitzero" doc:"Set when the search ended early: up to when it came. Read on with older."`
	Unread  []string  `json:"unread,omitempty" doc:"Files that could not be read."`
}

// LogFilter chooses lines; the zero value chooses all.
type LogFilter struct {
	Level     string    `query:"level" enum:"debug,info,warn,error" doc:"Only lines of this level and worse."`
	Component string    `query:"component" doc:"Only lines of this part of the appliance."`
	Machine   string    `query:"machine" doc:"Only lines about this machine, by its ID or its name."`
	Job       string    `query:"job" doc:"Only lines of this job, whatever part wrote them."`
	Text      string    `query:"q" maxLength:"500" doc:"Words, \"quoted texts\", key:value, level>=warn; a minus before what is not wanted."`
	Since     time.Time `query:"since" doc:"Only lines from this time on."`
	Until     time.Time `query:"until" doc:"Only lines up to this time."`
}

type logsInput struct {
	LogFilter
	Before string `query:"before" doc:"Only lines before this place."`
	After  string `query:"after" doc:"The oldest lines from this place on, instead of the newest."`
	Limit  int    `query:"limit" default:"100" minimum:"1" maximum:"1000"`
}

type logStreamInput struct {
	LogFilter
	After string `query:"after" doc:"Begin at this place instead of with the lines that come."`
}

// LogLevel is the level from which on the log is written.
type LogLevel struct {
	Level string `json:"level" enum:"debug,info,warn,error"`
}

type logLevelInput struct{ Body LogLevel }

func (a *API) logs() {
	add(a, operation{id: "list-logs", method: "GET", path: "/api/v1/logs", tag: "Logs", summary: "Lines of the log: the newest, or those before or after a place"}, a.listLogs)
	add(a, operation{id: "get-log-level", method: "GET", path: "/api/v1/logs/level", tag: "Logs", summary: "From which level on the log is written"}, a.logLevel)
	add(a, operation{id: "set-log-level", method: "PUT", path: "/api/v1/logs/level", tag: "Logs", summary: "Write the log from another level on, until the daemon starts again"}, a.setLogLevel)
	sse.Register(a.huma, huma.Operation{OperationID: "stream-logs", Method: http.MethodGet, Path: "/api/v1/logs/stream", Tags: []string{"Logs"},
		Summary: "Lines of the log as they are written, as server-sent events"},
		map[string]any{"line": LogLine{}, "beat": Beat{}}, a.streamLogs)
}

// Filter is what a reader of the log is asked for.
func (f LogFilter) Filter() logs.Filter {
	out := logs.ParseQuery(f.Text)
	if l, known := logs.LevelsNamed(f.Level); known && out.Levels == 0 {
		out.Levels = logs.AtLeast(l)
	}
	for _, pair := range [][2]string{{logs.KeyComponent, f.Component}, {logs.KeyMachine, f.Machine}, {logs.KeyJob, f.Job}} {
		out.Terms = append(out.Terms, logs.Is(pair[0], pair[1])...)
	}
	out.Since, out.Until = f.Since, f.Until
	return out
}

// LogLineOf is a line as the API tells it.
func LogLineOf(l logs.Line) LogLine {
	out := LogLine{Position: l.Position.String(), Time: l.Time, Level: "?", Component: l.Component, Machine: l.Machine, Name: l.Name, Job: l.Job,
		Message: l.Message, Attributes: l.Attrs, Damaged: l.Damaged}
	if !l.Damaged {
		out.Level = logs.LevelName(l.Level)
	}
	return out
}

func (a *API) listLogs(ctx context.Context, in *logsInput) (*body[LogPage], error) {
	before, err := placeIn(in.Before)
	if err != nil {
		return nil, err
	}
	after, err := placeIn(in.After)
	if err != nil {
		return nil, err
	}
	var page logs.Page
	if !after.IsZero() {
		page, err = a.Logs.After(ctx, in.Filter(), after, in.Limit)
	} else {
		page, err = a.Logs.Before(ctx, in.Filter(), before, in.Limit)
	}
	return answer(LogPageOf(page), err)
}

// LogPageOf is a page as the API tells it.
func LogPageOf(page logs.Page) LogPage {
	out := LogPage{Lines: []LogLine{}, Older: page.Older.String(), Next: page.Next.String(), Reached: page.Reached, Unread: page.Unread}
	for _, l := range page.Lines {
		out.Lines = append(out.Lines, LogLineOf(l))
	}
	return out
}

func placeIn(text string) (logs.Position, error) {
	at, err := logs.ParsePosition(text)
	if err != nil {
		return at, &replication.Problem{Code: "logs.place", Cause: err.Error(), Action: "give a place as it was given to you", Remedy: replication.Stop}
	}
	return at, nil
}

func (a *API) logLevel(context.Context, *none) (*body[LogLevel], error) {
	if a.Log == nil {
		return nil, noLog()
	}
	return answer(LogLevel{strings.ToLower(a.Log.Level.Level().String())}, nil)
}

func noLog() error {
	return &replication.Problem{Code: "logs.none", Cause: "this appliance writes no log", Action: "start it with riparo serve", Remedy: replication.Stop}
}

func (a *API) setLogLevel(ctx context.Context, in *logLevelInput) (*body[LogLevel], error) {
	if a.Log == nil {
		return nil, noLog()
	}
	return answer(in.Body, SetLogLevel(a.Store, a.Log, callerOf(ctx).Name, in.Body.Level))
}

// SetLogLevel writes the log from another level on, until the daemon starts again.
func SetLogLevel(st *store.Store, log *logs.Log, actor, name string) error {
	var level slog.Level
	if err := level.UnmarshalText([]byte(name)); err != nil {
		return replication.Stopf("logs.level", "choose debug, info, warn or error", "there is no level %q", name)
	}
	log.Level.Set(level)
	return st.Update(func(tx *store.Tx) error {
		return tx.AddEvent(store.Event{Severity: store.SeverityInfo, Code: "log.level", Text: "the log is written from level " + name + " on, asked for by " + actor,
			Args: map[string]string{"level": name, "actor": actor}})
	})
}

// logBurst is how many lines are sent at once before the client is looked after
// again.
const logBurst = 500

// streamLogs sends until the client goes, the API ends, a write takes too long, or the
// client may not read it any more. A client that is slow reads the file later: nothing is
// queued for it.
func (a *API) streamLogs(ctx context.Context, in *logStreamInput, send sse.Sender) {
	at, err := placeIn(in.After)
	if err == nil && at.IsZero() {
		at, err = a.Logs.End(ctx)
	}
	if err != nil {
		return
	}
	var nudge <-chan struct{}
	if a.Log != nil {
		var cancel func()
		nudge, cancel = a.Log.Subscribe()
		defer cancel()
	}
	beat := time.NewTicker(beatEvery)
	defer beat.Stop()
	if send.Data(Beat{Time: a.Now()}) != nil {
		return
	}
	for {
		page, err := a.Logs.After(ctx, in.Filter(), at, logBurst)
		if err != nil {
			return
		}
		for _, l := range page.Lines {
			if send.Data(LogLineOf(l)) != nil {
				return
			}
		}
		if moved := page.Next != at; moved {
			at = page.Next
			if len(page.Lines) == logBurst || !page.Reached.IsZero() {
				continue
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-a.Done:
			return
		case <-beat.C:
			if !callerOf(ctx).holds() || send.Data(Beat{Time: a.Now()}) != nil {
				return
			}
		case <-nudge:
		}
	}
}
