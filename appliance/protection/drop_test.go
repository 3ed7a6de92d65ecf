package protection

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/replication/vault"
	"riparo/replication/vfs"
	"riparo/store"
)

// heldMarks is what a disk is asked to let go.
type heldMarks struct {
	Vault
	asked map[replication.DiskID][]replication.PointID
}

func (v heldMarks) Drop(ctx context.Context, id replication.DiskID, points []replication.PointID) error {
	v.asked[id] = append(v.asked[id], points...)
	return v.Vault.Drop(ctx, id, points)
}

// TestAPointThatGoesLeavesAllItsDisks: once the first has let it go, it is no complete point
// of the others any more. What a run that was cut off between them left goes with the next.
func TestAPointThatGoesLeavesAllItsDisks(t *testing.T) {
	v, err := vault.Open(t.Context(), vfs.OS(), t.TempDir(), vault.Options{Create: true, Plain: true})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	sink := heldMarks{v, map[replication.DiskID][]replication.PointID{}}
	p := &Protector{sink: sink, log: slog.Default(), now: time.Now, changed: func(string) {}}
	ids := []replication.DiskID{"m.a", "m.b"}
	m := store.Machine{ID: "m", Disks: []store.Disk{{Key: "a", ID: ids[0]}, {Key: "b", ID: ids[1]}}}
	const size, points = 64 << 10, 8
	names := fillDisks(t, v, ids, size, points)
	// A run that died after the first disk.
	if err := v.Drop(t.Context(), ids[0], names[:1]); err != nil {
		t.Fatal(err)
	}
	if err := p.drop(t.Context(), m, names[:4]); err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		if !slices.Equal(sink.asked[id], names[1:4]) {
			t.Errorf("disk %s was to let go %v, want %v", id, sink.asked[id], names[1:4])
		}
	}
	if err := p.drop(t.Context(), m, names[:4]); err != nil {
		t.Errorf("once more: %v", err)
	}
	for _, id := range ids {
		// A pin finds what no list shows: marks that are no complete point.
		for _, gone := range names[:4] {
			if err := v.Pin(t.Context(), id, gone); err == nil {
				t.Errorf("disk %s still holds its mark of %s", id, gone)
			}
		}
		left, err := v.Points(id)
		if err != nil || len(left) != points-4 {
			t.Errorf("disk %s has %d points, %v: want %d", id, len(left), err, points-4)
		}
	}
}

