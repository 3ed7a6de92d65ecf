package logs

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// fields calls visit with each member of a flat JSON object, in order, until visit
// returns false. quoted says that value is the inside of a string, with its escapes.
// It reports whether the line is an object in good form as far as it was read; a
// string is judged for its end only. The slices belong to line.
func fields(line []byte, visit func(key, value []byte, quoted bool) bool) bool {
	i := skipSpace(line, 0)
	if i >= len(line) || line[i] != '{' {
		return false
	}
	i = skipSpace(line, i+1)
	if i < len(line) && line[i] == '}' {
		return skipSpace(line, i+1) == len(line)
	}
	for {
		end := endOfString(line, i)
		if end < 0 {
			return false
		}
		key := line[i+1 : end]
		if i = skipSpace(line, end+1); i >= len(line) || line[i] != ':' {
			return false
		}
		i = skipSpace(line, i+1)
		end, quoted := endOfValue(line, i)
		if end < 0 {
			return false
		}
		value := line[i:end]
		if quoted {
			value = value[1 : len(value)-1]
		}
		if !visit(key, value, quoted) {
			return true
		}
		if i = skipSpace(line, end); i >= len(line) {
			return false
		}
		switch line[i] {
		case '}':
			return skipSpace(line, i+1) == len(line)
		case ',':
			i = skipSpace(line, i+1)
		default:
			return false
		}
	}
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && space(b[i]) {
		i++
	}
	return i
}

// space reports whether JSON passes over c. A line has no line feed in it.
func space(c byte) bool { return c == ' ' || c == '\t' || c == '\r' }

// endOfString gives the index of the quote that closes the string that begins at i,
// or -1.
func endOfString(b []byte, i int) int {
	if i >= len(b) || b[i] != '"' {
		return -1
	}
	for i++; i < len(b); i++ {
		next := bytes.IndexByte(b[i:], '"')
		if next < 0 {
			return -1
		}
		i += next
		// An odd number of backslashes before a quote escapes it.
		backslashes := 0
		for b[i-1-backslashes] == '\\' {
			backslashes++
		}
		if backslashes%2 == 0 {
			return i
		}
	}
	return -1
}

// endOfValue gives the index behind the value that begins at i, or -1.
func endOfValue(b []byte, i int) (end int, quoted bool) {
	if i >= len(b) {
		return -1, false
	}
	switch b[i] {
	case '"':
		if end = endOfString(b, i); end < 0 {
			return -1, false
		}
		return end + 1, true
	case '{', '[':
		return endOfNested(b, i), false
	}
	for end = i; end < len(b) && b[end] != ',' && b[end] != '}' && !space(b[end]); end++ {
		if c := b[end]; (c < '0' || c > '9') && (c < 'a' || c > 'z') && c != '-' && c != '+' && c != '.' && c != 'E' {
			return -1, false
		}
	}
	if end == i {
		return -1, false
	}
	return end, false
}

func endOfNested(b []byte, i int) int {
	depth := 0
	for ; i < len(b); i++ {
		switch b[i] {
		case '"':
			if i = endOfString(b, i); i < 0 {
				return -1
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return -1
}

// plain is the text of a value as fields gives it.
func plain(value []byte, quoted bool) string {
	if !quoted || bytes.IndexByte(value, '\\') < 0 {
		return strings.ToValidUTF8(string(value), string(utf8.RuneError))
	}
	var text string
	if err := json.Unmarshal([]byte(`"`+string(value)+`"`), &text); err != nil {
		return strings.ToValidUTF8(string(value), string(utf8.RuneError))
	}
	return text
}
