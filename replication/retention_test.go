package replication

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestRetentionIsReadAndWrittenAsText(t *testing.T) {
	for _, c := range []struct {
		text string
		want Retention
	}{
		{"1h:all", Retention{{time.Hour, 0}}},
		{"1h:all,24h:5m,15d:1h", DefaultRetention()},
		{" 30m:all , 2d:30m ", Retention{{30 * time.Minute, 0}, {48 * time.Hour, 30 * time.Minute}}},
		{"90s:10s", Retention{{90 * time.Second, 10 * time.Second}}},
	} {
		got, err := ParseRetention(c.text)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%q: %v, %v; want %v", c.text, got, err, c.want)
		}
		again, err := ParseRetention(got.String())
		if err != nil || !slices.Equal(again, c.want) {
			t.Errorf("%q becomes %q, and that %v, %v", c.text, got, again, err)
		}
	}
	for _, text := range []string{"", "1h", "1h:", ":all", "all:1h", "1x:all", "-1h:all", "1h:-5m", "1h:5m,30m:1h", "24h:1h,48h:5m", "1h:all,1h:5m", "xd:all", "-3d:all"} {
		if got, err := ParseRetention(text); err == nil {
			t.Errorf("%q is taken as %v", text, got)
		}
	}
}

func TestRetentionKeepsOnePointPerInterval(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	var points []RecoveryPoint
	for age := time.Duration(0); age <= 17*24*time.Hour; age += time.Minute {
		p := RecoveryPoint{ID: PointID(fmt.Sprintf("p%08d", 100_000_000-int(age/time.Second))), Time: now.Add(-age), Consistency: CrashConsistent}
		points = append(points, p)
	}
	gone := map[PointID]bool{}
	for _, id := range DefaultRetention().Drop(points, now) {
		gone[id] = true
	}
	var hour, day, older int
	for _, p := range points {
		if gone[p.ID] {
			continue
		}
		switch age := now.Sub(p.Time); {
		case age <= time.Hour:
			hour++
		case age <= 24*time.Hour:
			day++
		case age <= 15*24*time.Hour:
			older++
		default:
			t.Errorf("a point %s old is kept", age)
		}
	}
	// 61 in the hour; 23 h in 12 intervals an hour; 14 days of 24. An interval that
	// the border of a rule cuts counts in both.
	if hour != 61 || day < 23*12 || day > 23*12+1 || older < 14*24 || older > 14*24+1 {
		t.Errorf("kept %d, %d and %d, want 61, 276 and 336", hour, day, older)
	}
}

func TestRetentionPrefersPointsThatAreMoreThanCrashConsistent(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	r := Retention{{time.Hour, 0}, {24 * time.Hour, time.Hour}}
	at := func(id string, minutes int, c Consistency) RecoveryPoint {
		return RecoveryPoint{ID: PointID(id), Time: now.Add(-3*time.Hour + time.Duration(minutes)*time.Minute), Consistency: c}
	}
	newest := RecoveryPoint{ID: "z", Time: now, Consistency: CrashConsistent}
	points := []RecoveryPoint{at("a", 1, CrashConsistent), at("b", 20, AppConsistent), at("c", 30, Clean), at("d", 40, CrashConsistent), newest}
	slices.Reverse(points)
	got := r.Drop(points, now)
	slices.Sort(got)
	if want := []PointID{"a", "c", "d"}; !slices.Equal(got, want) {
		t.Errorf("dropped %v, want %v", got, want)
	}
}

func TestRetentionPrefersPointsThatAreSound(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	r := Retention{{time.Hour, 0}, {24 * time.Hour, time.Hour}}
	at := func(id string, hours, minutes int) RecoveryPoint {
		return RecoveryPoint{ID: PointID(id), Time: now.Add(time.Duration(hours)*time.Hour + time.Duration(minutes)*time.Minute), Consistency: CrashConsistent}
	}
	damaged := func(p RecoveryPoint) RecoveryPoint { p.Damage = []Damage{{}}; p.Consistency = AppConsistent; return p }
	suspect := func(p RecoveryPoint) RecoveryPoint { p.Suspect = true; p.Consistency = AppConsistent; return p }
	points := []RecoveryPoint{
		damaged(at("a", -5, 1)), at("b", -5, 20),
		suspect(at("c", -4, 1)), at("d", -4, 20),
		damaged(at("e", -3, 1)), suspect(at("f", -3, 20)),
		{ID: "z", Time: now, Consistency: CrashConsistent},
	}
	slices.Reverse(points)
	got := r.Drop(points, now)
	slices.Sort(got)
	if want := []PointID{"a", "c", "e"}; !slices.Equal(got, want) {
		t.Errorf("dropped %v, want %v", got, want)
	}
}

