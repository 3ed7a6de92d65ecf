package lab_test

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"strings"
	"testing"

	"riparo/hypervisor"
	"riparo/hypervisor/lab"
	"riparo/replication"
)

// memory is a disk in memory, with the holes that it says it has.
type memory struct {
	bytes []byte
	holes []replication.Extent
}

func (m *memory) Size() int64 { return int64(len(m.bytes)) }

func (m *memory) ReadAt(p []byte, offset int64) (int, error) {
	return bytes.NewReader(m.bytes).ReadAt(p, offset)
}

func (m *memory) Regions(context.Context) iter.Seq2[replication.Region, error] {
	return func(yield func(replication.Region, error) bool) {
		at := int64(0)
		for _, hole := range m.holes {
			if hole.Offset > at && !yield(replication.Region{Extent: replication.Extent{Offset: at, Length: hole.Offset - at}}, nil) {
				return
			}
			if !yield(replication.Region{Extent: hole, Zero: true}, nil) {
				return
			}
			at = hole.End()
		}
		if at < m.Size() {
			yield(replication.Region{Extent: replication.Extent{Offset: at, Length: m.Size() - at}}, nil)
		}
	}
}

// captured copies what a machine shows now into memory.
func captured(t testing.TB, s *lab.Site, ref hypervisor.Ref, point replication.PointID) map[string]*memory {
	t.Helper()
	c := begin(t, s, hypervisor.PointRequest{Ref: ref, Point: point, Disks: []string{"vda", "vdb"}})
	out := map[string]*memory{}
	for _, d := range c.Disks() {
		m := &memory{bytes: make([]byte, d.Size())}
		if _, err := d.ReadAt(m.bytes, 0); err != nil {
			t.Fatal(err)
		}
		for region, err := range d.Regions(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if region.Zero {
				m.holes = append(m.holes, region.Extent)
			}
		}
		out[d.Key()] = m
	}
	if err := c.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	return out
}

func asSources(disks map[string]*memory) map[string]replication.Source {
	out := map[string]replication.Source{}
	for key, d := range disks {
		out[key] = d
	}
	return out
}

func TestAnySingleWrongByteIsFound(t *testing.T) {
	const seed = 11
	w := openWorld(t, t.TempDir())
	s := site(t, w, "primary")
	ref := startWeb01(t, s, small(seed))
	step(t, s, ref, 800)
	disks := captured(t, s, ref, "p1")
	if v := judge(t, w, "WEB01", asSources(disks)); !v.OK {
		t.Fatalf("the untouched disks were refused: %s", v.Why)
	}
	random := rand.New(rand.NewPCG(seed, 1))
	for i := range 200 / slowdown {
		key := []string{"vda", "vdb"}[random.IntN(2)]
		d := disks[key]
		at, bit := random.IntN(len(d.bytes)), byte(1)<<random.IntN(8)
		switch i { // the places where a judge could nod
		case 0:
			at = 0
		case 1:
			at = len(d.bytes) - 1
		case 2:
			at = lab.BlockSize - 1
		}
		whole := &memory{bytes: d.bytes} // without holes, so that every byte is read
		d.bytes[at] ^= bit
		shown := asSources(disks)
		shown[key] = whole
		v := judge(t, w, "WEB01", shown)
		d.bytes[at] ^= bit
		if v.OK {
			t.Errorf("seed %d: bit %#x at %d of %s was turned and nobody noticed", seed, bit, at, key)
		} else if !strings.Contains(v.Why, "disk "+key) {
			t.Errorf("seed %d: bit %#x at %d of %s was turned and the verdict is %q", seed, bit, at, key, v.Why)
		}
	}
}

func TestTheFirstDifferenceIsNamed(t *testing.T) {
	w := openWorld(t, t.TempDir())
	s := site(t, w, "primary")
	ref := startWeb01(t, s, web01(12))
	step(t, s, ref, 100)
	disks := captured(t, s, ref, "p1")
	d := disks["vdb"]
	at := bytes.Index(d.bytes[128<<10:], []byte{1}) + 128<<10
	d.bytes[at] ^= 0xff
	v := judge(t, w, "WEB01", asSources(disks))
	if want := fmt.Sprintf("disk vdb offset %d: found fe", at); v.OK || !strings.HasPrefix(v.Why, want) {
		t.Errorf("the verdict is %+v: want it to begin with %q", v, want)
	}
}

func TestDisksOfTwoInstantsAreNoInstant(t *testing.T) {
	w := openWorld(t, t.TempDir())
	s := site(t, w, "primary")
	ref := startWeb01(t, s, web01(13))
	step(t, s, ref, 300)
	early := captured(t, s, ref, "p1")
	step(t, s, ref, 300)
	late := captured(t, s, ref, "p2")
	for _, mixed := range []map[string]*memory{
		{"vda": early["vda"], "vdb": late["vdb"]},
		{"vda": late["vda"], "vdb": early["vdb"]},
	} {
		if v := judge(t, w, "WEB01", asSources(mixed)); v.OK {
			t.Errorf("disks of two instants passed as sequence %d", v.Sequence)
		}
	}
}

