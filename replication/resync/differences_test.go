package resync

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"

	"riparo/replication"
)

const disk = replication.DiskID("web01.vda")

// image is a disk in memory: a source, and the head that a holder has.
type image struct {
	bytes   []byte
	regions []replication.Region
	asked   atomic.Int64 // checksums given
	reads   atomic.Int64 // bytes read
	calls   atomic.Int64 // of ReadAt
	fail    func(offset int64) error
}

func (i *image) Size() int64 { return int64(len(i.bytes)) }

func (i *image) ReadAt(b []byte, offset int64) (int, error) {
	if i.fail != nil {
		if err := i.fail(offset); err != nil {
			return 0, err
		}
	}
	i.reads.Add(int64(len(b)))
	i.calls.Add(1)
	return copy(b, i.bytes[offset:]), nil
}

func (i *image) Regions(ctx context.Context) iter.Seq2[replication.Region, error] {
	return func(yield func(replication.Region, error) bool) {
		for _, r := range i.regions {
			if !yield(r, ctx.Err()) {
				return
			}
		}
	}
}

func (i *image) Hashes(ctx context.Context, id replication.DiskID, e replication.Extent, chunk int64) ([]replication.Sum, error) {
	if id != disk {
		return nil, fmt.Errorf("disk %s: %w", id, replication.ErrUnknownDisk)
	}
	if err := e.Within(i.Size()); err != nil {
		return nil, err
	}
	if i.fail != nil {
		if err := i.fail(e.Offset); err != nil {
			return nil, err
		}
	}
	var sums []replication.Sum
	for _, c := range chunks(e, chunk) {
		sums = append(sums, replication.SumOf(i.bytes[c.Offset:c.End()]))
	}
	i.asked.Add(int64(len(sums)))
	return sums, ctx.Err()
}

// whole lists all of the image, with a hole for every zero stretch of its cuts.
func (i *image) whole(cuts []int) {
	i.regions = nil
	at := 0
	for _, cut := range append(slices.Clone(cuts), len(i.bytes)) {
		if cut <= at {
			continue
		}
		r := replication.Region{Extent: replication.Extent{Offset: int64(at), Length: int64(cut - at)}}
		r.Zero = bytes.Count(i.bytes[at:cut], []byte{0}) == cut-at
		i.regions = append(i.regions, r)
		at = cut
	}
}

// apply carries the regions of a comparison to the holder.
func apply(t *testing.T, c *Comparison, to []byte) (n int64, err error) {
	t.Helper()
	end := int64(0)
	for r, err := range c.Regions(t.Context()) {
		if err != nil {
			return n, err
		}
		if r.Offset < end || r.Within(int64(len(to))) != nil {
			t.Fatalf("region %s after offset %d", r.Extent, end)
		}
		end = r.End()
		n += r.Length
		if r.Zero {
			clear(to[r.Offset:r.End()])
			continue
		}
		// In pieces, as whoever sends it reads it.
		const most = 300 << 10
		for at := r.Offset; at < r.End(); {
			end := min((at/most+1)*most, r.End())
			if _, err := c.ReadAt(to[at:end], at); err != nil {
				return n, err
			}
			at = end
		}
	}
	return n, nil
}

