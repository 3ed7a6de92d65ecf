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
	if drop := rules.Drop(points, now); !slices.Contains(drop, "newest") {
		t.Fatalf("by the clock alone %v go: the newest one by its place is not among them, and this proves nothing", drop)
	}
	if got := due(rules, points, now); !slices.Equal(got, []replication.PointID{"of a clock that was ahead", "first"}) {
		t.Errorf("%v are dropped, want those before the newest", got)
	}
	if got := due(rules, points, now.Add(-time.Hour-time.Minute)); !slices.Equal(got, []replication.PointID{"first"}) {
		t.Errorf("by a trusted time that is earlier %v are dropped, want the first", got)
	}
	if got := due(rules, nil, now); len(got) != 0 {
		t.Errorf("of no point %v", got)
	}
}
