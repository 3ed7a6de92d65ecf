package planted

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Environment variables.
const (
	// bugVariable is the number of the bug that a binary is to have.
	bugVariable = "RIPARO_PLANTED_BUG"
	// triesVariable is the number of seeds that a test has to find it.
	triesVariable = "RIPARO_PLANTED_TRIES"
)

// MaxTries is how many seeds may pass before a bug is found.
const MaxTries = 200

// hang ends the test of a bug that lets it run for ever. That is no finding: nobody
// could tell it from a slow machine.
const hang = 4 * time.Minute

// Tries is the number of seeds that a test has, when it runs with a bug planted.
func Tries() (int, bool) {
	n, err := strconv.Atoi(os.Getenv(triesVariable))
	return n, err == nil
}

// Find runs test, or the test that a bug names, with one bug after another, and fails
// for each bug that the test does not find. It tells after how many seeds and how long
// each was found. pkg is the package of the tests as an import path inside the module.
func Find(t *testing.T, pkg, test string, bugs []Bug) {
	root := moduleRoot(t)
	dir := t.TempDir()
	binary := filepath.Join(dir, "planted.test")
	if err := build(t.Context(), root, dir, pkg, binary, bugs); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	var mu sync.Mutex // guards the figures below
	found, worst, worstName := 0, 0, ""
	t.Run("bugs", func(t *testing.T) {
		for i, b := range bugs {
			t.Run(b.Name, func(t *testing.T) {
				t.Parallel()
				seeds, seconds, said, ok := look(t.Context(), filepath.Join(root, filepath.FromSlash(pkg)), binary, i+1, cmp.Or(b.Test, test))
				if !ok {
					t.Fatalf("not found: %s passes, or does not end, with this bug in %s:\n%s", cmp.Or(b.Test, test), b.File, said)
				}
				t.Logf("found by %s with seed %d after %.1f s: %s", cmp.Or(b.Test, test), seeds, seconds, said)
				mu.Lock()
				defer mu.Unlock()
				if found++; seeds > worst {
					worst, worstName = seeds, b.Name
				}
			})
		}
	})
	t.Logf("%d/%d planted bugs found, worst %d seeds (%s), %.0f s", found, len(bugs), worst, worstName, time.Since(began).Seconds())
}

// Fit fails for each bug whose place is gone from the code.
func Fit(t *testing.T, pkg string, bugs []Bug) {
	if _, err := overlay(moduleRoot(t), pkg, bugs); err != nil {
		t.Error(err)
	}
}

// moduleRoot is the folder of go.mod, above the folder that a test runs in.
func moduleRoot(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	for ; err == nil; dir = filepath.Dir(dir) {
		if _, gone := os.Stat(filepath.Join(dir, "go.mod")); gone == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			err = fmt.Errorf("no go.mod above %s", dir)
		}
	}
	t.Fatal(err)
	return ""
}

// overlay gives the content of the files that have bugs, and one more file for each
// package that has such files.
func overlay(root, pkg string, bugs []Bug) (map[string]string, error) {
	groups := map[string][]int{}
	var order []string
	for i, b := range bugs {
		name := b.File
		if !strings.Contains(name, "/") {
			name = pkg + "/" + name
		}
		if groups[name] == nil {
			order = append(order, name)
		}
		groups[name] = append(groups[name], i)
	}
	contents := map[string]string{}
	for _, name := range order {
		path := filepath.Join(root, filepath.FromSlash(name))
		source, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		var list []Bug
		var numbers []int
		for _, i := range groups[name] {
			list, numbers = append(list, bugs[i]), append(numbers, i+1)
		}
		if contents[path], err = plant(name, string(source), list, numbers); err != nil {
			return nil, err
		}
		first, _, _ := strings.Cut(string(source[bytes.Index(source, []byte("package ")):]), "\n")
		contents[filepath.Join(filepath.Dir(path), "planted_switch.go")] = first + `

import (
	"os"
	"strconv"
)

var plantedSwitch = func() int { n, _ := strconv.Atoi(os.Getenv("` + bugVariable + `")); return n }()
`
	}
	return contents, nil
}

// build compiles the tests of pkg with all bugs.
func build(ctx context.Context, root, dir, pkg, binary string, bugs []Bug) error {
	contents, err := overlay(root, pkg, bugs)
	if err != nil {
		return err
	}
	replace, n := map[string]string{}, 0
	for path, text := range contents {
		n++
		replace[path] = filepath.Join(dir, fmt.Sprintf("%03d.go", n))
		if err := os.WriteFile(replace[path], []byte(text), 0o600); err != nil {
			return err
		}
	}
	list, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, list, 0o600); err != nil {
		return err
	}
	c := exec.CommandContext(ctx, "go", "test", "-c", "-overlay", file, "-o", binary, "./"+pkg)
	c.Dir = root
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("build the planted bugs: %w\n%s", err, out)
	}
	return nil
}

var bySeed = regexp.MustCompile(`\bseed (\d+)`)

// look runs a test with one bug. It reports ok when the test failed, with the seed that
// did it and the line that says so.
func look(ctx context.Context, folder, binary string, number int, test string) (seed int, seconds float64, said string, ok bool) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, hang)
	defer cancel()
	c := exec.CommandContext(ctx, binary, "-test.run", "^("+test+")$", "-test.v")
	c.Dir = folder
	c.Env = append(os.Environ(), bugVariable+"="+strconv.Itoa(number), triesVariable+"="+strconv.Itoa(MaxTries), "GOMAXPROCS=1")
	out, err := c.CombinedOutput()
	seconds = time.Since(began).Seconds()
	if !bytes.Contains(out, []byte("=== RUN")) {
		return 0, seconds, "no such test:\n" + string(out), false
	}
	if err == nil || ctx.Err() != nil {
		return 0, seconds, string(out), false
	}
	for line := range strings.SplitSeq(string(out), "\n") {
		if m := bySeed.FindStringSubmatch(line); m != nil {
			seed, _ = strconv.Atoi(m[1])
			return seed, seconds, strings.TrimSpace(line), seed <= MaxTries
		}
	}
	text := strings.TrimSpace(string(out))
	for line := range strings.SplitSeq(text, "\n") {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "=== ") && !strings.HasPrefix(line, "--- ") {
			return 1, seconds, line, true
		}
	}
	return 1, seconds, text, true
}