func TestWhatIsYieldedMakesTheHolderEqual(t *testing.T) {
	for seed := range uint64(16) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		size := rnd.IntN(9 << 20)
		source, holder := &image{bytes: make([]byte, size)}, &image{bytes: make([]byte, size)}
		var cuts []int
		for at := 0; at < size; {
			n := min(1+rnd.IntN([]int{100, 9000, 200_000, 3 << 20}[rnd.IntN(4)]), size-at)
			switch rnd.IntN(5) {
			case 0: // both zero
			case 1: // only the source
				fill(rnd, source.bytes[at:at+n])
			case 2: // only the holder
				fill(rnd, holder.bytes[at:at+n])
			default: // equal, sometimes but for a byte
				fill(rnd, source.bytes[at:at+n])
				copy(holder.bytes[at:at+n], source.bytes[at:])
				if rnd.IntN(4) == 0 {
					holder.bytes[at+rnd.IntN(n)] ^= 1 << rnd.IntN(8)
				}
			}
			at += n
			cuts = append(cuts, at)
		}
		source.whole(cuts)
		different := 0
		for i := range source.bytes {
			if source.bytes[i] != holder.bytes[i] {
				different++
			}
		}
		c := Differences(source, holder, disk, nil)
		n, err := apply(t, c, holder.bytes)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if !bytes.Equal(source.bytes, holder.bytes) {
			t.Fatalf("seed %d: the holder still differs", seed)
		}
		if p := c.Progress(); p.Different != n || p.Offset != source.Size() {
			t.Errorf("seed %d: progress %+v after %d bytes of differences in %d", seed, p, n, size)
		}
		if different == 0 && n > 0 {
			t.Errorf("seed %d: nothing differed, %d bytes were yielded", seed, n)
		}
		if n, err := apply(t, Differences(source, holder, disk, nil), holder.bytes); n != 0 || err != nil {
			t.Errorf("seed %d: compared again, %d bytes differ, error %v", seed, n, err)
		}
	}
}

func fill(rnd *rand.Rand, b []byte) {
	for at := 0; at < len(b); at += 8 {
		var word [8]byte
		binary.LittleEndian.PutUint64(word[:], rnd.Uint64()|0x0101010101010101) // never a zero byte
		copy(b[at:], word[:])
	}
}

func TestOneChangedByteYieldsOneBlock(t *testing.T) {
	source, holder := &image{bytes: bytes.Repeat([]byte("riparo.."), 8<<20/8)}, &image{bytes: bytes.Repeat([]byte("riparo.."), 8<<20/8)}
	source.whole(nil)
	source.bytes[5_000_000] ^= 1
	var got []replication.Region
	for r, err := range Differences(source, holder, disk, nil).Regions(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, r)
	}
	want := []replication.Region{{Extent: replication.Extent{Offset: 5_000_000 / fine * fine, Length: fine}}}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if n := holder.asked.Load(); n != 8<<20/coarse+coarse/fine {
		t.Errorf("%d checksums were asked for: want one per 64 KiB, and 16 for the chunk that differs", n)
	}
}

func TestKnownZeroesAreComparedWithoutReading(t *testing.T) {
	const size = 300 << 20
	source, holder := &image{bytes: make([]byte, size)}, &image{bytes: make([]byte, size)}
	source.whole(nil)
	holder.bytes[123_456_789] = 9
	n, err := apply(t, Differences(source, holder, disk, nil), holder.bytes)
	if err != nil || n != coarse || holder.bytes[123_456_789] != 0 {
		t.Errorf("%d bytes yielded, error %v: want the one chunk of 64 KiB as zero", n, err)
	}
	if n := source.reads.Load(); n != 0 {
		t.Errorf("%d bytes were read of a source that knows itself to be zero", n)
	}
}