func TestRetentionNeverDropsTheNewestPoint(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	r := Retention{{time.Minute, 0}}
	points := []RecoveryPoint{{ID: "newest", Time: now.Add(-24 * time.Hour)}, {ID: "old", Time: now.Add(-48 * time.Hour)}}
	if got := r.Drop(points, now); !slices.Equal(got, []PointID{"old"}) {
		t.Errorf("dropped %v, want only the older one", got)
	}
	if got := r.Drop(nil, now); len(got) != 0 {
		t.Errorf("dropped %v of nothing", got)
	}
}

// TestAWrongClockTakesNoPoints: the order in which points were taken tells how old those of
// a clock that was wrong are at least, and at most.
func TestAWrongClockTakesNoPoints(t *testing.T) {
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	at := func(id string, ago time.Duration) RecoveryPoint {
		return RecoveryPoint{ID: PointID(id), Time: now.Add(-ago)}
	}
	rules := Retention{{time.Hour, 0}, {24 * time.Hour, 10 * time.Minute}}
	const day = 24 * time.Hour
	for name, c := range map[string]struct {
		points []RecoveryPoint // newest first
		drop   []PointID
	}{
		"a right clock": {[]RecoveryPoint{at("d", 0), at("c", 30*time.Minute), at("b", 2*time.Hour), at("a", 2*day)}, []PointID{"a"}},
		"it was 20 days late": {[]RecoveryPoint{at("e", 0), at("d", 20*day), at("c", 20*day+time.Minute), at("b", 20*time.Minute), at("a", 2*day)},
			[]PointID{"a"}},
		"it was an hour late, some time ago": {[]RecoveryPoint{at("e", 0), at("d", 3*time.Hour), at("c", 4*time.Hour+5*time.Minute), at("b", 4*time.Hour+6*time.Minute), at("a", 3*time.Hour+time.Minute)},
			[]PointID{"c"}}, // of one interval with b
		"it was a year ahead": {[]RecoveryPoint{at("e", 0), at("d", 30*time.Hour), at("c", -365*day), at("b", -365*day+time.Minute), at("a", 31*time.Hour)},
			[]PointID{"d", "c", "b", "a"}},
		"it is ahead now":              {[]RecoveryPoint{at("b", -day), at("a", -day)}, nil},
		"the newest is not the latest": {[]RecoveryPoint{at("b", 3*day), at("a", 2*day)}, []PointID{"a"}},
	} {
		drop := rules.Drop(c.points, now)
		if !slices.Equal(drop, c.drop) {
			t.Errorf("%s: %v go, want %v", name, drop, c.drop)
		}
	}
	if drop := rules.Drop(nil, now); drop != nil {
		t.Errorf("of no point %v go", drop)
	}
}

// What retention does must not depend on how often it is asked: a point that it
// keeps today, it keeps until the point's age meets another rule.
func TestRetentionIsSettled(t *testing.T) {
	base := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	rapid.Check(t, func(t *rapid.T) {
		rules := Retention{{time.Hour, 0}, {6 * time.Hour, 10 * time.Minute}, {48 * time.Hour, time.Hour}}
		seconds := rapid.SliceOfNDistinct(rapid.IntRange(0, 60*3600), 0, 80, rapid.ID[int]).Draw(t, "seconds")
		now := base.Add(60 * time.Hour)
		var points []RecoveryPoint
		for _, s := range seconds {
			c := rapid.SampledFrom([]Consistency{CrashConsistent, CrashConsistent, AppConsistent, Clean}).Draw(t, "consistency")
			points = append(points, RecoveryPoint{ID: PointID(fmt.Sprintf("p%07d", s)), Time: base.Add(time.Duration(s) * time.Second), Consistency: c})
		}
		slices.SortFunc(points, func(a, b RecoveryPoint) int { return b.Time.Compare(a.Time) })
		if rapid.Bool().Draw(t, "the clock was wrong") && len(points) > 0 {
			for i := range rapid.IntRange(0, len(points)).Draw(t, "newest of it") {
				points[i].Time = points[i].Time.Add(-30 * time.Hour)
			}
		}
		drop := rules.Drop(points, now)
		var kept []RecoveryPoint
		for _, p := range points {
			if !slices.Contains(drop, p.ID) {
				kept = append(kept, p)
			}
		}
		if len(kept)+len(drop) != len(points) {
			t.Fatalf("%d kept and %d dropped of %d", len(kept), len(drop), len(points))
		}
		if again := rules.Drop(kept, now); len(again) != 0 {
			t.Fatalf("asked again at once, it drops %v", again)
		}
		if len(points) > 0 && slices.Contains(drop, points[0].ID) {
			t.Fatalf("the newest point %s is dropped", points[0].ID)
		}
		for _, p := range points {
			if now.Sub(p.Time) <= time.Hour && slices.Contains(drop, p.ID) {
				t.Fatalf("point %s of the last hour is dropped", p.ID)
			}
		}
	})
}

