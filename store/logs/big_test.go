package logs

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"riparo/replication/proof"
)

// bigMiB is the size of the log of the test below. RIPARO_LOG_MIB=2048 is the one
// that figures are told of.
const bigMiB = 96

// indexShare: the index may take that part of the log at most.
const indexShare = 400

// The newest page is what a person opens the log with. A short run may miss the time by
// slack: it is to tell reading a page from reading all.
const (
	newest    = "the newest page"
	mostFirst = time.Second
	slack     = 10
)

func TestALargeLogIsSearchedInLittleMemory(t *testing.T) {
	usual := bigMiB
	if testing.Short() {
		usual = 16
	}
	mib := proof.Times(t, "RIPARO_LOG_MIB", usual)
	dir := t.TempDir()
	const seed = 20
	lines := writeBig(t, dir, mib, rand.New(rand.NewPCG(seed, seed)))
	r := NewReader(dir)
	base := heap()

	ask := func(name string, f Filter, want int) {
		began, pages, found, peak := time.Now(), 0, 0, uint64(0)
		first := time.Duration(0)
		for at := (Position{}); ; {
			page, err := r.Before(t.Context(), f, at, 100)
			if err != nil {
				t.Fatal(err)
			}
			if pages++; pages == 1 {
				first = time.Since(began)
			}
			found += len(page.Lines)
			peak = max(peak, heap())
			if at = page.Older; at.IsZero() || found >= want {
				break
			}
		}
		t.Logf("%-34s %6d lines in %3d pages, first page %8s, all %8s, heap %5.1f MiB above the start",
			name, found, pages, first.Round(100*time.Microsecond), time.Since(began).Round(100*time.Microsecond), float64(peak-min(base, peak))/(1<<20))
		if most := mostFirst * slack; name == newest && first > most || os.Getenv("RIPARO_LOG_MIB") != "" && name == newest && first > mostFirst {
			t.Errorf("%s: the first page took %s, want at most %s", name, first, mostFirst)
		}
		if found < want {
			t.Errorf("%s: found %d lines of %d (seed %d)", name, found, want, seed)
		}
		if bound := uint64(mib<<20)/indexShare + 24<<20; peak > base+bound {
			t.Errorf("%s: the heap grew by %d bytes, want at most %d", name, peak-base, bound)
		}
	}
	t.Logf("%d MiB, %d lines", mib, lines)
	ask(newest, Filter{}, 100)
	ask("a job at the very beginning", ParseQuery("job:j-0"), 1)
	ask("again, indexed", ParseQuery("job:j-0"), 1)
	ask("a job that is not there", ParseQuery("job:j-none"), 0)
	ask("a text of the first line", ParseQuery(`"recovery point 0 "`), 1)
	ask("errors of one machine", ParseQuery("machine:m-017 level:error"), min(100, mib))
	ask("one hour, far back", Filter{Since: epoch.Add(time.Hour), Until: epoch.Add(time.Hour + time.Minute)}, 50)
	if index := len(r.Components()); index != 4 {
		t.Errorf("%d components are known, want 4", index)
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// writeBig writes mib MiB of lines into files of 50 MiB.
func writeBig(t *testing.T, dir string, mib int, random *rand.Rand) (lines int) {
	t.Helper()
	components := []string{"protection", "vault", "jobs", "master target"}
	for n, left := 0, int64(mib)<<20; left > 0; n++ {
		name := fmt.Sprintf("riparo-2026-11-01T%02d-%02d-00.000-size.log", n/60, n%60)
		if left <= FileMiB<<20 {
			name = active
		}
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		w := bufio.NewWriterSize(f, 1<<20)
		for size := int64(0); size < FileMiB<<20 && left > 0; lines++ {
			level := []string{"DEBUG", "DEBUG", "DEBUG", "INFO", "INFO", "INFO", "INFO", "WARN", "ERROR"}[random.IntN(9)]
			written, err := fmt.Fprintf(w, `{"time":%q,"level":%q,"msg":"recovery point %d taken","component":%q,"machine":"m-%03d","name":"SRV%03d","job":"j-%d","disk":"m-%03d-scsi0","sequence":%d,"bytes":%d,"took":"%dms"}`+"\n",
				epoch.Add(time.Duration(lines)*time.Second).Format(time.RFC3339Nano), level, lines, components[random.IntN(4)], random.IntN(200), random.IntN(200), lines/5000, random.IntN(200), lines, random.Int64N(1<<40), random.IntN(900))
			if err != nil {
				t.Fatal(err)
			}
			size += int64(written)
			left -= int64(written)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return lines
}
