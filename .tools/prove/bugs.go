package main

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// found is a planted bug that a test found.
type found struct {
	Bug  string `json:"bug"`
	By   string `json:"by"`   // the test
	Seed int    `json:"seed"` // how many seeds it took
}

const (
	// fewestBugs is how many the long form plants at least, and it finds all of them.
	fewestBugs = 40
	// mostSeeds is how many a bug may take.
	mostSeeds = 200
)

var (
	foundBy  = regexp.MustCompile(`^(?:bugs/)?(.+): found by (\w+) with seed (\d+)\b`)
	foundOf  = regexp.MustCompile(`\b(\d+)/(\d+) planted bugs found\b`)
	testWord = regexp.MustCompile(`^Test`)
)

// foundIn reads what a test said when it found a planted bug.
func foundIn(figure string) (found, bool) {
	m := foundBy.FindStringSubmatch(figure)
	if m == nil {
		return found{}, false
	}
	seed, _ := strconv.Atoi(m[3])
	return found{m[1], testWord.ReplaceAllString(m[2], ""), max(seed, 1)}, true
}

// bugTable lists all planted bugs that were found, by name.
func bugTable(results []result) []string {
	var lines []string
	for _, r := range results {
		for _, f := range r.Bugs {
			if len(lines) == 0 {
				lines = append(lines, fmt.Sprintf("%-72s %5s  %s", "planted bug", "seeds", "found by"))
			}
			lines = append(lines, fmt.Sprintf("%-72s %5d  %s", f.Bug, f.Seed, f.By))
		}
	}
	return lines
}

// enoughBugs judges all proofs of planted bugs together.
func enoughBugs(results []result) result {
	r := result{Name: "enough planted bugs", Kind: bugs, Passed: true}
	planted, listed := 0, 0
	var wrong []string
	for _, of := range results {
		for _, figure := range of.Figures {
			if m := foundOf.FindStringSubmatch(figure); m != nil {
				n, _ := strconv.Atoi(m[2])
				planted += n
			}
		}
		listed += len(of.Bugs)
		for _, f := range of.Bugs {
			if f.Seed > mostSeeds {
				wrong = append(wrong, fmt.Sprintf("%s took %d seeds, want %d or fewer", f.Bug, f.Seed, mostSeeds))
			}
		}
	}
	if listed != planted || listed < fewestBugs {
		wrong = append(wrong, fmt.Sprintf("%d of %d planted bugs were found, want all of %d or more", listed, planted, fewestBugs))
	}
	r.Figures = []string{fmt.Sprintf("%d of %d, each within %d seeds", listed, planted, mostSeeds)}
	r.Passed, r.output = len(wrong) == 0, strings.Join(wrong, "\n")
	return r
}
