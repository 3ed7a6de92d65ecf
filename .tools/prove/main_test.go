package main

import (
	"slices"
	"strings"
	"testing"
	"time"
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
		if got, _ := figureOf(test.name, test.output); short(got) != test.want {
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

func TestACountStandsInFrontOfItsKind(t *testing.T) {
	for _, test := range []struct {
		figure, kind string
		want         int
	}{
		{"1897 power cuts in 237 lives, 0 points lost", powerCuts, 1897},
		{"18/19 planted bugs found, worst 4 seeds (x), 9 s", bugs, 18},
		{"map: 150 bit flips, 0 silent: 3 refused to open", bitFlips, 150},
		{"TestX: state file: 150 bit flips, 0 silent", bitFlips, 150},
		{"102 kills, 31 points, the vault is whole", kills, 102},
		{"all points equal after 102 kills", kills, 0},
		{"an fsync is left out: found by seed 7", bugs, 0},
		{"power cuts", powerCuts, 0},
	} {
		if got := countOf(test.figure, test.kind); got != test.want {
			t.Errorf("%q: %d %s, want %d", test.figure, got, test.kind, test.want)
		}
	}
}

// said is what `go test -json` prints for a test that logs a line.
func said(action, line string) []byte {
	return []byte(`{"Action":"output","Test":"TestX","Output":"    x_test.go:1: ` + line + `\n"}` + "\n" + `{"Action":"` + action + `","Test":"TestX"}` + "\n")
}

func TestAProofThatDidNotRunFails(t *testing.T) {
	for name, test := range map[string]struct {
		mayBeAbsent bool
		out         []byte
		passed      bool
		skipped     string
		count       int
	}{
		"it passed":                       {out: said("pass", "9 kills"), passed: true, count: 9},
		"no such test":                    {out: []byte("ok riparo/x\n")},
		"skipped":                         {out: said("skip", "no kernel")},
		"skipped, and that may happen":    {out: said("skip", "no kernel"), mayBeAbsent: true, passed: true, skipped: "no kernel"},
		"passed, and might be skipped":    {out: said("pass", "9 kills"), mayBeAbsent: true, passed: true, count: 9},
		"nothing at all, but might be so": {mayBeAbsent: true},
	} {
		r := result{Passed: true}
		proof{kind: kills, mayBeAbsent: test.mayBeAbsent}.read(&r, test.out)
		if r.Passed != test.passed || r.Skipped != test.skipped || r.Count != test.count {
			t.Errorf("%s: got %+v, want passed %v, skipped %q, count %d", name, r, test.passed, test.skipped, test.count)
		}
	}
}

// TestAKillCountsOnce reads what the story of the killed appliance says in the end: that
// number twice, once for what the vault holds and once for what it gives back.
func TestAKillCountsOnce(t *testing.T) {
	r := result{Passed: true}
	proof{kind: kills}.read(&r, slices.Concat(said("output", "102 kills, 31 points, the vault is whole"), said("pass", "all points equal after 102 kills")))
	if r.Count != 102 || len(r.Figures) != 2 {
		t.Errorf("%d kills are counted, with the figures %q; want 102 and both figures", r.Count, r.Figures)
	}
}

func TestTheSummaryAddsUpAndHidesNothing(t *testing.T) {
	results := []result{
		{Name: "the vault survives", Kind: powerCuts, Passed: true, Count: 999_000, Seconds: 10},
		{Kind: worlds, Passed: true, Count: 9, Figures: []string{"each of 24 kinds of fault fired 163 times or more (disk full)"}},
		{Kind: powerCuts, Passed: true, Count: 1_500, Seconds: 5},
		{Kind: bugs, Passed: true, Count: 30, Figures: []string{"30/30 planted bugs found, worst 31 seeds (y), 3 s"}},
		{Kind: bugs, Count: 5, Figures: []string{"5/6 planted bugs found, worst 2 seeds (z), 3 s"}},
		{Kind: images, Passed: true, Skipped: "not root"},
		{Kind: bitFlips, Passed: true, Count: 350, Figures: []string{"map: 150 bit flips, 0 silent", "key file: 200 bit flips, 0 silent"}},
	}
	got := strings.Join(summary(results, time.Minute), "\n")
	for _, want := range []string{"1,000,500  0 points lost", "1 of 2 parts FAILED", "worst 31 seeds", "1 of 1 parts not on this machine", "150 or more in each of 2 formats", "each kind of fault 163 times or more", "999,000    the vault survives", "1 failed"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in:\n%s", want, got)
		}
	}
	if strings.Contains(got, "all found") {
		t.Errorf("a bug was not found, and it says:\n%s", got)
	}
}
