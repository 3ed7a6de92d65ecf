package logs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"time"
	"unicode"
)

// Levels is a set of levels.
type Levels uint8

const (
	Debug Levels = 1 << iota
	Info
	Warn
	Error
	AllLevels = Debug | Info | Warn | Error
)

// LevelNames are the levels from the quietest on, as they are written in queries.
var LevelNames = []string{"debug", "info", "warn", "error"}

// levelSet is the set of one level; those between two count as the lower one.
func levelSet(l slog.Level) Levels {
	switch {
	case l < slog.LevelInfo:
		return Debug
	case l < slog.LevelWarn:
		return Info
	case l < slog.LevelError:
		return Warn
	}
	return Error
}

// LevelName is a level as the log has it: DEBUG, INFO, WARN or ERROR.
func LevelName(l slog.Level) string {
	switch levelSet(l) {
	case Debug:
		return "DEBUG"
	case Info:
		return "INFO"
	case Warn:
		return "WARN"
	}
	return "ERROR"
}

// LevelsNamed reads one level, or "warning" for warn.
func LevelsNamed(name string) (Levels, bool) {
	name = strings.ToLower(name)
	if name == "warning" {
		name = "warn"
	}
	for i, known := range LevelNames {
		if name == known {
			return 1 << i, true
		}
	}
	return 0, false
}

// AtLeast are the levels from one on.
func AtLeast(l Levels) Levels { return AllLevels &^ (l - 1) }

// Filter chooses lines. The zero value chooses all.
type Filter struct {
	Levels Levels // 0: all. Damaged lines have none, and count as any
	Terms  []Term // all of them hold
	Since  time.Time
	Until  time.Time // this instant is included
}

// Term is one condition. Without a Key the Value is a text that stands anywhere in
// the line; with one it is the value of that attribute. "machine" also finds a
// machine by its name. Upper and lower case are the same.
type Term struct {
	Key, Value string
	Not        bool
}

// Is is a term for an attribute, or none for an empty value.
func Is(key, value string) []Term {
	if value == "" {
		return nil
	}
	return []Term{{Key: key, Value: value}}
}

// ParseQuery reads what a person types: words, "quoted texts", key:value, level:warn,
// level>=warn, and a minus before what is not wanted. Everything means something:
// there is no wrong query.
func ParseQuery(text string) Filter {
	var f Filter
	for _, word := range words(text) {
		t := Term{Value: word.text}
		if !word.quoted && len(t.Value) > 1 && t.Value[0] == '-' {
			t.Not, t.Value = true, t.Value[1:]
		}
		if word.quoted {
			t.Not = word.not
		} else if level, atLeast := strings.CutPrefix(strings.ToLower(t.Value), "level>="); atLeast {
			if l, known := LevelsNamed(level); known {
				f.Levels = AtLeast(l)
				continue
			}
		} else if key, value, found := strings.Cut(t.Value, ":"); found && isKey(key) && value != "" {
			if l, known := LevelsNamed(value); known && strings.EqualFold(key, "level") {
				if t.Not {
					l = AllLevels &^ l
				}
				f.Levels |= l
				continue
			}
			t.Key, t.Value = strings.ToLower(key), strings.Trim(value, `"`)
		}
		f.Terms = append(f.Terms, t)
	}
	return f
}

// isKey: an address or a time of day is no key.
func isKey(text string) bool {
	for i, r := range text {
		if !unicode.IsLetter(r) && r != '_' && r != '.' && r != '-' && (i == 0 || !unicode.IsDigit(r)) {
			return false
		}
	}
	return text != "" && text != "http" && text != "https"
}

type word struct {
	text        string
	quoted, not bool
}

// words splits at spaces outside of quotes. A quote that is not closed reaches to
// the end.
func words(text string) []word {
	var out []word
	for text = strings.TrimSpace(text); text != ""; text = strings.TrimSpace(text) {
		if body, not := strings.CutPrefix(text, `-"`); not || text[0] == '"' {
			if !not {
				body = text[1:]
			}
			inside, rest, _ := strings.Cut(body, `"`)
			if inside != "" {
				out = append(out, word{text: inside, quoted: true, not: not})
			}
			text = rest
			continue
		}
		end, open := len(text), false
		for i, r := range text {
			if r == '"' {
				open = !open
			}
			if !open && unicode.IsSpace(r) {
				end = i
				break
			}
		}
		out = append(out, word{text: text[:end]})
		text = text[end:]
	}
	return out
}

// match is a filter made ready for many lines. It belongs to one goroutine.
type match struct {
	Filter
	needles [][]byte // in lower case, as they stand in a line of JSON; all must be in it
	lower   []byte   // of the block under way
	pairs   [][2]uint64
}

