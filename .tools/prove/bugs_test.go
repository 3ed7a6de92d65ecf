package main

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestEachPlantedBugIsListedOnce(t *testing.T) {
	r := result{Passed: true, Kind: bugs}
	out := said("pass", "9/9 planted bugs found, worst 3 seeds (x), 1 s")
	long := strings.Repeat("y", 90)
	out = append(out, []byte(`{"Action":"output","Test":"TestX/bugs/acknowledge_before_`+long+`","Output":"    find.go:1: found by TestPowerCuts with seed 3 after 0.1 s: `+long+`\n"}`+"\n")...)
	proof{kind: bugs}.read(&r, out)
	want := found{"acknowledge before " + long, "PowerCuts", 3}
	if len(r.Bugs) != 1 || r.Bugs[0] != want || r.Count != 9 || len(r.Figures) != 1 {
		t.Errorf("got %+v, want %+v", r, want)
	}
	table := strings.Join(bugTable([]result{r}), "\n")
	if !strings.Contains(table, "PowerCuts") || strings.Count(table, "\n") != 1 {
		t.Errorf("the table is\n%s", table)
	}
	if lines := summary([]result{r}, time.Second); !strings.Contains(lines[0], "all found, worst 3 seeds") {
		t.Errorf("the summary is %q", lines)
	}
}

func TestFewOrLateBugsDoNotPass(t *testing.T) {
	of := func(planted, listed, seeds int) result {
		r := result{Kind: bugs, Passed: true, Figures: []string{fmt.Sprintf("%d/%d planted bugs found, worst 9 seeds (x), 3 s", listed, planted)}}
		for range listed {
			r.Bugs = append(r.Bugs, found{"a", "B", seeds})
		}
		return r
	}
	for name, test := range map[string]struct {
		results []result
		want    bool
	}{
		"enough":          {[]result{of(30, 30, 5), of(10, 10, 200)}, true},
		"too few":         {[]result{of(30, 30, 5), of(9, 9, 5)}, false},
		"one not found":   {[]result{of(30, 30, 5), of(12, 11, 5)}, false},
		"one after 201":   {[]result{of(40, 40, 5), of(1, 1, 201)}, false},
		"nothing planted": {nil, false},
	} {
		if got := enoughBugs(test.results); got.Passed != test.want {
			t.Errorf("%s: passed %v, want %v: %s", name, got.Passed, test.want, got.output)
		}
	}
}
