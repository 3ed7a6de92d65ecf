package processserver

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"sync"

	"riparo/replication"
)

// image is a source in memory with regions of the test's choice.
type image struct {
	bytes   []byte
	regions []replication.Region
	fail    func(offset int64) error // may refuse a read
	listErr error                    // ends Regions after all regions
}

func (i *image) Size() int64 { return int64(len(i.bytes)) }

func (i *image) ReadAt(b []byte, offset int64) (int, error) {
	if i.fail != nil {
		if err := i.fail(offset); err != nil {
			return 0, err
		}
	}
	n := copy(b, i.bytes[offset:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (i *image) Regions(ctx context.Context) iter.Seq2[replication.Region, error] {
	return func(yield func(replication.Region, error) bool) {
		for _, r := range i.regions {
			if !yield(r, ctx.Err()) {
				return
			}
		}
		if i.listErr != nil {
			yield(replication.Region{}, i.listErr)
		}
	}
}

// newImage fills size bytes with stretches of data, short zeroes and long ones,
// and lists its regions, some of the zero stretches as holes.
func newImage(rnd *rand.Rand, size int) *image {
	i := &image{bytes: make([]byte, size)}
	for at := 0; at < size; {
		n := min(1+rnd.IntN(1+[]int{5000, 70_000, 3 << 20}[rnd.IntN(3)]), size-at)
		kind := rnd.IntN(3)
		if kind > 0 {
			fill(rnd, i.bytes[at:at+n])
		}
		i.regions = append(i.regions, replication.Region{Extent: replication.Extent{Offset: int64(at), Length: int64(n)}, Zero: kind == 0 && rnd.IntN(2) == 0})
		at += n
	}
	return i
}

// fill makes every byte something other than zero.
func fill(rnd *rand.Rand, b []byte) {
	var word [8]byte
	for at := 0; at < len(b); at += 8 {
		binary.LittleEndian.PutUint64(word[:], rnd.Uint64()|0x0101010101010101)
		copy(b[at:], word[:])
	}
}

// model is a sink in memory. It holds every rule that Carry has to keep.
type model struct {
	mu       sync.Mutex
	turn     *sync.Cond
	bytes    []byte
	sequence replication.Sequence
	epoch    replication.Epoch
	sizes    []int // data bytes of each batch
	under    int   // writes under way
	most     int
	before   func(ctx context.Context, b replication.Batch) error // may delay or refuse a write
}

func newModel(size int) *model {
	m := &model{bytes: make([]byte, size)}
	m.turn = sync.NewCond(&m.mu)
	return m
}

func (m *model) state(id replication.DiskID) replication.DiskState {
	return replication.DiskState{Disk: replication.Disk{ID: id, Size: int64(len(m.bytes))}, Epoch: m.epoch, Sequence: m.sequence}
}

func (m *model) Prepare(context.Context, replication.Disk, replication.Epoch) (replication.DiskState, error) {
	return replication.DiskState{}, fmt.Errorf("the model is prepared by its test")
}

func (m *model) Mark(context.Context, replication.Mark) error {
	return fmt.Errorf("carry does not mark")
}

func (m *model) Write(ctx context.Context, b replication.Batch) error {
	m.mu.Lock()
	m.under++
	m.most = max(m.most, m.under)
	m.mu.Unlock()
	defer func() { m.mu.Lock(); m.under--; m.mu.Unlock() }()
	if m.before != nil {
		if err := m.before(ctx, b); err != nil {
			return err
		}
	}
	if err := b.Check(int64(len(m.bytes))); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, m.turn.Broadcast)
	defer stop()
	m.mu.Lock()
	defer m.mu.Unlock()
	for m.sequence+1 != b.Sequence {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if b.Sequence <= m.sequence {
			return fmt.Errorf("sequence %d after %d: %w", b.Sequence, m.sequence, replication.ErrSequence)
		}
		m.turn.Wait()
	}
	size := 0
	for k, c := range b.Changes {
		if c.Zero() {
			clear(m.bytes[c.Offset:c.End()])
		}
		copy(m.bytes[c.Offset:c.End()], c.Data)
		size += len(c.Data)
		for _, o := range b.Changes[:min(k, 16)] {
			if o.Overlaps(c.Extent) {
				return fmt.Errorf("batch %d: %s overlaps %s", b.Sequence, o.Extent, c.Extent)
			}
		}
	}
	m.sizes = append(m.sizes, size)
	m.sequence = b.Sequence
	m.turn.Broadcast()
	return nil
}
