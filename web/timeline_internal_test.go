package web

import (
	"testing"
	"time"

	"riparo/replication"
)

// The points come in the vault's order. After a clock was set back the last of them is not
// the oldest by the clock.
func TestAWindowShowsAllPointsOfAClockThatWasSetBack(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	var points []replication.RecoveryPoint
	for _, minutes := range []int{-1, -2, -50, 8, 7} { // newest first
		points = append(points, replication.RecoveryPoint{Time: now.Add(time.Duration(minutes) * time.Minute)})
	}
	for window, want := range map[string]int{"": 5, "all": 5, "10m": 4} {
		in, chosen, span := inWindow(points, window, now)
		if len(in) != want || window == "all" && span != 50*time.Minute || window == "" && chosen != "1h" {
			t.Errorf("window %q: %d points in %s (%s), want %d", window, len(in), span, chosen, want)
		}
	}
}
