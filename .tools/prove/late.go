package main

import (
	"os"
	"path/filepath"
	"regexp"
)

// late is all that a target says when nothing is wrong with it, and Go's fuzz engine took
// the end of the time that it was given for an error. It does so now and then: its clock
// runs out a moment before the context of its workers knows of it, and then the one is not
// recognized as the other (internal/fuzz, CoordinateFuzzing, in Go 1.26). Whatever else
// stands there, if only one line, is no such thing: a failing input that is made smaller
// when the time ends is reported with the very same error.
var late = regexp.MustCompile(`^(?:warning: the test binary was not built with coverage instrumentation.*\n)?(?:fuzz: elapsed: \S+, (?:gathering baseline coverage|testing seed corpus|execs): .*\n)+` +
	`--- FAIL: (\w+) \(\S+s\)\n    context deadline exceeded\nFAIL\n$`)

// endedLate reports whether what the target printed is that and nothing else.
func (t target) endedLate(output string) bool {
	m := late.FindStringSubmatch(output)
	return m != nil && m[1] == t.name
}

// failing are the inputs that are kept because the target once failed with them. The
// engine writes what it finds there.
func (t target) failing(home string) []string {
	entries, err := os.ReadDir(filepath.Join(home, "testdata", "fuzz", t.name))
	if err != nil {
		return nil // most targets have none
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
