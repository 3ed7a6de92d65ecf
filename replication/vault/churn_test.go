package vault

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"riparo/replication"
	"riparo/replication/vfs"
)

// churn is a disk that is written to for a long time, with points and retention as an
// appliance does it, until everything that can die has died once.
type churn struct {
	t      *testing.T
	random *rand.Rand
	load   load
	vault  *Vault
	fs     *writtenFS
	number replication.Sequence
	now    time.Time
	head   []byte // what the disk must have
	noise  []byte
	text   []byte
	kept   map[replication.PointID]uint64
	rules  replication.Retention
	sent   int64 // bytes of changes, before compression
}

const churnSeed = 11

// load is what writes to a disk. It gives the extents of one batch, of bytes in all.
type load func(c *churn, bytes int64) []replication.Extent

// The rules are the default ones, so much shorter that a test sees them all. Their ages
// are to each other as there: an hour, a day, 15 days. An hour has 4 points, not 720, so
// that what a point costs whatever it holds, 4096 bytes and more, is a share of what
// it holds that is like that of a disk of 100 GB, and not all there is.
const (
	churnHour  = 20 * time.Second
	churnPoint = churnHour / 4
	// thinEvery is how many points there are between two times of thinning.
	thinEvery = 4
)

var churnRules = replication.Retention{{Until: churnHour}, {Until: 24 * churnHour, Every: churnHour / 2}, {Until: 15 * 24 * churnHour, Every: churnHour}}

// churnMeasured is how many windows at the end of a run are measured.
const churnMeasured = 1.0

// Amplification that is promised; see wasteLimit.
const (
	spaceLimit = 1.3
	writeLimit = 1.5
	// hostileLimit is no promise: figures above it say that something is broken.
	hostileLimit = 4
)

type churnLoad struct {
	name         string
	load         load
	space, write float64 // that are accepted
}

// TestChurn writes to a disk until everything that retention can let go has been let go
// for long, and measures over the end of it what that takes, against the bytes of the
// blocks of the sender as they are stored, after compression. The first blocks of the
// disk are let go over two and a half times the longest rule: a shorter run would
// flatter. The environment variable RIPARO_CHURN sets how many times the longest rule
// the run lasts, 3.5 without it, and asks for the hostile load as well.
func TestChurn(t *testing.T) {
	const size, perDay = int64(64 << 20), 0.25 // of the disk is written in a day
	loads := []churnLoad{{"database", database, spaceLimit, writeLimit}}
	windows := 3.5
	if text := os.Getenv("RIPARO_CHURN"); text != "" {
		n, err := strconv.ParseFloat(text, 64)
		if err != nil || n <= churnMeasured {
			t.Fatalf("RIPARO_CHURN=%s: want a number above %v", text, churnMeasured)
		}
		windows = n
		loads = append(loads, churnLoad{"uniform", uniform, hostileLimit, hostileLimit})
	}
	for _, w := range loads {
		t.Run(w.name, func(t *testing.T) {
			c := newChurn(t, w.load, size, churnSeed)
			c.fill()
			last := c.rules[len(c.rules)-1].Until
			points := int(last / churnPoint)
			bytes := int64(perDay*float64(size)*15) / int64(points)
			var begin, before written
			var space []usedSpace
			for n := range int(windows * float64(points)) {
				if n == int((windows-churnMeasured)*float64(points)) {
					begin = c.fs.written()
				}
				if n%(points/8) == 0 {
					now := c.fs.written()
					t.Logf("%3d%% of the window: %v; written %.3f: %v", 100*n/points, c.space(), amplification(now.since(before)), now.since(before))
					before = now
				}
				c.cycle(bytes, n%thinEvery == 0)
				if n >= int((windows-churnMeasured)*float64(points)) && n%(points/100) == 0 {
					space = append(space, c.space())
				}
			}
			wrote := c.fs.written().since(begin)
			mean, most := 0.0, 0.0
			for _, s := range space {
				mean += s.amplification() / float64(len(space))
				most = max(most, s.amplification())
			}
			t.Logf("steady state: space %.3f (at most %.3f), write %.3f", mean, most, amplification(wrote))
			t.Logf("%v", c.space())
			t.Logf("%v", wrote)
			if mean > w.space || amplification(wrote) > w.write {
				t.Errorf("space amplification %.3f, want at most %v; write amplification %.3f, want at most %v (seed %d)", mean, w.space, amplification(wrote), w.write, churnSeed)
			}
			c.check()
		})
	}
}

