package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/google/pprof/profile"
)

// cost is where the processor time of a work of ours goes, and what it was held up by.
type cost struct {
	Work    string             `json:"work"`
	Seconds float64            `json:"seconds"`
	CPU     float64            `json:"cpu_seconds"` // of the process, as the system counts it
	Share   map[string]float64 `json:"share"`       // of what the profile saw, by kind
	Waiting float64            `json:"waiting"`     // share of the processors that had nothing to do but wait for the disk
	Idle    float64            `json:"idle"`        // share that had nothing at all to do
	Limits  limits             `json:"limits"`
}

// costsKey names the table of where the processor time goes.
const costsKey = "profile"

// kinds of cost, and what the names of the functions have by which they are known. A stack
// is of the first kind that any of its functions has.
var kinds = []struct {
	name  string
	marks []string
}{
	{"compression", []string{"pierrec/lz4", "klauspost/compress", "minio/minlz"}},
	{"sealing, keyed sums", []string{"crypto/", "golang.org/x/crypto"}},
	{"checksums", []string{"hash/crc32", "zeebo/", "blake3"}},
	{"kernel: reading", []string{"syscall.Pread", "syscall.pread", "Preadv"}},
	{"kernel: writing", []string{"syscall.Pwrite", "syscall.pwrite", "Fdatasync", "Fsync", "Fallocate"}},
	{"other", []string{""}},
}

// looked are the works that are looked into. Without names of their own, the image before
// and the list of changes are those of a day.
var looked = []struct {
	name                string
	old, image, changed string
	before, command     string
	cold                bool
}{
	{name: "initial, LZ4", image: "disk.raw", before: newVault, command: replicate},
	{name: "initial, MinLZ", image: "disk.raw", before: newVault, command: replicate + withMinLZ},
	{name: "initial, zstd", image: "disk.raw", before: newVault, command: replicate + withZstd},
	{name: "initial, LZ4, source on disk", image: "disk.raw", before: newVault, command: replicate, cold: true},
	{name: "initial, MinLZ, source on disk", image: "disk.raw", before: newVault, command: replicate + withMinLZ, cold: true},
	{name: "a day, not known which", image: "day.raw", before: sameBase + copyVault, command: replicate},
	{name: "a day, not known which, source on disk", image: "day.raw", before: sameBase + copyVault, command: replicate, cold: true},
	{name: "a day, known", image: "day.raw", before: sameBase + copyVault, command: replicate + known},
	{name: "a day, known, MinLZ", image: "day.raw", before: sameBase + copyVault, command: replicate + known + withMinLZ},
	{name: "a whole image back", image: "disk.raw", before: sameBase + freshOut, command: export},
	{name: "a view, from its beginning to its end", image: "disk.raw", before: sameBase, command: serveOurs + readAll + "; " + endOurs},
	{name: "1 % of a database, not known which", old: "base.raw", image: "pages1.raw", before: databaseVault, command: replicate},
	{name: "5 % of a database, not known which", old: "base.raw", image: "pages5.raw", before: databaseVault, command: replicate},
	{name: "1 % of a database, known", old: "base.raw", image: "pages1.raw", changed: "pages1.changed", before: databaseVault, command: replicate + known},
	{name: "1 % of a database, known, MinLZ", old: "base.raw", image: "pages1.raw", changed: "pages1.changed", before: databaseVault, command: replicate + known + withMinLZ},
}

// databaseVault takes the place of the vault that the works before it share.
const databaseVault = baseVault + "; " + copyVault

// sameBase has the vault with the disk of before, if it is not there already.
const sameBase = `[ -d "$BASE" ] || { ` + baseVault + `; }; `

// costs does each of them under the profiler of the program.
func (b *bench) costs() (err error) {
	if b.device, err = deviceOf(b.dir); err != nil {
		return err
	}
	if b.device.known() {
		if b.rates, err = b.probe(); err != nil {
			return err
		}
	}
	for _, l := range looked {
		if l.cold && !canCool() {
			continue
		}
		fmt.Fprintf(os.Stderr, "%5.0f s  measuring: where the time goes: %s\n", time.Since(b.began).Seconds(), l.name)
		w := &work{old: cmp.Or(l.old, "disk.raw"), image: l.image, changed: cmp.Or(l.changed, "day.changed")}
		c, err := b.cost(w, l.before, l.command, l.cold)
		if err != nil {
			return fmt.Errorf("where the time goes, %s: %w", l.name, err)
		}
		c.Work = l.name
		b.spent = append(b.spent, c)
	}
	b.clean(&work{})
	return nil
}

