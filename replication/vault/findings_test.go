package vault

import (
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"riparo/replication"
	"riparo/replication/vfs"
)

// TestDamageOfManyPointsCostsLittle: a bad place of the storage may be a thousand blocks that
// ten thousand points need. Who looks at it every other second does not name each point for
// each block.
func TestDamageOfManyPointsCostsLittle(t *testing.T) {
	const blocks, points = 200, 3000
	v := open(t, vfs.NewSim(3), "v", Options{Plain: true})
	s := newSender(t, v, "d", blocks*blockBytes)
	for i := range int64(blocks) {
		s.write(change(i*blockBytes, blockBytes, byte(i+1)))
	}
	point := func() replication.PointID {
		s.sequence++
		id := replication.PointID(fmt.Sprintf("p%05d", s.sequence))
		if err := v.Mark(t.Context(), replication.Mark{Disk: "d", Epoch: s.epoch, Sequence: s.sequence, Point: id, Time: time.Unix(int64(s.sequence), 0), Size: blocks * blockBytes}); err != nil {
			t.Fatal(err)
		}
		return id
	}
	var ids []replication.PointID
	for range points {
		ids = append(ids, point())
	}
	d := v.disks["d"]
	for i := range int64(blocks) {
		e := block(t, v, "d", "", i*blockBytes)
		d.remember([]badBlock{badBlockOf(&e, errors.New("for the test"))})
	}
	look := func() []Damage {
		found, err := v.Found(t.Context(), "d")
		if err != nil || len(found) != blocks {
			t.Fatalf("%d places, %v; want %d", len(found), err, blocks)
		}
		return found
	}
	for _, f := range look() {
		if len(f.Points) != points || !f.Head || f.Points[0] != ids[0] || f.Points[points-1] != ids[points-1] {
			t.Fatalf("at %s: %d points, head %t; want all", f.Extent, len(f.Points), f.Head)
		}
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	look()
	runtime.ReadMemStats(&after)
	if taken := after.TotalAlloc - before.TotalAlloc; taken > 4<<20 {
		t.Errorf("another look took %d bytes of memory", taken)
	}
	gone := []replication.PointID{ids[0], ids[7]}
	if err := v.Drop(t.Context(), "d", gone); err != nil {
		t.Fatal(err)
	}
	s.write(change(0, blockBytes, 77))
	point()
	found := look()
	if n := len(found[0].Points); n != points-len(gone) || found[0].Head || found[0].Points[0] != ids[1] {
		t.Errorf("overwritten: %d points from %s on, head %t", n, found[0].Points[0], found[0].Head)
	}
	if n := len(found[1].Points); n != points-len(gone)+1 || !found[1].Head {
		t.Errorf("of another block: %d points, head %t", n, found[1].Head)
	}
}
