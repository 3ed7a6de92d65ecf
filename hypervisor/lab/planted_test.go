package lab_test

import (
	"context"
	"iter"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"riparo/hypervisor"
	"riparo/hypervisor/lab"
	"riparo/replication"
)

// planted is the lab with one bug, to see that the suite finds it.
type planted struct {
	*lab.Site
	bug string
}

// plantedBugs are the bugs, and a test of the suite that must fail for each.
var plantedBugs = map[string]string{
	"a capture shows what is written later":   "its_bytes_do_not_change",
	"a delta leaves a region out":             "capture/a_delta_on_its_base",
	"data is called zero":                     "capture/the_first_one_is_full",
	"rollback ends nothing":                   "capture/its_bytes_do_not_change",
	"commit forgets the instant":              "capture/a_delta_on_its_base",
	"what is unknown is called a delta":       "capture/since_an_unknown_point",
	"a crash-consistent point is called app":  "capture/a_freeze_that_fails",
	"a stopped machine is called crash":       "shutdown/a_stopped_machine_is_captured_clean",
	"any machine is removed":                  "create/a_machine_that_Riparo_did_not_make",
	"create makes another one each time":      "create/an_interrupted_create",
	"an unknown machine is just an error":     "provider/an_unknown_machine",
	"a fence is not looked at":                "shutdown/a_fenced_machine",
	"a fence stops the machine":               "fencing_a_running_machine",
	"a shutdown pulls the plug":               "shutdown/a_guest_that_is_asked",
	"the start forgets what to track":         "overlay/everything_since_the_point",
	"flatten does nothing":                    "overlay/flattened",
	"zeroing an opened disk does nothing":     "open_disk/what_was_written",
	"a stamp does not change with the disks":  "open_disk/a_stamp_tells_that_disks_were_written",
	"the disk of a running machine is opened": "open_disk_of_a_running_machine",
	"the console is that of the last start":   "console",
	"something stays behind":                  "nothing_is_left_behind",
}

// TestTheSuiteFindsPlantedBugs runs the suite in processes of their own, against a
// lab with one bug each.
func TestTheSuiteFindsPlantedBugs(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the suite once for every bug")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var found atomic.Int32
	t.Cleanup(func() {
		if !t.Skipped() {
			t.Logf("%d/%d planted bugs found, worst 1 seeds (the suite has no chance in it)", found.Load(), len(plantedBugs))
		}
	})
	for bug, finder := range plantedBugs {
		t.Run(bug, func(t *testing.T) {
			t.Parallel()
			command := exec.CommandContext(t.Context(), self, "-test.run=^TestTheLabKeepsTheContractOfProviders$", "-test.timeout=60s")
			command.Env = append(os.Environ(), "RIPARO_LAB_BUG="+bug)
			output, err := command.CombinedOutput()
			if err == nil {
				t.Fatalf("the suite passed a lab of which %q is true", bug)
			}
			for line := range strings.Lines(string(output)) {
				if strings.Contains(line, "--- FAIL") && strings.Contains(line, finder) {
					found.Add(1)
					t.Logf("found by TestTheLabKeepsTheContractOfProviders with seed 1: %s", strings.TrimSpace(line))
					return
				}
			}
			t.Errorf("the suite failed, but not at %s:\n%s", finder, output)
		})
	}
}

func (p planted) Create(ctx context.Context, spec hypervisor.Spec) (hypervisor.Machine, error) {
	if p.bug == "create makes another one each time" {
		spec.Owner += time.Now().String()
		machines, err := p.Site.Discover(ctx)
		if err != nil {
			return hypervisor.Machine{}, err
		}
		for _, m := range machines {
			if m.Name == spec.Name {
				spec.Name += "2"
			}
		}
	}
	return p.Site.Create(ctx, spec)
}

func (p planted) Remove(ctx context.Context, ref hypervisor.Ref) error {
	if p.bug == "any machine is removed" && ref == "WEB01" {
		return nil
	}
	if m, err := p.Site.Machine(ctx, ref); err == nil && p.bug == "something stays behind" && m.Name == "riparo-suite-silent" {
		return nil
	}
	return p.Site.Remove(ctx, ref)
}

func (p planted) Machine(ctx context.Context, ref hypervisor.Ref) (hypervisor.Machine, error) {
	m, err := p.Site.Machine(ctx, ref)
	if err != nil && p.bug == "an unknown machine is just an error" {
		err = context.DeadlineExceeded
	}
	return m, err
}

func (p planted) Start(ctx context.Context, ref hypervisor.Ref, options hypervisor.StartOptions) error {
	switch p.bug {
	case "a fence is not looked at":
		if err := p.Site.Unfence(ctx, ref); err != nil {
			return err
		}
	case "the start forgets what to track":
		options = hypervisor.StartOptions{}
	}
	return p.Site.Start(ctx, ref, options)
}

