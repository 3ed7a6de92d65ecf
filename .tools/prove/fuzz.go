package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// target is one fuzz target.
type target struct{ pkg, name string }

// fuzzTargets asks every package for its targets.
func fuzzTargets() ([]target, error) {
	out, err := exec.Command("go", "test", "-json", "-list", "^Fuzz", "./...").Output()
	if err != nil {
		return nil, fmt.Errorf("go test -list: %w: %s", err, out)
	}
	var found []target
	for line := range bytes.Lines(out) {
		var e event
		if json.Unmarshal(line, &e) != nil {
			continue
		}
		if name := strings.TrimSpace(e.Output); e.Action == "output" && strings.HasPrefix(name, "Fuzz") {
			found = append(found, target{e.Package, name})
		}
	}
	return found, nil
}

const (
	// fewExecutions: a target that hardly ran proves nothing and does not pass.
	fewExecutions = 100
	// minimizeTries: the go command makes an interesting input smaller before it goes
	// on, by default for a minute. With inputs of 4 KiB it did nothing else.
	minimizeTries = "20x"
)

var executions = regexp.MustCompile(`execs: (\d+) .*?new interesting: (\d+) \(total: (\d+)\)`)

// run fuzzes for a while. What it finds is kept by the go command under testdata,
// where every later test run tries it again.
func (t target) run(long time.Duration) result {
	began := time.Now()
	out, err := exec.Command("go", "test", "-run", "^$", "-fuzz", "^"+t.name+"$", "-fuzztime", long.String(), "-fuzzminimizetime", minimizeTries, t.pkg).CombinedOutput()
	r := result{Name: "fuzz " + t.pkg + " " + t.name, Passed: err == nil, Seconds: time.Since(began).Seconds(), output: string(out)}
	if all := executions.FindAllStringSubmatch(string(out), -1); len(all) > 0 {
		last := all[len(all)-1]
		r.Figures = []string{fmt.Sprintf("%s executions, %s new inputs, %s kept", last[1], last[2], last[3])}
		if n, _ := strconv.Atoi(last[1]); n < fewExecutions && r.Passed {
			r.Passed, r.output = false, fmt.Sprintf("%d executions are too few to say anything:\n%s", n, r.output)
		}
	} else if err == nil {
		r.Passed, r.output = false, "it did not tell of any execution:\n"+r.output
	}
	return r
}