// rooms are an empty vault and an empty store.
func rooms(t *testing.T) (*vault.Vault, *store.Store) {
	t.Helper()
	v, err := vault.Open(t.Context(), vfs.OS(), t.TempDir(), vault.Options{Create: true, Plain: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.Close() })
	s, err := store.Open(filepath.Join(t.TempDir(), "state.db"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return v, s
}

// TestADiskThatNoPointHasAnyMoreIsErased, and no earlier: neither while a point has it, nor
// while somebody's marks are unknown, nor before there is a point without it.
func TestADiskThatNoPointHasAnyMoreIsErased(t *testing.T) {
	v, s := rooms(t)
	p := &Protector{store: s, sink: v, log: slog.Default(), now: time.Now, changed: func(string) {}}
	ids := []replication.DiskID{"m.a", "m.b"}
	m := store.Machine{ID: "m", Disks: []store.Disk{{Key: "a", ID: ids[0]}, {Key: "b", ID: ids[1], Excluded: true, Removed: true}, {Key: "c", ID: "m.c", Excluded: true}}}
	const size = 4096
	names := fillDisks(t, v, ids, size, 3)
	stays := func(when string) {
		t.Helper()
		if err := p.eraseLeft(t.Context(), m, replication.DefaultPolicy()); err != nil {
			t.Errorf("%s: %v", when, err)
		}
		if _, err := v.State("m.b"); err != nil {
			t.Errorf("%s: the disk is gone: %v", when, err)
		}
	}
	stays("points have it")
	mark := func(sequence replication.Sequence, point replication.PointID, members ...replication.DiskID) {
		t.Helper()
		if err := v.Mark(t.Context(), replication.Mark{Disk: "m.a", Epoch: 1, Sequence: sequence, Point: point, Time: time.Now(), Size: size, Members: members}); err != nil {
			t.Fatal(err)
		}
	}
	mark(7, "alone", "m.a")
	if err := p.drop(t.Context(), m, names); err != nil {
		t.Fatal(err)
	}
	p.sink = unreadable{v, "m.a"}
	stays("nobody knows the marks of the other")
	p.sink = v
	m.Disks[0].ID = "m.new" // has no point of its own yet
	if _, err := v.Prepare(t.Context(), replication.Disk{ID: "m.new", Machine: "m", Size: size}, 1); err != nil {
		t.Fatal(err)
	}
	stays("no point is without it")
	m.Disks[0].ID = "m.a"
	if err := p.eraseLeft(t.Context(), m, replication.DefaultPolicy()); err != nil {
		t.Fatal(err)
	}
	if _, err := v.State("m.b"); !errors.Is(err, replication.ErrUnknownDisk) {
		t.Errorf("no point has the disk: %v, want it erased", err)
	}
	if points, err := v.Points("m.a"); err != nil || len(points) != 1 || points[0].ID != "alone" {
		t.Errorf("the other disk has %v, %v", points, err)
	}
	var told int
	if err := s.View(func(tx *store.Tx) error {
		for e, err := range tx.Events().All() {
			if err != nil {
				return err
			}
			if e.Code == "disk.erased" && e.Args["disk"] == "b" {
				told++
			}
		}
		return nil
	}); err != nil || told != 1 {
		t.Errorf("it was told %d times, %v", told, err)
	}
}

// TestAPinThatFailsHalfWayLeavesNone: nobody could lift it.
func TestAPinThatFailsHalfWayLeavesNone(t *testing.T) {
	v, s := rooms(t)
	ids := []replication.DiskID{"m.a", "m.b"}
	m := store.Machine{ID: "m", Policy: "p", Disks: []store.Disk{{Key: "a", ID: ids[0]}, {Key: "b", ID: ids[1]}}}
	if err := s.Update(func(tx *store.Tx) error {
		return errors.Join(tx.Policies().Put(store.Policy{Policy: replication.Policy{Name: "p"}}), tx.Machines().Put(m))
	}); err != nil {
		t.Fatal(err)
	}
	names := fillDisks(t, v, ids, 4096, 2)
	p := &Protector{store: s, sink: unpinnable{v, "m.b"}, log: slog.Default(), now: time.Now, changed: func(string) {}}
	if err := p.Pin(t.Context(), "m", "somebody", names[0], ""); err == nil {
		t.Fatal("it was pinned")
	}
	points, err := v.Points("m.a")
	if err != nil || len(points) != 2 || points[0].Pinned {
		t.Errorf("%+v, %v: want no pin", points, err)
	}
}

// unpinnable is a vault of which one disk cannot be written.
type unpinnable struct {
	Vault
	disk replication.DiskID
}

func (v unpinnable) Pin(ctx context.Context, id replication.DiskID, points ...replication.PointID) error {
	if id == v.disk {
		return errors.New("no room")
	}
	return v.Vault.Pin(ctx, id, points...)
}

// unreadable is a vault with a disk that could not be opened.
type unreadable struct {
	Vault
	disk replication.DiskID
}

func (v unreadable) Points(id replication.DiskID) ([]replication.RecoveryPoint, error) {
	if id == v.disk {
		return nil, errors.New("its maps are damaged")
	}
	return v.Vault.Points(id)
}

// fillDisks gives disks points that are of all of them.
func fillDisks(t *testing.T, v *vault.Vault, ids []replication.DiskID, size int64, points int) (names []replication.PointID) {
	t.Helper()
	for _, id := range ids {
		if _, err := v.Prepare(t.Context(), replication.Disk{ID: id, Machine: "m", Size: size}, 1); err != nil {
			t.Fatal(err)
		}
		for i := range points {
			sequence, name := replication.Sequence(2*i), replication.PointID(fmt.Sprintf("p%d", i))
			data := slices.Repeat([]byte{byte(i + 1)}, int(size))
			if err := v.Write(t.Context(), replication.Batch{Disk: id, Epoch: 1, Sequence: sequence + 1, Changes: []replication.Change{{Extent: replication.Extent{Length: size}, Data: data}}}); err != nil {
				t.Fatal(err)
			}
			if err := v.Mark(t.Context(), replication.Mark{Disk: id, Epoch: 1, Sequence: sequence + 2, Point: name, Time: time.Now(), Size: size, Members: ids}); err != nil {
				t.Fatal(err)
			}
			if id == ids[0] {
				names = append(names, name)
			}
		}
	}
	return names
}

// TestADiskThatOnlyOldPointsHaveIsErasedWithTheLast: the newest point of a disk cannot be
// dropped, and one that is of left disks only would stay for ever. Neither retention nor a
// person gets rid of it otherwise.
func TestADiskThatOnlyOldPointsHaveIsErasedWithTheLast(t *testing.T) {
	for name, goes := range map[string]func(p *Protector, m store.Machine, policy replication.Policy, last replication.PointID) error{
		"by retention": func(p *Protector, m store.Machine, policy replication.Policy, _ replication.PointID) error {
			if err := p.eraseLeft(t.Context(), m, replication.DefaultPolicy()); err != nil {
				return err
			}
			if _, err := p.sink.State("m.old"); err != nil {
				t.Errorf("a policy keeps the point, and the disk is gone: %v", err)
			}
			policy.Retention = replication.Retention{{Until: time.Nanosecond}}
			return p.eraseLeft(t.Context(), m, policy)
		},
		"by hand": func(p *Protector, m store.Machine, _ replication.Policy, last replication.PointID) error {
			return p.DeletePoints(t.Context(), m.ID, "anna", []replication.PointID{last}, false)
		},
	} {
		t.Run(name, func(t *testing.T) {
			v, s := rooms(t)
			p := New(Config{Store: s, Vault: v, Log: slog.New(slog.DiscardHandler)})
			old := fillDisks(t, v, []replication.DiskID{"m.old"}, 4096, 1)
			mark := func(id replication.DiskID, point replication.PointID) {
				if _, err := v.Prepare(t.Context(), replication.Disk{ID: id, Machine: "m", Size: 4096}, 1); err != nil {
					t.Fatal(err)
				}
				if err := v.Mark(t.Context(), replication.Mark{Disk: id, Epoch: 1, Sequence: 1, Point: point, Time: time.Now(), Size: 4096, Members: []replication.DiskID{id}}); err != nil {
					t.Fatal(err)
				}
			}
			mark("m.new", "new")
			m := store.Machine{ID: "m", Name: "WEB01", State: lifecycle.Protected, Policy: replication.DefaultPolicy().Name, Disks: []store.Disk{{Key: "old", ID: "m.old", Excluded: true, Removed: true}, {Key: "new", ID: "m.new"}}}
			if err := s.Update(func(tx *store.Tx) error {
				return errors.Join(tx.Policies().Put(store.Policy{Policy: replication.DefaultPolicy()}), tx.Machines().Put(m))
			}); err != nil {
				t.Fatal(err)
			}
			if err := goes(p, m, replication.DefaultPolicy(), old[0]); err != nil {
				t.Fatal(err)
			}
			if _, err := v.State("m.old"); !errors.Is(err, replication.ErrUnknownDisk) {
				t.Errorf("its last point went, and the disk: %v; want it erased", err)
			}
			if points, err := p.Points(m); err != nil || len(points) != 1 || points[0].ID != "new" {
				t.Errorf("the machine has %v, %v", points, err)
			}
		})
	}
}

// TestAPointWhoseCycleDidNotEndIsLockedByTheNext: a policy's promise holds for it too, and
// for none from before the policy.
func TestAPointWhoseCycleDidNotEndIsLockedByTheNext(t *testing.T) {
	for name, c := range map[string]struct {
		known  int // the point that the record names, -1 for none
		locked []bool
	}{
		"all cycles ended":         {2, []bool{false, false, false, true}},
		"the last did not end":     {1, []bool{false, false, true, true}},
		"the last two did not end": {0, []bool{false, true, true, true}},
		"no cycle ended":           {-1, []bool{false, false, true, true}},
	} {
		t.Run(name, func(t *testing.T) {
			v, err := vault.Open(t.Context(), vfs.OS(), t.TempDir(), vault.Options{Create: true, Plain: true})
			if err != nil {
				t.Fatal(err)
			}
			defer v.Close()
			p := &Protector{sink: v, log: slog.Default(), now: time.Now}
			ids := []replication.DiskID{"m.a", "m.b"}
			m := store.Machine{ID: "m", Disks: []store.Disk{{Key: "a", ID: ids[0]}, {Key: "b", ID: ids[1]}}}
			points := fillDisks(t, v, ids, 4096, 4)
			if c.known >= 0 {
				m.LastPoint = &replication.RecoveryPoint{ID: points[c.known]}
			}
			before := map[string]replication.DiskState{"a": {Point: points[2]}, "b": {Point: points[2]}}
			if err := p.lock(t.Context(), m, points[3], ids, before, replication.Policy{LockFor: time.Hour}); err != nil {
				t.Fatal(err)
			}
			for _, id := range ids {
				has, err := v.Points(id)
				if err != nil || len(has) != 4 {
					t.Fatal(has, err)
				}
				for i, point := range has {
					if point.Locked != c.locked[i] {
						t.Errorf("disk %s, point %s: locked %t, want %t", id, point.ID, point.Locked, c.locked[i])
					}
				}
			}
		})
	}
}