func (p planted) Stop(ctx context.Context, ref hypervisor.Ref, grace time.Duration) (hypervisor.StopOutcome, error) {
	if p.bug == "a shutdown pulls the plug" {
		grace = 0
	}
	return p.Site.Stop(ctx, ref, grace)
}

func (p planted) Fence(ctx context.Context, ref hypervisor.Ref, reason string) error {
	if p.bug == "a fence stops the machine" {
		if _, err := p.Site.Stop(ctx, ref, 0); err != nil {
			return err
		}
	}
	return p.Site.Fence(ctx, ref, reason)
}

func (p planted) Flatten(ctx context.Context, ref hypervisor.Ref, progress func(done, total int64)) error {
	if p.bug == "flatten does nothing" {
		return nil
	}
	return p.Site.Flatten(ctx, ref, progress)
}

func (p planted) Console(ctx context.Context, ref hypervisor.Ref, limit int) ([]byte, error) {
	if p.bug == "the console is that of the last start" {
		return []byte("riparo-lab: it ran once"), nil
	}
	return p.Site.Console(ctx, ref, limit)
}

func (p planted) OpenDisk(ctx context.Context, ref hypervisor.Ref, key string, mode hypervisor.OpenMode) (hypervisor.OpenedDisk, error) {
	d, err := p.Site.OpenDisk(ctx, ref, key, mode)
	switch {
	case err != nil && p.bug == "the disk of a running machine is opened":
		return plantedDisk{}, nil
	case err == nil && p.bug == "zeroing an opened disk does nothing":
		return plantedDisk{d}, nil
	}
	return d, err
}

func (p planted) Stamp(ctx context.Context, ref hypervisor.Ref) (string, error) {
	stamp, err := p.Site.Stamp(ctx, ref)
	if p.bug == "a stamp does not change with the disks" && stamp != "" {
		stamp = "as ever"
	}
	return stamp, err
}

type plantedDisk struct{ hypervisor.OpenedDisk }

func (d plantedDisk) Zero(replication.Extent) error { return nil }

func (d plantedDisk) Close() error {
	if d.OpenedDisk == nil {
		return nil
	}
	return d.OpenedDisk.Close()
}

func (p planted) BeginPoint(ctx context.Context, request hypervisor.PointRequest) (hypervisor.Capture, error) {
	c, err := p.Site.BeginPoint(ctx, request)
	if err != nil {
		return nil, err
	}
	return &plantedCapture{Capture: c, bug: p.bug}, nil
}

type plantedCapture struct {
	hypervisor.Capture
	bug string
}

func (c *plantedCapture) Instant() hypervisor.Instant {
	i := c.Capture.Instant()
	switch c.bug {
	case "a crash-consistent point is called app":
		if len(i.Warnings) > 0 {
			i.Consistency, i.Frozen = replication.AppConsistent, time.Millisecond
		}
	case "a stopped machine is called crash":
		i.Consistency = replication.CrashConsistent
	}
	return i
}

func (c *plantedCapture) Commit(ctx context.Context) error {
	if c.bug == "commit forgets the instant" {
		return c.Capture.Rollback(ctx)
	}
	return c.Capture.Commit(ctx)
}

func (c *plantedCapture) Rollback(ctx context.Context) error {
	if c.bug == "rollback ends nothing" {
		return nil
	}
	return c.Capture.Rollback(ctx)
}

func (c *plantedCapture) Disks() []hypervisor.CapturedDisk {
	out := slices.Clone(c.Capture.Disks())
	for i, d := range out {
		out[i] = &plantedCapturedDisk{CapturedDisk: d, bug: c.bug}
	}
	return out
}

// plantedReads counts all reads, so that a later one can differ.
var plantedReads atomic.Int64

type plantedCapturedDisk struct {
	hypervisor.CapturedDisk
	bug string
}

func (d *plantedCapturedDisk) Mode() hypervisor.CaptureMode {
	if m := d.CapturedDisk.Mode(); d.bug != "what is unknown is called a delta" || m != hypervisor.Unknown {
		return m
	}
	return hypervisor.Delta
}

func (d *plantedCapturedDisk) ReadAt(p []byte, offset int64) (int, error) {
	n, err := d.CapturedDisk.ReadAt(p, offset)
	if n > 0 && d.bug == "a capture shows what is written later" && plantedReads.Add(1) > 12 {
		p[n-1] ^= byte(plantedReads.Load())
	}
	return n, err
}

func (d *plantedCapturedDisk) Regions(ctx context.Context) iter.Seq2[replication.Region, error] {
	return func(yield func(replication.Region, error) bool) {
		n := 0
		for region, err := range d.CapturedDisk.Regions(ctx) {
			n++
			switch {
			case d.bug == "a delta leaves a region out" && d.Mode() == hypervisor.Delta && n == 2:
				continue
			case d.bug == "data is called zero":
				region.Zero = true
			}
			if !yield(region, err) {
				return
			}
		}
	}
}
