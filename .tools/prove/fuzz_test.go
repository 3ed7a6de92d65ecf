package main

import (
	"testing"
	"time"
)

func TestFuzzingLeavesTheHourWhole(t *testing.T) {
	for before, want := range map[time.Duration]time.Duration{
		time.Minute: fuzzLong, 48 * time.Minute: 10 * time.Minute, 2 * time.Hour: fuzzLong / 4,
	} {
		if got := fuzzTime(before); got != want {
			t.Errorf("after %v it fuzzes for %v, want %v", before, got, want)
		}
	}
}

// TestFuzzingEndsWhenTheNumberIsReached looks at what is left to do after a round.
func TestFuzzingEndsWhenTheNumberIsReached(t *testing.T) {
	quick := result{Passed: true, Count: 9_000_000, Seconds: 90} // 100,000 a second
	slow := result{Passed: true, Count: 9000, Seconds: 90}       // 100 a second
	for name, test := range map[string]struct {
		results []result
		left    time.Duration
		least   int
		want    time.Duration
	}{
		"reached":                  {[]result{quick, quick, quick}, time.Hour, 20_000_000, 0},
		"nearly":                   {[]result{quick, quick, slow}, time.Hour, 20_000_000, 30 * time.Second},
		"too slow":                 {[]result{slow, slow}, 9 * time.Minute, 20_000_000, 9 * time.Minute},
		"without a number":         {[]result{quick, slow}, 20 * time.Second, 0, 20 * time.Second},
		"no time left":             {[]result{slow}, 0, 20_000_000, 0},
		"what failed runs no more": {[]result{{Count: 9_000_000, Seconds: 1}, quick}, time.Hour, 18_000_100, 10 * time.Second},
	} {
		got := rest(test.results, test.left, test.least)
		if off := (got - test.want).Abs(); off > test.want/50 {
			t.Errorf("%s: %v is left to do, want %v", name, got, test.want)
		}
	}
	got := shares([]result{quick, slow, {Count: 1_000_000, Seconds: 1}}, time.Minute)
	if got[0] < 59*time.Second || got[1] != 0 || got[2] != 0 {
		t.Errorf("a minute is divided as %v: the quick one should have nearly all, and what failed nothing", got)
	}
}