// cost does a command of ours under the profiler.
func (b *bench) cost(w *work, before, command string, cold bool) (c cost, err error) {
	name := b.path("profile")
	if _, err := b.sh(w, before); err != nil {
		return c, err
	}
	if err := b.ready(w, cold); err != nil {
		return c, err
	}
	var o outcome
	c.Limits, c.Waiting, c.Idle, err = watch(b.device, b.rates, func() (err error) {
		o, err = b.sh(w, "export RIPARO_PROFILE='"+name+"'; "+command)
		return err
	})
	if err != nil {
		return c, err
	}
	f, err := os.Open(name)
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	p, err := profile.Parse(f)
	if err != nil {
		return c, err
	}
	c.Seconds, c.CPU, c.Share = o.seconds, o.cpu, portions(p)
	return c, nil
}

// portions is how much of the time was spent in stacks of each kind.
func portions(p *profile.Profile) map[string]float64 {
	all, sums := 0.0, map[string]float64{}
	for _, s := range p.Sample {
		value := float64(s.Value[len(s.Value)-1])
		all += value
		sums[kindOf(s)] += value
	}
	for kind := range sums {
		sums[kind] /= all
	}
	return sums
}

func kindOf(s *profile.Sample) string {
	for _, k := range kinds {
		for _, at := range s.Location {
			for _, line := range at.Line {
				for _, mark := range k.marks {
					if line.Function != nil && strings.Contains(line.Function.Name, mark) {
						return k.name
					}
				}
			}
		}
	}
	return kinds[len(kinds)-1].name
}

// printCosts adds what follows from it: with all cores busy with nothing else, the
// compression alone takes that long.
func (b *bench) printCosts(w io.Writer) {
	if len(b.spent) == 0 {
		return
	}
	fmt.Fprintf(w, "\n**What a work of ours is held up by**\n\n")
	if b.device.known() {
		fmt.Fprintf(w, "The disk reads %.0f MB/s, writes %.0f MB/s, and does %.0f MB/s when it reads and writes at once: measured in the same run, past the page cache, in pieces of %d MiB, %d at a time. Each work was looked at every %.0f ms: the processors are its limit while they are busy for %.0f %% or more; otherwise the disk is, while it does %.0f %% or more of that.\n\n",
			b.rates.Read/1e6, b.rates.Written/1e6, b.rates.Both/1e6, probePiece>>20, probeDepth, 1000*stretch.Seconds(), 100*busyFrom, 100*fullFrom)
	} else {
		fmt.Fprintf(w, "What the disk does is not known here: its file system tells no device.\n\n")
	}
	fmt.Fprintf(w, "| | seconds | CPU s | held up by the processors | by the disk | by neither | cores busy | waiting for the disk | idle |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, c := range b.spent {
		fmt.Fprintf(w, "| %s | %.2f | %.2f | %.0f %% | %.0f %% | %.0f %% | %.0f %% | %.0f %% | %.0f %% |\n", c.Work, c.Seconds, c.CPU,
			100*c.Limits.Processors, 100*c.Limits.Disk, 100*c.Limits.Neither, 100*(1-c.Waiting-c.Idle), 100*c.Waiting, 100*c.Idle)
	}
	fmt.Fprintf(w, "\n**Where the processor time of it goes**\n\n| |")
	for _, k := range kinds {
		fmt.Fprintf(w, " %s |", k.name)
	}
	fmt.Fprintf(w, " compression alone, on all cores |\n|---|%s---|\n", strings.Repeat("---|", len(kinds)))
	for _, c := range b.spent {
		fmt.Fprintf(w, "| %s |", c.Work)
		for _, k := range kinds {
			fmt.Fprintf(w, " %.0f %% |", 100*c.Share[k.name])
		}
		fmt.Fprintf(w, " %.2f s |\n", c.CPU*c.Share[kinds[0].name]/float64(b.machine.Cores))
	}
}