func TestALostWriteIsFound(t *testing.T) {
	w := openWorld(t, t.TempDir())
	s := site(t, w, "primary")
	ref := startWeb01(t, s, small(14))
	step(t, s, ref, 300)
	early := captured(t, s, ref, "p1")
	step(t, s, ref, 300)
	late := captured(t, s, ref, "p2")
	whole := judge(t, w, "WEB01", asSources(late))
	lost := 0
	for key := range late {
		for at := 0; at < len(late[key].bytes) && lost < 400/slowdown; at += lab.BlockSize {
			old, now := early[key].bytes[at:at+lab.BlockSize], late[key].bytes[at:at+lab.BlockSize]
			if bytes.Equal(old, now) {
				continue
			}
			lost++
			kept := bytes.Clone(now)
			copy(now, old)
			shown := asSources(late)
			shown[key] = &memory{bytes: late[key].bytes}
			v := judge(t, w, "WEB01", shown)
			copy(now, kept)
			// The very last write may be missing: then this is the instant before it.
			if v.OK && v.Sequence+1 != whole.Sequence {
				t.Errorf("the write of block %d of %s was lost and the verdict is an instant at sequence %d", at/lab.BlockSize, key, v.Sequence)
			}
		}
	}
	if lost < 50/slowdown {
		t.Errorf("only %d writes differed between the two instants", lost)
	}
}

func TestAFalseHoleIsFound(t *testing.T) {
	w := openWorld(t, t.TempDir())
	s := site(t, w, "primary")
	ref := startWeb01(t, s, web01(15))
	disks := captured(t, s, ref, "p1")
	content := int64(0)
	for at := int64(mib); content == 0; at += lab.BlockSize {
		if !bytes.Equal(disks["vda"].bytes[at:at+lab.BlockSize], make([]byte, lab.BlockSize)) {
			content = at
		}
	}
	disks["vda"].holes = []replication.Extent{{Offset: content, Length: lab.BlockSize}}
	if v := judge(t, w, "WEB01", asSources(disks)); v.OK {
		t.Errorf("a hole was claimed at %d, where there is content, and nobody noticed", content)
	}
}

func TestTheDiskOfAnotherMachineIsRefused(t *testing.T) {
	w := openWorld(t, t.TempDir())
	s := site(t, w, "primary")
	ref := startWeb01(t, s, web01(16))
	spec := web01(17)
	spec.Name = "DB01"
	other := startWeb01(t, s, spec)
	mine, others := captured(t, s, ref, "p1"), captured(t, s, other, "p1")
	mine["vdb"] = others["vdb"]
	if v := judge(t, w, "WEB01", asSources(mine)); v.OK || !strings.Contains(v.Why, "DB01") {
		t.Errorf("the verdict on a disk of DB01 is %+v", v)
	}
	swapped := map[string]*memory{"vda": others["vdb"], "vdb": others["vda"]}
	if v := judge(t, w, "DB01", asSources(swapped)); v.OK {
		t.Error("exchanged disks passed")
	}
}

func TestAShortDiskIsRefused(t *testing.T) {
	w := openWorld(t, t.TempDir())
	s := site(t, w, "primary")
	ref := startWeb01(t, s, web01(18))
	disks := captured(t, s, ref, "p1")
	whole := disks["vda"].bytes
	for _, size := range []int{0, 100, len(whole) - lab.BlockSize} {
		disks["vda"] = &memory{bytes: whole[:size]}
		if v := judge(t, w, "WEB01", asSources(disks)); v.OK {
			t.Errorf("a disk of %d bytes passed: it has %d", size, len(whole))
		}
	}
	disks["vda"] = &memory{bytes: append(whole[:len(whole):len(whole)], make([]byte, lab.BlockSize)...)}
	if v := judge(t, w, "WEB01", asSources(disks)); v.OK {
		t.Error("a disk that is one block too long passed")
	}
}

func BenchmarkJudge(b *testing.B) {
	w := openWorld(b, b.TempDir())
	s := site(b, w, "primary")
	spec := lab.Spec{Name: "WEB01", Seed: 5, Disks: []lab.DiskSpec{
		{Key: "vda", Size: 1 << 30, InitialBytes: 150 * mib},
		{Key: "vdb", Size: 1 << 30, InitialBytes: 150 * mib},
	}}
	ref := startWeb01(b, s, spec)
	step(b, s, ref, 20000)
	c := begin(b, s, hypervisor.PointRequest{Ref: ref, Point: "p1", Disks: []string{"vda", "vdb"}})
	for b.Loop() {
		if v := judge(b, w, "WEB01", sources(c)); !v.OK {
			b.Fatal(v.Why)
		}
	}
	b.ReportMetric(float64(2<<30)/mib*float64(b.N)/b.Elapsed().Seconds(), "MiB/s")
}
