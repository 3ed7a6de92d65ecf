package resync

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"riparo/replication"
)

// window is a run of the disk without gap that is compared as one job.
type window struct {
	replication.Extent
	parts     []replication.Region // what the source said of it, without gap
	compared  chan struct{}        // closed when the fields below are final
	different []replication.Region
	read      int64 // from the source, bytes
}

func newWindow(offset int64) *window {
	return &window{Extent: replication.Extent{Offset: offset}, compared: make(chan struct{})}
}

func (w *window) add(part replication.Region) {
	w.parts = append(w.parts, part)
	w.Length += part.Length
}

// compare finds what of the window differs from what the holder has.
func (w *window) compare(ctx context.Context, c *Comparison) error {
	if !slices.ContainsFunc(w.parts, func(p replication.Region) bool { return !p.Zero }) {
		if err := w.find(ctx, c, nil); err != nil {
			return err
		}
		close(w.compared)
		return nil
	}
	buffer := c.buffer()
	data := buffer[:w.Length]
	err := w.readInto(data, c.source)
	if err == nil {
		err = w.find(ctx, c, data)
	}
	if err != nil {
		c.release(buffer)
		return err
	}
	if lent := c.kept.put(w, data); !lent {
		c.release(buffer)
	}
	close(w.compared)
	return nil
}

// find tells what differs. data is the content of the window; nil when all of it is known
// to be zero.
func (w *window) find(ctx context.Context, c *Comparison, data []byte) error {
	by := w.bySums
	if c.judge != nil {
		by = w.byJudge
	}
	if err := by(ctx, c, data); err != nil {
		return err
	}
	w.different = joined(w.different)
	return nil
}

// byJudge lets the holder compare.
func (w *window) byJudge(ctx context.Context, c *Comparison, data []byte) error {
	differ, err := c.judge.Differ(ctx, w.Extent, data)
	if err != nil {
		return fmt.Errorf("compare %s: %w", w.Extent, err)
	}
	end := w.Offset
	for _, e := range differ {
		if e.Offset < end || e.Length <= 0 || e.End() > w.End() {
			return fmt.Errorf("compare %s: it is said that %s differs", w.Extent, e)
		}
		end = e.End()
		w.differ(replication.Region{Extent: e, Zero: data == nil || replication.IsZero(w.slice(data, e))})
	}
	return nil
}

// bySums asks the holder for checksums, and for finer ones where they differ.
func (w *window) bySums(ctx context.Context, c *Comparison, data []byte) error {
	theirs, err := hashes(ctx, c, w.Extent, coarse)
	if err != nil {
		return err
	}
	suspects := make([]replication.Extent, 0, len(theirs)) // chunks of data that differ from data
	for k, chunk := range chunks(w.Extent, coarse) {
		mine := replication.ZeroSum
		if data != nil && !w.knownZero(chunk) {
			mine = replication.SumOf(w.slice(data, chunk))
		}
		switch {
		case mine == theirs[k]:
		case mine == replication.ZeroSum:
			w.differ(replication.Region{Extent: chunk, Zero: true})
		case theirs[k] == replication.ZeroSum:
			// They hold nothing here: the blocks that are not zero are the difference.
			for _, block := range chunks(chunk, fine) {
				if !replication.IsZero(w.slice(data, block)) {
					w.differ(replication.Region{Extent: block})
				}
			}
		default:
			suspects = append(suspects, chunk)
		}
	}
	// When every chunk of a window differs it is new content rather than scattered
	// blocks; a second look would cost the holder a second read for nothing.
	if len(suspects) == len(theirs) && len(theirs) > 1 {
		for _, chunk := range suspects {
			w.differ(replication.Region{Extent: chunk})
		}
	} else {
		for _, run := range replication.Union(suspects) {
			if err := w.compareFine(ctx, c, run, data); err != nil {
				return err
			}
		}
	}
	return nil
}

// toRead is how much of the window is read from the source, bytes.
func (w *window) toRead() (n int64) {
	for _, p := range w.parts {
		if !p.Zero {
			n += p.Length
		}
	}
	return n
}

// buffer gives a free buffer or makes one.
func (c *Comparison) buffer() []byte {
	select {
	case b := <-c.buffers:
		return b
	default:
		return c.memory.Take()
	}
}

