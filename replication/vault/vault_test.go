package vault

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"riparo/replication"
	"riparo/replication/vfs"
)

func open(t testing.TB, fsys vfs.FS, dir string, o Options) *Vault {
	t.Helper()
	o.Create = !o.ReadOnly
	v, err := Open(t.Context(), fsys, dir, keyed(o))
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { v.Close() })
	return v
}

func TestEveryPointGivesBackItsDisk(t *testing.T) {
	const size = 1<<20 + 300
	dir := t.TempDir()
	v := open(t, vfs.OS(), dir, Options{segmentBytes: 256 << 10})
	st, err := v.Prepare(t.Context(), replication.Disk{ID: "d", Size: size}, 1)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	disk := make([]byte, size)
	want := map[replication.PointID][]byte{}
	sequence := st.Sequence
	for i := range 40 {
		for range 5 {
			var b replication.Batch
			sequence++
			b.Disk, b.Epoch, b.Sequence = "d", 1, sequence
			off := r.Int64N(size)
			n := min(1+r.Int64N(200<<10), size-off)
			c := replication.Change{Extent: replication.Extent{Offset: off, Length: n}}
			if r.IntN(4) > 0 {
				c.Data = make([]byte, n)
				for j := range c.Data {
					c.Data[j] = byte(r.IntN(3))
				}
				copy(disk[off:], c.Data)
			} else {
				clear(disk[off : off+n])
			}
			b.Changes = []replication.Change{c}
			if err := v.Write(t.Context(), b); err != nil {
				t.Fatal(err)
			}
		}
		sequence++
		id := replication.PointID(rune('a' + i))
		if err := v.Mark(t.Context(), replication.Mark{Disk: "d", Epoch: 1, Sequence: sequence, Point: id, Time: time.Unix(int64(i), 0), Size: size}); err != nil {
			t.Fatal(err)
		}
		want[id] = bytes.Clone(disk)
	}
	check := func() {
		t.Helper()
		points, err := v.Points("d")
		if err != nil || len(points) != len(want) {
			t.Fatalf("%d points, %v", len(points), err)
		}
		for _, p := range points {
			w, err := v.View(context.Background(), "d", p.ID)
			if err != nil {
				t.Fatal(err)
			}
			got := make([]byte, size)
			if _, err := w.ReadAt(got, 0); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want[p.ID]) {
				t.Fatalf("point %s differs", p.ID)
			}
			w.Close()
		}
	}
	check()
	for range 3 {
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
		v = open(t, vfs.OS(), dir, Options{segmentBytes: 256 << 10})
		check()
	}
	if _, err := Open(t.Context(), vfs.OS(), dir, Options{}); replication.AsProblem(err).Code != CodeLocked {
		t.Fatal(err)
	}
	if _, err := v.View(t.Context(), "x", ""); !errors.Is(err, replication.ErrUnknownDisk) {
		t.Fatal(err)
	}
}
