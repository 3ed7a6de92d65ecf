package vault

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"riparo/replication"
	"riparo/replication/vfs"
)

// writtenFS counts the bytes that are written to files.
type writtenFS struct {
	vfs.FS
	written  atomic.Int64
	segments atomic.Int64 // of it, in segments
}

func (c *writtenFS) Create(name string) (vfs.File, error) {
	f, err := c.FS.Create(name)
	return c.counted(name, f, err)
}

func (c *writtenFS) Open(name string) (vfs.File, error) {
	f, err := c.FS.Open(name)
	return c.counted(name, f, err)
}

func (c *writtenFS) counted(name string, f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &writtenFile{f, c, filepath.Ext(name) == segmentSuffix}, nil
}

type writtenFile struct {
	vfs.File
	fs      *writtenFS
	segment bool
}

func (f *writtenFile) WriteAt(p []byte, offset int64) (int, error) {
	n, err := f.File.WriteAt(p, offset)
	f.fs.written.Add(int64(n))
	if f.segment {
		f.fs.segments.Add(int64(n))
	}
	return n, err
}

// churn is a disk that is written to for a long time, with points and retention as an
// appliance does it.
type churn struct {
	t       *testing.T
	random  *rand.Rand
	vault   *Vault
	fs      *writtenFS
	number  replication.Sequence
	now     time.Time
	head    []byte // what the disk must have
	kept    map[replication.PointID]uint64
	rules   replication.Retention
	sent    int64 // payload that was acknowledged
	maximum float64
}

// Amplification that is promised; see DESIGN and wasteLimit.
const (
	spaceLimit = 1.3
	writeLimit = 1.5
)

// TestChurn writes to a hot and a cold part of a disk for a long time, with a point
// every 5 seconds and retention by rule, and measures what that takes. The environment
// variable RIPARO_CHURN sets how many times the disk is written over: 10 without it.
func TestChurn(t *testing.T) {
	times := 10
	if text := os.Getenv("RIPARO_CHURN"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("RIPARO_CHURN: %v", err)
		}
		times = n
	}
	const size, seed = 48 << 20, 11
	c := newChurn(t, size, seed)
	c.fill()
	settled := int64(times) * size / 3 // until retention has let the first points go
	for c.sent < settled {
		c.cycle()
	}
	begin, written, segments, needs := c.sent, c.fs.written.Load(), c.fs.segments.Load(), []float64{}
	for n := 0; c.sent < int64(times)*size; n++ {
		c.cycle()
		if n%16 == 0 {
			needs = append(needs, c.space())
		}
	}
	space := 0.0
	for _, s := range needs {
		space += s / float64(len(needs))
	}
	write := float64(c.fs.written.Load()-written) / float64(c.sent-begin)
	points, err := c.vault.Points("d")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("seed %d: %d MiB taken by a disk of %d MiB, %d points kept: space amplification %.3f (at most %.3f), write amplification %.3f (segments alone %.3f)",
		seed, c.sent>>20, int64(size)>>20, len(points), space, c.maximum, write, float64(c.fs.segments.Load()-segments)/float64(c.sent-begin))
	if space > spaceLimit || write > writeLimit {
		t.Errorf("space amplification %.3f, want at most %v; write amplification %.3f, want at most %v (seed %d)", space, spaceLimit, write, writeLimit, seed)
	}
	c.check()
}

func newChurn(t *testing.T, size int64, seed uint64) *churn {
	c := &churn{
		t: t, random: rand.New(rand.NewPCG(seed, 1)), fs: &writtenFS{FS: vfs.OS()},
		now: time.Unix(1_800_000_000, 0), head: make([]byte, size), kept: map[replication.PointID]uint64{},
		// The rules of an appliance, so much shorter that a test sees them all.
		rules: replication.Retention{{Until: 5 * time.Minute}, {Until: 30 * time.Minute, Every: 30 * time.Second}, {Until: 2 * time.Hour, Every: 5 * time.Minute}},
	}
	c.vault = open(t, c.fs, t.TempDir(), Options{
		// Segments and maps are as much smaller as the disk is.
		segmentBytes: 1 << 20, memoryEntries: 2048, manual: true, Clock: func() time.Time { return c.now },
	})
	if _, err := c.vault.Prepare(t.Context(), replication.Disk{ID: "d", Size: size}, 1); err != nil {
		t.Fatal(err)
	}
	return c
}

