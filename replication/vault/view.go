package vault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"sync"

	"riparo/replication"
)

// View is a disk as it was at one recovery point, or its head. It is a
// [replication.Source]: ReadAt may be called from several goroutines. It stays
// valid while points are dropped and rewound, until it is closed or its disk erased.
type View struct {
	disk    *disk
	size    int64
	sources []source // newest first
	moves   moves
	stack   stack
	blocks  blocks
	since   uint64 // keeps segments that died later; see sweep.go
	once    sync.Once
}

var _ replication.Source = (*View)(nil)

// View opens the disk as it was at a point. The empty point is the head, with what
// arrived since the last mark. Errors wrap ErrUnknownDisk and ErrUnknownPoint.
func (v *Vault) View(ctx context.Context, id replication.DiskID, at replication.PointID) (*View, error) {
	d, err := v.find(id)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	size, upTo, err := d.locate(at)
	if err == nil {
		err = d.trusted(at, upTo)
	}
	if d.superseded {
		err = d.broken
	}
	if err != nil {
		d.mu.Unlock()
		return nil, err
	}
	return d.view(size, upTo)
}

// view makes a view of what happened up to and including a serial. The caller holds
// mu, which is given back.
func (d *disk) view(size int64, upTo serial) (*View, error) {
	w := &View{disk: d, size: size, stack: d.stackUpTo(upTo), blocks: blocks{fs: d.vault.fs, folder: d.folder, disk: d.id, keys: d.keys}}
	w.moves = w.stack.moves
	w.since = d.pin()
	d.mu.Unlock()
	var err error
	if w.sources, err = w.stack.sources(); err != nil {
		return nil, errors.Join(d.mapProblem(err), w.Close())
	}
	return w, nil
}

// locate finds the size of the disk at a point, and the serial of its mark. The
// caller holds mu.
func (d *disk) locate(at replication.PointID) (int64, serial, error) {
	if at == "" {
		return d.disk.Size, d.serial, nil
	}
	p := d.byID[at]
	if p == nil {
		return 0, 0, fmt.Errorf("point %s of disk %s: %w", at, d.id, replication.ErrUnknownPoint)
	}
	return p.size, p.serial, nil
}

// Size implements replication.Source.
func (w *View) Size() int64 { return w.size }

// Close ends the use of the view.
func (w *View) Close() error {
	var err error
	w.once.Do(func() {
		err = errors.Join(w.blocks.close(), w.stack.release(), w.disk.unpin(w.since))
	})
	return err
}

// ReadAt implements io.ReaderAt. A block that is damaged gives a vault.damaged
// problem.
func (w *View) ReadAt(p []byte, offset int64) (int, error) {
	if offset < 0 {
		return 0, fmt.Errorf("read disk %s at %d: the offset is negative", w.disk.id, offset)
	}
	if offset >= w.size {
		if len(p) == 0 {
			return 0, nil
		}
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), w.size-offset))
	list, err := w.resolve(offset, offset+int64(n))
	if err != nil {
		return 0, err
	}
	if e, err := w.blocks.readAll(list, p[:n], offset); err != nil {
		w.disk.noteDamage(e, err)
		return int(e.offset - offset), err
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// maxDamaged bounds what is remembered of damage that was met.
const maxDamaged = 100_000

// noteDamage remembers a block that could not be read.
func (d *disk) noteDamage(e *entry, err error) {
	if p, ok := errors.AsType[*replication.Problem](err); !ok || p.Code != CodeDamaged {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.damaged) < maxDamaged && d.damaged[e.location()] == nil {
		d.damaged[e.location()] = &finding{badBlock: badBlockOf(e, err)}
		d.vault.scrub.noteMet()
	}
}

// resolve gives the entries that are valid for [from, to), sorted and cut to it.
// What they leave out was never written.
func (w *View) resolve(from, to int64) ([]entry, error) {
	gaps := []replication.Extent{{Offset: from, Length: to - from}}
	var found []entry
	for _, m := range w.sources {
		var left []replication.Extent
		for _, gap := range gaps {
			at := gap.Offset
			err := m.overlapping(gap.Offset, gap.End(), func(e *entry) {
				start, end := max(e.offset, gap.Offset), min(e.end(), gap.End())
				if at < start {
					left = append(left, replication.Extent{Offset: at, Length: start - at})
				}
				found = append(found, e.part(start, end))
				at = end
			})
			if err != nil {
				return nil, w.disk.mapProblem(err)
			}
			if at < gap.End() {
				left = append(left, replication.Extent{Offset: at, Length: gap.End() - at})
			}
		}
		if gaps = left; len(gaps) == 0 {
			break
		}
	}
	for i := range found {
		w.moves.follow(&found[i])
	}
	slices.SortFunc(found, func(a, b entry) int {
		if a.offset < b.offset {
			return -1
		}
		return 1
	})
	return found, nil
}

// dataBytes are the bytes that hold data: neither zero nor never written.
func (w *View) dataBytes() (int64, error) {
	var flows []flow
	for _, s := range slices.Backward(w.sources) {
		flows = append(flows, flowOf(s))
	}
	total := int64(0)
	f := mergeFlows(flows)
	for f.advance() {
		if e := f.value(); e.codec != codecZero {
			total += e.extent().Intersect(replication.Extent{Length: w.size}).Length
		}
	}
	return total, f.failed()
}

func flowOf(s source) flow {
	if m, ok := s.(*section); ok {
		return m.cursor(0, m.count)
	}
	return &listFlow{list: s.(table)}
}

// regionStep is how much of a disk Regions resolves at once.
const regionStep = 64 << 20

// Regions implements replication.Source: the whole disk, in ascending order, with
// what is zero or was never written marked so.
func (w *View) Regions(ctx context.Context) iter.Seq2[replication.Region, error] {
	return func(yield func(replication.Region, error) bool) {
		var open replication.Region // the one that may still grow
		add := func(e replication.Extent, zero bool) bool {
			if e.Length <= 0 {
				return true
			}
			if open.Length > 0 && open.Zero == zero {
				open.Length += e.Length
				return true
			}
			ok := open.Length == 0 || yield(open, nil)
			open = replication.Region{Extent: e, Zero: zero}
			return ok
		}
		for at := int64(0); at < w.size; at += regionStep {
			end := min(at+regionStep, w.size)
			err := context.Cause(ctx)
			var list []entry
			if err == nil {
				list, err = w.resolve(at, end)
			}
			if err != nil {
				yield(replication.Region{}, err)
				return
			}
			position := at
			for i := range list {
				e := &list[i]
				if !add(replication.Extent{Offset: position, Length: e.offset - position}, true) || !add(e.extent(), e.codec == codecZero) {
					return
				}
				position = e.end()
			}
			if !add(replication.Extent{Offset: position, Length: end - position}, true) {
				return
			}
		}
		if open.Length > 0 {
			yield(open, nil)
		}
	}
}
