package logs

import (
	"encoding/json"
	"testing"
	"unicode/utf8"
)

// FuzzAFieldIsWhatJSONSays compares the reader of lines with the one of the standard
// library: whatever that takes for an object, with one of each key, is read alike.
func FuzzAFieldIsWhatJSONSays(f *testing.F) {
	for _, line := range []string{`{"time":"2026-11-01T00:00:00Z","level":"INFO","msg":"a \"b\" \\"}`, `{"a":1,"b":[1,{"c":"]"}],"d":null}`, `{}`, `{"a":"\u00e9"}`,
		`{"a":"torn`, `{"a"`, `{"a":1}{"b":2}`, `not a line`, ``, `{"a" : -1.5e+3 , "b":true }`} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		got := map[string]string{}
		twice := false
		good := fields(line, func(key, value []byte, quoted bool) bool {
			name := plain(key, true)
			_, seen := got[name]
			twice = twice || seen
			got[name] = plain(value, quoted)
			return true
		})
		parse(line, Position{}, epoch)
		head(line)
		var want map[string]json.RawMessage
		if json.Unmarshal(line, &want) != nil || want == nil || twice || !utf8.Valid(line) {
			return // what is no JSON is only to be survived
		}
		for _, c := range line {
			if c == '\n' {
				return // no line has one
			}
		}
		if !good || len(got) != len(want) {
			t.Fatalf("%q: good %v, %d fields, want %d", line, good, len(got), len(want))
		}
		for key, raw := range want {
			text := string(raw)
			var s string
			if raw[0] == '"' && json.Unmarshal(raw, &s) == nil {
				text = s
			}
			if got[key] != text {
				t.Errorf("%q: %s is %q, want %q", line, key, got[key], text)
			}
		}
	})
}

func TestAQueryIsReadAsItIsMeant(t *testing.T) {
	for _, row := range []struct {
		text string
		want Filter
	}{
		{"", Filter{}},
		{`job:1f3 level>=warn "send queue"`, Filter{Levels: Warn | Error, Terms: []Term{{Key: "job", Value: "1f3"}, {Value: "send queue"}}}},
		{"level:debug level:error", Filter{Levels: Debug | Error}},
		{"-level:debug", Filter{Levels: Info | Warn | Error}},
		{`-"time out" -machine:web`, Filter{Terms: []Term{{Value: "time out", Not: true}, {Key: "machine", Value: "web", Not: true}}}},
		{`name:"web 01" 10.4.2.12:5985 https://x - a:`, Filter{Terms: []Term{{Key: "name", Value: "web 01"}, {Value: "10.4.2.12:5985"}, {Value: "https://x"}, {Value: "-"}, {Value: "a:"}}}},
		{`"not closed`, Filter{Terms: []Term{{Value: "not closed"}}}},
	} {
		got := ParseQuery(row.text)
		same := got.Levels == row.want.Levels && len(got.Terms) == len(row.want.Terms)
		for i := range got.Terms {
			same = same && got.Terms[i] == row.want.Terms[i]
		}
		if !same {
			t.Errorf("%s\n got %+v\nwant %+v", row.text, got, row.want)
		}
	}
}
