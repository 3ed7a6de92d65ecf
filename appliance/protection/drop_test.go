package protection

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"riparo/replication"
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
	var names []replication.PointID
	for _, id := range ids {
		if _, err := v.Prepare(t.Context(), replication.Disk{ID: id, Machine: "m", Size: size}, 1); err != nil {
			t.Fatal(err)
		}
		for i := range points {
			sequence, name := replication.Sequence(2*i), replication.PointID(fmt.Sprintf("p%d", i))
			data := slices.Repeat([]byte{byte(i + 1)}, size)
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
