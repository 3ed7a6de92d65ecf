package protection

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"riparo/replication"
	"riparo/replication/vault"
	"riparo/store"
)

// listing is a vault that lists points.
type listing struct {
	Vault
	points map[replication.DiskID][]replication.RecoveryPoint
}

func (l listing) Points(id replication.DiskID) ([]replication.RecoveryPoint, error) {
	list, ok := l.points[id]
	if !ok {
		return nil, replication.ErrUnknownDisk
	}
	return slices.Clone(list), nil
}

func (l listing) Found(context.Context, replication.DiskID) ([]vault.Damage, error) { return nil, nil }

// taken makes points in the order in which they were taken: each name tells the disks, and
// each time is minutes on the clock.
func taken(m *store.Machine, points ...any) listing {
	l := listing{points: map[replication.DiskID][]replication.RecoveryPoint{}}
	for i := 0; i < len(points); i += 2 {
		name, minutes := points[i].(string), points[i+1].(int)
		p := replication.RecoveryPoint{ID: replication.PointID(fmt.Sprintf("%s%d", name, i/2)), Time: noon.Add(time.Duration(minutes) * time.Minute), Consistency: replication.AppConsistent}
		for _, disk := range name {
			p.Disks = append(p.Disks, replication.DiskID(disk))
		}
		for _, disk := range p.Disks {
			if l.points[disk] == nil {
				m.Disks = append(m.Disks, store.Disk{ID: disk})
			}
			l.points[disk] = append(l.points[disk], p)
		}
	}
	return l
}

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func (l listing) idsOf(t *testing.T, m store.Machine) (ids []replication.PointID) {
	t.Helper()
	list, err := (&Protector{sink: l}).Points(m)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range list {
		ids = append(ids, p.ID)
	}
	return ids
}

// The newest point is the one that the vault took last, whatever the clock said.
func TestAClockThatWasSetBackMakesNoPointOlder(t *testing.T) {
	for _, c := range []struct {
		name   string
		points []any
		want   []replication.PointID
	}{
		{"a clock that runs", []any{"a", 0, "a", 1, "a", 2}, []replication.PointID{"a2", "a1", "a0"}},
		{"set back by an hour", []any{"a", 0, "a", 1, "a", -59, "a", -58}, []replication.PointID{"a3", "a2", "a1", "a0"}},
		{"with two disks", []any{"ab", 0, "ab", 1, "ab", -59}, []replication.PointID{"ab2", "ab1", "ab0"}},
		{"a disk came", []any{"a", 0, "a", 1, "ab", -59, "ab", -58}, []replication.PointID{"ab3", "ab2", "a1", "a0"}},
		{"a disk left", []any{"ab", 0, "ab", 1, "b", -59, "b", -58}, []replication.PointID{"b3", "b2", "ab1", "ab0"}},
		{"a disk left and came again", []any{"ab", 0, "b", -59, "ab", -58, "a", -120}, []replication.PointID{"a3", "ab2", "b1", "ab0"}},
		{"one disk instead of another", []any{"a", 0, "a", 1, "b", 2, "b", 3}, []replication.PointID{"b3", "b2", "a1", "a0"}},
		{"three disks", []any{"ab", 0, "bc", -10, "abc", -20, "c", -30, "a", -25}, []replication.PointID{"a4", "c3", "abc2", "bc1", "ab0"}},
	} {
		var m store.Machine
		l := taken(&m, c.points...)
		if got := l.idsOf(t, m); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
		for _, wanted := range []replication.PointID{"", "app", "clean"} {
			if p, err := (&Protector{sink: l}).Choose(m, wanted); err != nil || p.ID != c.want[0] {
				t.Errorf("%s: the newest one (%q) is %s, %v; want %s", c.name, wanted, p.ID, err, c.want[0])
			}
		}
	}
}

// A point that was taken after a disk began to turn to noise is suspect, also when the
// clock was set back since.
func TestAClockThatWasSetBackMakesNoSuspectPointClean(t *testing.T) {
	var m store.Machine
	l := taken(&m, "a", 0, "a", 1, "a", 2, "a", -59, "a", -58)
	points, err := (&Protector{sink: l}).Points(m)
	if err != nil {
		t.Fatal(err)
	}
	// One disk was clean for longer, by the clock for less long.
	at, clean := cleanAt(points, []time.Time{noon.Add(-59 * time.Minute), noon.Add(time.Minute)})
	if clean != "a1" || !at.Equal(noon.Add(time.Minute)) {
		t.Errorf("the last clean point is %s, of %s; want a1", clean, at)
	}
	for name, alarm := range map[string]store.Alarm{
		"the point of the moment":          {After: noon.Add(time.Minute), LastClean: "a1"},
		"none of them was whole":           {After: noon.Add(time.Minute)},
		"the point of the moment went":     {After: noon.Add(90 * time.Second), LastClean: "a1"},
		"and there is no clean one either": {After: noon.Add(90 * time.Second)},
	} {
		m.Alarm = &alarm
		points, err := (&Protector{sink: l}).Points(m)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range points {
			if want := p.ID != "a0" && p.ID != "a1"; p.Suspect != want {
				t.Errorf("%s: point %s is suspect: %v, want %v", name, p.ID, p.Suspect, want)
			}
		}
		if p, err := (&Protector{sink: l}).Choose(m, "clean"); err != nil || p.ID != "a1" {
			t.Errorf("%s: the newest clean point is %s, %v; want a1", name, p.ID, err)
		}
	}
}
