package processserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"

	"riparo/replication"
)

const disk = replication.DiskID("web01.vda")

func TestCarryMakesTheSinkEqualToTheSource(t *testing.T) {
	for seed := range uint64(12) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		source := newImage(rnd, rnd.IntN(24<<20))
		sink := newModel(len(source.bytes))
		if seed%2 == 1 { // the sink holds something else, all of which must go
			fill(rnd, sink.bytes)
			sink.sequence = 7
		}
		before := sink.sequence
		var last Progress
		result, err := Carry(t.Context(), sink, sink.state(disk), source, Options{Epoch: 3, Progress: func(p Progress) {
			if p.Offset < last.Offset || p.Read < last.Read || p.Sent < last.Sent {
				t.Errorf("seed %d: progress went back from %+v to %+v", seed, last, p)
			}
			last = p
		}})
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if !bytes.Equal(sink.bytes, source.bytes) {
			t.Fatalf("seed %d: the sink differs from the source at byte %d", seed, differsAt(sink.bytes, source.bytes))
		}
		if result.Sequence != sink.sequence || result.Batches != int(sink.sequence-before) {
			t.Errorf("seed %d: result says %d batches up to sequence %d, the sink holds %d", seed, result.Batches, result.Sequence, sink.sequence)
		}
		if result.Sent+result.Zeroes != result.Changed || last.Sent != result.Sent || last.Read != result.Read {
			t.Errorf("seed %d: figures disagree: %+v, last progress %+v", seed, result, last)
		}
		if len(source.bytes) > 0 && last.Offset != source.Size() {
			t.Errorf("seed %d: progress ended at %d of %d", seed, last.Offset, source.Size())
		}
		if sink.most > writesInFlight {
			t.Errorf("seed %d: %d writes under way, limit %d", seed, sink.most, writesInFlight)
		}
	}
}

func differsAt(a, b []byte) int {
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return len(a)
}

