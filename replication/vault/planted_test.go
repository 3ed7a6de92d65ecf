package vault

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// plantedBug is a mistake that somebody might make: one place of the real code, and
// what it would be then.
type plantedBug struct {
	name, file, code, bug string
	test                  string // that must find it; empty: TestPowerCuts
}

var plantedBugs = []plantedBug{
	{"acknowledge before fsync", "log.go", `if err := w.file.Sync(); err != nil {
		return &finalError{fmt.Errorf("sync segment %s: %w", segmentName(w.number), err)}
	}
	if fresh {`, `if fresh {`, ""},
	{"a new segment without fsync of its folder", "log.go", `if err := l.fs.SyncDir(l.folder); err != nil {
			return &finalError{fmt.Errorf("sync folder %s: %w", l.folder, err)}
		}
		l.current = w`, `l.current = w`, ""},
	{"a failed fsync is tried again", "log.go", `if err := w.file.Sync(); err != nil {
		return &finalError{fmt.Errorf("sync segment %s: %w", segmentName(w.number), err)}
	}
	if fresh {`, `if err := w.file.Sync(); err != nil && w.file.Sync() != nil {
		return &finalError{err}
	}
	if fresh {`, ""},
	{"no check of the data at the end of the log", "rescue.go", `if s.checkPayload(&doubtful[i]) != nil {`, `if false {`, ""},
	{"no check of the chain", "replay.go", `rec.serial == at+1 && rec.chain == chain`, `rec.serial == at+1 && (rec.chain == chain || true)`, ""},
	{"what was doubtful is synced and not written again", "rescue.go", `err := r.rescue(s, doubtful)`,
		`for i := range doubtful {
		if err := r.take(&doubtful[i]); err != nil {
			return err
		}
		records = append(records, doubtful[i])
		end = doubtful[i].position + doubtful[i].size()
	}
	err := r.rescue(s, nil)`, ""},
	{"a repetition that was cut off counts", "recover.go", `return newest.serial >= s.header.repeats, nil`, `return true, nil`, ""},
	{"segments that the log passes by count", "recover.go", `if after > 0 && n > after {`, `if false {`, ""},
	{"a mark is applied before the data before it", "commit.go", `for _, p := range group {
		if err == nil {
			if err = d.apply(&p.record)`, `slices.SortStableFunc(group, func(a, b *pending) int { return int(b.head.kind) - int(a.head.kind) })
	for _, p := range group {
		if err == nil {
			if err = d.apply(&p.record)`, ""},
	{"dead segments are removed before the inventory is durable", "sweep.go", `if err := d.bury(dead); err != nil {
			return err
		}`, `d.clock++
		for _, n := range dead {
			d.dead = append(d.dead, deadSegment{n, d.clock})
		}
		d.mu.Unlock()
		d.removeDead()
		d.mu.Lock()
		if err := d.bury(dead); err != nil {
			return err
		}`, ""},
	{"a segment that only says zero is dead", "mapfile_writer.go", `r := w.refs[e.segment]`, `if e.codec == codecZero {
		if len(w.layers) == 1 {
			w.fenced(e)
		}
		w.put(e)
		return
	}
	r := w.refs[e.segment]`, ""},
	{"layers whose mark record is gone stay open", "replay.go", `r.closeUpTo(min(rec.serial-1, r.base))`, `_ = r.base`, ""},
	{"a view does not keep the segments it needs", "sweep.go", `for pin := range d.pins {
		oldest = min(oldest, pin)
	}`, ``, "TestAViewKeepsWhatItNeedsUntilItIsClosed"},
	{"a rewind leaves the tiles as they are", "state.go", `s.cutTiles(b.at)
		s.mapped = r.serial`, `s.mapped = r.serial`, ""},
	{"a disk that was cut grows with what it had", "sink.go", `if want.Size < d.disk.Size {`, `if false {`, ""},
	{"a map file is not synced", "mapfile_writer.go", `if w.err == nil {
		w.err = w.file.Sync()
	}`, ``, ""},
	{"a dropped point takes its layer along", "memory.go", `waiting = append(waiting, l.maps...)
			continue`, `continue`, ""},
	{"a full disk is final", "log.go", `if !errors.Is(err, vfs.ErrNoSpace) {
		return &finalError{err}
	}
	if !fresh {`, `if true {
		return &finalError{err}
	}
	if !fresh {`, ""},
	{"what was written to a full disk counts", "log.go", `return l.undo(w, fresh, fmt.Errorf("write %d bytes`, `l.serial, l.chain = at, chain
		return l.undo(w, fresh, fmt.Errorf("write %d bytes`, ""},
}

// TestPlantedBugsStillFitTheCode sees to it that each planted bug has its place.
func TestPlantedBugsStillFitTheCode(t *testing.T) {
	for _, b := range plantedBugs {
		if _, err := b.plant(); err != nil {
			t.Error(err)
		}
	}
}

// plant gives the file with the bug in it.
func (b *plantedBug) plant() (string, error) {
	source, err := os.ReadFile(b.file)
	if err != nil {
		return "", err
	}
	if n := strings.Count(string(source), b.code); n != 1 {
		return "", fmt.Errorf("planted bug %q: its place occurs %d times in %s", b.name, n, b.file)
	}
	text := strings.Replace(string(source), b.code, b.bug, 1)
	if strings.Contains(b.bug, "slices.") && !strings.Contains(text, `"slices"`) {
		text = strings.Replace(text, "import (", "import (\n\t\"slices\"", 1)
	}
	return text, nil
}

// plantedCuts is how many power cuts a planted bug may survive.
const plantedCuts = 4000

// TestPowerCutsFindPlantedBugs builds this package once for every planted bug, by an
// overlay that leaves the code alone, and runs the power cuts until they fail. It
// takes minutes; the environment variable RIPARO_PLANTED=1 asks for it.
func TestPowerCutsFindPlantedBugs(t *testing.T) {
	if os.Getenv("RIPARO_PLANTED") == "" {
		t.Skip("takes minutes: set RIPARO_PLANTED=1")
	}
	folder, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range plantedBugs {
		t.Run(b.name, func(t *testing.T) {
			text, err := b.plant()
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			mutant := filepath.Join(dir, b.file)
			if err := os.WriteFile(mutant, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(folder, b.file): mutant}})
			if err != nil {
				t.Fatal(err)
			}
			list := filepath.Join(dir, "overlay.json")
			if err := os.WriteFile(list, overlay, 0o600); err != nil {
				t.Fatal(err)
			}
			binary := filepath.Join(dir, "planted.test")
			build := exec.CommandContext(t.Context(), "go", "test", "-c", "-overlay", list, "-o", binary, ".")
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("build: %v\n%s", err, out)
			}
			run := exec.CommandContext(t.Context(), binary, "-test.run", "^"+cmp.Or(b.test, "TestPowerCuts")+"$", "-test.timeout", "10m")
			run.Env = append(os.Environ(), fmt.Sprintf("RIPARO_CUTS=%d", plantedCuts))
			begin := time.Now()
			out, err := run.CombinedOutput()
			if err == nil {
				t.Fatalf("%d power cuts did not find it", plantedCuts)
			}
			t.Logf("found in %v: %s", time.Since(begin).Round(time.Millisecond), lastLine(string(out)))
		})
	}
}

// lastLine is the line that says what failed.
func lastLine(out string) string {
	for line := range strings.SplitSeq(out, "\n") {
		if strings.Contains(line, "seed ") {
			return strings.TrimSpace(line)
		}
	}
	return strings.TrimSpace(out)
}
