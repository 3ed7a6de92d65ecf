package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// work is something that we and others do. Every contestant does it once in every
// round, one after the other, so that noise of the machine falls on all alike.
type work struct {
	name        string
	contestants []contestant // ours first
}

// contestant is one way to do a work. The commands are for sh; in them $IMG is the
// image, $OLD the image before it changed, $CHANGED the list of changes, $VAULT the
// vault, $OUT where a result goes.
type contestant struct {
	name    string
	needs   string // a program; without it the contestant is left out
	prepare string // not measured
	command string
	limit   bool   // not a peer: what the machine can do at most
	check   string // has to succeed afterwards; not measured
}

// bench is one run.
type bench struct {
	program string
	dir     string
	scale   scale
	results []workResult
	grown   []growth
}

type workResult struct {
	Work        string   `json:"work"`
	Contestants []runs   `json:"contestants"`
	LeftOut     []string `json:"left_out,omitempty"`
}

// runs are all rounds of one contestant.
type runs struct {
	Name    string    `json:"name"`
	Limit   bool      `json:"limit,omitempty"`
	Seconds []float64 `json:"seconds"`
	CPU     []float64 `json:"cpu_seconds"`
	PeakMiB int64     `json:"peak_mib"`
	// Ratios are this one's time by ours, round by round: above 1 it is slower.
	Ratios []float64 `json:"ratios,omitempty"`
}

const (
	freshVault = `rm -rf "$VAULT"`
	// Others copy; their copy has to be durable as ours is.
	freshOut = `rm -f "$OUT"`
	// The vault holds the image before it changed.
	oldVault = `rm -rf "$VAULT" && "$RIPARO" disk replicate "$OLD" --vault "$VAULT" --disk d --json > /dev/null`
	warm     = `cat "$IMG" "$OLD" > /dev/null`
	sameOut  = `cmp "$OUT" "$IMG"`
	// What the vault holds is exported and compared with the image.
	sameVault = `rm -f "$OUT" && "$RIPARO" disk export --vault "$VAULT" --disk d --json "$OUT" > /dev/null && cmp "$OUT" "$IMG"`
)

// works is the list of what is measured.
func (b *bench) works() []work {
	return []work{
		{"initial replication, source in memory", []contestant{
			{name: "riparo", prepare: freshVault + "; " + warm, command: `"$RIPARO" disk replicate "$IMG" --vault "$VAULT" --disk d --json > /dev/null`, check: sameVault},
			{name: "cp --sparse=always", prepare: freshOut + "; " + warm, command: `cp --sparse=always "$IMG" "$OUT" && sync "$OUT"`, check: sameOut},
			{name: "qemu-img convert", needs: "qemu-img", prepare: freshOut + "; " + warm, command: `qemu-img convert -f raw -O raw "$IMG" "$OUT" && sync "$OUT"`, check: sameOut},
			{name: "limit: write the data once, raw", limit: true, prepare: freshOut, command: fmt.Sprintf(`dd if="$DATA" of="$OUT" bs=4M iflag=fullblock conv=fsync status=none # %d bytes`, b.scale.data)},
		}},
		{"delta of 1 %, changes known", []contestant{
			{name: "riparo", prepare: oldVault + "; " + warm, command: `"$RIPARO" disk replicate "$IMG" --vault "$VAULT" --disk d --changed "$CHANGED" --json > /dev/null`, check: sameVault},
			{name: "cp --sparse=always, all of it", prepare: freshOut + "; " + warm, command: `cp --sparse=always "$IMG" "$OUT" && sync "$OUT"`, check: sameOut},
		}},
		{"resynchronization of 1 %, changes unknown", []contestant{
			{name: "riparo", prepare: oldVault + "; " + warm, command: `"$RIPARO" disk replicate "$IMG" --vault "$VAULT" --disk d --json > /dev/null`, check: sameVault},
			{name: "rsync --inplace --no-whole-file", needs: "rsync", prepare: freshOut + `; cp --sparse=always "$OLD" "$OUT"; ` + warm, command: `rsync --inplace --no-whole-file --fsync "$IMG" "$OUT"`, check: sameOut},
			{name: "limit: read two images and compare", needs: "qemu-img", limit: true, prepare: warm, command: `qemu-img compare -f raw -F raw "$OLD" "$OLD"`},
		}},
		{"export of the latest point", []contestant{
			{name: "riparo", prepare: oldVault + "; " + freshOut, command: `"$RIPARO" disk export --vault "$VAULT" --disk d --json "$OUT" > /dev/null`, check: `cmp "$OUT" "$OLD"`},
			{name: "cp --sparse=always", prepare: freshOut + "; " + warm, command: `cp --sparse=always "$OLD" "$OUT" && sync "$OUT"`, check: `cmp "$OUT" "$OLD"`},
			{name: "qemu-img convert", needs: "qemu-img", prepare: freshOut + "; " + warm, command: `qemu-img convert -f raw -O raw "$OLD" "$OUT" && sync "$OUT"`, check: `cmp "$OUT" "$OLD"`},
		}},
		{"verify", []contestant{
			{name: "riparo", prepare: oldVault, command: `"$RIPARO" disk verify --vault "$VAULT" --json > /dev/null`},
			{name: "limit: read the vault once", limit: true, prepare: oldVault, command: `find "$VAULT" -type f -exec cat {} + > /dev/null`},
		}},
	}
}

