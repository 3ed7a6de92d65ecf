package sim

import (
	"context"
	"errors"
	"io"
	"iter"

	"riparo/replication"
	"riparo/replication/processserver"
	"riparo/replication/resync"
)

// loadBytes makes several batches of the disks of this world.
const loadBytes = 8 << 10

// run does what a replication cycle does: prepare, carry, mark; each disk by what is
// known of its far end.
func (t *transfer) run(ctx context.Context) error {
	if _, err := t.conn.do(ctx, frame{verb: hello}); err != nil {
		return err
	}
	marks := make([]replication.Mark, len(disks))
	for i, d := range disks {
		state, err := t.conn.Prepare(ctx, d, t.capture.epoch)
		if err != nil {
			return err
		}
		result, err := processserver.Carry(ctx, t.conn, state, t.source(i, state), processserver.Options{Epoch: t.capture.epoch, LoadBytes: loadBytes})
		if err != nil {
			return err
		}
		marks[i] = replication.Mark{
			Disk: d.ID, Epoch: t.capture.epoch, Sequence: result.Sequence + 1, Point: t.capture.id, Time: t.capture.time, Size: d.Size,
		}
	}
	for _, m := range marks {
		if err := t.conn.Mark(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

// source is the disk as it has to be read: whole, or where it differs, or what changed.
func (t *transfer) source(i int, state replication.DiskState) replication.Source {
	whole := &frozen{bytes: t.capture.content[i]}
	if i == 0 {
		whole.transfer = t
	}
	switch {
	case state.Sequence == 0:
		whole.regions = everything(whole.bytes)
		return whole
	case !t.tracked || state.Point != t.base && state.Point != t.attempted,
		// What lies there behind the point may be of somebody who was deposed: storage that
		// lies can lose the rewind that took it away.
		state.Unmarked && !t.alone:
		whole.regions = everything(whole.bytes)
		return resync.Differences(whole, t.conn, disks[i].ID, nil)
	}
	whole.regions = t.delta[i]
	return whole
}

// frozen is a disk at one instant.
type frozen struct {
	bytes    []byte
	regions  []replication.Region
	transfer *transfer // nil: every byte can be read
}

func (f *frozen) Size() int64 { return int64(len(f.bytes)) }

var errSector = errors.New("a sector of the source cannot be read")

func (f *frozen) ReadAt(p []byte, at int64) (int, error) {
	if t := f.transfer; t != nil && t.brokenAt > 0 && at <= t.brokenAt && t.brokenAt < at+int64(len(p)) {
		t.mu.Lock()
		t.read = true
		t.mu.Unlock()
		// Nothing more is heard of this transfer: which of its reads meets the place
		// first is not for the trace.
		t.conn.shut()
		return 0, errSector
	}
	n := copy(p, f.bytes[at:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *frozen) Regions(context.Context) iter.Seq2[replication.Region, error] {
	return func(yield func(replication.Region, error) bool) {
		for _, r := range f.regions {
			if !yield(r, nil) {
				return
			}
		}
	}
}

// everything is the whole disk with its holes, by pages of 4 KiB.
func everything(p []byte) []replication.Region {
	const page = 4 << 10
	var list []replication.Region
	for at := 0; at < len(p); at += page {
		end := min(at+page, len(p))
		r := replication.Region{Extent: replication.Extent{Offset: int64(at), Length: int64(end - at)}, Zero: replication.IsZero(p[at:end])}
		if n := len(list); n > 0 && list[n-1].Zero == r.Zero {
			list[n-1].Length += r.Length
			continue
		}
		list = append(list, r)
	}
	return list
}

// bitmap says which grains of a disk changed.
type bitmap []bool

func newBitmap(size int64) bitmap { return make(bitmap, (size+grain-1)/grain) }

func (b bitmap) set(e replication.Extent) {
	for i := e.Offset / grain; i*grain < e.End(); i++ {
		b[i] = true
	}
}

func (b bitmap) add(o bitmap) {
	for i := range b {
		b[i] = b[i] || o[i]
	}
}

func (b bitmap) clear() { clear(b) }

func (b bitmap) regions(size int64) []replication.Region {
	var list []replication.Region
	for i, set := range b {
		if !set {
			continue
		}
		at := int64(i) * grain
		length := min(grain, size-at)
		if n := len(list); n > 0 && list[n-1].End() == at {
			list[n-1].Length += length
			continue
		}
		list = append(list, replication.Region{Extent: replication.Extent{Offset: at, Length: length}})
	}
	return list
}
