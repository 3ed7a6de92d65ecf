package lab

import (
	"context"
	"fmt"
	"io"
	"iter"

	"riparo/hypervisor"
	"riparo/replication"
)

// capturedDisk is one disk of an open instant.
type capturedDisk struct {
	capture *capture
	disk    *disk
	size    int64
	grains  []uint32 // change tracking at the instant
	since   uint32   // for Delta: the last generation that the vault holds
	mode    hypervisor.CaptureMode
	reason  string
	kept    map[uint32]int64 // where in the scratch file blocks of the instant are; guarded by io
}

// decide finds out what is known about the changes since the point that the vault
// holds.
func (c *capturedDisk) decide(def definition, since map[string]replication.PointID) {
	point, asked := since[c.disk.key]
	if !asked || point == "" {
		c.mode = hypervisor.Full
		return
	}
	generation, known := def.Points[point][c.disk.key]
	switch {
	case known:
		c.mode, c.since = hypervisor.Delta, generation
	case def.Lost != "":
		c.mode, c.reason = hypervisor.Unknown, def.Lost
	default:
		c.mode, c.reason = hypervisor.Unknown, fmt.Sprintf("the lab remembers no instant %s of disk %s", point, c.disk.key)
	}
}

func (c *capturedDisk) Key() string                  { return c.disk.key }
func (c *capturedDisk) Size() int64                  { return c.size }
func (c *capturedDisk) Mode() hypervisor.CaptureMode { return c.mode }
func (c *capturedDisk) Reason() string               { return c.reason }

// ReadAt gives the bytes of the instant.
func (c *capturedDisk) ReadAt(p []byte, offset int64) (int, error) {
	if offset < 0 || offset > c.size {
		return 0, fmt.Errorf("read disk %s at %d: it has %d bytes", c.disk.key, offset, c.size)
	}
	n := int(min(int64(len(p)), c.size-offset))
	e := replication.Extent{Offset: offset, Length: int64(n)}
	m := c.capture.m
	if err := m.disturb(c.disk.key, e); err != nil {
		return 0, err
	}
	m.io.RLock()
	defer m.io.RUnlock()
	if c.capture.broken != nil {
		return 0, fmt.Errorf("read disk %s at %d: %w", c.disk.key, offset, c.capture.broken)
	}
	if err := c.read(m.site.world.life, p[:n], offset); err != nil {
		return 0, err
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// read reads the disk and then puts back what was kept. The caller holds io.
func (c *capturedDisk) read(ctx context.Context, p []byte, offset int64) error {
	if len(p) == 0 {
		return nil
	}
	if err := c.disk.read(ctx, p, offset); err != nil {
		return err
	}
	if len(c.kept) == 0 {
		return nil
	}
	end := offset + int64(len(p))
	for number := uint32(offset / BlockSize); int64(number)*BlockSize < end; number++ {
		at, ok := c.kept[number]
		if !ok {
			continue
		}
		start := int64(number) * BlockSize
		from, to := max(start, offset), min(start+BlockSize, end)
		if _, err := c.capture.scratch.ReadAt(p[from-offset:to-offset], at+from-start); err != nil {
			return fmt.Errorf("read the scratch file of disk %s: %w", c.disk.key, err)
		}
	}
	return nil
}

// keep copies the blocks of an extent that the instant still needs.
func (c *capturedDisk) keep(ctx context.Context, e replication.Extent) error {
	block := make([]byte, BlockSize)
	last := min(e.End(), c.size)
	for number := uint32(e.Offset / BlockSize); int64(number)*BlockSize < last; number++ {
		if _, ok := c.kept[number]; ok {
			continue
		}
		if c.capture.used+BlockSize > c.capture.m.site.options.ScratchBytes {
			return &replication.Problem{
				Code:   "lab.scratch-full",
				Cause:  fmt.Sprintf("machine %s overwrote more than %d bytes while it was captured", c.capture.m.ref, c.capture.m.site.options.ScratchBytes),
				Effect: "the capture cannot be read to its end; the machine was not slowed",
				Action: "none: the next capture starts afresh", Remedy: replication.Retry,
			}
		}
		if err := c.disk.read(ctx, block, int64(number)*BlockSize); err != nil {
			return fmt.Errorf("keep a block of the instant: %w", err)
		}
		if _, err := c.capture.scratch.WriteAt(block, c.capture.used); err != nil {
			return fmt.Errorf("keep a block of the instant: %w", err)
		}
		c.kept[number] = c.capture.used
		c.capture.used += BlockSize
	}
	return nil
}

// Regions yields the whole disk with its holes, or for a delta what changed.
func (c *capturedDisk) Regions(ctx context.Context) iter.Seq2[replication.Region, error] {
	return func(yield func(replication.Region, error) bool) {
		for region := range regions(c.grains, c.size, c.mode == hypervisor.Delta, c.since) {
			if err := ctx.Err(); err != nil {
				yield(replication.Region{}, err)
				return
			}
			if !yield(region, nil) {
				return
			}
		}
	}
}

// regions joins grains of one kind: all of them, or those written after a
// generation.
func regions(grains []uint32, size int64, delta bool, since uint32) iter.Seq[replication.Region] {
	// A new grain that was never written is zero, and nothing else is said to be
	// new about it by change tracking; a grown disk shows it by its size.
	return func(yield func(replication.Region) bool) {
		var open replication.Region
		for g, grain := range grains {
			if delta && generation(grain) <= since {
				continue
			}
			next := replication.Region{
				Extent: replication.Extent{Offset: int64(g) * grainSize, Length: min(grainSize, size-int64(g)*grainSize)},
				Zero:   grain == never || grain&zeroGrain != 0,
			}
			if open.Length > 0 && open.End() == next.Offset && open.Zero == next.Zero {
				open.Length += next.Length
				continue
			}
			if open.Length > 0 && !yield(open) {
				return
			}
			open = next
		}
		if open.Length > 0 {
			yield(open)
		}
	}
}
