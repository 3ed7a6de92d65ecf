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
	if got := due(rules, points, now); !slices.Equal(got, []replication.PointID{"of a clock that was ahead", "first"}) {
		t.Errorf("%v are dropped, want those before the newest", got)
	}
	if got := due(rules, nil, now); len(got) != 0 {
		t.Errorf("of no point %v", got)
	}
}
