package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"riparo/appliance"
	"riparo/replication"
	"riparo/store/logs"
	"riparo/web/api"
)

func newLogs(t *terminal) *cobra.Command {
	var to connection
	var filter api.LogFilter
	var since, until, data string
	var limit int
	var follow bool
	var level string
	c := &cobra.Command{
		Use:     "logs [-f] [--level LEVEL] [--machine MACHINE] [--job JOB] [--component PART] [--since TIME] [TEXT …]",
		GroupID: groupAround,
		Short:   "Print the log, the newest line last",
		Long: `Print the log, the newest line last. TEXT is words that stand in a line, "quoted texts",
key:value for an attribute, level>=warn; a minus before what is not wanted (behind --).
TIME is a span back from now (90m, 2h, 3d), a date, a date and time, or RFC 3339.

With --data DIR the log is read from the data folder, without an appliance that runs.
With -f new lines are printed as they are written, until Ctrl-C; as JSON they are then
one document on each line.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, words []string) (err error) {
			if filter.Since, err = instantIn(since, time.Now()); err != nil {
				return usagef(c, "--since %v", err)
			}
			if filter.Until, err = instantIn(until, time.Now()); err != nil {
				return usagef(c, "--until %v", err)
			}
			if _, known := logs.LevelsNamed(filter.Level); filter.Level != "" && !known {
				return usagef(c, "--level %s: want debug, info, warn or error", filter.Level)
			}
			if follow && until != "" {
				return usagef(c, "--follow and --until do not go together")
			}
			if limit < 1 {
				return usagef(c, "--limit %d: want 1 or more", limit)
			}
			filter.Text = queryOf(words)
			if level != "" {
				return to.reach(func(client *api.Client) error {
					if _, known := logs.LevelsNamed(level); !known {
						return usagef(c, "--set-level %s: want debug, info, warn or error", level)
					}
					if err := client.SetLogLevel(c.Context(), level); err != nil {
						return err
					}
					return t.result(api.LogLevel{Level: level}, func(w io.Writer) {
						fmt.Fprintf(w, "the log is written from level %s on, until the daemon starts again\n", level)
					})
				})
			}
			if data != "" {
				return t.logs(c.Context(), &folder{logs.NewReader(appliance.LogFolder(data))}, filter, limit, follow)
			}
			return to.reach(func(client *api.Client) error {
				return t.logs(c.Context(), remote{client}, filter, limit, follow)
			})
		},
	}
	to.add(c)
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on with new lines until Ctrl-C")
	c.Flags().StringVar(&filter.Level, "level", "", "only lines of this level and worse: debug, info, warn, error")
	c.Flags().StringVar(&filter.Machine, "machine", "", "only lines about this machine, by name or ID")
	c.Flags().StringVar(&filter.Job, "job", "", "only lines of this job, whatever part wrote them")
	c.Flags().StringVar(&filter.Component, "component", "", "only lines of this part of the appliance")
	c.Flags().StringVar(&since, "since", "", "only lines from this time on")
	c.Flags().StringVar(&until, "until", "", "only lines up to this time")
	c.Flags().IntVar(&limit, "limit", 200, "how many of the newest lines")
	c.Flags().StringVar(&level, "set-level", "", "print nothing; let the appliance write its log from this level on: debug, info, warn, error")
	c.Flags().StringVar(&data, "data", "", "read the log in this data folder; no appliance need run")
	return c
}

// queryOf joins words as the shell gave them: one with spaces was quoted.
func queryOf(words []string) string {
	var out []string
	for _, w := range words {
		if key, value, found := strings.Cut(w, ":"); found && strings.ContainsFunc(value, unicode.IsSpace) && !strings.ContainsFunc(key, unicode.IsSpace) {
			w = key + `:"` + value + `"`
		} else if strings.ContainsFunc(w, unicode.IsSpace) && !strings.Contains(w, `"`) {
			w = `"` + w + `"`
		}
		out = append(out, w)
	}
	return strings.Join(out, " ")
}

// instantIn reads a time as people give it.
func instantIn(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if days, found := strings.CutSuffix(text, "d"); found {
		if n, err := strconv.ParseFloat(days, 64); err == nil && n >= 0 && n < 36500 {
			return now.Add(-time.Duration(n * float64(24*time.Hour))), nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02 15:04:05", "2006-01-02T15:04:05", "2006-01-02 15:04", "2006-01-02T15:04", time.DateOnly} {
		if at, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return at, nil
		}
	}
	return time.Time{}, fmt.Errorf("%s: want a span (90m, 2h, 3d), a date, a date and time, or RFC 3339", text)
}

// logSource is where lines come from.
type logSource interface {
	before(ctx context.Context, f api.LogFilter, at string, limit int) (api.LogPage, error)
	follow(ctx context.Context, f api.LogFilter, after string, got func(api.LogLine) error) error
}

// pageMost is the most lines that are asked for at once.
const pageMost = 1000