// amplification is what was written for each byte of payload.
func amplification(w written) float64 { return float64(w.total()) / float64(max(1, w[ofPayload])) }

// usedSpace is what a disk takes, in bytes.
type usedSpace struct {
	needed    int64 // of stored blocks, by the share of them that points need
	whole     int64 // of the blocks of which points need something
	segments  int64
	maps      int64
	rest      int64
	fileCount int
}

func (u usedSpace) amplification() float64 {
	return float64(u.segments+u.maps+u.rest) / float64(max(1, u.needed))
}

func (u usedSpace) String() string {
	return fmt.Sprintf("space %.3f of %d KiB needed: whole blocks %.3f, segments %.3f, maps %.3f, rest %.3f, %d segments", u.amplification(), u.needed>>10,
		float64(u.whole)/float64(u.needed), float64(u.segments)/float64(u.needed), float64(u.maps)/float64(u.needed), float64(u.rest)/float64(u.needed), u.fileCount)
}

// space is what the disk takes now.
func (c *churn) space() usedSpace {
	d := c.vault.disks["d"]
	var u usedSpace
	files, err := d.vault.fs.ReadDir(d.folder)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, f := range files {
		if _, ok := segmentNumber(f.Name); ok {
			u.segments += f.Size
			u.fileCount++
		} else if _, ok := mapNumber(f.Name); ok {
			u.maps += f.Size
		} else {
			u.rest += f.Size
		}
	}
	u.needed, u.whole = c.needed()
	return u
}

// needed counts what points and the head need of stored blocks, in bytes: the share of
// each block, and the whole of it. Map files may still tell of more.
func (c *churn) needed() (share, whole int64) {
	d := c.vault.disks["d"]
	d.mu.Lock()
	defer d.mu.Unlock()
	seen := map[location]bool{}
	count := func(list []entry) {
		for i := range list {
			e := &list[i]
			share += e.share()
			if e.codec != codecZero && !seen[e.location()] {
				seen[e.location()] = true
				whole += int64(e.stored)
			}
		}
	}
	var waiting []entry
	for _, t := range d.tiles {
		at := t.from
		for _, l := range t.layers {
			layers, err := t.layersBetween(at, l.last)
			if err != nil {
				c.t.Fatal(err)
			}
			waiting = overlay(waiting, flatten(layers))
			if at = l.last; d.retained(at) {
				count(waiting)
				waiting = nil
			}
		}
	}
	for _, l := range d.memory.layers {
		waiting = overlay(waiting, flatten(l.maps))
		if d.retained(l.last) {
			count(waiting)
			waiting = nil
		}
	}
	count(waiting)
	return share, whole
}

