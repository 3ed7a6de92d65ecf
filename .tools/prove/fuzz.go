package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// target is one fuzz target.
type target struct{ pkg, name string }

// fuzzForm is how all targets together are run.
type fuzzForm struct {
	all   time.Duration
	least int           // executions; fewer do not pass
	round time.Duration // for one target, at least
	// guided by the code that an input reaches. The packages are compiled once more for
	// that, which takes longer than all of the short form; without, inputs are the kept
	// ones and what chance makes of them.
	guided bool
}

const (
	fuzzShort = 10 * time.Second // for all targets together
	fuzzLong  = 19 * time.Minute // at most
	// fuzzExecutions: fewer, in the long form, do not pass.
	fuzzExecutions = 20_000_000
	// fuzzReserve is what more is aimed at: rates fall while inputs gather.
	fuzzReserve = 1_000_000
	// fuzzRounds: a rate that was mistaken is corrected by the next round.
	fuzzRounds = 4
	// fewExecutions: a target that hardly ran proves nothing and does not pass.
	fewExecutions = 20
	// leastRound: the engine tries all inputs that it has kept before new ones.
	leastRound      = time.Second
	leastShortRound = 250 * time.Millisecond
	// minimizeTries: the go command makes an interesting input smaller before it goes
	// on, by default for a minute. With inputs of 4 KiB it did nothing else.
	minimizeTries = "20x"
)

var fuzzFunction = regexp.MustCompile(`(?m)^func (Fuzz\w*)\(\w+ \*testing\.F\)`)

// fuzzTargets looks through the tests of every package: to ask their binaries would
// compile all of them.
func fuzzTargets() ([]target, error) {
	const form = "{{$p := .}}{{range .TestGoFiles}}{{$p.ImportPath}} {{$p.Dir}}/{{.}}\n{{end}}{{range .XTestGoFiles}}{{$p.ImportPath}} {{$p.Dir}}/{{.}}\n{{end}}"
	out, err := exec.Command("go", "list", "-f", form, "./...").Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w: %s", err, out)
	}
	var found []target
	for line := range strings.Lines(string(out)) {
		pkg, file, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		for _, m := range fuzzFunction.FindAllSubmatch(text, -1) {
			found = append(found, target{pkg, string(m[1])})
		}
	}
	if len(found) == 0 {
		return nil, errors.New("no fuzz target in any package")
	}
	return found, nil
}

// fuzz runs all targets as the form says. Half of its time each has an equal share of; the
// other half goes where an execution costs least, as an equal number of tries would
// leave the slow ones with all of the time. With a number of executions to reach, only
// as much of that half is used as the rates of the first half ask for. tell is called
// with what is done.
func fuzz(targets []target, form fuzzForm, tell func(result)) []result {
	if len(targets) == 0 {
		return nil
	}
	folder, err := os.MkdirTemp("", "prove-fuzz-")
	if err != nil {
		return []result{{Name: "make a folder for fuzz targets", Kind: fuzzing, output: err.Error()}}
	}
	defer os.RemoveAll(folder)
	first := max(form.round, form.all/2/time.Duration(len(targets)))
	results := make([]result, len(targets))
	for i, t := range targets {
		r := t.run(folder, form.guided, first)
		for again := 0; again < fuzzRounds && r.Passed && r.Count < fewExecutions; again++ { // to start took all of its time
			r.join(t.run(folder, form.guided, leastRound))
		}
		results[i] = r
	}
	left := form.all - first*time.Duration(len(targets))
	for range fuzzRounds {
		round := rest(results, left, form.least)
		for i, share := range shares(results, round) {
			if share >= leastRound {
				results[i].join(targets[i].run(folder, form.guided, share))
			}
		}
		if left -= round; round == 0 || form.least == 0 {
			break
		}
	}
	count := 0
	for i := range results {
		r := &results[i]
		if count += r.Count; r.Passed && r.Count < fewExecutions {
			r.Passed, r.output = false, fmt.Sprintf("%d executions are too few to say anything:\n%s", r.Count, r.output)
		}
		tell(*r)
	}
	if count < form.least {
		r := result{Name: "enough executions", Kind: fuzzing, output: fmt.Sprintf("%s executions in all, want %s", thousands(count), thousands(form.least))}
		tell(r)
		results = append(results, r)
	}
	return results
}

// fuzzTime is how long the long form may fuzz after what came before it, so that the
// whole ends within the hour. Some time it has always: without, it would prove nothing.
func fuzzTime(before time.Duration) time.Duration {
	const hour, start = time.Hour, 2 * time.Minute // to compile the targets and start them
	return min(fuzzLong, max(hour-start-before, fuzzLong/4))
}

// shares divides a time among targets by their rates. One that failed has none.
func shares(results []result, round time.Duration) []time.Duration {
	rates, sum := make([]float64, len(results)), 0.0
	for i, r := range results {
		if r.Passed {
			rates[i] = float64(r.Count) / max(r.Seconds, 0.1)
		}
		sum += rates[i]
	}
	out := make([]time.Duration, len(results))
	for i := range out {
		out[i] = time.Duration(float64(round) * rates[i] / max(sum, 1)).Round(time.Second)
	}
	return out
}

