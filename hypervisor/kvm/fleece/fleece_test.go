package fleece_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"riparo/hypervisor"
	"riparo/hypervisor/kvm/fleece"
	"riparo/replication"
)

var (
	walks    = flag.Int("walks", 2, "seeded walks of TestEveryCaptureIsItsInstant")
	captures = flag.Int("captures", 25, "captures of one walk")
	seed0    = flag.Uint64("seed", 1, "first seed")
)

// TestEveryCaptureIsItsInstant lets a "guest" write between any two commands, lets the
// capturing program die anywhere, ends QEMU in order and by force, and asks after
// every capture that came through that the vault holds the instant byte for byte.
func TestEveryCaptureIsItsInstant(t *testing.T) {
	if testing.Short() {
		t.Skip("runs QEMU for some seconds: left out of the short run")
	}
	for seed := *seed0; seed < *seed0+uint64(*walks); seed++ {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			w := newWorld(t, seed)
			w.writesBetween = 0.5
			survived, died := 0, 0
			restarted := "" // how QEMU ended since the last good capture
			for i := range *captures {
				for range w.rng.IntN(6) {
					w.write(w.rng)
				}
				switch w.rng.IntN(12) {
				case 0:
					w.end(false)
					w.start()
					if restarted == "" {
						restarted = "quit"
					}
				case 1:
					w.end(true)
					w.start()
					restarted = "killed"
				}
				point := replication.PointID(fmt.Sprintf("%04d", i))
				if w.rng.IntN(2) == 0 {
					w.crashAfter = 1 + w.rng.IntN(90)
				}
				c, err := w.capture(point)
				if err == nil && !w.died {
					w.expectModes(c, restarted)
				}
				acknowledged := false
				if err == nil {
					if err = w.bringForward(c); err == nil {
						w.verify(fmt.Sprintf("point %s", point))
						acknowledged = true
					}
				}
				switch {
				case acknowledged:
					for _, d := range w.disks {
						d.since = point
					}
					restarted = ""
					if w.rng.IntN(4) > 0 || w.died {
						err = c.Commit(t.Context())
					}
				case c != nil && w.rng.IntN(2) == 0:
					err = errors.Join(err, c.Rollback(t.Context()))
				}
				if err != nil && !errors.Is(err, errDied) {
					t.Fatalf("point %s: %v", point, err)
				}
				if w.died {
					died++
				} else {
					survived++
				}
				if c != nil {
					c.Supersede() // what is left of it in this process
				}
				w.died, w.crashAfter = false, 0
				if w.rng.IntN(3) == 0 {
					if err := fleece.Settle(t.Context(), w.machine()); err != nil {
						t.Fatalf("settle after point %s: %v", point, err)
					}
					w.expectNothingOpen()
				}
			}
			t.Logf("%d captures came through, in %d the program died", survived, died)
			if err := fleece.Forget(t.Context(), w.machine()); err != nil {
				t.Fatal(err)
			}
			w.expectNothingLeft()
			w.expectNoFailedWrite()
		})
	}
}

// TestAReadThatTheGuestOvertakesIsOfTheInstant reads the very place that the guest
// writes next, as often as it can: some of the writes come between QEMU's look into
// the scratch files and its read of the disk.
func TestAReadThatTheGuestOvertakesIsOfTheInstant(t *testing.T) {
	if testing.Short() {
		t.Skip("runs QEMU for some seconds: left out of the short run")
	}
	const cluster, clusters, ahead = 64 << 10, 1024, 8
	w := emptyWorld(t, *seed0)
	d := w.add("raw", (clusters+ahead)*cluster)
	d.content = make([]byte, (clusters+ahead)*cluster)
	w.start()
	w.put(d, 1, 0, len(d.content))
	c, err := w.capture("1")
	if err != nil {
		t.Fatal(err)
	}
	instant := bytes.Repeat([]byte{1}, ahead*cluster)
	var next, reads atomic.Int64
	var all sync.WaitGroup
	all.Go(func() {
		for ; next.Load() < clusters && !t.Failed(); next.Add(1) {
			w.put(d, 2, int(next.Load())*cluster+cluster/4, cluster/2)
		}
	})
	for range 4 {
		all.Go(func() {
			for got := make([]byte, len(instant)); next.Load() < clusters && !t.Failed(); reads.Add(1) {
				at := next.Load() * cluster
				if _, err := c.Disks()[0].ReadAt(got, at); err != nil && !errors.Is(err, io.EOF) {
					t.Errorf("read at %d: %v", at, err)
				} else if !bytes.Equal(got, instant) {
					t.Errorf("what was read at %d is newer than the instant", at)
				}
			}
		})
	}
	all.Wait()
	t.Logf("%d reads while %d clusters were written", reads.Load(), next.Load())
}

// expectModes checks what a capture says of each disk: a delta unless its bitmaps
// cannot be trusted.
func (w *world) expectModes(c *fleece.Capture, restarted string) {
	w.t.Helper()
	for i, d := range c.Disks() {
		want := hypervisor.Delta
		switch {
		case w.disks[i].since == "":
			want = hypervisor.Full
		case restarted == "quit" && w.disks[i].format == "raw", restarted == "killed":
			want = hypervisor.Unknown
		}
		if d.Mode() != want || (d.Mode() == hypervisor.Unknown) != (d.Reason() != "") {
			w.t.Fatalf("disk %s: mode %s (%q), want %s after QEMU was %q", d.Key(), d.Mode(), d.Reason(), want, restarted)
		}
	}
}

// expectNothingOpen looks for everything of captures but bitmaps.
func (w *world) expectNothingOpen() {
	w.t.Helper()
	var nodes []struct {
		Name string `json:"node-name"`
	}
	if err := w.Execute(w.t.Context(), "query-named-block-nodes", map[string]any{"flat": true}, &nodes); err != nil {
		w.t.Fatal(err)
	}
	for _, n := range nodes {
		if strings.HasPrefix(n.Name, "riparo-") {
			w.t.Errorf("the node %s is there still", n.Name)
		}
	}
	w.expectNoneOf("query-jobs", "query-block-exports")
}

// expectNothingLeft looks into QEMU and the scratch folder for what captures put there.
func (w *world) expectNothingLeft() {
	w.t.Helper()
	w.expectNoneOf("query-named-block-nodes", "query-jobs", "query-block-exports")
}

// expectNoneOf looks for our names in answers of QEMU, and for files in the scratch folder.
func (w *world) expectNoneOf(commands ...string) {
	w.t.Helper()
	for _, command := range commands {
		var reply json.RawMessage
		if err := w.Execute(w.t.Context(), command, nil, &reply); err != nil {
			w.t.Fatal(err)
		}
		if strings.Contains(string(reply), "riparo-") {
			w.t.Errorf("%s still names something of ours: %s", command, reply)
		}
	}
	files, err := os.ReadDir(w.folder)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range files {
		if strings.Contains(f.Name(), ".window") || strings.Contains(f.Name(), ".late") {
			w.t.Errorf("a scratch file is left: %s", f.Name())
		}
	}
}
