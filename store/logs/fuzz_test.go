package logs

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzQuery reads what a person types. Whatever stands in a line is found there again,
// and no query harms a search.
func FuzzQuery(f *testing.F) {
	for _, query := range []string{"", `job:1f3 level>=warn "send queue"`, "level:debug level:error", `-sent machine:WEB01`, `-"a b`, `a:"b c" http://x`, "\xff:\xff", `ü`, "\\ <&>\t"} {
		f.Add(query, "a disk is <full>\\ Übertragung")
	}
	f.Fuzz(func(t *testing.T, query, message string) {
		var b bytes.Buffer
		slog.New(slog.NewJSONHandler(&b, nil)).Info(message, KeyMachine, query)
		line := b.Bytes()
		find := func(query string) bool {
			m := ready(ParseQuery(query))
			if !m.block(line) {
				return false
			}
			_, wanted := m.line(line, 0, len(line)-1, epoch)
			return wanted
		}
		if n := len(ParseQuery(query).Terms); n > len(query) {
			t.Fatalf("%d terms from %d bytes", n, len(query))
		}
		find(query)
		if utf8.ValidString(message) && !strings.Contains(message, `"`) && !find(`"`+message+`"`) {
			t.Fatalf("%q is not found in %s", message, line)
		}
	})
}

func FuzzPosition(f *testing.F) {
	f.Add(Position{File: 1 << 60, Offset: 5}.String())
	f.Add("")
	f.Add("-")
	f.Add("z-z-z")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParsePosition(text)
		if err != nil {
			return
		}
		if again, err := ParsePosition(p.String()); err != nil || again != p {
			t.Fatalf("%q is %v, and written again %v, %v", text, p, again, err)
		}
	})
}
