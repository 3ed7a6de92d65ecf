package nbd

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"iter"
	"math/rand/v2"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"riparo/replication"
)

// memoryDisk is a disk in memory, sparse, that can be read and written. Its
// content outside of the chunks is zero, so it can be of any size.
type memoryDisk struct {
	size int64

	mu     sync.RWMutex
	chunks map[int64][]byte
	synced int
}

const memoryChunk = 64 << 10

func newMemoryDisk(size int64) *memoryDisk {
	return &memoryDisk{size: size, chunks: map[int64][]byte{}}
}

// fill makes b random, fast also under the race detector.
func fill(b []byte, random *rand.Rand) {
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], random.Uint64())
	rand.NewChaCha8(seed).Read(b)
}

// scatter writes random runs to the disk: most of the ends, some in between.
func (d *memoryDisk) scatter(seed uint64, runs int) *memoryDisk {
	random := rand.New(rand.NewPCG(seed, 1))
	write := func(off, n int64) {
		n = min(n, d.size-off)
		b := make([]byte, n)
		fill(b, random)
		d.WriteAt(b, off)
	}
	if d.size == 0 {
		return d
	}
	write(0, 1000)
	write(max(0, d.size-700), 700)
	for range runs {
		write(random.Int64N(d.size), 1+random.Int64N(200<<10))
	}
	return d
}

func (d *memoryDisk) Size() int64 { return d.size }

func (d *memoryDisk) ReadAt(p []byte, off int64) (int, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	n := int(max(0, min(int64(len(p)), d.size-off)))
	for done := 0; done < n; {
		at := off + int64(done)
		part := p[done:min(n, done+int(memoryChunk-at%memoryChunk))]
		if c := d.chunks[at/memoryChunk]; c != nil {
			copy(part, c[at%memoryChunk:])
		} else {
			clear(part)
		}
		done += len(part)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (d *memoryDisk) WriteAt(p []byte, off int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for done := 0; done < len(p); {
		at := off + int64(done)
		c := d.chunks[at/memoryChunk]
		if c == nil {
			c = make([]byte, memoryChunk)
			d.chunks[at/memoryChunk] = c
		}
		done += copy(c[at%memoryChunk:], p[done:])
	}
	return len(p), nil
}

func (d *memoryDisk) Zero(e replication.Extent) error {
	_, err := d.WriteAt(make([]byte, e.Length), e.Offset)
	return err
}

func (d *memoryDisk) Sync() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.synced++
	return nil
}

func (d *memoryDisk) Regions(ctx context.Context) iter.Seq2[replication.Region, error] {
	return func(yield func(replication.Region, error) bool) {
		d.mu.RLock()
		var at []int64
		for i := range d.chunks {
			at = append(at, i)
		}
		d.mu.RUnlock()
		slices.Sort(at)
		pos := int64(0)
		for _, i := range at {
			e := replication.Extent{Offset: i * memoryChunk, Length: min(memoryChunk, d.size-i*memoryChunk)}
			if e.Offset > pos && !yield(replication.Region{Extent: replication.Extent{Offset: pos, Length: e.Offset - pos}, Zero: true}, nil) {
				return
			}
			if !yield(replication.Region{Extent: e}, nil) {
				return
			}
			pos = e.End()
		}
		if pos < d.size {
			yield(replication.Region{Extent: replication.Extent{Offset: pos, Length: d.size - pos}, Zero: true}, nil)
		}
	}
}

// serve runs a server on a unix socket until the test ends.
func serve(t testing.TB, o ServerOptions, exports map[string]Export) (*Server, string) {
	t.Helper()
	s := NewServer(o)
	for name, e := range exports {
		if err := s.Add(name, e); err != nil {
			t.Fatal(err)
		}
	}
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, s, l)
	return s, socket
}

func serveOn(t testing.TB, s *Server, l net.Listener) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("Serve: %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Errorf("Serve did not end")
		}
	})
}

func dial(t testing.TB, uri string, o Options) *Client {
	t.Helper()
	c, err := Dial(t.Context(), uri, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// sameContent compares two sources byte for byte, at regions and outside of them.
func sameContent(t testing.TB, got, want replication.Source) {
	t.Helper()
	if got.Size() != want.Size() {
		t.Fatalf("size: got %d, want %d", got.Size(), want.Size())
	}
	a, b := make([]byte, 1<<20), make([]byte, 1<<20)
	for r, err := range want.Regions(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		for at := r.Offset; !r.Zero && at < r.End(); at += int64(len(a)) {
			n := int(min(int64(len(a)), r.End()-at))
			if m, err := got.ReadAt(a[:n], at); m != n || err != nil && err != io.EOF {
				t.Fatalf("read %d bytes at %d: got %d, %v", n, at, m, err)
			}
			if _, err := want.ReadAt(b[:n], at); err != nil && err != io.EOF {
				t.Fatal(err)
			}
			if !bytes.Equal(a[:n], b[:n]) {
				t.Fatalf("the %d bytes at %d differ", n, at)
			}
		}
	}
}
