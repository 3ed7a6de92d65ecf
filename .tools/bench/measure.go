package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// bench is one run.
type bench struct {
	program string
	dir     string
	scale   scale
	short   bool
	only    string
	began   time.Time
	allowed time.Duration
	until   time.Time // when the work under way should have ended
	machine machine
	results []workResult
	grown   []growth
	aged    []age
	spent   []cost
	device  device
	rates   rates
}

type workResult struct {
	Key         string   `json:"key"`
	Work        string   `json:"work"`
	Note        string   `json:"note,omitempty"`
	Contestants []runs   `json:"contestants"`
	LeftOut     []string `json:"left_out,omitempty"`
}

// runs are all rounds of one contestant.
type runs struct {
	Name    string    `json:"name"`
	Ours    bool      `json:"ours,omitempty"`
	Limit   bool      `json:"limit,omitempty"`
	Seconds []float64 `json:"seconds"`
	CPU     []float64 `json:"cpu_seconds"` // user and system, of all its processes
	PeakMiB int64     `json:"peak_mib"`    // of its largest process
	Bytes   int64     `json:"bytes,omitempty"`
	// Ratios are this one's time by each of ours, round by round: above 1 it is slower.
	Ratios map[string][]float64 `json:"ratios,omitempty"`
}

// outcome is one measured command.
type outcome struct {
	seconds, cpu float64
	peakMiB      int64
	output       string
}

func (b *bench) path(name string) string { return filepath.Join(b.dir, name) }

// ownKey makes commands use a master key of this run, whatever the user has.
func (b *bench) ownKey() string { return "XDG_CONFIG_HOME=" + b.path("configuration") }

// sh runs a command. The variables are what the commands of works.go speak of.
func (b *bench) sh(w *work, command string) (outcome, error) {
	c := exec.Command("bash", "-ec", command)
	c.Dir = b.dir
	c.Env = append(os.Environ(), "RIPARO="+b.program, "DIR="+b.dir, b.ownKey(), "VAULT="+b.path("vault"), "OUT="+b.path("out"), "BASE="+b.path("base-vault"),
		"OLD="+b.path(w.old), "IMG="+b.path(w.image), "CHANGED="+b.path(w.changed),
		"RESTIC_PASSWORD=x", "RESTIC_CACHE_DIR="+b.path("restic-cache"), "BORG_PASSPHRASE=x", "BORG_BASE_DIR="+b.path("borg-base"),
		"BORG_RELOCATED_REPO_ACCESS_IS_OK=yes", "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes", "LC_ALL=C")
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	began := time.Now()
	err := c.Run()
	o := outcome{seconds: time.Since(began).Seconds(), output: out.String()}
	if err != nil {
		return o, fmt.Errorf("%s: %w\n%s", command, err, tail(o.output))
	}
	o.cpu = (c.ProcessState.UserTime() + c.ProcessState.SystemTime()).Seconds()
	if usage, ok := c.ProcessState.SysUsage().(*syscall.Rusage); ok {
		o.peakMiB = usage.Maxrss >> 10 // Linux tells KiB
	}
	return o, nil
}

// tail keeps the end of what a command said.
func tail(s string) string { return s[max(0, len(s)-2000):] }

const dropCaches = "/proc/sys/vm/drop_caches"

// cool writes all dirty pages and empties the page cache.
func cool() error {
	syscall.Sync()
	return os.WriteFile(dropCaches, []byte("3"), 0o200)
}

const (
	// usualMemory is how much memory a command finds ready: more than it takes, with what
	// the kernel needs for its sockets and its page cache meanwhile.
	usualMemory = 2 << 30
	// settling is how long a machine is left alone after its page cache was emptied.
	settling = 4 * time.Second
)

// ready brings the machine into the same state before each command of a work. What was
// written is on disk. The source is in the page cache, or nothing is.
//
// A virtual machine may give memory that it does not use back to its host, seconds after
// it became free, and takes many times as long to use such memory again: whoever comes
// first would pay for it. So that is over before it is measured, and some memory was
// just in use.
func (b *bench) ready(w *work, cold bool) error {
	if cold {
		if err := cool(); err != nil {
			return err
		}
		time.Sleep(settling)
	} else if _, err := b.sh(w, warm+"; sync"); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	_, err = b.sh(w, "'"+self+"' --use-memory")
	return err
}

// useMemory uses as much memory as a command finds ready, and ends.
func useMemory() error {
	var s unix.Sysinfo_t
	if err := unix.Sysinfo(&s); err != nil {
		return err
	}
	p, err := unix.Mmap(-1, 0, int(min(usualMemory, uint64(s.Totalram)*uint64(s.Unit)/4)), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return err
	}
	_ = unix.Madvise(p, unix.MADV_HUGEPAGE) // only faster
	for at := 0; at < len(p); at += os.Getpagesize() {
		p[at] = 1
	}
	return nil
}

// canCool reports whether cold reads can be measured here.
func canCool() bool {
	f, err := os.OpenFile(dropCaches, os.O_WRONLY, 0)
	if err != nil {
		return false
	}
	return f.Close() == nil
}

