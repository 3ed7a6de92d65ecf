package logs

import (
	"bytes"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// The attributes that lines share.
const (
	KeyComponent = "component" // which part of the appliance speaks
	KeyMachine   = "machine"   // a protected machine's ID
	KeyName      = "name"      // its name, for people
	KeyDisk      = "disk"
	KeyJob       = "job"
	KeySequence  = "sequence"
)

// Line is a line of the log.
type Line struct {
	Position  Position   `json:"position"`
	Time      time.Time  `json:"time"`
	Level     slog.Level `json:"level"`
	Component string     `json:"component,omitempty"`
	Machine   string     `json:"machine,omitempty"`
	Name      string     `json:"name,omitempty"` // of the machine
	Job       string     `json:"job,omitempty"`
	Message   string     `json:"message"`
	Attrs     []Attr     `json:"attributes,omitempty"` // the others, in their order
	// Damaged: the line could not be understood. Message is the line as it is.
	Damaged bool `json:"damaged,omitempty"`
	// Raw is the line as it stands in the file, without its end.
	Raw string `json:"-"`
}

// Attr is an attribute of a line.
type Attr struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// Position is where a line stands. It holds when the file is renamed or compressed.
// The zero value is no place.
type Position struct {
	File   uint64 // known by its first line
	Offset int64
}

// IsZero reports whether p is no place.
func (p Position) IsZero() bool { return p == Position{} }

func (p Position) String() string {
	if p.IsZero() {
		return ""
	}
	return strconv.FormatUint(p.File, 36) + "-" + strconv.FormatInt(p.Offset, 36)
}

// ParsePosition reads what String wrote.
func ParsePosition(text string) (Position, error) {
	if text == "" {
		return Position{}, nil
	}
	file, offset, _ := strings.Cut(text, "-")
	f, err := strconv.ParseUint(file, 36, 64)
	o, errOffset := strconv.ParseInt(offset, 36, 64)
	if err != nil || errOffset != nil || o < 0 {
		return Position{}, fmt.Errorf("%q is no place in the log", text)
	}
	return Position{File: f, Offset: o}, nil
}

// MarshalText is part of [encoding.TextMarshaler].
func (p Position) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText is part of [encoding.TextUnmarshaler].
func (p *Position) UnmarshalText(text []byte) (err error) {
	*p, err = ParsePosition(string(text))
	return err
}

// head is what every line says first: when and how loud. It looks no further than
// that, and at the end, where a line that was torn shows.
func head(line []byte) (at time.Time, level slog.Level, ok bool) {
	if end := bytes.TrimRight(line, "\r \t"); len(end) == 0 || end[len(end)-1] != '}' {
		return at, level, false
	}
	seen := 0
	good := fields(line, func(key, value []byte, quoted bool) bool {
		switch string(key) {
		case slog.TimeKey:
			t, err := time.Parse(time.RFC3339Nano, string(value))
			if err == nil {
				at, seen = t, seen|1
			}
		case slog.LevelKey:
			if level.UnmarshalText(value) == nil {
				seen |= 2
			}
		}
		return seen != 3
	})
	return at, level, good && seen == 3
}

// longestText is the most that is kept of a line that is shown: a page of lines must
// not become a gigabyte. The file has all of it.
const longestText = 16 << 10

func clipped(text string) string {
	if len(text) <= longestText {
		return text
	}
	return strings.ToValidUTF8(text[:longestText], "") + "…"
}

// parse reads a line. before is the time of the line before it.
func parse(raw []byte, at Position, before time.Time) Line {
	l := Line{Position: at, Time: before, Raw: strings.ToValidUTF8(string(raw), string(utf8.RuneError))}
	seen := 0
	good := fields(raw, func(key, value []byte, quoted bool) bool {
		text := clipped(plain(value, quoted))
		switch name := plain(key, true); name {
		case slog.TimeKey:
			if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
				l.Time, seen = t, seen|1
				return true
			}
			return false
		case slog.LevelKey:
			if l.Level.UnmarshalText(value) == nil {
				seen |= 2
			}
		case slog.MessageKey:
			l.Message = text
		case KeyComponent:
			l.Component = text
		case KeyMachine:
			l.Machine = text
		case KeyName:
			l.Name = text
		case KeyJob:
			l.Job = text
		default:
			l.Attrs = append(l.Attrs, Attr{name, text})
		}
		return true
	})
	if !good || seen != 3 {
		return Line{Position: at, Time: before, Message: clipped(l.Raw), Raw: l.Raw, Damaged: true}
	}
	return l
}
