package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What Go 1.26 printed: when it ended late, and when an input failed.
const (
	saidLate = `fuzz: elapsed: 0s, gathering baseline coverage: 0/6 completed
fuzz: elapsed: 0s, gathering baseline coverage: 6/6 completed, now fuzzing with 2 workers
fuzz: elapsed: 0s, execs: 1236 (4011/sec), new interesting: 0 (total: 6)
--- FAIL: FuzzY (0.31s)
    context deadline exceeded
FAIL
`
	saidPanic = `fuzz: elapsed: 0s, gathering baseline coverage: 0/1 completed
fuzz: elapsed: 0s, gathering baseline coverage: 1/1 completed, now fuzzing with 2 workers
fuzz: minimizing 34-byte failing input file
fuzz: elapsed: 1s, minimizing
--- FAIL: FuzzX (1.00s)
    --- FAIL: FuzzX (0.00s)
        testing.go:1927: panic: boom
            goroutine 55195 [running]:

    Failing input written to testdata/fuzz/FuzzX/530ce530a12e638b
    To re-run:
    go test -run=FuzzX/530ce530a12e638b
FAIL
`
)

func TestOnlyALateEndIsNoFailure(t *testing.T) {
	insert := func(before, line string) string { return strings.Replace(saidLate, before, line+before, 1) }
	for name, test := range map[string]struct {
		target, output string
		want           bool
	}{
		"a late end":                      {"FuzzY", saidLate, true},
		"a late end before anything else": {"FuzzY", "fuzz: elapsed: 0s, testing seed corpus: 0/6 completed\n" + saidLate[strings.Index(saidLate, "--- FAIL"):], true},
		"a late end without guidance":     {"FuzzY", "warning: the test binary was not built with coverage instrumentation, so fuzzing will run without coverage guidance and may be inefficient\n" + saidLate, true},
		"of another target":               {"FuzzX", saidLate, false},
		"a panic":                         {"FuzzX", saidPanic, false},
		"it ends while a failing input is made smaller": {"FuzzY", insert("--- FAIL", "fuzz: minimizing 34-byte failing input file\nfuzz: elapsed: 1s, minimizing\n"), false},
		"a failing input is written":                    {"FuzzY", insert("FAIL\n", "    Failing input written to testdata/fuzz/FuzzY/530ce530a12e638b\n"), false},
		"a worker hangs":                                {"FuzzY", strings.Replace(saidLate, "context", "fuzzing process hung or terminated unexpectedly: context", 1), false},
		"a seed fails":                                  {"FuzzY", insert("--- FAIL", "failure while testing seed corpus entry: FuzzY/1\n"), false},
		"a data race":                                   {"FuzzY", "WARNING: DATA RACE\n" + saidLate, false},
		"a line after it":                               {"FuzzY", saidLate + "panic: later\n", false},
		"it passed":                                     {"FuzzY", "PASS\n", false},
		"nothing":                                       {"FuzzY", "", false},
	} {
		if got := (target{"p", test.target}).endedLate(test.output); got != test.want {
			t.Errorf("%s: taken for a late end: %v, want %v", name, got, test.want)
		}
	}
}

// TestALateTargetIsJudgedByWhatItLeaves runs programs that print what a target printed.
func TestALateTargetIsJudgedByWhatItLeaves(t *testing.T) {
	for name, test := range map[string]struct {
		script string
		passed bool
		count  int
		late   int
	}{
		"it ended late":                    {"cat said; exit 1", true, 1242, 1},
		"it ended late and kept an input":  {"cat said; mkdir -p testdata/fuzz/FuzzY; touch testdata/fuzz/FuzzY/new; exit 1", false, 1242, 0},
		"it said more":                     {"cat said; echo panic; exit 1", false, 1242, 0},
		"it passed":                        {"grep execs said; echo PASS", true, 1236, 0},
		"an input that was there stays so": {"mkdir -p testdata/fuzz/FuzzY; cat said; exit 1", true, 1242, 1},
	} {
		folder, home := t.TempDir(), t.TempDir()
		if err := os.WriteFile(filepath.Join(home, "said"), []byte(saidLate), 0o600); err != nil {
			t.Fatal(err)
		}
		binary := filepath.Join(folder, "target")
		if err := os.WriteFile(binary, []byte("#!/bin/sh\n"+test.script+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		r := target{"p", "FuzzY"}.try(binary, home, folder, time.Second)
		if r.Passed != test.passed || r.Count != test.count || r.Late != test.late {
			t.Errorf("%s: passed %v with %d executions, late %d; want %v, %d, %d\n%s", name, r.Passed, r.Count, r.Late, test.passed, test.count, test.late, r.output)
		}
		if told := strings.Contains(strings.Join(r.Figures, "\n"), "no input failed"); told != (test.late > 0) {
			t.Errorf("%s: the figures are %q", name, r.Figures)
		}
		line := strings.Join(summary([]result{r}, time.Second), "\n")
		if told := strings.Contains(line, "1 ended late by the engine"); told != (test.late > 0) || strings.Contains(line, "FAILED") == test.passed {
			t.Errorf("%s: summed up as\n%s", name, line)
		}
	}
}