func ready(f Filter) *match {
	m := &match{Filter: f}
	if m.Levels == 0 {
		m.Levels = AllLevels
	}
	for _, t := range f.Terms {
		if t.Not {
			continue
		}
		m.needles = append(m.needles, needle(t.Value))
		switch t.Key {
		case KeyMachine:
			m.pairs = append(m.pairs, [2]uint64{sum(KeyMachine, t.Value), sum(KeyName, t.Value)})
		case KeyName, KeyComponent, KeyJob, KeyDisk:
			m.pairs = append(m.pairs, [2]uint64{sum(t.Key, t.Value), sum(t.Key, t.Value)})
		}
	}
	return m
}

// needle is a text as it stands inside a JSON string of the log, in lower case.
func needle(text string) []byte {
	var out []byte
	for {
		// encoding/json has short forms for these two, slog has not.
		i := strings.IndexAny(text, "\b\f")
		if i < 0 {
			return appendQuoted(out, text)
		}
		out = fmt.Appendf(appendQuoted(out, text[:i]), `\u%04x`, text[i])
		text = text[i+1:]
	}
}

// appendQuoted adds the inside of a text's JSON string, in lower case.
func appendQuoted(to []byte, text string) []byte {
	var quoted bytes.Buffer
	e := json.NewEncoder(&quoted)
	e.SetEscapeHTML(false)
	e.Encode(text) // a string always has a form
	inside := bytes.TrimSpace(quoted.Bytes())
	return appendLower(to, inside[1:len(inside)-1])
}

// possible reports whether a chunk may hold a line that is wanted.
func (m *match) possible(c *chunk) bool {
	if m.Levels&c.levels == 0 && !c.damaged {
		return false
	}
	if !m.Since.IsZero() && c.last.Before(m.Since) || !m.Until.IsZero() && c.first.After(m.Until) {
		return false
	}
	for _, p := range m.pairs {
		if !c.holds(p[0]) && !c.holds(p[1]) {
			return false
		}
	}
	return true
}

// block looks at a whole block at once; false means that no line of it is wanted.
func (m *match) block(data []byte) bool {
	if len(m.needles) == 0 {
		return true
	}
	m.lower = appendLower(m.lower[:0], data)
	for _, n := range m.needles {
		if !bytes.Contains(m.lower, n) {
			return false
		}
	}
	return true
}

// appendLower is data in lower case, byte for byte: lengths do not change, so that
// a line is at the same place in both. Letters beyond ASCII are compared as they are.
func appendLower(to, data []byte) []byte {
	for _, c := range data {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		to = append(to, c)
	}
	return to
}

// line judges data[from:to] of the block under way. before is the time of the line
// before it.
func (m *match) line(data []byte, from, to int, before time.Time) (at time.Time, wanted bool) {
	raw := data[from:to]
	at, level, understood := head(raw)
	if !understood {
		at = before
	} else if levelSet(level)&m.Levels == 0 {
		return at, false
	}
	if !m.Since.IsZero() && at.Before(m.Since) || !m.Until.IsZero() && at.After(m.Until) {
		return at, false
	}
	if len(m.Terms) == 0 {
		return at, true
	}
	for _, n := range m.needles {
		if !bytes.Contains(m.lower[from:to], n) {
			return at, false
		}
	}
	return at, m.terms(raw, understood)
}

// terms judges what needs the attributes of a line.
func (m *match) terms(raw []byte, understood bool) bool {
	var line *Line
	for _, t := range m.Terms {
		holds := false
		switch {
		case t.Key == "" && !t.Not:
			continue // it is in the line, see needles
		case t.Key == "":
			holds = bytes.Contains(appendLower(nil, raw), needle(t.Value))
		case understood:
			if line == nil {
				l := parse(raw, Position{}, time.Time{})
				line = &l
			}
			holds = line.has(t.Key, t.Value)
		}
		if holds == t.Not {
			return false
		}
	}
	return true
}

func (l *Line) has(key, value string) bool {
	same := func(text string) bool { return strings.EqualFold(text, value) }
	switch key {
	case KeyMachine:
		return same(l.Machine) || same(l.Name)
	case KeyName:
		return same(l.Name)
	case KeyComponent:
		return same(l.Component)
	case KeyJob:
		return same(l.Job)
	case slog.MessageKey, "message":
		return strings.Contains(strings.ToLower(l.Message), strings.ToLower(value))
	}
	for _, a := range l.Attrs {
		if strings.EqualFold(a.Key, key) && same(a.Value) {
			return true
		}
	}
	return false
}