// rest is how much of the time that is left is still needed to reach a number of
// executions; all of it when there is none to reach.
func rest(results []result, left time.Duration, least int) time.Duration {
	if least == 0 || left < leastRound {
		return max(0, left)
	}
	count := 0
	for _, r := range results {
		count += r.Count
	}
	missing := least + fuzzReserve - count
	if count >= least || missing <= 0 {
		return 0
	}
	speed := 0.0 // executions a second, as shares divides the seconds
	for i, share := range shares(results, time.Hour) {
		speed += share.Hours() * float64(results[i].Count) / max(results[i].Seconds, 0.1)
	}
	needed := time.Duration(float64(missing) / max(speed, 1) * float64(time.Second))
	return min(left, max(needed, leastRound*time.Duration(len(results))))
}

// join adds another round of the same target.
func (r *result) join(more result) {
	r.Passed = r.Passed && more.Passed
	r.Seconds += more.Seconds
	r.Count += more.Count
	r.Late += more.Late
	r.Figures = append(r.Figures, more.Figures...)
	r.output += more.output
}

var executions = regexp.MustCompile(`execs: (\d+)(?: .*?new interesting: (\d+) \(total: (\d+)\))?`)

var baseline = regexp.MustCompile(`(?:baseline coverage|seed corpus): (\d+)/`)

// run fuzzes for a while. What it finds is kept under testdata, where every later test
// run tries it again.
func (t target) run(folder string, guided bool, long time.Duration) result {
	began := time.Now()
	binary, home, err := t.build(folder, guided)
	if err != nil {
		return result{Name: t.title(), Kind: fuzzing, output: err.Error()}
	}
	r := t.try(binary, home, folder, long)
	r.Seconds = time.Since(began).Seconds()
	return r
}

func (t target) title() string { return "fuzz " + t.pkg + " " + t.name }

// try fuzzes with the program that was built, in the folder of its package.
func (t target) try(binary, home, folder string, long time.Duration) result {
	r := result{Name: t.title(), Kind: fuzzing}
	// Some tests give up the rights of root before they begin.
	inputs := filepath.Join(folder, "inputs")
	if err := errors.Join(os.MkdirAll(inputs, 0o777), os.Chmod(inputs, 0o777), os.Chmod(folder, 0o755)); err != nil {
		r.output = err.Error()
		return r
	}
	ctx, cancel := context.WithTimeout(context.Background(), long+2*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, binary, "-test.run=^$", "-test.fuzz=^"+t.name+"$", "-test.fuzztime="+long.String(),
		"-test.fuzzminimizetime="+minimizeTries, "-test.parallel="+strconv.Itoa(runtime.NumCPU()), "-test.fuzzcachedir="+filepath.Join(inputs, strings.ReplaceAll(t.pkg, "/", "-")))
	c.Dir = home
	// An execution is a goroutine of its own that its worker waits for: with one processor
	// each, no other has to be woken for it.
	c.Env = append(os.Environ(), "GOMAXPROCS=1")
	kept := t.failing(home)
	out, err := c.CombinedOutput()
	r.Passed, r.output = err == nil, string(out)
	if err != nil && t.endedLate(string(out)) && slices.Equal(kept, t.failing(home)) {
		r.Passed, r.Late = true, 1
	}
	if all := executions.FindAllStringSubmatch(string(out), -1); len(all) > 0 {
		last := all[len(all)-1]
		r.Count, _ = strconv.Atoi(last[1])
		r.Figures = []string{thousands(r.Count) + " executions"}
		if last[2] != "" {
			r.Figures[0] += fmt.Sprintf(", %s new inputs, %s kept", last[2], last[3])
		}
	}
	if r.Late > 0 {
		r.Figures = append(r.Figures, "Go's fuzz engine took the end of its own time for an error; no input failed")
	}
	// What is tried first, to see what it reaches, is tried too.
	if all := baseline.FindAllStringSubmatch(string(out), -1); len(all) > 0 {
		n, _ := strconv.Atoi(all[len(all)-1][1])
		r.Count += n
	}
	return r
}

// build compiles the tests of the package, once, and tells its folder.
func (t target) build(folder string, guided bool) (binary, home string, err error) {
	list, err := exec.Command("go", "list", "-f", "{{.Dir}}", t.pkg).Output()
	if err != nil {
		return "", "", fmt.Errorf("go list %s: %w", t.pkg, err)
	}
	binary = filepath.Join(folder, strings.ReplaceAll(t.pkg, "/", "-")+".test")
	if _, err := os.Stat(binary); err == nil {
		return binary, strings.TrimSpace(string(list)), nil
	}
	arguments := []string{"test", "-c"}
	if guided {
		if arguments, err = t.instrumented(); err != nil {
			return "", "", err
		}
	}
	out, err := exec.Command("go", append(arguments, "-o", binary, t.pkg)...).CombinedOutput()
	if err != nil {
		return "", "", fmt.Errorf("compile %s for fuzzing: %w\n%s", t.pkg, err, out)
	}
	return binary, strings.TrimSpace(string(list)), nil
}

// instrumented is how to compile the tests of the package so that the engine sees which
// code an input reaches: ours and that of libraries. With -fuzz the standard library
// counts too: its counters are most of the work of an execution then, and inputs are kept
// and made smaller because a map grew or memory was collected.
func (t target) instrumented() ([]string, error) {
	const form = "{{if and .Module (not .Standard)}}{{.Module.Path}}{{end}}"
	out, err := exec.Command("go", "list", "-deps", "-test", "-f", form, t.pkg).Output()
	if err != nil {
		return nil, fmt.Errorf("go list %s: %w", t.pkg, err)
	}
	modules := strings.Fields(string(out))
	slices.Sort(modules)
	arguments := []string{"test", "-c"}
	for _, m := range slices.Compact(modules) {
		arguments = append(arguments, "-gcflags="+m+"/...=-d=libfuzzer")
	}
	return arguments, nil
}
