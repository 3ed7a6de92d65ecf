// Prove runs what shows that Riparo keeps its promises when the worst happens: power
// cuts, kill -9, seeded walks, planted bugs, flipped bits, fuzzing. It prints every
// figure, and at the end the few that sum them up.
//
//	prove [--short] [--only WORD] [--json]
//
// It runs the same tests as everybody; it only lets them go on for longer. A proof
// whose test is missing, was skipped or ran too little counts as failed, so that this
// list cannot go stale. The long form ends within an hour on two processors, the short
// one within two minutes: where there is a time and a number, what comes first ends
// the part, and the number that was reached is printed.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// result is one line of the table.
type result struct {
	Name    string   `json:"name"`
	Kind    string   `json:"kind"`
	Passed  bool     `json:"passed"`
	Skipped string   `json:"skipped,omitempty"` // why this machine cannot run it
	Seconds float64  `json:"seconds"`
	Count   int      `json:"count,omitempty"` // of what the kind counts
	Figures []string `json:"figures"`
	Bugs    []found  `json:"bugs,omitempty"` // planted, of which it found
	Late    int      `json:"late,omitempty"` // rounds of a fuzz target that ended late, see [late]
	output  string
}

func main() {
	short := flag.Bool("short", false, "two minutes instead of an hour")
	only := flag.String("only", "", "run what has this word in its kind or name, as fuzz or \"power cuts\"")
	asJSON := flag.Bool("json", false, "print one JSON document")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "prove: one argument too many: %q\n", flag.Arg(0))
		os.Exit(2)
	}
	began := time.Now()
	results := run(*short, *only)
	if len(results) == 0 {
		fmt.Fprintf(os.Stderr, "prove: nothing has %q in its kind or name\n", *only)
		os.Exit(2)
	}
	lines := summary(results, time.Since(began))
	if table := bugTable(results); len(table) > 0 {
		fmt.Fprintf(os.Stderr, "\n%s\n", strings.Join(table, "\n"))
	}
	fmt.Fprintf(os.Stderr, "\n%s\n", strings.Join(lines, "\n"))
	passed := !slices.ContainsFunc(results, func(r result) bool { return !r.Passed })
	if *asJSON {
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "  ")
		if err := e.Encode(map[string]any{"passed": passed, "seconds": time.Since(began).Seconds(), "summary": lines, "proofs": results}); err != nil {
			passed = false
		}
	}
	if !passed {
		os.Exit(1)
	}
}

// run runs all that only asks for, one after the other: each uses all processors.
func run(short bool, only string) []result {
	began := time.Now()
	var results []result
	add := func(r result) {
		results = append(results, r)
		print(r)
	}
	wanted := func(kind, name string) bool { return strings.Contains(kind+" "+name, only) }
	for _, p := range proofs {
		switch {
		case !wanted(p.kind, p.name):
		case p.onlyLong && short:
			fmt.Fprintf(os.Stderr, "        left out by --short: %s\n", p.name)
		default:
			add(p.run(short))
		}
	}
	if !short && (only == "" || only == bugs) {
		add(enoughBugs(results))
	}
	targets, err := fuzzTargets()
	if err != nil {
		add(result{Name: "list the fuzz targets", Kind: fuzzing, output: err.Error()})
	}
	targets = slices.DeleteFunc(targets, func(t target) bool { return !wanted(fuzzing, t.pkg+" "+t.name) })
	form := fuzzForm{all: fuzzTime(time.Since(began)), least: fuzzExecutions, round: leastRound, guided: true}
	if short {
		form = fuzzForm{all: fuzzShort, round: leastShortRound}
	}
	if only != "" {
		form.least = 0 // it is of all targets together
	}
	return append(results, fuzz(targets, form, print)...)
}

// print tells of one result at once, on stderr where it does not disturb JSON.
func print(r result) {
	mark := "proved"
	switch {
	case !r.Passed:
		mark = "FAILED"
	case r.Skipped != "":
		mark = "absent"
	}
	fmt.Fprintf(os.Stderr, "%s  %-72s %7.1f s\n", mark, r.Name, r.Seconds)
	for _, f := range r.Figures {
		fmt.Fprintf(os.Stderr, "        %s\n", f)
	}
	if r.Skipped != "" {
		fmt.Fprintf(os.Stderr, "        not on this machine: %s\n", r.Skipped)
	}
	if !r.Passed {
		fmt.Fprintln(os.Stderr, strings.TrimSpace(r.output))
	}
}