// release gives a buffer back. One too many, made while a window was just ending,
// is left to the garbage collector.
func (c *Comparison) release(b []byte) {
	select {
	case c.buffers <- b:
	default:
	}
}

// compareFine looks into a run of chunks that differ, block by block.
func (w *window) compareFine(ctx context.Context, c *Comparison, run replication.Extent, data []byte) error {
	theirs, err := hashes(ctx, c, run, fine)
	if err != nil {
		return err
	}
	for k, block := range chunks(run, fine) {
		if replication.SumOf(w.slice(data, block)) != theirs[k] {
			w.differ(replication.Region{Extent: block})
		}
	}
	return nil
}

// hashes asks the holder and checks that the answer has the right length.
func hashes(ctx context.Context, c *Comparison, e replication.Extent, chunk int64) ([]replication.Sum, error) {
	sums, err := c.holder.Hashes(ctx, c.disk, e, chunk)
	if err != nil {
		return nil, fmt.Errorf("checksums of %s: %w", e, err)
	}
	if want := (e.Length + chunk - 1) / chunk; int64(len(sums)) != want {
		return nil, fmt.Errorf("checksums of %s: got %d, want %d", e, len(sums), want)
	}
	return sums, nil
}

// readGap is how long a zero stretch may be that is read with the data around it: two
// reads take longer than such zeroes, which are holes as a rule. Of what comes from a disk
// any may be. Neither the limit nor the progress counts them.
const readGap = 64 << 10

// colder is a source that knows of the page cache of this machine.
type colder interface {
	// Cold reports whether an extent with so many bytes of data is read from a disk, and
	// best as a whole.
	Cold(e replication.Extent, data int64) bool
}

func (w *window) readInto(data []byte, source replication.Source) error {
	gap := int64(readGap)
	if s, ok := source.(colder); ok && len(w.parts) > 1 && s.Cold(w.Extent, w.toRead()) {
		gap = windowBytes
	}
	for parts := w.parts; len(parts) > 0; {
		if parts[0].Zero {
			clear(w.slice(data, parts[0].Extent))
			parts = parts[1:]
			continue
		}
		n := together(parts, gap)
		span := replication.Extent{Offset: parts[0].Offset, Length: parts[n-1].End() - parts[0].Offset}
		if err := replication.ReadFull(source, w.slice(data, span), span.Offset); err != nil {
			return err
		}
		for _, part := range parts[:n] {
			if part.Zero {
				clear(w.slice(data, part.Extent)) // whatever the source reads there
				continue
			}
			w.read += part.Length
		}
		parts = parts[n:]
	}
	return nil
}

// together is how many of the first parts are read as one: they begin and end with data.
func together(parts []replication.Region, gap int64) int {
	n := 1
	for i, part := range parts {
		if !part.Zero {
			n = i + 1
		} else if part.End()-parts[n-1].End() > gap {
			break
		}
	}
	return n
}

// slice is the content of an extent of the window.
func (w *window) slice(data []byte, e replication.Extent) []byte {
	return data[e.Offset-w.Offset : e.End()-w.Offset]
}

// knownZero reports whether the source said of all of e that it is zero.
func (w *window) knownZero(e replication.Extent) bool {
	return !slices.ContainsFunc(w.parts, func(p replication.Region) bool { return !p.Zero && p.Overlaps(e) })
}

func (w *window) differ(r replication.Region) { w.different = append(w.different, r) }

// joined sorts regions and joins those that touch and are of one kind.
func joined(regions []replication.Region) []replication.Region {
	slices.SortFunc(regions, func(a, b replication.Region) int { return cmp.Compare(a.Offset, b.Offset) })
	out := regions[:0]
	for _, r := range regions {
		if n := len(out); n > 0 && out[n-1].End() == r.Offset && out[n-1].Zero == r.Zero {
			out[n-1].Length += r.Length
			continue
		}
		out = append(out, r)
	}
	return out
}

// chunks divides e, counted from its offset.
func chunks(e replication.Extent, length int64) []replication.Extent {
	out := make([]replication.Extent, 0, (e.Length+length-1)/length)
	for at := e.Offset; at < e.End(); at += length {
		out = append(out, replication.Extent{Offset: at, Length: min(length, e.End()-at)})
	}
	return out
}
