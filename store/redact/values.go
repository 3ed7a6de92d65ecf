package redact

import (
	"encoding/json"
	"sort"
	"strings"
	"sync"
)

// shortest is the least length of a secret that is looked for by its value. A
// shorter one would take ordinary words out of texts.
const shortest = 6

// Values are secrets that are known by their value. The zero value knows none. It
// is safe for use by several goroutines.
type Values struct {
	mu       sync.Mutex // guards the rest
	known    map[string]bool
	replacer *strings.Replacer // nil: to be made anew
}

// Add makes values known. Those that are too short to be told from words are left.
func (v *Values) Add(values ...string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.known == nil {
		v.known = map[string]bool{}
	}
	for _, value := range values {
		for _, form := range []string{value, strings.TrimSpace(value), quoted(value)} {
			if len(form) >= shortest && form != Mark && !v.known[form] {
				v.known[form], v.replacer = true, nil
			}
		}
	}
}

// quoted is how a value stands inside of a JSON string.
func quoted(value string) string {
	text, _ := json.Marshal(value) // a string always has a form
	return string(text[1 : len(text)-1])
}

// Text gives s without any known value and without what looks like a secret.
func (v *Values) Text(s string) string {
	v.mu.Lock()
	if v.replacer == nil {
		var longest []string // first, so that no part of one is left standing
		for value := range v.known {
			longest = append(longest, value)
		}
		sort.Slice(longest, func(i, j int) bool {
			return len(longest[i]) > len(longest[j]) || len(longest[i]) == len(longest[j]) && longest[i] < longest[j]
		})
		var pairs []string
		for _, value := range longest {
			pairs = append(pairs, value, Mark)
		}
		v.replacer = strings.NewReplacer(pairs...)
	}
	r := v.replacer
	v.mu.Unlock()
	return Text(r.Replace(s))
}

// Record gives a JSON value without its secrets: everything below a secret name,
// and what looks like a secret elsewhere. The strings it takes out become known, so
// that they are found in other texts too.
func (v *Values) Record(value any) any {
	switch value := value.(type) {
	case map[string]any:
		out := make(map[string]any, len(value))
		for name, inner := range value {
			if Name(name) && !empty(inner) {
				v.learn(inner)
				out[name] = Mark
				continue
			}
			out[name] = v.Record(inner)
		}
		return out
	case []any:
		out := make([]any, len(value))
		for i, inner := range value {
			out[i] = v.Record(inner)
		}
		return out
	case string:
		return v.Text(value)
	}
	return value
}

// learn adds every string below a value.
func (v *Values) learn(value any) {
	switch value := value.(type) {
	case map[string]any:
		for _, inner := range value {
			v.learn(inner)
		}
	case []any:
		for _, inner := range value {
			v.learn(inner)
		}
	case string:
		v.Add(value)
	}
}

func empty(value any) bool {
	switch value := value.(type) {
	case nil:
		return true
	case string:
		return value == ""
	case bool:
		return true // whether there is one is no secret
	case map[string]any:
		return len(value) == 0
	case []any:
		return len(value) == 0
	}
	return false
}
