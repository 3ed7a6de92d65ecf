package vault

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"riparo/replication/proof"
	"riparo/replication/vfs"
)

// flipsPerVault is how many copies of one vault get a flipped bit each.
const flipsPerVault = 100

// TestNoBitFlipIsSilent changes one bit of one file of a closed vault, opens it and
// reads everything. The bytes of every point must be what they were, or an error or
// Verify must say otherwise. RIPARO_FLIPS sets the number of flips in each format of
// file that a vault has.
func TestNoBitFlipIsSilent(t *testing.T) {
	f := flips{t: t, perFormat: proof.Times(t, "RIPARO_FLIPS", 150), found: map[string]map[string]int{}, done: map[string]int{}}
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for f.vault(f.seed.Add(1)) {
			}
		})
	}
	workers.Wait()
	for _, format := range slices.Sorted(maps.Keys(f.found)) {
		var how []string
		for _, kind := range slices.Sorted(maps.Keys(f.found[format])) {
			how = append(how, fmt.Sprintf("%d %s", f.found[format][kind], kind))
		}
		t.Logf("%s: %d bit flips, 0 silent: %s", format, f.done[format], strings.Join(how, ", "))
	}
	for _, format := range []string{"vault", "catalog", "segment", "map"} {
		if f.done[format] < f.perFormat && !t.Failed() {
			t.Errorf("%s: %d flips, want %d", format, f.done[format], f.perFormat)
		}
	}
}

// flips counts what became of flipped bits, by the format of the file.
type flips struct {
	t         *testing.T
	perFormat int
	seed      atomic.Uint64

	mu    sync.Mutex // guards all below
	found map[string]map[string]int
	done  map[string]int
}

// vault makes the vault of a seed and flips bits in copies of it. It reports whether
// more are needed.
func (f *flips) vault(seed uint64) bool {
	l := newLife(f.t.Context(), seed)
	l.calm = true
	if err := l.boot(); err != nil {
		f.t.Errorf("seed %d: %v", seed, err)
		return false
	}
	for range 60 {
		if err := l.step(); err != nil {
			f.t.Errorf("seed %d: %v", seed, err)
			return false
		}
	}
	if err := l.reopen(); err != nil {
		f.t.Errorf("seed %d: %v", seed, err)
		return false
	}
	if err := l.vault.Close(); err != nil {
		f.t.Errorf("seed %d: %v", seed, err)
		return false
	}
	formats := formatsOf(l.disk)
	r := rand.New(rand.NewPCG(seed, 11))
	for i := range flipsPerVault {
		format, ok := f.next(formats, i)
		if !ok {
			return f.more()
		}
		name, bit := randomBit(formats[format], r)
		disk := l.disk.Clone()
		if err := disk.FlipBit(name, bit); err != nil {
			f.t.Error(err)
			return false
		}
		how, err := flipped(l, disk)
		if err != nil {
			f.t.Errorf("seed %d: bit %d of %s: SILENT: %v", seed, bit, name, err)
			return false
		}
		f.note(format, how)
	}
	return true
}

// more reports whether a format that was seen needs more. Not every vault has a file of
// each.
func (f *flips) more() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, n := range f.done {
		if n < f.perFormat {
			return !f.t.Failed()
		}
	}
	return false
}

// next is the format whose turn it is; not ok when none of this vault needs more.
func (f *flips) next(formats map[string][]sizedFile, turn int) (string, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var open []string
	for _, format := range slices.Sorted(maps.Keys(formats)) {
		if f.done[format] < f.perFormat {
			open = append(open, format)
		}
	}
	if len(open) == 0 || f.t.Failed() {
		return "", false
	}
	return open[turn%len(open)], true
}

func (f *flips) note(format, how string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.done[format]++
	if f.found[format] == nil {
		f.found[format] = map[string]int{}
	}
	f.found[format][how]++
}

type sizedFile struct {
	name string
	size int64
}

// formatsOf sorts the files of a vault by what is in them.
func formatsOf(disk *vfs.Sim) map[string][]sizedFile {
	formats := map[string][]sizedFile{}
	names, sizes := disk.Files()
	for i, name := range names {
		if sizes[i] > 0 {
			format := name[strings.LastIndexAny(name, `./\`)+1:]
			formats[format] = append(formats[format], sizedFile{name, sizes[i]})
		}
	}
	return formats
}

// randomBit chooses a bit, small files not more rarely than large ones.
func randomBit(files []sizedFile, r *rand.Rand) (string, int64) {
	f := files[r.IntN(len(files))]
	return f.name, r.Int64N(8 * f.size)
}

// flipped tells how the flip shows. The error is that of a flip that does not.
func flipped(l *life, disk *vfs.Sim) (string, error) {
	v, err := Open(l.ctx, disk, "v", l.options())
	if err != nil {
		return "refused to open", nil
	}
	defer v.Close()
	report, err := v.Verify(l.ctx, VerifyOptions{})
	if err != nil {
		return "refused to verify", nil
	}
	real := harm(report)
	err = l.model.matches(l.ctx, v)
	switch {
	case err == nil && len(report.Damage) == 0:
		return "no damage left", nil
	case err == nil && real == 0:
		return "verify reports damage to what is derived", nil
	case err == nil:
		return "verify reports damage that no point needs", nil
	case real > 0 && !strings.Contains(err.Error(), "MIXTURE"):
		return "verify reports damage", nil
	case hasCode(err, CodeIndex) && len(report.Damage) > 0:
		return "reading reports a damaged map", nil
	}
	return "", err
}
