package nbd

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"riparo/replication"
)

func TestOurClientReadsOurServer(t *testing.T) {
	for _, size := range peerSizes {
		disk := newMemoryDisk(size).scatter(1, 40)
		_, socket := serve(t, ServerOptions{}, map[string]Export{"d": {Source: disk}})
		c := dial(t, URI("unix", socket, "d"), Options{Contexts: []string{AllocationContext}, Connections: 2})
		sameContent(t, c, disk)
		sameRegions(t, joined(t, c), joined(t, disk))
		if got := c.Connections(); got != 2 {
			t.Errorf("got %d connections, want 2", got)
		}
	}
}

// TestManyCallersShareTheConnections writes and reads parts of a disk from several
// goroutines at once, each its own part.
func TestManyCallersShareTheConnections(t *testing.T) {
	const parts, size = 8, 1 << 20
	disk := newMemoryDisk(parts * size)
	_, socket := serve(t, ServerOptions{}, map[string]Export{
		"w": {Source: disk, Writer: disk},
		"r": {Source: disk, Dirty: map[string][]replication.Extent{"x": {{Length: size}}}},
	})
	c := dial(t, URI("unix", socket, "w"), Options{Connections: 4, Contexts: []string{AllocationContext}})
	if got := c.Connections(); got != 1 {
		t.Errorf("an export that can be written got %d connections, want 1", got)
	}
	var callers sync.WaitGroup
	for part := range int64(parts) {
		callers.Go(func() {
			random := rand.New(rand.NewPCG(uint64(part), 5))
			want := make([]byte, size)
			for range 25 {
				at := random.Int64N(size)
				n := 1 + random.Int64N(size-at)
				b := want[at : at+n]
				fill(b, random)
				if _, err := c.WriteAt(b, part*size+at); err != nil {
					t.Error(err)
				}
				at = random.Int64N(size)
				got := make([]byte, size-at)
				if err := c.Read(t.Context(), got, part*size+at); err != nil || !bytes.Equal(got, want[at:]) {
					t.Errorf("part %d: what was written is not read, %v", part, err)
					return
				}
			}
			if err := c.Sync(); err != nil {
				t.Error(err)
			}
		})
	}
	callers.Wait()
	if disk.synced != parts {
		t.Errorf("the disk was synced %d times, want %d", disk.synced, parts)
	}

	reader := dial(t, URI("unix", socket, "r"), Options{Connections: 4, Contexts: []string{AllocationContext, DirtyBitmapPrefix + "x"}})
	for range parts {
		callers.Go(func() {
			sameContent(t, reader, disk)
			for _, err := range reader.Regions(t.Context()) {
				if err != nil {
					t.Error(err)
				}
			}
			delta, _ := reader.Delta("x")
			for r, err := range delta.Regions(t.Context()) {
				if err != nil || r.End() > size {
					t.Error(r, err)
				}
			}
		})
	}
	callers.Wait()
	if got := len(reader.mappers); got != 2 {
		t.Errorf("%d contexts have a connection of their own, want both", got)
	}
}

// TestPiecesOfEverySizeArrive writes and reads around the sizes at which the server
// divides what it is asked.
func TestPiecesOfEverySizeArrive(t *testing.T) {
	const size = 40 << 20
	disk := newMemoryDisk(size)
	_, socket := serve(t, ServerOptions{}, map[string]Export{"w": {Source: disk, Writer: disk}})
	c := dial(t, URI("unix", socket, "w"), Options{})
	random := rand.New(rand.NewPCG(1, 6))
	for _, around := range []int{0, 64 << 10, 256 << 10, bufferSize, 2 * bufferSize, 5 * bufferSize, maxPayload} {
		for _, n := range []int{around - 1, around, around + 1} {
			if n < 0 {
				continue
			}
			want := make([]byte, n)
			fill(want, random)
			at := random.Int64N(int64(size - n))
			if _, err := c.WriteAt(want, at); err != nil {
				t.Fatal(err)
			}
			got, there := make([]byte, n), make([]byte, n)
			disk.ReadAt(there, at)
			if err := c.Read(t.Context(), got, at); err != nil || !bytes.Equal(got, want) || !bytes.Equal(there, want) {
				t.Errorf("%d bytes at %d: read is written: %t, there is written: %t, %v", n, at, bytes.Equal(got, want), bytes.Equal(there, want), err)
			}
		}
	}
}

func TestWhatTheClientIsAskedWronglyIsRefused(t *testing.T) {
	disk := newMemoryDisk(1000)
	_, socket := serve(t, ServerOptions{}, map[string]Export{"w": {Source: disk, Writer: disk}, "r": {Source: disk}})
	w := dial(t, URI("unix", socket, "w"), Options{})
	r := dial(t, URI("unix", socket, "r"), Options{})
	extent := func(off, n int64) replication.Extent { return replication.Extent{Offset: off, Length: n} }
	_, negative := w.ReadAt(make([]byte, 1), -1)
	_, beyond := w.WriteAt(make([]byte, 2), 999)
	_, readOnly := r.WriteAt(make([]byte, 2), 0)
	_, noBitmap := r.Delta("x")
	var noContext error
	for _, err := range r.Map(t.Context(), AllocationContext, extent(0, 10)) {
		noContext = err
	}
	for what, err := range map[string]error{
		"a read before the beginning": negative, "a write beyond the end": beyond, "a write to what is read-only": readOnly,
		"zeroes beyond the end": w.Zero(extent(990, 100)), "zeroes before the beginning": w.Zero(extent(-5, 10)), "zeroes of what is read-only": r.Zero(extent(0, 10)),
		"a bitmap that was not asked for": noBitmap, "a context that was not asked for": noContext,
		"a read beyond the end": w.Read(t.Context(), make([]byte, 2), 999),
	} {
		if err == nil {
			t.Errorf("%s was accepted", what)
		}
	}
	if !errors.Is(noBitmap, ErrNoContext) || !errors.Is(noContext, ErrNoContext) {
		t.Errorf("got %v and %v, want %v", noBitmap, noContext, ErrNoContext)
	}
	if err := r.Sync(); err != nil {
		t.Errorf("sync of what is read-only: %v", err)
	}
	if n, err := w.ReadAt(make([]byte, 100), 950); n != 50 || err == nil {
		t.Errorf("a read over the end: got %d, %v, want 50 and EOF", n, err)
	}
	if _, err := Dial(t.Context(), URI("unix", socket+"x", "r"), Options{}); replication.AsProblem(err).Code != "nbd.unreachable" {
		t.Errorf("a socket that is not there: got %v", err)
	}
	if _, err := Dial(t.Context(), URI("unix", socket, "none"), Options{}); !errors.Is(err, ErrNoExport) {
		t.Errorf("an export that is not there: got %v", err)
	}
}
