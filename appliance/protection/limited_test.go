package protection

import (
	"context"
	"errors"
	"testing"
	"time"

	"riparo/replication"
	"riparo/store"
)

// TestWhoWaitsForARateKeepsNobodyWaiting: machines whose policy limits what they send, which
// lasts hours, leave their places to others.
func TestWhoWaitsForARateKeepsNobodyWaiting(t *testing.T) {
	waitForARate(t, 1, "copying vda", func(*Protector, store.Machine) {})
}

// TestAComparisonThatWaitsForARateKeepsNobodyWaiting: what it finds waits as what is sent
// without one. As many leave their places as there are places: a comparison reads.
func TestAComparisonThatWaitsForARateKeepsNobodyWaiting(t *testing.T) {
	waitForARate(t, 2, "comparing vda", func(p *Protector, m store.Machine) {
		disk := replication.Disk{ID: DiskID(m.ID, "vda"), Machine: m.ID, Size: limitedSize}
		if _, err := p.sink.Prepare(t.Context(), disk, m.Epoch); err != nil {
			t.Fatal(err)
		}
		if err := p.sink.Write(t.Context(), replication.Batch{Disk: disk.ID, Epoch: m.Epoch, Sequence: 1,
			Changes: []replication.Change{{Extent: replication.Extent{Length: 512}, Data: make([]byte, 512)}}}); err != nil {
			t.Fatal(err)
		}
	})
}

// TestOfThoseThatCompareOnlyAFewLeaveTheirPlaces: they read at full speed, and there would be
// no bound to how many do.
func TestOfThoseThatCompareOnlyAFewLeaveTheirPlaces(t *testing.T) {
	_, s := rooms(t)
	p := New(Config{Parallel: 1, Store: s})
	begin := func() *place {
		t.Helper()
		if !takes(p.slots) {
			t.Fatal("there is no place")
		}
		return &place{p: p, in: p.slots}
	}
	wants := func(when string, places, waiting, comparing int) {
		t.Helper()
		if len(p.slots) != places || len(p.limited) != waiting || len(p.comparing) != comparing {
			t.Errorf("%s: %d have a place, %d wait beside them, %d of these compare; want %d, %d, %d", when, len(p.slots), len(p.limited), len(p.comparing), places, waiting, comparing)
		}
	}
	first := begin()
	first.leave(true)
	first.leave(true)
	wants("one compares", 0, 1, 1)
	second := begin()
	second.leave(true)
	wants("a second one compares", 1, 1, 1)
	first.end()
	second.leave(true)
	wants("the first has ended", 0, 1, 1)
	var senders []*place
	for range limitedCycles - 1 {
		sender := begin()
		sender.leave(false)
		senders = append(senders, sender)
	}
	wants("many send", 0, limitedCycles, 1)
	last := begin()
	last.leave(false)
	wants("there is no room to wait", 1, limitedCycles, 1)
	second.end()
	third := last
	third.leave(true) // all that it sent is sent, and the next disk is compared
	wants("room came", 0, limitedCycles, 1)
	for _, ended := range append(senders, third) {
		ended.end()
	}
	wants("all have ended", 0, 0, 0)
	for range limitedCycles {
		p.limited <- struct{}{}
	}
	begin().leave(true)
	wants("a comparison finds no room to wait", 1, limitedCycles, 0)
}

const limitedSize = 2 * replication.MaxBatchBytes

// waitForARate protects three machines by a rate that lasts for ever, with places for fewer
// cycles, and wants all of them to show what they do.
func waitForARate(t *testing.T, places int, doing string, prepare func(*Protector, store.Machine)) {
	t.Helper()
	policy := replication.DefaultPolicy()
	policy.BytesPerSecond = 1
	news := make(chan struct{}, 1)
	p, site := labProtector(t, policy, Config{Parallel: places, Changed: func(string) {
		select {
		case news <- struct{}{}:
		default:
		}
	}})
	names := []string{"WEB01", "WEB02", "WEB03"}
	for _, name := range names {
		prepare(p, protect(t, p, site, policy.Name, name, limitedSize, "vda"))
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	}()
	limit := time.After(20 * time.Second)
	for {
		sending, report := 0, p.Report()
		for _, m := range report.Machines {
			if m.Activity == doing {
				sending++
			}
		}
		if sending == len(names) {
			return
		}
		select {
		case <-news:
		case <-limit:
			t.Fatalf("%d of %d machines are being sent: %+v", sending, len(names), report.Machines)
		}
	}
}