// fill writes the disk once.
func (c *churn) fill() {
	for at := int64(0); at < int64(len(c.head)); at += 1 << 20 {
		c.put([]replication.Extent{{Offset: at, Length: 1 << 20}})
	}
	c.mark()
}

// put writes extents with text and noise, half of each.
func (c *churn) put(extents []replication.Extent) {
	var changes []replication.Change
	for _, e := range extents {
		data := c.head[e.Offset:e.End()]
		if c.random.IntN(2) == 0 {
			text(data, c.random.Uint64())
		} else {
			fillNoise(data, c.random.Uint64())
		}
		changes = append(changes, replication.Change{Extent: e, Data: append([]byte(nil), data...)})
		c.sent += e.Length
	}
	c.number++
	if err := c.vault.Write(c.t.Context(), replication.Batch{Disk: "d", Epoch: 1, Sequence: c.number, Changes: changes}); err != nil {
		c.t.Fatal(err)
	}
}

// cycle writes about 512 KiB, most of it to a tenth of the disk, makes a point, drops
// what the rules let go, and compacts.
func (c *churn) cycle() {
	size := int64(len(c.head))
	var extents []replication.Extent
	for total := int64(0); total < 512<<10; {
		length := int64(4<<10) << c.random.IntN(6) // 4 to 128 KiB
		at := c.random.Int64N(size/10 - length)
		if c.random.IntN(10) < 2 {
			at = c.random.Int64N(size - length)
		}
		e := replication.Extent{Offset: at / (4 << 10) * (4 << 10), Length: length}
		if slices.ContainsFunc(extents, func(o replication.Extent) bool { return e.Intersect(o).Length > 0 }) {
			continue
		}
		extents = append(extents, e)
		total += length
	}
	c.put(extents)
	c.mark()
	points, err := c.vault.Points("d")
	if err != nil {
		c.t.Fatal(err)
	}
	if err := c.vault.Drop(c.t.Context(), "d", c.rules.Drop(points, c.now)); err != nil {
		c.t.Fatal(err)
	}
	if err := c.vault.Compact(c.t.Context(), "d"); err != nil {
		c.t.Fatal(err)
	}
}

func (c *churn) mark() {
	c.now = c.now.Add(5 * time.Second)
	c.number++
	id := replication.PointID(fmt.Sprintf("p%06d", c.number))
	m := replication.Mark{Disk: "d", Epoch: 1, Sequence: c.number, Point: id, Time: c.now, Size: int64(len(c.head)), Consistency: replication.CrashConsistent}
	if err := c.vault.Mark(c.t.Context(), m); err != nil {
		c.t.Fatal(err)
	}
	if c.random.IntN(20) == 0 || len(c.kept) == 0 {
		c.kept[id] = uint64(checksum(c.head))
	}
}

// space is what the disk takes for each byte that its points need.
func (c *churn) space() float64 {
	d := c.vault.disks["d"]
	stored, _ := d.storedBytes()
	d.mu.Lock()
	_, needed := d.needed()
	d.mu.Unlock()
	s := float64(stored) / float64(needed)
	c.maximum = max(c.maximum, s)
	return s
}

// check compares the points that are left with what the disk had.
func (c *churn) check() {
	points, err := c.vault.Points("d")
	if err != nil {
		c.t.Fatal(err)
	}
	compared := 0
	for _, p := range points {
		want, ok := c.kept[p.ID]
		if !ok {
			continue
		}
		w, err := c.vault.View(c.t.Context(), "d", p.ID)
		if err != nil {
			c.t.Fatal(err)
		}
		got := make([]byte, w.Size())
		if err := readFull(w, got, 0); err != nil {
			c.t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			c.t.Fatal(err)
		}
		if sum := uint64(checksum(got)); sum != want {
			c.t.Errorf("point %s: checksum %#x, want %#x", p.ID, sum, want)
		}
		compared++
	}
	if compared == 0 {
		c.t.Error("no point was compared")
	}
	if r, err := c.vault.Verify(c.t.Context(), VerifyOptions{}); err != nil || len(r.Damage) > 0 {
		c.t.Errorf("%v, %v: want no damage", r.Damage, err)
	}
}
