package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"time"
)

// event is a line of `go test -json`.
type event struct{ Action, Package, Test, Output string }

// run runs the test of a proof.
func (p proof) run(short bool) result {
	began := time.Now()
	c := exec.Command("go", "test", "-json", "-count=1", "-timeout", "12h", "-run", p.test, p.pkg)
	c.Env = os.Environ()
	environment := p.long
	if short {
		environment = p.short
	}
	if environment != "" {
		c.Env = append(c.Env, environment)
	}
	out, err := c.CombinedOutput()
	r := result{Name: p.name, Passed: err == nil, Seconds: time.Since(began).Seconds()}
	ran := 0
	for line := range bytes.Lines(out) {
		var e event
		if json.Unmarshal(line, &e) != nil {
			r.output += string(line)
			continue
		}
		if e.Test != "" && e.Action == "pass" {
			ran++
		}
		if e.Test != "" && e.Action == "skip" {
			r.Passed = false
			r.output += "a proof may not be skipped\n"
		}
		if e.Action != "output" {
			continue
		}
		r.output += e.Output
		if figure, ok := figureOf(e.Test, e.Output); ok {
			r.Figures = append(r.Figures, figure)
		}
	}
	if err == nil && ran == 0 {
		r.Passed = false
		r.output += "no test " + p.test + " ran in " + p.pkg + "\n"
	}
	return r
}

var logged = regexp.MustCompile(`^\s+\w+_test\.go:\d+: (.+)$`)

// longestFigure, in characters: what comes after is for whoever runs the test.
const longestFigure = 140

// figureOf is what a test said with t.Log, behind the name of its subtest.
func figureOf(test, output string) (string, bool) {
	m := logged.FindStringSubmatch(strings.TrimRight(output, "\n"))
	if m == nil || test == "" {
		return "", false
	}
	figure := strings.TrimSpace(m[1])
	if _, sub, ok := strings.Cut(test, "/"); ok {
		figure = strings.ReplaceAll(sub, "_", " ") + ": " + figure
	}
	if long := []rune(figure); len(long) > longestFigure {
		figure = string(long[:longestFigure]) + "…"
	}
	return figure, true
}