func TestOnlyTheRegionsOfADeltaAreReadAndSent(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	source := &image{bytes: make([]byte, 64<<20)}
	fill(rnd, source.bytes)
	sink := newModel(len(source.bytes))
	sink.sequence = 1
	want := make([]byte, len(source.bytes))
	for k := range 100 {
		e := replication.Extent{Offset: int64(k) * 600_000, Length: 64 << 10}
		source.regions = append(source.regions, replication.Region{Extent: e})
		copy(want[e.Offset:e.End()], source.bytes[e.Offset:])
	}
	result, err := Carry(t.Context(), sink, sink.state(disk), source, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(sink.bytes, want) {
		t.Fatalf("the sink differs at byte %d", differsAt(sink.bytes, want))
	}
	if n := int64(100 * 64 << 10); result.Read != n || result.Sent != n || result.Changed != n {
		t.Errorf("got %+v, want %d bytes read, sent and changed", result, n)
	}
	if result.Batches > 13 {
		t.Errorf("6.25 MiB took %d batches of 512 KiB: small extents must share one", result.Batches)
	}
}

func TestAFreshSinkIsSentNoZeroes(t *testing.T) {
	source := &image{bytes: make([]byte, 20<<20)}
	source.bytes[9<<20] = 1
	source.regions = []replication.Region{{Extent: replication.Extent{Length: 8 << 20}}, {Extent: replication.Extent{Offset: 8 << 20, Length: 4 << 20}}, {Extent: replication.Extent{Offset: 12 << 20, Length: 8 << 20}, Zero: true}}
	sink := newModel(len(source.bytes))
	result, err := Carry(t.Context(), sink, sink.state(disk), source, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if want := (Result{Read: 12 << 20, Changed: 4096, Sent: 4096, Batches: 1, Sequence: 1}); result != want {
		t.Errorf("got %+v, want %+v", result, want)
	}
}

func TestLongZeroesAreCutOutOfDataAndShortOnesAreNot(t *testing.T) {
	const k = 1 << 10
	tests := []struct {
		name   string
		offset int64
		data   []byte
		want   string
	}{
		{"nothing", 0, nil, ""},
		{"all zero", 0, make([]byte, 5), "0+5 zero;"},
		{"all zero and long", 4096, make([]byte, 200*k), "4096+204800 zero;"},
		{"all data", 0, ones(9), "0+9 data;"},
		{"short run in the middle", 0, join(ones(4*k), make([]byte, 60*k), ones(4*k)), "0+69632 data;"},
		{"long run in the middle", 0, join(ones(4*k), make([]byte, 64*k), ones(4*k)), "0+4096 data;4096+65536 zero;69632+4096 data;"},
		{"long run at the start", 0, join(make([]byte, 64*k), ones(1)), "0+65536 zero;65536+1 data;"},
		{"long run at the end", 0, join(ones(1), make([]byte, 68*k)), "0+4096 data;4096+65537 zero;"},
		{"two long runs", 0, join(make([]byte, 64*k), ones(4*k), make([]byte, 64*k)), "0+65536 zero;65536+4096 data;69632+65536 zero;"},
		{"blocks lie on the disk's grid", 1 << 10, join(ones(3*k), make([]byte, 64*k)), "1024+3072 data;4096+65536 zero;"},
	}
	for _, test := range tests {
		got := ""
		for _, c := range split(nil, test.offset, test.data) {
			kind := "data"
			if c.Zero() {
				kind = "zero"
			} else if !bytes.Equal(c.Data, test.data[c.Offset-test.offset:c.End()-test.offset]) {
				t.Errorf("%s: %s carries other bytes", test.name, c.Extent)
			}
			got += fmt.Sprintf("%d+%d %s;", c.Offset, c.Length, kind)
		}
		if got != test.want {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}

func ones(n int) []byte { return bytes.Repeat([]byte{1}, n) }

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func TestManyTinyExtentsKeepEveryLimit(t *testing.T) {
	source := &image{bytes: ones(1 << 20)}
	for at := int64(0); at+3 < source.Size(); at += 20 {
		source.regions = append(source.regions, replication.Region{Extent: replication.Extent{Offset: at, Length: 3}, Zero: at%40 == 0})
	}
	sink := newModel(len(source.bytes))
	sink.sequence = 1
	if _, err := Carry(t.Context(), sink, sink.state(disk), source, Options{}); err != nil {
		t.Fatal(err)
	}
}

var errBroken = errors.New("broken on purpose")

func TestTheFirstErrorOfAnyReadOrWriteEndsTheCarry(t *testing.T) {
	rnd := rand.New(rand.NewPCG(9, 9))
	source := &image{bytes: make([]byte, 40<<20)}
	fill(rnd, source.bytes)
	source.regions = []replication.Region{{Extent: replication.Extent{Length: source.Size()}}}
	for at := int64(0); at < source.Size(); at += 7 << 20 {
		sink := newModel(len(source.bytes))
		failing := *source
		failing.fail = func(offset int64) error {
			if offset == at-at%loadBytes {
				return errBroken
			}
			return nil
		}
		result, err := Carry(t.Context(), sink, sink.state(disk), &failing, Options{})
		if !errors.Is(err, errBroken) {
			t.Errorf("read at %d: got %v", at, err)
		}
		if result.Sequence > sink.sequence {
			t.Errorf("read at %d: result says sequence %d, the sink holds %d", at, result.Sequence, sink.sequence)
		}
	}
	for broken := replication.Sequence(1); broken <= 10; broken++ {
		sink := newModel(len(source.bytes))
		sink.before = func(_ context.Context, b replication.Batch) error {
			if b.Sequence == broken {
				return errBroken
			}
			return nil
		}
		result, err := Carry(t.Context(), sink, sink.state(disk), source, Options{})
		if !errors.Is(err, errBroken) || result.Sequence != broken-1 {
			t.Errorf("write %d: got %v after sequence %d", broken, err, result.Sequence)
		}
	}
}

func TestWrongRegionsAreRefused(t *testing.T) {
	for name, regions := range map[string][]replication.Region{
		"past the end": {{Extent: replication.Extent{Offset: 900, Length: 200}}},
		"negative":     {{Extent: replication.Extent{Offset: -1, Length: 2}}},
		"empty":        {{Extent: replication.Extent{Offset: 1}}},
		"overlapping":  {{Extent: replication.Extent{Length: 10}}, {Extent: replication.Extent{Offset: 9, Length: 10}}},
		"descending":   {{Extent: replication.Extent{Offset: 500, Length: 10}}, {Extent: replication.Extent{Length: 10}}},
	} {
		sink := newModel(1000)
		if _, err := Carry(t.Context(), sink, sink.state(disk), &image{bytes: make([]byte, 1000), regions: regions}, Options{}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	sink := newModel(1000)
	if _, err := Carry(t.Context(), sink, sink.state(disk), &image{bytes: make([]byte, 1000), listErr: errBroken}, Options{}); !errors.Is(err, errBroken) {
		t.Errorf("an error of the list: got %v", err)
	}
	if _, err := Carry(t.Context(), sink, sink.state(disk), &image{bytes: make([]byte, 999)}, Options{}); err == nil {
		t.Error("a source of another size: accepted")
	}
}

// shrunk ends before the size it had.
type shrunk struct{ *image }

func (s shrunk) ReadAt(b []byte, offset int64) (int, error) {
	return io.NewSectionReader(bytes.NewReader(s.bytes), 0, 5<<20+7).ReadAt(b, offset)
}

func TestASourceThatBecameShorterIsAProblemWithARemedy(t *testing.T) {
	source := &image{bytes: ones(8 << 20), regions: []replication.Region{{Extent: replication.Extent{Length: 8 << 20}}}}
	sink := newModel(8 << 20)
	_, err := Carry(t.Context(), sink, sink.state(disk), shrunk{source}, Options{})
	p := replication.AsProblem(err)
	if p.Code != "source.short" || p.Action == "" || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
}

func TestCancellationAtAnyMomentLeavesNothingRunning(t *testing.T) {
	rnd := rand.New(rand.NewPCG(4, 4))
	source := &image{bytes: make([]byte, 32<<20)}
	fill(rnd, source.bytes)
	source.regions = []replication.Region{{Extent: replication.Extent{Length: source.Size()}}}
	for n := range int64(16) {
		ctx, cancel := context.WithCancel(t.Context())
		var calls atomic.Int64
		tick := func() {
			if calls.Add(1) == 3*n+1 {
				cancel()
			}
		}
		sink := newModel(len(source.bytes))
		sink.before = func(context.Context, replication.Batch) error { tick(); return nil }
		cancelled := *source
		cancelled.fail = func(int64) error { tick(); return nil }
		_, err := Carry(ctx, sink, sink.state(disk), &cancelled, Options{Progress: func(Progress) { tick() }})
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled at call %d: got %v", 3*n+1, err)
		}
		if err == nil && ctx.Err() != nil && !bytes.Equal(sink.bytes, source.bytes) {
			t.Errorf("cancelled at call %d: no error, but the sink is not complete", 3*n+1)
		}
		cancel()
	} // goleak looks for what is left when the tests end
}

func TestASinkThatNeverAnswersIsLeftWhenTheCallerGoes(t *testing.T) {
	source := &image{bytes: ones(40 << 20), regions: []replication.Region{{Extent: replication.Extent{Length: 40 << 20}}}}
	ctx, cancel := context.WithCancel(t.Context())
	var reads atomic.Int64
	source.fail = func(int64) error { reads.Add(1); return nil }
	sink := newModel(40 << 20)
	var once sync.Once
	sink.before = func(ctx context.Context, b replication.Batch) error {
		once.Do(func() { time.AfterFunc(50*time.Millisecond, cancel) })
		<-ctx.Done()
		return ctx.Err()
	}
	if _, err := Carry(ctx, sink, sink.state(disk), source, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if n := reads.Load(); n > buffers {
		t.Errorf("%d reads while nothing was acknowledged: the bound is %d", n, buffers)
	}
}

// TestASinkThatTakesEarlyLetsReadsGoOn: the sink acknowledges nothing until more was read
// than all buffers hold. What it copied of a batch must be what the batch was.
func TestASinkThatTakesEarlyLetsReadsGoOn(t *testing.T) {
	want := make([]byte, 16<<20)
	fill(rand.New(rand.NewPCG(5, 5)), want)
	source := &image{bytes: want, regions: []replication.Region{{Extent: replication.Extent{Length: int64(len(want))}}}}
	reads, enough := atomic.Int64{}, make(chan struct{})
	source.fail = func(int64) error {
		if reads.Add(1) == buffers+readsInFlight {
			close(enough)
		}
		return nil
	}
	sink := newModel(len(want))
	sink.before = func(ctx context.Context, b replication.Batch) error {
		for i := range b.Changes {
			b.Changes[i].Data = bytes.Clone(b.Changes[i].Data)
		}
		b.Taken()
		select {
		case <-enough:
			return nil
		case <-time.After(10 * time.Second):
			return fmt.Errorf("%d reads with %d buffers, and no more come", reads.Load(), buffers)
		}
	}
	if _, err := Carry(t.Context(), sink, sink.state(disk), source, Options{}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(sink.bytes, want) {
		t.Errorf("the sink differs at byte %d", differsAt(sink.bytes, want))
	}
}

func TestTheLimitIsKeptOverTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const perSecond = 2 << 20
		source := &image{bytes: ones(21 << 20), regions: []replication.Region{{Extent: replication.Extent{Length: 20 << 20}}, {Extent: replication.Extent{Offset: 20 << 20, Length: 1 << 20}, Zero: true}}}
		clear(source.bytes[20<<20:])
		sink := newModel(21 << 20)
		sink.sequence = 1
		began := time.Now()
		sink.before = func(_ context.Context, b replication.Batch) error {
			// Up to this batch at most rate × time + burst may have been let through.
			allowed := int(time.Since(began).Seconds()*perSecond) + 1<<20
			sent := 0
			for _, c := range b.Changes {
				sent += len(c.Data)
			}
			if int(b.Sequence-2)*batchLoads*loadBytes+sent > allowed+1 {
				return fmt.Errorf("batch %d after %s: more than %d bytes", b.Sequence, time.Since(began), allowed)
			}
			return nil
		}
		waits := 0
		if _, err := Carry(t.Context(), sink, sink.state(disk), source, Options{Limit: rate.NewLimiter(perSecond, 1<<20), Waiting: func() { waits++ }}); err != nil {
			t.Fatal(err)
		}
		if waits == 0 {
			t.Error("nobody is told that the limit makes it wait")
		}
		// 20 MiB at 2 MiB/s, of which the first MiB is the burst.
		if took := time.Since(began); took < 9500*time.Millisecond-time.Millisecond || took > 9600*time.Millisecond {
			t.Errorf("took %s, want 9.5 s", took)
		}
		waits, sink.before = 0, nil
		if _, err := Carry(t.Context(), sink, sink.state(disk), source, Options{Limit: rate.NewLimiter(rate.Inf, 0), Waiting: func() { waits++ }}); err != nil {
			t.Fatal(err)
		}
		if waits != 0 {
			t.Errorf("told %d times that it waits, and there is no limit", waits)
		}
	})
}

func TestCarryUsesItsBuffersAgain(t *testing.T) {
	source := &image{bytes: ones(128 << 20), regions: []replication.Region{{Extent: replication.Extent{Length: 128 << 20}}}}
	sink := newModel(128 << 20)
	sink.sequence = 1
	var before, after runtime.MemStats
	for range 2 { // the second time with the buffers of the first
		runtime.ReadMemStats(&before)
		if _, err := Carry(t.Context(), sink, sink.state(disk), source, Options{}); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
	}
	if got := after.TotalAlloc - before.TotalAlloc; got > 1<<20 {
		t.Errorf("128 MiB took %d bytes of allocations, want at most %d", got, 1<<20)
	}
	if got := after.Mallocs - before.Mallocs; got > 6000 {
		t.Errorf("128 MiB took %d allocations", got)
	}
}

// endedSource lists some of its regions and then cannot go on.
type endedSource struct {
	*image
	after int64
}

func (s *endedSource) Regions(context.Context) iter.Seq2[replication.Region, error] {
	return func(yield func(replication.Region, error) bool) {
		// Less than a load, so that it waits for more when the end comes.
		_ = yield(replication.Region{Extent: replication.Extent{Length: s.after}}, nil) &&
			yield(replication.Region{}, errListEnded)
	}
}

var errListEnded = errors.New("no more regions")

func TestWhatWasListedBeforeTheListBrokeIsCarried(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	source := &endedSource{newImage(rnd, 4<<20), 300_000}
	fill(rnd, source.bytes)
	sink := newModel(len(source.bytes))
	reached := int64(0)
	result, err := Carry(t.Context(), sink, sink.state(disk), source, Options{Progress: func(p Progress) { reached = p.Offset }})
	if !errors.Is(err, errListEnded) {
		t.Fatalf("%v, want %v", err, errListEnded)
	}
	if reached != source.after || result.Sent != source.after || !bytes.Equal(sink.bytes[:source.after], source.bytes[:source.after]) {
		t.Errorf("it came to %d with %d bytes sent, want %d of both", reached, result.Sent, source.after)
	}
}