func newChurn(t *testing.T, w load, size int64, seed uint64) *churn {
	c := &churn{
		t: t, random: rand.New(rand.NewPCG(seed, 1)), load: w, fs: &writtenFS{FS: unsyncedFS{vfs.OS()}},
		now: time.Unix(1_800_000_000, 0), head: make([]byte, size), kept: map[replication.PointID]uint64{}, rules: churnRules,
		noise: make([]byte, 1<<20), text: make([]byte, 1<<20),
	}
	fillNoise(c.noise, seed)
	text(c.text, seed)
	c.vault = open(t, c.fs, t.TempDir(), Options{
		// Segments and maps are as much smaller as the disk is.
		segmentBytes: 512 << 10, memoryEntries: 256, manual: true, Clock: func() time.Time { return c.now },
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

const churnPage = 8 << 10

// database is a server with a database of 8 KiB pages on 60 % of its disk, a log that is
// written from its beginning to its end and then again on 5 %, and files, of which a
// fifth is written anew now and then, each as a whole. Half of the bytes are pages, a
// quarter is log, a quarter files. How often pages are written follows Zipf's law, the
// second one half as often as the first, the third a third: of ten pages and of a
// hundred and of a thousand, the writes are like many more.
func database(c *churn, bytes int64) []replication.Extent {
	size := int64(len(c.head))
	pages, log := size*6/10/churnPage, size/20/churnPage*churnPage
	var set extentSet
	for range max(1, bytes/2/churnPage) {
		rank := int64(math.Pow(float64(pages), c.random.Float64())) - 1
		// Hot pages lie all over the database.
		set.add(rank*7919%pages*churnPage, churnPage)
	}
	tail := int64(c.number) / 2 * (bytes / 4) % log / 4096 * 4096
	set.add(pages*churnPage+tail, bytes/4/4096*4096)
	if length := int64(64<<10) << c.random.IntN(3); c.random.Int64N(4*length) < bytes { // 64 to 256 KiB
		first := pages*churnPage + log + 1<<20
		files := (size - first) / 5 // the others are never written again
		set.add(first+c.random.Int64N(files/length)*length, length)
	}
	return set
}

// uniform writes pages anywhere: the hardest that there is, for no block tells how long
// it will live.
func uniform(c *churn, bytes int64) []replication.Extent {
	var set extentSet
	for range max(1, bytes/churnPage) {
		set.add(c.random.Int64N(int64(len(c.head))/churnPage)*churnPage, churnPage)
	}
	return set
}

// extentSet is extents that do not overlap.
type extentSet []replication.Extent

func (s *extentSet) add(at, length int64) {
	e := replication.Extent{Offset: at, Length: length}
	if !slices.ContainsFunc(*s, func(o replication.Extent) bool { return e.Intersect(o).Length > 0 }) {
		*s = append(*s, e)
	}
}

// put writes extents with noise, and with text now and then.
func (c *churn) put(extents []replication.Extent) {
	var changes []replication.Change
	for _, e := range extents {
		data := c.head[e.Offset:e.End()]
		from := c.noise
		if c.random.IntN(4) == 0 {
			from = c.text
		}
		copy(data, from[c.random.Int64N(max(1, int64(len(from))-e.Length)):])
		changes = append(changes, replication.Change{Extent: e, Data: append([]byte(nil), data...)})
		c.sent += e.Length
	}
	c.number++
	if err := c.vault.Write(c.t.Context(), replication.Batch{Disk: "d", Epoch: 1, Sequence: c.number, Changes: changes}); err != nil {
		c.t.Fatal(err)
	}
}

// cycle writes some bytes and makes a point; now and then it drops what the rules let
// go, and compacts.
func (c *churn) cycle(bytes int64, thin bool) {
	c.put(c.load(c, bytes))
	c.mark()
	if !thin {
		return
	}
	points, err := c.vault.Points("d")
	if err != nil {
		c.t.Fatal(err)
	}
	slices.Reverse(points)
	if err := c.vault.Drop(c.t.Context(), "d", c.rules.Drop(points, c.now)); err != nil {
		c.t.Fatal(err)
	}
	if err := c.vault.Compact(c.t.Context(), "d"); err != nil {
		c.t.Fatal(err)
	}
}

func (c *churn) mark() {
	c.now = c.now.Add(churnPoint)
	c.number++
	id := replication.PointID(fmt.Sprintf("p%06d", c.number))
	m := replication.Mark{Disk: "d", Epoch: 1, Sequence: c.number, Point: id, Time: c.now, Size: int64(len(c.head)), Consistency: replication.CrashConsistent}
	if err := c.vault.Mark(c.t.Context(), m); err != nil {
		c.t.Fatal(err)
	}
	if c.random.IntN(60) == 0 || len(c.kept) == 0 {
		c.kept[id] = uint64(checksum(c.head))
	}
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
