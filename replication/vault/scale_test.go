package vault

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"testing"
	"time"

	"riparo/replication"
	"riparo/replication/proof"
	"riparo/replication/vfs"
)

// unsyncedFS leaves durability to others: the costs that are measured here are those
// of the vault, not of the disk under it.
type unsyncedFS struct{ vfs.FS }

func (u unsyncedFS) SyncDir(string) error { return nil }

func (u unsyncedFS) Create(name string) (vfs.File, error) {
	f, err := u.FS.Create(name)
	return unsyncedFile{f}, err
}

func (u unsyncedFS) Open(name string) (vfs.File, error) {
	f, err := u.FS.Open(name)
	return unsyncedFile{f}, err
}

type unsyncedFile struct{ vfs.File }

func (unsyncedFile) Sync() error { return nil }

// heap is what is in use after a collection, in bytes.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // pools are emptied by the second one
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// Bounds that hold whatever the number of points.
const (
	mostOpening = time.Second
	// mostFiles: fewer than eight files of each level, and eight to the fifth tiles are
	// more than any retention window has.
	mostFiles   = 5 * (foldWidth - 1)
	mostViewed  = 6 << 20  // bytes of heap that a view takes
	mostResides = 64 << 20 // bytes of heap for a TiB of a disk
)

// TestCostsDoNotGrowWithTheNumberOfPoints makes points 5 seconds apart, each with some
// small changes, and prints what points cost. The environment variable RIPARO_SCALE=1
// asks for 20,000 points on disks of all sizes.
func TestCostsDoNotGrowWithTheNumberOfPoints(t *testing.T) {
	counts, sizes := []int{100, 1000, 5000}, []int64{64}
	if os.Getenv("RIPARO_SCALE") != "" {
		counts, sizes = []int{100, 1000, 5000, 20_000}, []int64{1, 16, 64, 256}
	}
	for _, gib := range sizes {
		m := newMany(t, gib<<30)
		for _, count := range counts {
			m.grow(count)
			m.measure(count)
		}
		if err := m.vault.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestADiskIsMadeWithManyPoints makes RIPARO_MANY_POINTS points in the vault
// RIPARO_MANY_IN, for others who measure; that vault is not encrypted. By itself it makes
// some and looks at one.
func TestADiskIsMadeWithManyPoints(t *testing.T) {
	count := proof.Times(t, "RIPARO_MANY_POINTS", 200)
	m := &many{t: t, random: rand.New(rand.NewPCG(1, 1)), dir: cmp.Or(os.Getenv("RIPARO_MANY_IN"), t.TempDir()), size: 64 << 30, now: time.Unix(1_800_000_000, 0)}
	var err error
	m.fs = &writtenFS{FS: unsyncedFS{vfs.OS()}}
	o := Options{Create: true, Plain: true, manual: true, Clock: func() time.Time { return m.now }}
	if m.vault, err = Open(t.Context(), m.fs, m.dir, o); err != nil {
		t.Fatal(err)
	}
	if _, err := m.vault.Prepare(t.Context(), replication.Disk{ID: "d", Size: m.size}, 1); err != nil {
		t.Fatal(err)
	}
	m.grow(count)
	if err := m.vault.Close(); err != nil {
		t.Fatal(err)
	}
	o.ReadOnly, o.Create = true, false
	if m.vault, err = Open(t.Context(), m.fs, m.dir, o); err != nil {
		t.Fatal(err)
	}
	defer m.vault.Close()
	if points, err := m.vault.Points("d"); err != nil || len(points) != count {
		t.Errorf("%d points, %v; want %d", len(points), err, count)
	}
}

// many is a disk with many points.
type many struct {
	t      testing.TB
	random *rand.Rand
	vault  *Vault
	dir    string
	size   int64
	before int64 // heap
	now    time.Time
	number replication.Sequence
	points int
	fs     *writtenFS
	cost   time.Duration // of one of the last hundred points
	bytes  int64         // that it wrote
	first  int64         // that one wrote when there were few
}

func newMany(t testing.TB, size int64) *many {
	m := &many{t: t, random: rand.New(rand.NewPCG(1, uint64(size))), dir: t.TempDir(), size: size, now: time.Unix(1_800_000_000, 0), before: heap()}
	m.open()
	if _, err := m.vault.Prepare(t.Context(), replication.Disk{ID: "d", Size: size}, 1); err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *many) open() {
	m.fs = &writtenFS{FS: unsyncedFS{vfs.OS()}}
	m.vault = open(m.t, m.fs, m.dir, Options{manual: true, Clock: func() time.Time { return m.now }})
}

// grow makes points until there are so many, and measures the last hundred of them.
func (m *many) grow(count int) {
	data := make([]byte, 4<<10)
	begin, written := time.Now(), int64(0)
	for ; m.points < count; m.points++ {
		if m.points == count-100 {
			if err := m.vault.disks["d"].maintain(m.t.Context()); err != nil { // as in the background
				m.t.Fatal(err)
			}
			begin, written = time.Now(), m.fs.written().total()
		}
		m.now = m.now.Add(5 * time.Second)
		m.number++
		b := replication.Batch{Disk: "d", Epoch: 1, Sequence: m.number}
		at := int64(0)
		for range 4 {
			at += m.random.Int64N(m.size/8) / 4096 * 4096
			data[0] = byte(m.random.Uint32()) | 1
			b.Changes = append(b.Changes, replication.Change{Extent: replication.Extent{Offset: at, Length: 4096}, Data: append([]byte(nil), data...)})
			at += 4096
		}
		if err := m.vault.Write(m.t.Context(), b); err != nil {
			m.t.Fatal(err)
		}
		m.number++
		k := replication.Mark{Disk: "d", Epoch: 1, Sequence: m.number, Point: m.point(m.points), Time: m.now, Size: m.size, Consistency: replication.CrashConsistent}
		if err := m.vault.Mark(m.t.Context(), k); err != nil {
			m.t.Fatal(err)
		}
		if m.points%1000 == 999 {
			if err := m.vault.disks["d"].maintain(m.t.Context()); err != nil {
				m.t.Fatal(err)
			}
		}
	}
	m.cost, m.bytes = time.Since(begin)/100, (m.fs.written().total()-written)/100
	if m.first == 0 {
		m.first = m.bytes
	}
}

func (m *many) point(i int) replication.PointID { return replication.PointID(fmt.Sprintf("p%06d", i)) }

// measure prints what points cost now and holds the bounds.
func (m *many) measure(count int) {
	t := m.t
	if err := m.vault.Close(); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	m.open()
	opening := time.Since(begin)
	resident := heap() - m.before
	var took []time.Duration
	files := 0
	var views []*View
	before := heap()
	for _, i := range []int{count - 1, count / 2, 0, count / 3, count - count/50} {
		begin := time.Now()
		w, err := m.vault.View(t.Context(), "d", m.point(i))
		if err != nil {
			t.Fatal(err)
		}
		if err := readFull(w, make([]byte, 4096), m.random.Int64N(m.size-4096)); err != nil {
			t.Fatal(err)
		}
		took = append(took, time.Since(begin))
		files = max(files, len(w.stack.pieces))
		views = append(views, w)
	}
	viewed := (heap() - before) / int64(len(views))
	for _, w := range views {
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	d := m.vault.disks["d"]
	d.mu.Lock()
	entries, tiles := d.memory.entries, len(d.tiles)
	d.mu.Unlock()
	drop := []replication.PointID{m.point(count / 4), m.point(count/4 + 1)}
	begin = time.Now()
	if err := m.vault.Drop(t.Context(), "d", drop); err != nil {
		t.Fatal(err)
	}
	dropping := time.Since(begin)
	t.Logf("disk of %3d GiB, %5d points: add %6v and %d bytes; open vault %6v; view newest %6v, middle %6v, oldest %6v; files of a view %2d of %d tiles; drop %6v; heap %5.1f MiB, of a view %4.2f MiB, %d entries in memory",
		m.size>>30, count, m.cost.Round(time.Microsecond), m.bytes, opening.Round(time.Millisecond), took[0].Round(time.Microsecond), took[1].Round(time.Microsecond), took[2].Round(time.Microsecond),
		files, tiles, dropping.Round(time.Microsecond), float64(resident)/(1<<20), float64(viewed)/(1<<20), entries)
	for i, d := range took {
		if d > mostOpening {
			t.Errorf("view %d of %d points took %v, want less than %v", i, count, d, mostOpening)
		}
	}
	if files > mostFiles {
		t.Errorf("a view of %d points looks into %d files, want at most %d", count, files, mostFiles)
	}
	if entries > runEntries || viewed > mostViewed {
		t.Errorf("%d points: %d entries in memory, want at most %d; a view takes %d bytes, want at most %d", count, entries, runEntries, viewed, mostViewed)
	}
	// Time is printed, and bytes are held: they do not depend on who else computes.
	if m.bytes > 2*m.first {
		t.Errorf("a point wrote %d bytes when there were few and %d among %d", m.first, m.bytes, count)
	}
	if resident > mostResides {
		t.Errorf("%d points take %d bytes of heap, want at most %d", count, resident, int64(mostResides))
	}
}

// generated is the map of a disk that is full of blocks, without the blocks.
type generated struct {
	next, count int64
	current     entry
}

func (g *generated) advance() bool {
	if g.next == g.count {
		return false
	}
	g.current = entry{
		offset: g.next * blockBytes, length: blockBytes, segment: uint32(1 + g.next/1500), position: uint32(segmentHeaderSize + g.next%1500*40_000),
		stored: 40_000, plain: blockBytes, codec: codecLZ4,
	}
	g.next++
	return true
}
func (g *generated) value() *entry { return &g.current }
func (g *generated) failed() error { return nil }

// TestMemoryOfATebibyteIsBounded opens a disk whose map is as large as that of a full
// one. The environment variable RIPARO_SCALE=1 asks for a whole TiB; otherwise it is an
// eighth, and the figure counts eight times.
func TestMemoryOfATebibyteIsBounded(t *testing.T) {
	share := int64(8)
	if os.Getenv("RIPARO_SCALE") != "" {
		share = 1
	}
	size := int64(1<<40) / share
	dir := t.TempDir()
	o := Options{manual: true}
	v := open(t, unsyncedFS{vfs.OS()}, dir, o)
	newSenderOf(t, v, size)
	d := v.disks["d"]
	d.nextMap++
	m, err := d.writeMap(d.nextMap, 0, d.serial, []part{{last: d.serial, flows: func() ([]flow, error) {
		return []flow{&generated{count: size / blockBytes}}, nil
	}}})
	if err != nil {
		t.Fatal(err)
	}
	d.tiles, d.memory, d.mapped = []tile{{m, d.serial}}, memory{}, d.serial
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	before := heap()
	begin := time.Now()
	v = open(t, unsyncedFS{vfs.OS()}, dir, o)
	opening := time.Since(begin)
	w, err := v.View(t.Context(), "d", "")
	if err != nil {
		t.Fatal(err)
	}
	for i := range int64(1000) {
		at := i * (size / 1000) / blockBytes * blockBytes
		list, err := w.resolve(at, at+4096)
		if err != nil || len(list) != 1 || list[0].offset != at {
			t.Fatalf("at %d: %v, %v", at, list, err)
		}
	}
	resident := (heap() - before) * share
	t.Logf("a map of %d entries for %d GiB: opened in %v, %.1f MiB of heap per TiB", size/blockBytes, size>>30, opening.Round(time.Millisecond), float64(resident)/(1<<20))
	if resident > mostResides {
		t.Errorf("%d bytes of heap per TiB, want at most %d", resident, int64(mostResides))
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

// newSenderOf prepares a disk that is too large to be remembered, and writes to it.
func newSenderOf(t *testing.T, v *Vault, size int64) {
	t.Helper()
	if _, err := v.Prepare(t.Context(), replication.Disk{ID: "d", Size: size}, 1); err != nil {
		t.Fatal(err)
	}
	if err := v.Write(t.Context(), replication.Batch{Disk: "d", Epoch: 1, Sequence: 1, Changes: []replication.Change{change(0, 4096, 1)}}); err != nil {
		t.Fatal(err)
	}
}
