package fleece

import (
	"slices"
	"strings"
	"testing"

	"riparo/hypervisor"
	"riparo/replication"
)

// TestLeftoverBitmapsAreMergedDroppedOrDistrusted goes through what a capture may find.
func TestLeftoverBitmapsAreMergedDroppedOrDistrusted(t *testing.T) {
	recording := func(point string) bitmap { return bitmap{Name: "riparo-" + point + "@vda", Recording: true} }
	disabled := func(point string) bitmap { return bitmap{Name: "riparo-" + point + "@vda"} }
	inconsistent := func(point string) bitmap { return bitmap{Name: "riparo-" + point + "@vda", Inconsistent: true} }
	foreign := bitmap{Name: "backup-0", Recording: true}
	other := bitmap{Name: "riparo-2@sdvda", Recording: true}
	for _, c := range []struct {
		name   string
		found  []bitmap
		since  replication.PointID
		mode   hypervisor.CaptureMode
		reason string // a part of it
		merge  []string
		enable bool
		remove []string
	}{
		{name: "the first capture", mode: hypervisor.Full},
		{name: "a first capture where an older protection left something", found: []bitmap{recording("1"), foreign}, mode: hypervisor.Full, remove: []string{"riparo-1@vda"}},
		{name: "a capture after a committed one", found: []bitmap{recording("2"), foreign}, since: "2", mode: hypervisor.Delta},
		{name: "a capture that was never committed", found: []bitmap{disabled("2"), recording("3")}, since: "2", mode: hypervisor.Delta, merge: []string{"riparo-3@vda"}, enable: true},
		{name: "two of them", found: []bitmap{recording("4"), disabled("3"), disabled("2")}, since: "2", mode: hypervisor.Delta, merge: []string{"riparo-3@vda", "riparo-4@vda"}, enable: true},
		{name: "a commit that did not come through", found: []bitmap{disabled("2"), recording("3")}, since: "3", mode: hypervisor.Delta, remove: []string{"riparo-2@vda"}},
		{name: "both record", found: []bitmap{recording("2"), recording("3")}, since: "2", mode: hypervisor.Delta, merge: []string{"riparo-3@vda"}},
		{name: "QEMU was restarted", since: "2", mode: hypervisor.Unknown, reason: "no dirty bitmap of point 2"},
		{name: "another appliance's points", found: []bitmap{recording("7")}, since: "2", mode: hypervisor.Unknown, reason: "no dirty bitmap", remove: []string{"riparo-7@vda"}},
		{name: "QEMU was killed", found: []bitmap{inconsistent("2")}, since: "2", mode: hypervisor.Unknown, reason: "inconsistent", remove: []string{"riparo-2@vda"}},
		{name: "QEMU was killed in a capture", found: []bitmap{disabled("2"), inconsistent("3")}, since: "2", mode: hypervisor.Unknown, reason: "interrupted capture", remove: []string{"riparo-2@vda", "riparo-3@vda"}},
		{name: "a gap", found: []bitmap{disabled("2")}, since: "2", mode: hypervisor.Unknown, reason: "not recording", remove: []string{"riparo-2@vda"}},
		{name: "an older one is inconsistent", found: []bitmap{inconsistent("1"), recording("2")}, since: "2", mode: hypervisor.Delta, remove: []string{"riparo-1@vda"}},
		{name: "the image was another disk", found: []bitmap{other}, since: "2", mode: hypervisor.Unknown, reason: "no dirty bitmap", remove: []string{other.Name}},
		{name: "the image was another disk for a while", found: []bitmap{recording("2"), other}, since: "2", mode: hypervisor.Delta, remove: []string{other.Name}},
		{name: "a bitmap of an older version", found: []bitmap{{Name: "riparo-2", Recording: true}}, since: "2", mode: hypervisor.Unknown, reason: "no dirty bitmap", remove: []string{"riparo-2"}},
	} {
		p := planFor(node{Driver: "qcow2", Bitmaps: c.found}, "vda", c.since)
		if p.mode != c.mode || !strings.Contains(p.reason, c.reason) || (p.reason != "") != (c.mode == hypervisor.Unknown) {
			t.Errorf("%s: %s (%q), want %s (%q)", c.name, p.mode, p.reason, c.mode, c.reason)
		}
		if !slices.Equal(p.merge, c.merge) || p.enable != c.enable || !slices.Equal(p.remove, c.remove) {
			t.Errorf("%s: merge %v, enable %t, remove %v: want %v, %t, %v", c.name, p.merge, p.enable, p.remove, c.merge, c.enable, c.remove)
		}
	}
}

// TestOldQcow2CannotKeepBitmaps: version 2 of the format has no place for them.
func TestOldQcow2CannotKeepBitmaps(t *testing.T) {
	n := node{Driver: "qcow2"}
	n.Image.Specific.Data.Compat = "1.1"
	if !n.persistent() {
		t.Error("bitmaps of qcow2 1.1 are not persistent")
	}
	n.Image.Specific.Data.Compat = "0.10"
	if n.persistent() || (node{Driver: "raw"}).persistent() {
		t.Error("bitmaps of qcow2 0.10 or raw are persistent")
	}
}

func TestRegionsAreSplitWhereZeroIsCertain(t *testing.T) {
	e := func(offset, length int64) replication.Extent {
		return replication.Extent{Offset: offset, Length: length}
	}
	for _, c := range []struct {
		from, minus, want []replication.Extent
	}{
		{nil, []replication.Extent{e(0, 9)}, nil},
		{[]replication.Extent{e(10, 10)}, nil, []replication.Extent{e(10, 10)}},
		{[]replication.Extent{e(10, 10)}, []replication.Extent{e(0, 10), e(20, 5)}, []replication.Extent{e(10, 10)}},
		{[]replication.Extent{e(10, 10)}, []replication.Extent{e(0, 30)}, nil},
		{[]replication.Extent{e(10, 10)}, []replication.Extent{e(12, 2), e(16, 2)}, []replication.Extent{e(10, 2), e(14, 2), e(18, 2)}},
		{[]replication.Extent{e(0, 4), e(8, 4)}, []replication.Extent{e(2, 8)}, []replication.Extent{e(0, 2), e(10, 2)}},
	} {
		if got := subtract(c.from, c.minus); !slices.Equal(got, c.want) {
			t.Errorf("%v without %v is %v, want %v", c.from, c.minus, got, c.want)
		}
	}
	got := split(e(10, 20), []replication.Extent{e(0, 12), e(15, 5), e(28, 10)})
	want := []replication.Region{{Extent: e(10, 2), Zero: true}, {Extent: e(12, 3)}, {Extent: e(15, 5), Zero: true}, {Extent: e(20, 8)}, {Extent: e(28, 2), Zero: true}}
	if !slices.Equal(got, want) {
		t.Errorf("split into %v, want %v", got, want)
	}
}
