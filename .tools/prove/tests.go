package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// event is a line of `go test -json`.
type event struct{ Action, Package, Test, Output string }

const (
	// timeVariable tells a test when to end by itself, as a duration.
	timeVariable = "RIPARO_TIME"
	// longest that a proof may take, whatever it was told.
	longest = "40m"
)

// run runs the test of a proof.
func (p proof) run(short bool) result {
	form := p.long
	if short {
		form = p.short
	}
	began := time.Now()
	c := exec.Command("go", "test", "-json", "-count=1", "-vet=off", "-timeout", longest, "-run", p.test, p.pkg)
	c.Dir = p.module
	c.Env = os.Environ()
	if form.environment != "" {
		c.Env = append(c.Env, form.environment)
	}
	if form.time > 0 {
		c.Env = append(c.Env, timeVariable+"="+form.time.String())
	}
	out, err := c.CombinedOutput()
	r := result{Name: p.name, Kind: p.kind, Passed: err == nil, Seconds: time.Since(began).Seconds()}
	p.read(&r, out)
	if r.Passed && r.Skipped == "" && r.Count < form.least {
		r.Passed = false
		r.output += fmt.Sprintf("%d %s are too few to say anything: want %d\n", r.Count, p.kind, form.least)
	}
	return r
}

// read takes the figures out of what the test printed, and fails what did not run.
func (p proof) read(r *result, out []byte) {
	ran, skipped, said := 0, false, ""
	for line := range bytes.Lines(out) {
		var e event
		if json.Unmarshal(line, &e) != nil {
			r.output += string(line)
			continue
		}
		switch e.Action {
		case "pass":
			if e.Test != "" {
				ran++
			}
		case "skip":
			skipped = skipped || e.Test != ""
		case "output":
			r.output += e.Output
			figure, ok := figureOf(e.Test, e.Output)
			if !ok {
				continue
			}
			said = short(figure)
			if bug, ok := foundIn(figure); ok && p.kind == bugs {
				r.Bugs = append(r.Bugs, bug) // for the table of all of them
				continue
			}
			r.Figures = append(r.Figures, said)
			r.Count += countOf(figure, p.kind)
		}
	}
	switch {
	case skipped && p.mayBeAbsent && r.Passed:
		r.Skipped, r.Figures = said, nil
	case skipped:
		r.Passed = false
		r.output += "this proof may not be skipped\n"
	case r.Passed && ran == 0:
		r.Passed = false
		r.output += "no test " + p.test + " ran in " + p.pkg + "\n"
	}
}

// logged also takes what a helper says that is no test itself.
var logged = regexp.MustCompile(`^\s+\w+\.go:\d+: (.+)$`)

// longestFigure, in characters: what comes after is for whoever runs the test.
const longestFigure = 140

// figureOf is what a test said with t.Log, behind the name of its subtest. What the
// program that it tests logs is none.
func figureOf(test, output string) (string, bool) {
	m := logged.FindStringSubmatch(strings.TrimRight(output, "\n"))
	if m == nil || test == "" || strings.HasPrefix(m[1], "time=") {
		return "", false
	}
	figure := strings.TrimSpace(m[1])
	if _, sub, ok := strings.Cut(test, "/"); ok {
		figure = strings.ReplaceAll(sub, "_", " ") + ": " + figure
	}
	return figure, true
}

// short cuts what is too long for a line.
func short(figure string) string {
	if long := []rune(figure); len(long) > longestFigure {
		return string(long[:longestFigure]) + "…"
	}
	return figure
}

// countOf is the number in front of the words of a kind: 17 in "17 power cuts in 3
// lives", and in "17/17 planted bugs found". It is the first thing that the figure says,
// or that it says of something: "map: 17 bit flips". What a test mentions once more in
// the middle of a sentence, as "all points equal after 17 kills", it has counted already.
func countOf(figure, kind string) int {
	before, _, ok := strings.Cut(figure, " "+kind)
	if !ok {
		return 0
	}
	if i := strings.LastIndex(before, ": "); i >= 0 {
		before = before[i+len(": "):]
	}
	number, _, _ := strings.Cut(before, "/")
	n, _ := strconv.Atoi(number)
	return n
}
