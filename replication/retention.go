package replication

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Retention is a list of rules, youngest first: up to the age Until, keep one
// point in every interval Every (0 keeps all). Older than the last rule, nothing
// is kept. As text: "1h:all,24h:5m,15d:1h".
type Retention []RetentionRule

// RetentionRule keeps one point per Every among those not older than Until.
type RetentionRule struct {
	Until time.Duration `json:"until"`
	Every time.Duration `json:"every"` // 0: all
}

// DefaultRetention: all points for an hour, one in 5 minutes for a day, one an
// hour for 15 days.
func DefaultRetention() Retention {
	return Retention{{Until: time.Hour}, {Until: 24 * time.Hour, Every: 5 * time.Minute}, {Until: 15 * 24 * time.Hour, Every: time.Hour}}
}

// Check reports what is wrong with r, or nil.
func (r Retention) Check() error {
	if len(r) == 0 || len(r) > 16 {
		return fmt.Errorf("retention: want 1 to 16 rules, got %d", len(r))
	}
	for i, rule := range r {
		if rule.Until <= 0 || rule.Every < 0 {
			return fmt.Errorf("retention rule %d: %s:%s: want an age above 0 and an interval not below 0", i+1, rule.Until, rule.Every)
		}
		if i > 0 && (rule.Until <= r[i-1].Until || rule.Every < r[i-1].Every) {
			return fmt.Errorf("retention rule %d: ages must rise and intervals must not shrink from rule to rule", i+1)
		}
	}
	return nil
}

// Drop chooses from points, newest first in the order in which they were taken, those that
// the rules let go at now. It always keeps the newest point, the newest one without damage,
// and what is pinned or locked, and of the points that share an interval it keeps the
// oldest, but one that is whole before a damaged one, one that is not suspect
// before one that is, and an application-consistent or clean one before a crash-consistent
// one.
//
// What a wrong clock said is set right by the order. A point is no older than one that was
// taken before it; and one that bears a time to come is as old as the next one after it that
// does not, or new. Once that time has come, the points behind it are taken for no older:
// they stay longer.
func (r Retention) Drop(points []RecoveryPoint, now time.Time) []PointID {
	if len(points) == 0 {
		return nil
	}
	good := points[0].ID
	if i := slices.IndexFunc(points, func(p RecoveryPoint) bool { return len(p.Damage) == 0 }); i >= 0 {
		good = points[i].ID
	}
	taken := make([]time.Time, len(points)) // zero: in the future
	var latest time.Time
	for i, p := range slices.Backward(points) {
		if p.Time.After(now) {
			continue
		}
		if p.Time.After(latest) {
			latest = p.Time
		}
		taken[i] = latest
	}
	next := now
	for i := range taken {
		if taken[i].IsZero() {
			taken[i] = next
		}
		next = taken[i]
	}
	type slot struct{ rule, interval int64 }
	kept := map[slot]RecoveryPoint{}
	var drop []PointID
	for i, p := range points {
		// The newest one that is whole is the last good one.
		if i == 0 || p.ID == good || p.Pinned || p.Locked {
			continue
		}
		rule := r.ruleFor(now.Sub(taken[i]))
		if rule < 0 {
			drop = append(drop, p.ID)
			continue
		}
		every := r[rule].Every
		if every == 0 {
			continue
		}
		// Intervals are counted on the clock, not back from now: a point that was
		// kept yesterday is kept again today.
		s := slot{int64(rule), p.Time.UnixNano() / int64(every)}
		k, taken := kept[s]
		switch {
		case !taken:
			kept[s] = p
		case better(p, k):
			drop = append(drop, k.ID)
			kept[s] = p
		default:
			drop = append(drop, p.ID)
		}
	}
	return drop
}

// KeepsLessThan reports whether r lets points go that o keeps: at some age it keeps none
// or fewer.
func (r Retention) KeepsLessThan(o Retention) bool {
	for _, rule := range o {
		// The densest that o keeps up to this age is the rule itself.
		mine := r.ruleFor(rule.Until)
		if mine < 0 || r[mine].Every > rule.Every {
			return true
		}
	}
	// Between the ages of o, a rule of r may be coarser than the one of o that holds.
	for i, rule := range r {
		if i+1 == len(r) {
			break
		}
		theirs := o.ruleFor(rule.Until + 1)
		if theirs >= 0 && r[i+1].Every > o[theirs].Every {
			return true
		}
	}
	return false
}

func (r Retention) ruleFor(age time.Duration) int {
	for i, rule := range r {
		if age <= rule.Until {
			return i
		}
	}
	return -1
}

func better(a, b RecoveryPoint) bool {
	if whole := len(a.Damage) == 0; whole != (len(b.Damage) == 0) {
		return whole
	}
	if a.Suspect != b.Suspect {
		return b.Suspect
	}
	if (a.Consistency == CrashConsistent) != (b.Consistency == CrashConsistent) {
		return a.Consistency != CrashConsistent
	}
	return b.Later(a)
}

// String is the text that ParseRetention reads.
func (r Retention) String() string {
	var parts []string
	for _, rule := range r {
		every := "all"
		if rule.Every > 0 {
			every = shortDuration(rule.Every)
		}
		parts = append(parts, shortDuration(rule.Until)+":"+every)
	}
	return strings.Join(parts, ",")
}

// ParseRetention reads "1h:all,24h:5m,15d:1h": age:interval, with the units of
// time.ParseDuration and d for days.
func ParseRetention(text string) (Retention, error) {
	var r Retention
	for part := range strings.SplitSeq(text, ",") {
		until, every, ok := strings.Cut(strings.TrimSpace(part), ":")
		if !ok {
			return nil, fmt.Errorf("retention rule %q: want AGE:INTERVAL as in 24h:5m, or AGE:all", part)
		}
		var rule RetentionRule
		var err error
		if rule.Until, err = ParseDuration(until); err != nil {
			return nil, fmt.Errorf("retention rule %q: age: %w", part, err)
		}
		if every != "all" {
			if rule.Every, err = ParseDuration(every); err != nil {
				return nil, fmt.Errorf("retention rule %q: interval: %w", part, err)
			}
		}
		r = append(r, rule)
	}
	return r, r.Check()
}

// ParseDuration reads a duration as people write it: 30s, 15m, 1h, 30d. As many days are
// taken as hours, so that what is written can be read.
func ParseDuration(text string) (time.Duration, error) {
	const day = 24 * time.Hour
	if n, ok := strings.CutSuffix(text, "d"); ok {
		days, err := strconv.Atoi(n)
		if err != nil || days < 0 || days > int(math.MaxInt64/day) {
			return 0, fmt.Errorf("%q is not a number of days", n)
		}
		return time.Duration(days) * day, nil
	}
	return time.ParseDuration(text)
}

func shortDuration(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d >= 2*day && d%day == 0:
		return fmt.Sprintf("%dd", d/day)
	case d%time.Hour == 0:
		return fmt.Sprintf("%dh", d/time.Hour)
	case d%time.Minute == 0:
		return fmt.Sprintf("%dm", d/time.Minute)
	}
	return d.String()
}
