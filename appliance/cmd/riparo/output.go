package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"golang.org/x/term"

	"riparo/replication"
)

// terminal is where a verb speaks: results to out, everything else to err.
type terminal struct {
	out, err    io.Writer
	interactive bool // err is a terminal: progress may overwrite its line
	format      format
	json        bool // --json
}

func newTerminal(stdout, stderr io.Writer) *terminal {
	t := &terminal{out: stdout, err: stderr, format: "table"}
	if f, ok := stderr.(*os.File); ok {
		t.interactive = term.IsTerminal(int(f.Fd()))
	}
	return t
}

// format is the value of --output.
type format string

func (f *format) String() string { return string(*f) }
func (f *format) Type() string   { return "table|json" }
func (f *format) Set(text string) error {
	if text != "table" && text != "json" {
		return fmt.Errorf("want table or json")
	}
	*f = format(text)
	return nil
}

func (t *terminal) wantsJSON() bool { return t.json || t.format == "json" }

// result prints what a verb found: v as JSON, or what people prints.
func (t *terminal) result(v any, people func(w io.Writer)) error {
	if !t.wantsJSON() {
		people(t.out)
		return nil
	}
	e := json.NewEncoder(t.out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// remark tells a person something that is not the result.
func (t *terminal) remark(format string, args ...any) { fmt.Fprintf(t.err, format+"\n", args...) }

// explain prints an error: what happened, what that means, what to do. With JSON
// wanted, the same is also the one document on stdout.
func (t *terminal) explain(ctx context.Context, err error) {
	if _, said := errors.AsType[*saidError](err); said {
		return
	}
	if wrong, ok := errors.AsType[*usageError](err); ok {
		c := wrong.command
		t.remark("riparo: %v", err)
		t.remark("usage: %s", c.UseLine())
		for _, sub := range c.Commands() {
			if sub.IsAvailableCommand() {
				t.remark("  %-14s %s", sub.Name(), sub.Short)
			}
		}
		t.remark("`%s --help` explains it.", c.CommandPath())
		return
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = &replication.Problem{
			Code: "interrupted", Cause: "interrupted", Effect: "nothing that was acknowledged is lost",
			Action: "run the same command again; it goes on", Err: err,
		}
	}
	p := replication.AsProblem(err)
	t.remark("riparo: %s", p.Cause)
	if p.Effect != "" {
		t.remark("  effect: %s", p.Effect)
	}
	if p.Action != "" {
		t.remark("  remedy: %s", p.Action)
	}
	if t.wantsJSON() {
		_ = t.result(map[string]any{"error": map[string]string{"code": p.Code, "cause": p.Cause, "effect": p.Effect, "remedy": p.Action}}, nil)
	}
}

// saidError ends a verb with status 1 after its result has said everything.
type saidError struct{ reason string }

func (e *saidError) Error() string { return e.reason }

// tabulate prints rows for people.
func tabulate(w io.Writer, header table.Row, rows []table.Row) {
	t := table.NewWriter()
	t.SetOutputMirror(w)
	t.SetStyle(table.StyleLight)
	t.Style().Options = table.OptionsNoBordersAndSeparators
	t.Style().Format.HeaderAlign, t.Style().Format.Header = 0, 0
	t.SuppressTrailingSpaces()
	t.AppendHeader(header)
	t.AppendRows(rows)
	t.Render()
}

// sizeOf prints a number of bytes for people: "12.3 MiB".
func sizeOf(n int64) string {
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n), 0
	for value >= 1024 && unit < 6 {
		value, unit = value/1024, unit+1
	}
	return fmt.Sprintf("%.1f %ciB", value, "_KMGTPE"[unit])
}

// seconds is a duration as JSON has it, to the millisecond.
func seconds(d time.Duration) float64 { return float64(d.Milliseconds()) / 1000 }

// printFields prints what is known of one thing, a line each.
func printFields(w io.Writer, rows []table.Row) {
	widest := 0
	for _, r := range rows {
		widest = max(widest, len([]rune(fmt.Sprint(r[0]))))
	}
	for _, r := range rows {
		label := fmt.Sprint(r[0])
		fmt.Fprintf(w, "%s%*s  %v\n", label, widest-len([]rune(label)), "", r[1])
	}
}

// clock is an instant for people, by the clock of their computer.
func clock(at time.Time) string {
	if at.IsZero() {
		return "-"
	}
	return at.Local().Format(time.DateTime)
}

// ageOf is a span for people: with as much of a second as says something.
func ageOf(d time.Duration) string {
	if d < time.Second {
		return d.Round(time.Millisecond).String()
	}
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// orDash stands where there is nothing to say.
func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