func TestIslandsOfDataAreReadTogether(t *testing.T) {
	source := &image{bytes: make([]byte, 2<<20)}
	r := rand.New(rand.NewPCG(5, 6))
	for i := range source.bytes {
		source.bytes[i] = byte(1 + r.IntN(255)) // also where the regions say zero
	}
	want := make([]byte, len(source.bytes))
	add := func(length int, zero bool) {
		at := 0
		if n := len(source.regions); n > 0 {
			at = int(source.regions[n-1].End())
		}
		source.regions = append(source.regions, replication.Region{Extent: replication.Extent{Offset: int64(at), Length: int64(length)}, Zero: zero})
		if !zero {
			copy(want[at:at+length], source.bytes[at:])
		}
	}
	add(20<<10, true)
	for range 10 { // islands that are near each other
		add(4<<10, false)
		add(20<<10, true)
	}
	add(readGap, true) // together with the zeroes before it too far
	for range 4 {
		add(4<<10, false)
		add(readGap, true)
	}
	add(len(source.bytes)-int(source.regions[len(source.regions)-1].End()), true)
	holder := &image{bytes: make([]byte, len(source.bytes))}
	c := Differences(source, holder, disk, nil)
	if _, err := apply(t, c, holder.bytes); err != nil || !bytes.Equal(holder.bytes, want) {
		t.Fatalf("%v, or what the regions call zero is not zero", err)
	}
	if p := c.Progress(); p.Read != 14*4<<10 || p.Reread != 0 {
		t.Errorf("progress %+v; want the %d bytes of the islands read", p, 14*4<<10)
	}
	if got := source.calls.Load(); got != 2 {
		t.Errorf("the islands were read in %d pieces, want 2", got)
	}
	// What is on a disk is read at once, whatever lies between.
	source.calls.Store(0)
	clear(holder.bytes)
	c = Differences(coldImage{source}, holder, disk, nil)
	if _, err := apply(t, c, holder.bytes); err != nil || !bytes.Equal(holder.bytes, want) {
		t.Fatalf("cold: %v, or what the regions call zero is not zero", err)
	}
	if p := c.Progress(); p.Read != 14*4<<10 || source.calls.Load() != 1 {
		t.Errorf("cold: the islands were read in %d pieces, want 1; progress %+v", source.calls.Load(), p)
	}
}

// coldImage lies on a disk.
type coldImage struct{ *image }

func (coldImage) Cold(e replication.Extent, data int64) bool { return data == 14*4<<10 }

func TestNewContentIsNotLookedAtTwice(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 5))
	source, holder := &image{bytes: make([]byte, 4<<20)}, &image{bytes: make([]byte, 4<<20)}
	fill(rnd, source.bytes)
	fill(rnd, holder.bytes)
	source.whole(nil)
	if n, err := apply(t, Differences(source, holder, disk, nil), holder.bytes); n != 4<<20 || err != nil {
		t.Errorf("%d bytes, error %v", n, err)
	}
	if n := holder.asked.Load(); n != 4<<20/coarse {
		t.Errorf("%d checksums were asked for, want %d", n, 4<<20/coarse)
	}
}

// What was compared before is not read again, but for what was written since.
func TestAComparisonGoesOnWhereItWasCutOff(t *testing.T) {
	for seed := range uint64(8) {
		rnd := rand.New(rand.NewPCG(seed, 6))
		source, holder := &image{bytes: make([]byte, 6<<20)}, &image{bytes: make([]byte, 6<<20)}
		fill(rnd, source.bytes)
		from := rnd.Int64N(source.Size() + 1)
		copy(holder.bytes[:from], source.bytes)
		// Since then: some writes, below the offset, across it and above.
		written := int64(0)
		for at := int64(0); at < source.Size(); {
			n := min(1+rnd.Int64N(200_000), source.Size()-at)
			if rnd.IntN(4) == 0 {
				fill(rnd, source.bytes[at:at+n])
				source.regions = append(source.regions, replication.Region{Extent: replication.Extent{Offset: at, Length: n}})
				written += max(0, min(at+n, from)-at)
			}
			at += n
		}
		c := Differences(Resumed(source, from), holder, disk, nil)
		n, err := apply(t, c, holder.bytes)
		if err != nil || !bytes.Equal(source.bytes, holder.bytes) {
			t.Fatalf("seed %d: after %d bytes: error %v, equal %v", seed, n, err, bytes.Equal(source.bytes, holder.bytes))
		}
		if read, want := c.Progress().Read, source.Size()-from+written; read != want {
			t.Errorf("seed %d: %d bytes were read for comparing, want the rest and what was written below: %d", seed, read, want)
		}
	}
}

var errBroken = errors.New("broken on purpose")

