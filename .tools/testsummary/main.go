// Testsummary reads the output of `go test -json` and tells a person what they
// need: a line per package as it ends, every failure in full, every skip with its
// reason, and as the last line "N passed, N failed, N skipped". A test with
// subtests is counted by its subtests. It exits with 1 when anything failed or when
// nothing ran at all.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
)

// event is one line of `go test -json`.
type event struct {
	Action     string
	Package    string
	ImportPath string // of build output
	Test       string
	Output     string
	Elapsed    float64 // seconds
}

type test struct {
	output   strings.Builder
	outcome  string
	children bool
	failing  bool // a child failed
}

type tested struct {
	output strings.Builder // what belongs to no test
	tests  map[string]*test
	order  []string
	counts map[string]int
}

type summary struct {
	out      io.Writer
	packages map[string]*tested
	builds   map[string]*strings.Builder
	skips    []string
	counts   map[string]int
}

func main() {
	s := summary{out: os.Stdout, packages: map[string]*tested{}, builds: map[string]*strings.Builder{}, counts: map[string]int{}}
	if err := s.read(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "testsummary:", err)
		os.Exit(1)
	}
	if !s.close() {
		os.Exit(1)
	}
}

func (s *summary) read(in io.Reader) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20) // a test may print a long line
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil || e.Action == "" {
			fmt.Fprintln(s.out, lines.Text()) // the go command itself speaks
			continue
		}
		s.take(e)
	}
	return lines.Err()
}

func (s *summary) take(e event) {
	if e.Action == "build-output" {
		b := s.builds[e.ImportPath]
		if b == nil {
			b = &strings.Builder{}
			s.builds[e.ImportPath] = b
		}
		b.WriteString(e.Output)
		return
	}
	if e.Package == "" {
		return
	}
	p := s.packages[e.Package]
	if p == nil {
		p = &tested{tests: map[string]*test{}, counts: map[string]int{}}
		s.packages[e.Package] = p
	}
	if e.Test == "" {
		switch e.Action {
		case "output":
			p.output.WriteString(e.Output)
		case "pass", "fail", "skip":
			s.end(e, p)
		}
		return
	}
	t := p.tests[e.Test]
	if t == nil {
		t = &test{}
		p.tests[e.Test] = t
		p.order = append(p.order, e.Test)
		if parent := p.parent(e.Test); parent != nil {
			parent.children = true
		}
	}
	switch e.Action {
	case "output":
		t.output.WriteString(e.Output)
	case "pass", "fail", "skip":
		t.outcome = e.Action
		if parent := p.parent(e.Test); parent != nil && e.Action == "fail" {
			parent.failing = true
		}
	}
}

func (p *tested) parent(name string) *test {
	if i := strings.LastIndex(name, "/"); i >= 0 {
		return p.tests[name[:i]]
	}
	return nil
}

// end settles a package: counts its tests, shows its failures, collects its skips.
func (s *summary) end(e event, p *tested) {
	for _, name := range p.order {
		t := p.tests[name]
		if t.outcome == "" { // the package died while it ran
			t.outcome = "fail"
		}
		if t.children && !(t.outcome == "fail" && !t.failing) {
			continue // its subtests are counted
		}
		p.counts[t.outcome]++
		switch t.outcome {
		case "fail":
			fmt.Fprintf(s.out, "\n=== %s: %s failed\n%s\n", e.Package, name, t.output.String())
		case "skip":
			s.skips = append(s.skips, fmt.Sprintf("skipped %s %s: %s", e.Package, name, reason(t.output.String())))
		}
	}
	if e.Action == "fail" && p.counts["fail"] == 0 { // did not build, leaked, or timed out
		p.counts["fail"]++
		fmt.Fprintf(s.out, "\n=== %s failed\n%s", e.Package, p.output.String())
		for path, b := range s.builds {
			if strings.HasPrefix(path, e.Package) {
				fmt.Fprint(s.out, b.String())
			}
		}
	}
	for outcome, n := range p.counts {
		s.counts[outcome] += n
	}
	if n := p.counts["pass"] + p.counts["fail"] + p.counts["skip"]; n > 0 {
		fmt.Fprintf(s.out, "%-4s %s: %d tests, %.1f s\n", strings.Replace(e.Action, "pass", "ok", 1), e.Package, n, e.Elapsed)
	}
	p.tests = nil // outputs may be large
	delete(s.packages, e.Package)
}

var place = regexp.MustCompile(`^\s*[\w.-]+\.go:\d+: `)

// reason is what a skipped test gave to t.Skip.
func reason(output string) string {
	var words []string
	for line := range strings.Lines(output) {
		trimmed := strings.TrimSpace(line)
		if trimmed == "" || strings.HasPrefix(trimmed, "=== ") || strings.HasPrefix(trimmed, "--- ") {
			continue
		}
		words = append(words, strings.TrimSpace(place.ReplaceAllString(line, "")))
	}
	if len(words) == 0 {
		return "no reason given"
	}
	return strings.Join(words, " ")
}

// close prints the end and reports whether all is well.
func (s *summary) close() bool {
	for name, p := range s.packages { // the go command died before it told of their end
		s.end(event{Action: "fail", Package: name}, p)
	}
	for _, skip := range s.skips {
		fmt.Fprintln(s.out, skip)
	}
	fmt.Fprintf(s.out, "%d passed, %d failed, %d skipped\n", s.counts["pass"], s.counts["fail"], s.counts["skip"])
	return s.counts["fail"] == 0 && s.counts["pass"] > 0
}
