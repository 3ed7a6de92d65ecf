package main

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// summary sums up, one line for each kind of proof that ran, with one for each of its
// parts below, and one for all. A kind of which a part failed or was absent says so in
// its line.
func summary(results []result, all time.Duration) []string {
	var lines []string
	failed := 0
	for _, kind := range kinds {
		var of []result
		for _, r := range results {
			if r.Kind == kind {
				of = append(of, r)
			}
		}
		if len(of) == 0 {
			continue
		}
		lines = append(lines, line(kind, of))
		for _, r := range of {
			if len(of) > 1 && kind != fuzzing {
				lines = append(lines, part(r))
			}
		}
	}
	for _, r := range results {
		if !r.Passed {
			failed++
		}
	}
	return append(lines, fmt.Sprintf("%-16s %12s  %-60s %7.0f s", "in all", fmt.Sprintf("%d parts", len(results)), fmt.Sprintf("%d failed", failed), all.Seconds()))
}

// line is the summary of one kind.
func line(kind string, of []result) string {
	count, seconds := 0, 0.0
	var notes []string
	failed, absent, late := 0, 0, 0
	for _, r := range of {
		count += r.Count
		late += r.Late
		seconds += r.Seconds
		switch {
		case !r.Passed:
			failed++
		case r.Skipped != "":
			absent++
		}
	}
	switch {
	case failed > 0:
		notes = append(notes, fmt.Sprintf("%d of %d parts FAILED", failed, len(of)))
	case kind == fuzzing:
		notes = append(notes, fmt.Sprintf("in %d targets, 0 panics", len(of)))
	default:
		notes = append(notes, promise[kind])
	}
	if absent > 0 {
		notes = append(notes, fmt.Sprintf("%d of %d parts not on this machine", absent, len(of)))
	}
	if late > 0 {
		notes = append(notes, fmt.Sprintf("%d ended late by the engine", late))
	}
	switch kind {
	case worlds:
		if n := rarest(of); n > 0 {
			notes = append(notes, fmt.Sprintf("each kind of fault %s times or more", thousands(n)))
		}
	case bugs:
		notes = append(notes, worst(of))
	case bitFlips:
		notes = append(notes, perFormat(of))
	}
	return fmt.Sprintf("%-16s %12s  %-60s %7.0f s", kind, thousands(count), strings.Join(notes, ", "), seconds)
}

// part is the line of one proof below that of its kind.
func part(r result) string {
	return fmt.Sprintf("%-16s %12s    %-58s %7.0f s", "", thousands(r.Count), r.Name, r.Seconds)
}

// promise is what holds when no part of a kind failed: its tests fail otherwise.
var promise = map[string]string{
	powerCuts: "0 points lost, 0 mixed",
	worlds:    "0 violations",
	bugs:      "all found",
	images:    "0 violations",
	bitFlips:  "0 silent",
	kills:     "all points equal",
	walks:     "all equal",
}

var worstSeeds = regexp.MustCompile(`worst (\d+) seeds`)

// worst is the largest number of seeds that a planted bug took.
func worst(of []result) string {
	most := 0
	for _, r := range of {
		for _, f := range r.Figures {
			if m := worstSeeds.FindStringSubmatch(f); m != nil {
				n, _ := strconv.Atoi(m[1])
				most = max(most, n)
			}
		}
	}
	return fmt.Sprintf("worst %d seeds", most)
}

var timesOrMore = regexp.MustCompile(`kinds of fault fired (\d+) times or more`)

// rarest is how often the kind of fault happened that happened least.
func rarest(of []result) int {
	for _, r := range of {
		for _, f := range r.Figures {
			if m := timesOrMore.FindStringSubmatch(f); m != nil {
				n, _ := strconv.Atoi(m[1])
				return n
			}
		}
	}
	return 0
}

var flipsOf = regexp.MustCompile(`^(.*): (\d+) bit flips`)

// perFormat is the format with the fewest flips, of how many formats.
func perFormat(of []result) string {
	formats, least := 0, 0
	for _, r := range of {
		for _, f := range r.Figures {
			if m := flipsOf.FindStringSubmatch(f); m != nil {
				n, _ := strconv.Atoi(m[2])
				if formats == 0 || n < least {
					least = n
				}
				formats++
			}
		}
	}
	return fmt.Sprintf("%s or more in each of %d formats", thousands(least), formats)
}

// thousands writes 1234567 as 1,234,567.
func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