func (b *bench) path(name string) string { return filepath.Join(b.dir, name) }

// prepare makes the images.
func (b *bench) prepare() error {
	fmt.Fprintf(os.Stderr, "making an image of %d MiB with %d MiB of data\n", b.scale.size>>20, b.scale.data>>20)
	if err := generate(b.path("old.raw"), b.scale.size, b.scale.data, 7); err != nil {
		return err
	}
	if err := generate(b.path("data"), b.scale.data, b.scale.data, 7); err != nil {
		return err
	}
	if _, err := b.sh(`cp --sparse=always "$OLD" "$IMG"`); err != nil {
		return err
	}
	return change(b.path("new.raw"), b.path("changed"), b.scale.size, int(b.scale.data/100/(64<<10)), 8)
}

// outcome is one measured command.
type outcome struct {
	seconds, cpu float64
	peakMiB      int64
}

func (b *bench) sh(command string) (outcome, error) {
	c := exec.Command("sh", "-ec", command)
	c.Env = append(os.Environ(), "RIPARO="+b.program, "IMG="+b.path("new.raw"), "OLD="+b.path("old.raw"), "DATA="+b.path("data"),
		"CHANGED="+b.path("changed"), "VAULT="+b.path("vault"), "OUT="+b.path("out"))
	began := time.Now()
	out, err := c.CombinedOutput()
	if err != nil {
		return outcome{}, fmt.Errorf("%s: %w\n%s", command, err, out)
	}
	o := outcome{seconds: time.Since(began).Seconds(), cpu: (c.ProcessState.UserTime() + c.ProcessState.SystemTime()).Seconds()}
	if usage, ok := c.ProcessState.SysUsage().(*syscall.Rusage); ok {
		o.peakMiB = usage.Maxrss >> 10 // Linux tells KiB
	}
	return o, nil
}

// measure runs all rounds of a work.
func (b *bench) measure(w work) error {
	fmt.Fprintln(os.Stderr, "measuring:", w.name)
	r := workResult{Work: w.name}
	var in []contestant
	for _, c := range w.contestants {
		if _, err := exec.LookPath(c.needs); c.needs != "" && err != nil {
			r.LeftOut = append(r.LeftOut, c.name+": not installed")
			continue
		}
		in = append(in, c)
		r.Contestants = append(r.Contestants, runs{Name: c.name, Limit: c.limit})
	}
	for range b.scale.rounds {
		for i, c := range in {
			if c.prepare != "" {
				if _, err := b.sh(c.prepare); err != nil {
					return err
				}
			}
			o, err := b.sh(c.command)
			if err != nil {
				return err
			}
			if c.check != "" {
				if _, err := b.sh(c.check); err != nil {
					return err
				}
			}
			run := &r.Contestants[i]
			run.Seconds, run.CPU, run.PeakMiB = append(run.Seconds, o.seconds), append(run.CPU, o.cpu), max(run.PeakMiB, o.peakMiB)
			if ours := r.Contestants[0].Seconds; i > 0 {
				run.Ratios = append(run.Ratios, o.seconds/ours[len(ours)-1])
			}
		}
	}
	b.results = append(b.results, r)
	return nil
}
