package web

import (
	"fmt"
	"testing"
	"time"
)

// TestStrangersLeaveABoundedNumberOfLinesWhateverTheyAre lets a day pass in which one
// address, and then many, are refused every second.
func TestStrangersLeaveABoundedNumberOfLinesWhateverTheyAre(t *testing.T) {
	for _, row := range []struct {
		name      string
		addresses int
		lines     int // an hour
	}{{"one address", 1, strangersOfOne}, {"many", 10_000, strangersLines}} {
		s := &strangers{}
		now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
		lines, firsts, asked := 0, 0, 24*3600
		for i := range asked {
			told, first := s.come(now, fmt.Sprint(i%row.addresses))
			if told {
				lines++
			}
			if first {
				firsts++
			}
			if len(s.by) > strangersLines {
				t.Fatalf("%s: %d addresses are remembered", row.name, len(s.by))
			}
			now = now.Add(time.Second)
		}
		if lines != 24*row.lines || firsts != 24 {
			t.Errorf("%s: %d lines and %d beginnings in a day, want %d and 24", row.name, lines, firsts, 24*row.lines)
		}
		if n := s.take(); n != asked-lines || s.take() != 0 {
			t.Errorf("%s: %d without a line are counted, want %d, and once", row.name, n, asked-lines)
		}
	}
}

// TestStrangersAreHeardAgainWhenTheClockIsSetBack: a clock that ran ahead must not
// silence them until it comes there again.
func TestStrangersAreHeardAgainWhenTheClockIsSetBack(t *testing.T) {
	s := &strangers{}
	now := time.Date(2027, 11, 28, 12, 0, 0, 0, time.UTC)
	for range 2 * strangersOfOne {
		s.come(now, "192.0.2.7")
	}
	if told, first := s.come(now.AddDate(-1, 0, 0), "192.0.2.7"); !told || !first {
		t.Errorf("a year earlier: told %v, first %v; want both", told, first)
	}
}
