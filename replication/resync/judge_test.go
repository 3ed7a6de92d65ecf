package resync

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"

	"riparo/replication"
)

// judgingImage is an image that compares by itself.
type judgingImage struct {
	*image
	lies   []replication.Extent // told instead of the truth
	fails  error
	open   atomic.Int64
	judged atomic.Int64
}

func (i *judgingImage) Judge(context.Context, replication.DiskID) (replication.Judge, error) {
	i.open.Add(1)
	return i, nil
}

func (i *judgingImage) Close() error { i.open.Add(-1); return nil }

func (i *judgingImage) Differ(_ context.Context, e replication.Extent, content []byte) (list []replication.Extent, err error) {
	i.judged.Add(1)
	if i.fails != nil || i.lies != nil {
		return i.lies, i.fails
	}
	if content == nil {
		content = make([]byte, e.Length)
	}
	for _, block := range chunks(e, fine) {
		if !bytes.Equal(content[block.Offset-e.Offset:block.End()-e.Offset], i.bytes[block.Offset:block.End()]) {
			list = append(list, block)
		}
	}
	return list, nil
}

// edited gives a source with random content and a holder that differs in some bytes.
func edited(seed uint64, size, edits int) (source, holder *image) {
	rnd := rand.New(rand.NewPCG(seed, 3))
	source, holder = &image{bytes: make([]byte, size)}, &image{bytes: make([]byte, size)}
	fill(rnd, source.bytes)
	clear(source.bytes[size/3 : size/2])
	source.whole([]int{size / 3, size / 2})
	copy(holder.bytes, source.bytes)
	for range edits {
		holder.bytes[rnd.IntN(size)] ^= 1
	}
	return source, holder
}

func TestAHolderThatComparesByItselfIsNotAskedForChecksums(t *testing.T) {
	for seed := range uint64(8) {
		source, holder := edited(seed, 6<<20+int(seed)*777, 60)
		judge := &judgingImage{image: holder}
		c := Differences(source, judge, disk, nil)
		n, err := apply(t, c, holder.bytes)
		if err != nil || !bytes.Equal(source.bytes, holder.bytes) {
			t.Fatalf("seed %d: after %d bytes: error %v", seed, n, err)
		}
		if holder.asked.Load() != 0 || judge.judged.Load() == 0 {
			t.Errorf("seed %d: %d checksums were asked for, %d windows judged", seed, holder.asked.Load(), judge.judged.Load())
		}
		if judge.open.Load() != 0 {
			t.Errorf("seed %d: the judge was not closed", seed)
		}
		if n > 60*fine {
			t.Errorf("seed %d: %d bytes for 60 changed ones", seed, n)
		}
	}
}

func TestAJudgeThatFailsOrTalksNonsenseEndsTheComparison(t *testing.T) {
	source, holder := edited(1, 3<<20, 5)
	for _, j := range []*judgingImage{
		{image: holder, fails: errBroken},
		{image: holder, lies: []replication.Extent{{Offset: -1, Length: 4096}}},
		{image: holder, lies: []replication.Extent{{Offset: 0, Length: 1 << 40}}},
		{image: holder, lies: []replication.Extent{{Offset: 8192, Length: 4096}, {Offset: 0, Length: 4096}}},
		{image: holder, lies: []replication.Extent{{Offset: 0}}},
	} {
		_, err := apply(t, Differences(source, j, disk, nil), bytes.Clone(holder.bytes))
		if err == nil || j.fails != nil && !errors.Is(err, j.fails) {
			t.Errorf("a judge with %v and %v: got %v", j.lies, j.fails, err)
		}
		if j.open.Load() != 0 {
			t.Error("the judge was not closed")
		}
	}
}

func TestWhatDiffersIsReadOnce(t *testing.T) {
	for _, edits := range []int{0, 50, 100_000} {
		source, holder := edited(2, 24<<20, edits)
		data := int64(20 << 20) // the rest is known to be zero
		c := Differences(source, holder, disk, nil)
		if _, err := apply(t, c, holder.bytes); err != nil || !bytes.Equal(source.bytes, holder.bytes) {
			t.Fatal(err)
		}
		if got := source.reads.Load(); got != data {
			t.Errorf("%d edits: %d bytes were read of a source with %d", edits, got, data)
		}
		if p := c.Progress(); p.Reread != 0 || p.Read != data {
			t.Errorf("%d edits: progress %+v, want %d bytes read once", edits, p, data)
		}
	}
}

// Whoever does not read what differs, or late, does not make the comparison hold more.
func TestWhatIsKeptIsBounded(t *testing.T) {
	source, holder := edited(3, 48<<20, 0)
	clear(holder.bytes)
	c := Differences(source, holder, disk, nil)
	var late []replication.Region
	for r, err := range c.Regions(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		c.kept.mu.Lock()
		keeps := c.kept.bytes
		c.kept.mu.Unlock()
		if keeps > keptBytes {
			t.Fatalf("%d bytes are kept, bound %d", keeps, keptBytes)
		}
		late = append(late, r)
	}
	for _, r := range late {
		if _, err := c.ReadAt(holder.bytes[r.Offset:r.End()], r.Offset); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(source.bytes, holder.bytes) {
		t.Error("the holder still differs")
	}
	if p := c.Progress(); p.Reread != p.Different-keptBytes {
		t.Errorf("%d of %d bytes were read again, want all but the %d that are kept", p.Reread, p.Different, keptBytes)
	}
}

func TestAComparisonKeepsItsLimitAndPassesZeroesFreely(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, holder := edited(4, 24<<20, 7)
		began := time.Now()
		o := Options{Limit: rate.NewLimiter(2<<20, 300_000)}
		o.Progress = func(p Progress) {
			if allowed := int64(time.Since(began).Seconds()*(2<<20)) + 300_001; p.Read > allowed {
				t.Errorf("after %s %d bytes were read, allowed %d", time.Since(began), p.Read, allowed)
			}
		}
		if _, err := apply(t, Differences(source, holder, disk, &o), holder.bytes); err != nil {
			t.Fatal(err)
		}
		// 20 MiB at 2 MiB/s, of which the first 300,000 bytes are the burst.
		if took := time.Since(began); took < 9800*time.Millisecond || took > 10*time.Second {
			t.Errorf("took %s, want 9.86 s", took)
		}
	})
}
