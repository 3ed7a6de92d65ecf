package vault

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"riparo/replication"
	"riparo/replication/vfs"
)

// judged applies what a judge says to differ to the content it judged, and counts it.
func judged(t *testing.T, j replication.Judge, head, mine []byte, step int64) (different int64) {
	t.Helper()
	for at := int64(0); at < int64(len(mine)); at += step {
		e := replication.Extent{Offset: at, Length: min(step, int64(len(mine))-at)}
		content := mine[e.Offset:e.End()]
		if replication.IsZero(content) {
			content = nil
		}
		list, err := j.Differ(t.Context(), e, content)
		if err != nil {
			t.Fatal(err)
		}
		last := at
		for _, d := range list {
			if d.Offset < last || d.End() > e.End() || d.Length <= 0 {
				t.Fatalf("of %s, %s differs after %d", e, d, last)
			}
			last = d.End()
			different += d.Length
			copy(head[d.Offset:d.End()], mine[d.Offset:d.End()])
		}
	}
	return different
}

func TestAJudgeFindsAllThatDiffersAndLittleElse(t *testing.T) {
	for seed := range uint64(12) {
		for _, plain := range []bool{false, true} {
			r := rand.New(rand.NewPCG(seed, 7))
			v := open(t, vfs.NewSim(seed), "v", Options{Plain: plain})
			size := int64(3<<20 + r.IntN(200_000))
			s := newSender(t, v, "d", size)
			for range 12 { // whole blocks, parts of blocks, zeroes, in any order
				e := replication.Extent{Offset: r.Int64N(size/blockBytes) * blockBytes}
				e.Length = min([]int64{4096, blockBytes, 3 * blockBytes, 70_000}[r.IntN(4)], size-e.Offset)
				if r.IntN(4) == 0 {
					e.Offset += 8192
					e.Length = min(e.Length, size-e.Offset)
				}
				change := replication.Change{Extent: e}
				if r.IntN(4) > 0 {
					change.Data = make([]byte, e.Length)
					text(change.Data, r.Uint64())
				}
				s.write(change)
			}
			s.mark()
			mine := bytes.Clone(s.head)
			edits := r.IntN(20)
			for range edits {
				mine[r.Int64N(size)] ^= byte(1 + r.IntN(255))
			}
			clear(mine[:r.IntN(2)*blockBytes*3/2])
			j, err := v.Judge(t.Context(), "d")
			if err != nil {
				t.Fatal(err)
			}
			head := bytes.Clone(s.head)
			different := judged(t, j, head, mine, []int64{1 << 20, blockBytes, 12_288}[r.IntN(3)])
			if !bytes.Equal(head, mine) {
				t.Errorf("seed %d, plain %v: what differs was not all told", seed, plain)
			}
			if different > int64(edits)*judgeGrain+3*blockBytes {
				t.Errorf("seed %d, plain %v: %d bytes are said to differ after %d edits", seed, plain, different, edits)
			}
			if again := judged(t, j, head, s.head, 1<<20); again != 0 {
				t.Errorf("seed %d, plain %v: %d bytes of the head differ from the head", seed, plain, again)
			}
			if _, err := j.Differ(t.Context(), replication.Extent{Offset: size, Length: 1}, []byte{1}); err == nil {
				t.Error("an extent behind the end was compared")
			}
			if _, err := j.Differ(t.Context(), replication.Extent{Length: 5}, []byte{1}); err == nil {
				t.Error("one byte was compared with an extent of five")
			}
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
			if err := v.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// countedReads counts what is read of segments and of maps.
type countedReads struct {
	vfs.FS
	bytes    int64 // of segments
	segments int   // reads of them
	maps     int   // reads of them
}

type countedFile struct {
	vfs.File
	reads *countedReads
	isMap bool
}

func (c *countedReads) OpenRead(name string) (vfs.File, error) {
	f, err := c.FS.OpenRead(name)
	_, segment := segmentNumber(filepath.Base(name))
	_, isMap := mapNumber(filepath.Base(name))
	if err != nil || !segment && !isMap {
		return f, err
	}
	return &countedFile{f, c, isMap}, nil
}

func (f *countedFile) ReadAt(p []byte, at int64) (int, error) {
	n, err := f.File.ReadAt(p, at)
	if f.isMap {
		f.reads.maps++
		return n, err
	}
	f.reads.bytes += int64(n)
	f.reads.segments++
	return n, err
}

func TestEqualBlocksAreComparedWithoutBeingRead(t *testing.T) {
	sealedOnly(t)
	disk := &countedReads{FS: vfs.NewSim(1)}
	v := open(t, disk, "v", Options{})
	s := newSender(t, v, "d", 4<<20)
	data := make([]byte, 1<<20)
	for at := int64(0); at < 4<<20; at += 1 << 20 {
		text(data, uint64(at))
		s.write(replication.Change{Extent: replication.Extent{Offset: at, Length: 1 << 20}, Data: data})
	}
	s.mark()
	j, err := v.Judge(t.Context(), "d")
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	disk.bytes = 0
	if different := judged(t, j, bytes.Clone(s.head), s.head, 1<<20); different != 0 || disk.bytes != 0 {
		t.Errorf("of an equal disk %d bytes differ, and %d bytes were read", different, disk.bytes)
	}
	mine := bytes.Clone(s.head)
	mine[3_000_000] ^= 1
	if different := judged(t, j, bytes.Clone(s.head), mine, 1<<20); different != judgeGrain || disk.bytes == 0 || disk.bytes > maxStoredBytes {
		t.Errorf("after one changed byte %d bytes differ, and %d bytes were read: want one grain, and one block", different, disk.bytes)
	}
}

// TestScatteredBlocksAreComparedTogether changes every second block of a disk, and loses a
// sector of one of them.
func TestScatteredBlocksAreComparedTogether(t *testing.T) {
	sealedOnly(t)
	sim := vfs.NewSim(1)
	disk := &countedReads{FS: sim}
	v := open(t, disk, "v", Options{manual: true})
	s := newSender(t, v, "d", 1<<20)
	s.write(change(0, 1<<20, 1))
	s.mark()
	mine := bytes.Clone(s.head)
	for at := 0; at < 1<<20; at += 2 * blockBytes {
		mine[at+10_000] ^= 1
	}
	j, err := v.Judge(t.Context(), "d")
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	disk.segments = 0
	if different := judged(t, j, bytes.Clone(s.head), mine, 1<<20); different != 8*judgeGrain || disk.segments != 1 {
		t.Errorf("after a change in 8 blocks %d bytes differ, and there were %d reads; want 8 grains, and one read", different, disk.segments)
	}
	list, err := j.(*judge).view.resolve(0, 1<<20)
	if err != nil || len(list) != 16 {
		t.Fatalf("%d blocks, %v; want 16", len(list), err)
	}
	e := list[4]
	if err := sim.LoseSector(filepath.Join(v.disks["d"].folder, segmentName(e.segment)), int64(e.position)); err != nil {
		t.Fatal(err)
	}
	head := bytes.Clone(s.head)
	if different := judged(t, j, head, mine, 1<<20); different != 7*judgeGrain+blockBytes || !bytes.Equal(head, mine) {
		t.Errorf("with one of the 8 blocks damaged %d bytes differ; want 7 grains and a block", different)
	}
	if v.disks["d"].damaged[e.location()] == nil {
		t.Error("the damage that was met is not remembered")
	}
}

// TestPagesOfAMapAreReadOnce reads a disk from its beginning to its end, in small pieces,
// and then anywhere.
func TestPagesOfAMapAreReadOnce(t *testing.T) {
	disk := &countedReads{FS: vfs.NewSim(1)}
	v := open(t, disk, "v", Options{memoryEntries: 8, manual: true})
	s := newSender(t, v, "d", 4<<20)
	const step = 8 << 10
	for at := int64(0); at < 4<<20; at += 2 * step {
		s.write(change(at, step, byte(at/step)))
	}
	s.mark()
	if err := errors.Join(v.Maintain(t.Context()), v.Close()); err != nil {
		t.Fatal(err)
	}
	v = open(t, disk, "v", Options{memoryEntries: 8, manual: true}) // the maps are opened for reading
	w, err := v.View(t.Context(), "d", "")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	pages := 0
	for _, m := range w.sources {
		if m, ok := m.(*section); ok {
			pages += int(m.pages())
		}
	}
	disk.maps = 0
	got := make([]byte, step)
	for at := int64(0); at < 4<<20; at += step {
		if err := replication.ReadFull(w, got, at); err != nil || !bytes.Equal(got, s.head[at:at+step]) {
			t.Fatalf("at %d: %v, or not what was written", at, err)
		}
	}
	if disk.maps < pages || disk.maps > 2*pages || pages < 4 {
		t.Errorf("pages of maps were read %d times, there are %d", disk.maps, pages)
	}
	r := rand.New(rand.NewPCG(1, 1))
	for range 300 {
		at := r.Int64N(4<<20 - step)
		if err := replication.ReadFull(w, got, at); err != nil || !bytes.Equal(got, s.head[at:at+step]) {
			t.Fatalf("at %d: %v, or not what was written", at, err)
		}
	}
}

// Two contents with the same CRC32C and CRC32 are easily made: both are linear. What
// tells the blocks of an encrypted vault apart is not.
func TestContentsOfOneCRCDoNotLookEqual(t *testing.T) {
	sealedOnly(t)
	v := open(t, vfs.NewSim(1), "v", Options{})
	s := newSender(t, v, "d", blockBytes)
	first := make([]byte, blockBytes)
	text(first, 1)
	s.write(replication.Change{Extent: replication.Extent{Length: blockBytes}, Data: first})
	s.mark()
	other := bytes.Clone(first)
	forge(other, sumOf(first))
	if bytes.Equal(first, other) || sumOf(first) != sumOf(other) {
		t.Fatal("no other content with the same CRCs was made")
	}
	j, err := v.Judge(t.Context(), "d")
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if list, err := j.Differ(t.Context(), replication.Extent{Length: blockBytes}, other); err != nil || len(list) == 0 {
		t.Errorf("a forged block looks equal: %v, %v", list, err)
	}
}

// forge changes bytes of p so that its 64-bit CRC sum is want: it sets a byte, and
// finds by elimination which of 66 further bits make up for it.
func forge(p []byte, want plainSum) {
	const bits = 66
	p[100] ^= 0xff
	base := sumOf(p)
	type vector struct {
		value plainSum
		used  [bits]bool
	}
	var basis []vector
	reduce := func(v vector) vector {
		for _, b := range basis {
			if v.value^b.value < v.value {
				v.value ^= b.value
				for i := range v.used {
					v.used[i] = v.used[i] != b.used[i]
				}
			}
		}
		return v
	}
	for i := range bits {
		p[1000+i] ^= 1
		v := vector{value: sumOf(p) ^ base}
		p[1000+i] ^= 1
		v.used[i] = true
		if v = reduce(v); v.value != 0 {
			basis = append(basis, v)
			for k := len(basis) - 1; k > 0 && basis[k].value > basis[k-1].value; k-- {
				basis[k], basis[k-1] = basis[k-1], basis[k]
			}
		}
	}
	for i, used := range reduce(vector{value: base ^ want}).used {
		if used {
			p[1000+i] ^= 1
		}
	}
}