func TestPolicyIsChecked(t *testing.T) {
	if err := DefaultPolicy().Check(); err != nil {
		t.Errorf("the default policy: %v", err)
	}
	for name, spoil := range map[string]func(*Policy){
		"no name":                       func(p *Policy) { p.Name = "" },
		"too frequent":                  func(p *Policy) { p.CopyFrequency = time.Second },
		"app points too frequent":       func(p *Policy) { p.AppConsistentFrequency = time.Second },
		"frozen too long":               func(p *Policy) { p.FreezeLimit = time.Hour },
		"threshold below the frequency": func(p *Policy) { p.RPOThreshold = time.Second },
		"negative rate":                 func(p *Policy) { p.BytesPerSecond = -1 },
		"no retention":                  func(p *Policy) { p.Retention = nil },
	} {
		p := DefaultPolicy()
		spoil(&p)
		if p.Check() == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestAShorterRetentionIsKnown(t *testing.T) {
	for _, c := range []struct {
		before, after string
		less          bool
	}{
		{"1h:all,24h:5m,15d:1h", "1h:all,24h:5m,15d:1h", false},
		{"1h:all,24h:5m,15d:1h", "2h:all,24h:5m,15d:1h", false},
		{"1h:all,24h:5m,15d:1h", "1h:all,24h:5m,30d:1h", false},
		{"1h:all,24h:5m,15d:1h", "15d:all", false},
		{"1h:all,24h:5m,15d:1h", "1h:all,24h:5m,14d:1h", true},
		{"1h:all,24h:5m,15d:1h", "1h:all,24h:10m,15d:1h", true},
		{"1h:all,24h:5m,15d:1h", "30m:all,24h:5m,15d:1h", true},
		{"1h:all,24h:5m,15d:1h", "1h:all", true},
		{"15d:1h", "1h:all,15d:2h", true},
		{"15d:1h", "15d:1h,30d:2h", false},
	} {
		before, err := ParseRetention(c.before)
		if err != nil {
			t.Fatal(err)
		}
		after, err := ParseRetention(c.after)
		if err != nil {
			t.Fatal(err)
		}
		if got := after.KeepsLessThan(before); got != c.less {
			t.Errorf("%s after %s: keeps less %v, want %v", c.after, c.before, got, c.less)
		}
	}
}

// FuzzParseRetention: whatever is taken as a retention says the same when it is written
// and read again, and dropping by it keeps the newest point.
func FuzzParseRetention(f *testing.F) {
	for _, text := range []string{"1h:all,24h:5m,15d:1h", " 30m:all , 2d:30m ", "90s:10s", "36500d:1d", "1h", "-1h:all", "1e9h:all", "1h:all,1h:5m", ",", "1d:24h", "1d:2400000h"} {
		f.Add(text)
	}
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	points := []RecoveryPoint{
		{ID: "c", Time: now, Consistency: CrashConsistent},
		{ID: "b", Time: now.Add(-30 * time.Minute), Consistency: AppConsistent},
		{ID: "a", Time: now.Add(-30 * 24 * time.Hour), Consistency: CrashConsistent},
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseRetention(text)
		if err != nil {
			return
		}
		again, err := ParseRetention(r.String())
		if err != nil || !slices.Equal(r, again) {
			t.Fatalf("%q is %v; written as %q it is %v, %v", text, r, r, again, err)
		}
		if gone := r.Drop(points, now); slices.Contains(gone, "c") {
			t.Fatalf("%q drops the newest point: %v", text, gone)
		}
	})
}
