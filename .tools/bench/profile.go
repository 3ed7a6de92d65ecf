package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/google/pprof/profile"
)

// cost is where the processor time of an initial replication goes.
type cost struct {
	Codec   string             `json:"codec"`
	Seconds float64            `json:"seconds"`
	CPU     float64            `json:"cpu_seconds"` // of the process, as the system counts it
	Share   map[string]float64 `json:"share"`       // of what the profile saw, by kind
	Waiting float64            `json:"waiting"`     // share of the processors that had nothing to do but wait for the disk
	Idle    float64            `json:"idle"`        // share that had nothing at all to do
}

// costsKey names the table of where the processor time goes.
const costsKey = "profile"

// kinds of cost, and what the names of the functions have by which they are known. A stack
// is of the first kind that any of its functions has.
var kinds = []struct {
	name  string
	marks []string
}{
	{"compression", []string{"pierrec/lz4", "klauspost/compress"}},
	{"sealing", []string{"crypto/", "golang.org/x/crypto"}},
	{"checksums", []string{"hash/crc32", "zeebo/", "blake3"}},
	{"kernel: reading", []string{"syscall.Pread", "syscall.pread", "Preadv"}},
	{"kernel: writing", []string{"syscall.Pwrite", "syscall.pwrite", "Fdatasync", "Fsync", "Fallocate"}},
	{"other", []string{""}},
}

// costs replicates the image with each codec under the profiler of the program.
func (b *bench) costs() error {
	for _, codec := range []string{"lz4", "s2", "zstd"} {
		fmt.Fprintf(os.Stderr, "%5.0f s  measuring: where the time of %s goes\n", time.Since(b.began).Seconds(), codec)
		c, err := b.cost(codec)
		if err != nil {
			return fmt.Errorf("where the time of %s goes: %w", codec, err)
		}
		b.spent = append(b.spent, c)
	}
	return nil
}

func (b *bench) cost(codec string) (c cost, err error) {
	name := b.path("profile")
	w := &work{image: "disk.raw"}
	if _, err := b.sh(w, warm+"; "+newVault); err != nil {
		return c, err
	}
	before, err := processorTime()
	if err != nil {
		return c, err
	}
	o, err := b.sh(w, "RIPARO_PROFILE='"+name+"' "+replicate+" --compression "+codec)
	if err != nil {
		return c, err
	}
	after, err := processorTime()
	if err != nil {
		return c, err
	}
	if _, err := b.sh(w, newVault); err != nil {
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
	c = cost{Codec: codec, Seconds: o.seconds, CPU: o.cpu, Share: portions(p)}
	all := after.all - before.all
	c.Waiting, c.Idle = (after.waiting-before.waiting)/all, (after.idle-before.idle)/all
	return c, nil
}

// processors is what the system has counted of all its processors since its start, in
// its own unit.
type processors struct{ all, idle, waiting float64 }

func processorTime() (p processors, err error) {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return p, err
	}
	line, _, _ := strings.Cut(string(data), "\n")
	var name string
	var user, nice, system, irq, soft, steal float64
	if _, err := fmt.Sscan(line, &name, &user, &nice, &system, &p.idle, &p.waiting, &irq, &soft, &steal); err != nil {
		return p, fmt.Errorf("read /proc/stat: %w", err)
	}
	p.all = user + nice + system + p.idle + p.waiting + irq + soft + steal
	return p, nil
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
	fmt.Fprintf(w, "\n**Where the processor time of an initial replication goes**\n\n| codec | seconds | CPU s | cores busy | waiting for the disk | idle |")
	for _, k := range kinds {
		fmt.Fprintf(w, " %s |", k.name)
	}
	fmt.Fprintf(w, " compression alone, on all cores |\n|---|---|---|---|---|---|%s---|\n", strings.Repeat("---|", len(kinds)))
	for _, c := range b.spent {
		fmt.Fprintf(w, "| %s | %.2f | %.2f | %.0f %% | %.0f %% | %.0f %% |", c.Codec, c.Seconds, c.CPU, 100*(1-c.Waiting-c.Idle), 100*c.Waiting, 100*c.Idle)
		for _, k := range kinds {
			fmt.Fprintf(w, " %.0f %% |", 100*c.Share[k.name])
		}
		fmt.Fprintf(w, " %.2f s |\n", c.CPU*c.Share[kinds[0].name]/float64(b.machine.Cores))
	}
}