// logs prints the newest lines, and those that come.
func (t *terminal) logs(ctx context.Context, from logSource, f api.LogFilter, limit int, follow bool) error {
	lines, next, unread, err := newestLines(ctx, from, f, limit)
	if err != nil {
		return err
	}
	for _, name := range unread {
		t.remark("a part of the log cannot be read: %s", name)
	}
	tell := func(l api.LogLine) error {
		if t.wantsJSON() {
			return json.NewEncoder(t.out).Encode(l)
		}
		printLine(t.out, l)
		return nil
	}
	if !follow {
		return t.result(map[string]any{"lines": lines}, func(w io.Writer) {
			for _, l := range lines {
				printLine(w, l)
			}
		})
	}
	for _, l := range lines {
		if err := tell(l); err != nil {
			return err
		}
	}
	away := false
	for {
		err := from.follow(ctx, f, next, func(l api.LogLine) error {
			away, next = false, l.Position+"+"
			return tell(l)
		})
		switch {
		case ctx.Err() != nil:
			return nil // it is how following ends
		case err != nil && replication.AsProblem(err).Code != "client.unreachable":
			return err
		}
		if !away { // said once, however long it lasts
			t.remark("%s; trying again", replication.AsProblem(err).Cause)
			away = true
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(againAfter):
		}
	}
}

// newestLines asks until there are enough, or no more. A search through much that
// does not match comes in several answers.
func newestLines(ctx context.Context, from logSource, f api.LogFilter, limit int) (lines []api.LogLine, next string, unread []string, err error) {
	lines = []api.LogLine{}
	for before := ""; len(lines) < limit; {
		page, err := from.before(ctx, f, before, min(limit-len(lines), pageMost))
		if err != nil {
			return nil, "", nil, err
		}
		if before == "" {
			next = page.Next
		}
		lines = append(slices.Clone(page.Lines), lines...)
		for _, name := range page.Unread {
			if !slices.Contains(unread, name) {
				unread = append(unread, name)
			}
		}
		if before = page.Older; before == "" {
			break
		}
	}
	return lines, next, unread, nil
}

// printLine prints a line for people. What the log holds never steers their
// terminal.
func printLine(w io.Writer, l api.LogLine) {
	if l.Damaged {
		fmt.Fprintf(w, "%-23s  %-5s  %s\n", stamp(l.Time), "?", harmless(l.Message))
		return
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %-5s  %-14s  %s", stamp(l.Time), strings.ToLower(l.Level), harmless(l.Component), harmless(l.Message))
	add := func(key, value string) {
		if value != "" {
			if strings.ContainsFunc(value, unicode.IsSpace) {
				value = fmt.Sprintf("%q", value)
			}
			fmt.Fprintf(&b, "  %s=%s", key, value)
		}
	}
	if l.Name != "" {
		add(logs.KeyMachine, harmless(l.Name))
	} else {
		add(logs.KeyMachine, harmless(l.Machine))
	}
	add(logs.KeyJob, harmless(l.Job))
	for _, a := range l.Attributes {
		add(harmless(a.Key), harmless(a.Value))
	}
	fmt.Fprintln(w, b.String())
}

func stamp(at time.Time) string {
	if at.IsZero() {
		return "-"
	}
	return at.Local().Format("2006-01-02 15:04:05.000")
}

func harmless(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return '·'
		}
		return r
	}, text)
}

// remote is the log of an appliance that runs.
type remote struct{ client *api.Client }

func (r remote) before(ctx context.Context, f api.LogFilter, at string, limit int) (api.LogPage, error) {
	return r.client.Logs(ctx, f, at, limit)
}

func (r remote) follow(ctx context.Context, f api.LogFilter, after string, got func(api.LogLine) error) error {
	after, err := behind(after)
	if err != nil {
		return err
	}
	return r.client.FollowLogs(ctx, f, after, got)
}

// folder is the log in a data folder.
type folder struct{ *logs.Reader }

func (d *folder) before(ctx context.Context, f api.LogFilter, at string, limit int) (api.LogPage, error) {
	place, err := logs.ParsePosition(at)
	if err != nil {
		return api.LogPage{}, err
	}
	page, err := d.Before(ctx, f.Filter(), place, limit)
	return api.LogPageOf(page), err
}

// lookEvery is how often a folder is looked at for new lines: nobody tells us.
const lookEvery = 300 * time.Millisecond

func (d *folder) follow(ctx context.Context, f api.LogFilter, after string, got func(api.LogLine) error) error {
	after, err := behind(after)
	if err != nil {
		return err
	}
	place, err := logs.ParsePosition(after)
	if err != nil {
		return err
	}
	for {
		page, err := d.After(ctx, f.Filter(), place, pageMost)
		if err != nil {
			return err
		}
		for _, l := range page.Lines {
			if err := got(api.LogLineOf(l)); err != nil {
				return err
			}
		}
		if page.Next != place {
			place = page.Next
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lookEvery):
		}
	}
}

// behind gives the place behind a line, which is written as that of the line and a
// plus.
func behind(place string) (string, error) {
	line, after := strings.CutSuffix(place, "+")
	if !after {
		return place, nil
	}
	at, err := logs.ParsePosition(line)
	at.Offset++
	return at.String(), err
}
