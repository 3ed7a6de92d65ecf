package main

import (
	"slices"
	"testing"
	"time"

	"riparo/replication"
)

func TestPruneDropsTheOthersWhenAClockJumped(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	points := []replication.RecoveryPoint{
		{ID: "first", Time: now.Add(-3 * time.Hour)},
		{ID: "of a clock that was ahead", Time: now.Add(-time.Hour)},
		{ID: "newest", Time: now.Add(-2 * time.Hour)},
	}
	rules := replication.Retention{{Until: time.Minute}}
	drop := rules.Drop(points, now)
	if !slices.Contains(drop, "newest") {
		t.Fatalf("the rules let %v go: the newest one by its place is not among them, and this proves nothing", drop)
	}
	if got := olderOf(points, drop); !slices.Equal(got, []replication.PointID{"first"}) {
		t.Errorf("%v are dropped, want only the first", got)
	}
	if got := olderOf(nil, nil); len(got) != 0 {
		t.Errorf("of no point %v", got)
	}
}
