package providertest

import (
	"testing"
	"time"
)

// waitFor asks until something has happened that the suite cannot be told of.
func waitFor(t *testing.T, what string, happened func() bool) {
	t.Helper()
	limit := time.NewTimer(callLimit)
	defer limit.Stop()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for !happened() {
		select {
		case <-limit.C:
			t.Fatalf("waited %s for %s", callLimit, what)
		case <-again.C:
		}
	}
}
