// Prove runs what shows that Riparo keeps its promises when the worst happens: power
// cuts, kill -9, seeded walks, planted bugs, fuzzing. It prints every figure.
//
//	prove [--short] [--json]
//
// It runs the same tests as everybody; it only lets them go on for longer. A proof
// whose test is missing counts as failed, so that this list cannot go stale.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"
)

// proof is a test that is run for longer than usual.
type proof struct {
	name        string
	pkg         string
	test        string // a pattern for -run
	short, long string // environment, NAME=VALUE; empty: as it is
	onlyLong    bool   // not with --short
}

var proofs = []proof{
	{name: "the vault survives power cuts", pkg: "./replication/vault", test: "^TestPowerCuts$", short: "RIPARO_CUTS=10000", long: "RIPARO_CUTS=1000000"},
	{name: "power cuts find planted bugs in the vault", pkg: "./replication/vault", test: "^TestPowerCutsFindPlantedBugs$"},
	{name: "worlds: every recovery point is its instant", pkg: "./replication/sim", test: "^TestEveryRecoveryPointIsItsInstant$", short: "RIPARO_SEEDS=100", long: "RIPARO_SEEDS=10000"},
	{name: "the same seed gives the same world", pkg: "./replication/sim", test: "^TestTheSameSeedGivesTheSameTrace$"},
	{name: "worlds find planted bugs in the whole walk", pkg: "./replication/sim", test: "^TestWorldsFindPlantedBugs$"},
	{name: "no flipped bit of a vault is silent", pkg: "./replication/vault", test: "^TestNoBitFlipIsSilent$", short: "RIPARO_FLIPS=200", long: "RIPARO_FLIPS=10000"},
	{name: "a copy-on-write disk survives power cuts", pkg: "./replication/nbd", test: "^TestOverlayLosesNothingThatWasSynced$", long: "RIPARO_LONG=1"},
	{name: "a replication survives kill -9", pkg: "./appliance/cmd/riparo", test: "^TestKilledAtAnyMomentItGoesOn$", short: "RIPARO_KILLS=40", long: "RIPARO_KILLS=500"},
	{name: "the appliance survives kill -9, with guests", pkg: "./appliance", test: "^TestKilledAtAnyMomentTheStoryGoesOn$", long: "RIPARO_KILLS=500", onlyLong: true},
	{name: "every capture of the lab gives back its instant", pkg: "./hypervisor/lab", test: "^TestEveryCaptureGivesBackItsInstant$", short: "RIPARO_LAB_SEEDS=8", long: "RIPARO_LAB_SEEDS=200"},
	{name: "the suite for places finds planted bugs", pkg: "./hypervisor/lab", test: "^TestTheSuiteFindsPlantedBugs$"},
}

// result is one line of the table.
type result struct {
	Name    string   `json:"name"`
	Passed  bool     `json:"passed"`
	Seconds float64  `json:"seconds"`
	Figures []string `json:"figures"`
	output  string
}

func main() {
	short := flag.Bool("short", false, "minutes instead of hours")
	asJSON := flag.Bool("json", false, "print one JSON document")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "prove: one argument too many: %q\n", flag.Arg(0))
		os.Exit(2)
	}
	began := time.Now()
	fuzzFor := time.Minute
	if *short {
		fuzzFor = 5 * time.Second
	}
	var results []result
	add := func(r result) {
		results = append(results, r)
		print(r)
	}
	for _, p := range proofs {
		if p.onlyLong && *short {
			fmt.Fprintf(os.Stderr, "        left out by --short: %s\n", p.name)
			continue
		}
		add(p.run(*short))
	}
	targets, err := fuzzTargets()
	if err != nil {
		add(result{Name: "list the fuzz targets", output: err.Error()})
	}
	for _, t := range targets {
		add(t.run(fuzzFor))
	}
	passed := true
	for _, r := range results {
		passed = passed && r.Passed
	}
	if *asJSON {
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "  ")
		if err := e.Encode(map[string]any{"passed": passed, "seconds": time.Since(began).Seconds(), "proofs": results}); err != nil {
			passed = false
		}
	}
	if !passed {
		os.Exit(1)
	}
}

// print tells of one result at once, on stderr where it does not disturb JSON.
func print(r result) {
	mark := "proved"
	if !r.Passed {
		mark = "FAILED"
	}
	fmt.Fprintf(os.Stderr, "%s  %-72s %7.1f s\n", mark, r.Name, r.Seconds)
	for _, f := range r.Figures {
		fmt.Fprintf(os.Stderr, "        %s\n", f)
	}
	if !r.Passed {
		fmt.Fprintln(os.Stderr, strings.TrimSpace(r.output))
	}
}
