package protection

import (
	"context"
	"errors"
	"testing"
	"time"

	"riparo/replication"
)

// TestWhoWaitsForARateKeepsNobodyWaiting: machines whose policy limits what they send, which
// lasts hours, leave their places to others.
func TestWhoWaitsForARateKeepsNobodyWaiting(t *testing.T) {
	policy := replication.DefaultPolicy()
	policy.BytesPerSecond = 1
	news := make(chan struct{}, 1)
	p, site := labProtector(t, policy, Config{Parallel: 1, Changed: func(string) {
		select {
		case news <- struct{}{}:
		default:
		}
	}})
	const size = 2 * replication.MaxBatchBytes
	names := []string{"WEB01", "WEB02", "WEB03"}
	for _, name := range names {
		protect(t, p, site, policy.Name, name, size, "vda")
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
			if m.Activity == "copying vda" {
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