func TestAnErrorAnywhereEndsTheComparison(t *testing.T) {
	for at := int64(0); at < 12<<20; at += 1 << 20 {
		for _, inSource := range []bool{true, false} {
			source, holder := &image{bytes: make([]byte, 12<<20)}, &image{bytes: make([]byte, 12<<20)}
			source.bytes[11<<20] = 1
			source.regions = []replication.Region{{Extent: replication.Extent{Length: 12 << 20}}}
			fail := func(offset int64) error {
				if offset == at {
					return errBroken
				}
				return nil
			}
			if inSource {
				source.fail = fail
			} else {
				holder.fail = fail
			}
			if _, err := apply(t, Differences(source, holder, disk, nil), holder.bytes); !errors.Is(err, errBroken) {
				t.Errorf("broken at %d, in the source %v: got %v", at, inSource, err)
			}
		}
	}
	holder := &image{bytes: make([]byte, 100)}
	source := &image{bytes: make([]byte, 100), regions: []replication.Region{{Extent: replication.Extent{Length: 100}}}}
	if _, err := apply(t, Differences(source, holder, "other", nil), holder.bytes); !errors.Is(err, replication.ErrUnknownDisk) {
		t.Errorf("a disk that the holder does not know: got %v", err)
	}
	source.regions[0].Length = 101
	if _, err := apply(t, Differences(source, holder, disk, nil), holder.bytes); err == nil {
		t.Error("a region past the end was accepted")
	}
}

// wordy answers with more checksums than it was asked for.
type wordy struct{ *image }

func (w wordy) Hashes(context.Context, replication.DiskID, replication.Extent, int64) ([]replication.Sum, error) {
	return make([]replication.Sum, 99), nil
}

func TestAHolderThatAnswersWrongIsRefused(t *testing.T) {
	source := &image{bytes: make([]byte, 1<<20), regions: []replication.Region{{Extent: replication.Extent{Length: 1 << 20}}}}
	if _, err := apply(t, Differences(source, wordy{source}, disk, nil), make([]byte, 1<<20)); err == nil {
		t.Error("99 checksums for 16 chunks were accepted")
	}
}

type short struct{ *image }

func (s short) ReadAt(b []byte, offset int64) (int, error) { return 0, io.EOF }

func TestASourceThatBecameShorterIsAProblem(t *testing.T) {
	source := &image{bytes: make([]byte, 1<<20), regions: []replication.Region{{Extent: replication.Extent{Length: 1 << 20}}}}
	_, err := apply(t, Differences(short{source}, source, disk, nil), source.bytes)
	if replication.AsProblem(err).Code != "source.short" {
		t.Errorf("got %v", err)
	}
}

func TestLeavingTheLoopEarlyOrCancellingLeavesNothingRunning(t *testing.T) {
	rnd := rand.New(rand.NewPCG(8, 8))
	source, holder := &image{bytes: make([]byte, 16<<20)}, &image{bytes: make([]byte, 16<<20)}
	fill(rnd, source.bytes)
	source.whole(nil)
	for n := range 20 {
		for range Differences(source, holder, disk, nil).Regions(t.Context()) {
			if n--; n < 0 {
				break
			}
		}
	}
	for n := range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		seen, last := 0, error(nil)
		for _, err := range Differences(source, holder, disk, nil).Regions(ctx) {
			if last = err; seen == n {
				cancel()
			}
			seen++
		}
		cancel()
		if last != nil && !errors.Is(last, context.Canceled) {
			t.Errorf("cancelled after %d regions: got %v", n, last)
		}
		if last == nil && seen < 16 {
			t.Errorf("cancelled after %d regions: ended without an error after %d of 16", n, seen)
		}
	} // goleak looks for what is left when the tests end
}

func TestMemoryIsBoundedWhateverTheSize(t *testing.T) {
	source, holder := &image{bytes: make([]byte, 96<<20)}, &image{bytes: make([]byte, 96<<20)}
	source.regions = []replication.Region{{Extent: replication.Extent{Length: 96 << 20}}} // not known to be zero
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := apply(t, Differences(source, holder, disk, nil), holder.bytes); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > MaxMemory+2<<20 {
		t.Errorf("comparing 96 MiB took %d bytes of allocations, bound %d", got, MaxMemory)
	}
}
