package main

import (
	"strings"
	"testing"
)

func TestAFigureIsWhatATestLogged(t *testing.T) {
	for _, test := range []struct{ name, output, want string }{
		{"TestPowerCuts", "    cut_test.go:628: 1897 lives, 0 violations\n", "1897 lives, 0 violations"},
		{"TestBugs/an_fsync_is_left_out", "        planted_test.go:9: found in 12ms\n", "an fsync is left out: found in 12ms"},
		{"TestPowerCuts", "=== RUN   TestPowerCuts\n", ""},
		{"TestPowerCuts", "--- PASS: TestPowerCuts (1.00s)\n", ""},
		{"", "    cut_test.go:628: of no test\n", ""},
		{"TestLong", "    long_test.go:1: " + strings.Repeat("x", 200) + "\n", strings.Repeat("x", longestFigure) + "…"},
	} {
		if got, _ := figureOf(test.name, test.output); got != test.want {
			t.Errorf("%s %q: got %q, want %q", test.name, test.output, got, test.want)
		}
	}
}

func TestExecutionsAreRead(t *testing.T) {
	const said = "fuzz: elapsed: 3s, execs: 102 (34/sec), new interesting: 1 (total: 4)\nfuzz: elapsed: 5s, execs: 63210 (12642/sec), new interesting: 12 (total: 34)\n"
	all := executions.FindAllStringSubmatch(said, -1)
	if len(all) != 2 || all[1][1] != "63210" || all[1][2] != "12" || all[1][3] != "34" {
		t.Errorf("got %q", all)
	}
}