// measure runs all rounds of a work. A peer that fails is left out and the reason
// told; when ours fails there is nothing to tell.
func (b *bench) measure(w work) error {
	fmt.Fprintf(os.Stderr, "%5.0f s  measuring: %s\n", time.Since(b.began).Seconds(), w.name)
	r := workResult{Key: w.key, Work: w.name, Note: w.note}
	if w.cold && !canCool() {
		r.LeftOut = append(r.LeftOut, "all of it: only root can empty the page cache")
		b.results = append(b.results, r)
		return nil
	}
	defer b.clean(&w)
	if _, err := b.sh(&w, "true; "+w.setup); err != nil {
		return err
	}
	entries := b.invite(&w, &r)
	took := time.Duration(0) // the last round
	for round := range b.scale.rounds {
		begun := time.Now()
		if round > 0 && begun.Add(took).After(b.until) {
			r.LeftOut = append(r.LeftOut, fmt.Sprintf("rounds after the first %d: the time was up", round))
			break
		}
		ours := map[string]float64{}
		for _, e := range entries {
			if e.out {
				continue
			}
			o, size, err := b.once(&w, e.contestant)
			if err != nil && e.ours {
				return err
			}
			if err != nil {
				e.out = true
				r.LeftOut = append(r.LeftOut, fmt.Sprintf("%s: it did not succeed: %s", e.name, strings.Join(strings.Fields(tail(err.Error())), " ")))
				continue
			}
			e.Seconds, e.CPU, e.PeakMiB = append(e.Seconds, o.seconds), append(e.CPU, o.cpu), max(e.PeakMiB, o.peakMiB)
			if size > 0 {
				e.Bytes = size
			}
			if e.ours {
				ours[e.name] = o.seconds
			}
		}
		for _, e := range entries {
			for name, seconds := range ours {
				if !e.out && e.name != name {
					e.Ratios[name] = append(e.Ratios[name], e.Seconds[round]/seconds)
				}
			}
		}
		took = time.Since(begun)
	}
	for _, e := range entries {
		if len(e.Seconds) > 0 {
			r.Contestants = append(r.Contestants, e.runs)
		}
	}
	b.results = append(b.results, r)
	for _, c := range r.Contestants {
		fmt.Fprintf(os.Stderr, "         %s s, %d MiB: %s\n", spread(c.Seconds), c.Bytes>>20, c.Name)
	}
	return nil
}

// entry is a contestant that takes part.
type entry struct {
	contestant
	runs
	name string
	out  bool
}

// invite finds out who can take part, and makes what each needs once.
func (b *bench) invite(w *work, r *workResult) []*entry {
	var in []*entry
	for _, c := range w.contestants {
		missing := ""
		for _, program := range strings.Fields(c.needs) {
			if _, err := exec.LookPath(program); err != nil {
				missing = program
			}
		}
		if missing != "" {
			r.LeftOut = append(r.LeftOut, c.name+": "+missing+" is not installed")
			continue
		}
		if c.setup != "" {
			if _, err := b.sh(w, c.setup); err != nil {
				r.LeftOut = append(r.LeftOut, fmt.Sprintf("%s: what it needs could not be made: %s", c.name, strings.Join(strings.Fields(tail(err.Error())), " ")))
				continue
			}
		}
		in = append(in, &entry{contestant: c, runs: runs{Name: c.name, Ours: c.ours, Limit: c.limit, Ratios: map[string][]float64{}}, name: c.name})
	}
	return in
}

// once does a work, measures it, and checks what came out.
func (b *bench) once(w *work, c contestant) (o outcome, size int64, err error) {
	if _, err := b.sh(w, "true; "+c.prepare); err != nil {
		return o, 0, err
	}
	if err := b.ready(w, w.cold); err != nil {
		return o, 0, err
	}
	command := c.command
	if c.finish != "" {
		// The shell notes the time itself; what ends a server is not part of it.
		command += "; echo \"measured until $EPOCHREALTIME\"; " + c.finish
	}
	began := time.Now()
	if o, err = b.sh(w, command); err != nil {
		return o, 0, err
	}
	if c.finish != "" {
		_, until, _ := strings.Cut(o.output, "measured until ")
		end, err := strconv.ParseFloat(strings.TrimSpace(strings.SplitN(until, "\n", 2)[0]), 64)
		if err != nil {
			return o, 0, fmt.Errorf("%s: no end was noted: %w", c.name, err)
		}
		o.seconds = end - float64(began.UnixNano())/1e9
	}
	if c.bytes != "" {
		told, err := b.sh(&work{old: w.old, image: w.image, changed: w.changed}, strings.ReplaceAll(c.bytes, "$SAID", "'"+strings.ReplaceAll(o.output, "'", "")+"'"))
		if err != nil {
			return o, 0, err
		}
		if size, err = strconv.ParseInt(strings.TrimSpace(told.output), 10, 64); err != nil {
			return o, 0, errors.Join(fmt.Errorf("%s told no number of bytes", c.name), err)
		}
	}
	if c.check != "" {
		if _, err := b.sh(w, c.check); err != nil {
			return o, 0, err
		}
	}
	return o, size, nil
}

// clean removes what a work made, all but the images.
func (b *bench) clean(w *work) {
	if _, err := b.sh(w, "find . -mindepth 1 -maxdepth 1 ! -name '*.raw' ! -name '*.changed' -exec rm -rf {} +"); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
}
