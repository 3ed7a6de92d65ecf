package recovery

import (
	"bytes"
	"context"
	"fmt"
	"iter"

	"riparo/hypervisor"
	"riparo/replication"
)

// restorePiece is how much is compared and written at once.
const restorePiece = 1 << 20

// restoreChunk is the unit in which differing bytes are written: the granularity
// of change tracking, so that an unchanged neighbor is not written.
const restoreChunk = 64 << 10

// restored counts what restoring a disk did, in bytes.
type restored struct{ compared, written int64 }

// restore makes the given regions of disk equal to from, writing only what
// differs, and makes that durable. Cut off and repeated, it goes on.
func restore(ctx context.Context, disk hypervisor.OpenedDisk, from replication.Source, regions func(yield func(replication.Region, error) bool), progress func(done, total int64)) (restored, error) {
	if disk.Size() < from.Size() {
		return restored{}, replication.Stopf("failback.disk-too-small", "enlarge the original disk", "the original disk has %d bytes, the recovery point %d", disk.Size(), from.Size())
	}
	var did restored
	want, have := make([]byte, restorePiece), make([]byte, restorePiece)
	holes := newHoles(ctx, disk)
	defer holes.close()
	for region, err := range regions {
		if err != nil {
			return did, err
		}
		for at := region.Offset; at < region.End(); {
			if err := ctx.Err(); err != nil {
				return did, err
			}
			if region.Zero {
				// What is a hole at both ends need not be read, however large.
				until, err := holes.until(at)
				if err != nil {
					return did, fmt.Errorf("look for holes of the original disk: %w", err)
				}
				if until > at {
					did.compared += min(until, region.End()) - at
					at = min(until, region.End())
					progress(at, from.Size())
					continue
				}
			}
			piece := replication.Extent{Offset: at, Length: min(restorePiece, region.End()-at)}
			wrote, err := restorePieceOf(disk, from, piece, region.Zero, want, have)
			did.compared += piece.Length
			did.written += wrote
			if err != nil {
				return did, err
			}
			at = piece.End()
			progress(at, from.Size())
		}
	}
	// What a larger original has beyond the point is not part of the machine.
	for at := from.Size(); at < disk.Size(); at += restorePiece {
		if err := disk.Zero(replication.Extent{Offset: at, Length: min(restorePiece, disk.Size()-at)}); err != nil {
			return did, fmt.Errorf("clear the original disk beyond the recovery point: %w", err)
		}
	}
	if err := disk.Sync(); err != nil {
		return did, fmt.Errorf("make the original disk durable: %w", err)
	}
	return did, nil
}

func restorePieceOf(disk hypervisor.OpenedDisk, from replication.Source, piece replication.Extent, zero bool, want, have []byte) (wrote int64, err error) {
	want, have = want[:piece.Length], have[:piece.Length]
	if zero {
		clear(want)
	} else if _, err := from.ReadAt(want, piece.Offset); err != nil {
		return 0, fmt.Errorf("read %s of the recovery point: %w", piece, err)
	}
	if _, err := disk.ReadAt(have, piece.Offset); err != nil {
		return 0, fmt.Errorf("read %s of the original disk: %w", piece, err)
	}
	for at := int64(0); at < piece.Length; at += restoreChunk {
		end := min(at+restoreChunk, piece.Length)
		if bytes.Equal(want[at:end], have[at:end]) {
			continue
		}
		chunk := replication.Extent{Offset: piece.Offset + at, Length: end - at}
		if zero {
			err = disk.Zero(chunk)
		} else {
			_, err = disk.WriteAt(want[at:end], chunk.Offset)
		}
		if err != nil {
			return wrote, fmt.Errorf("write %s of the original disk: %w", chunk, err)
		}
		wrote += chunk.Length
	}
	return wrote, nil
}

// holes follows the holes of a disk in ascending order.
type holes struct {
	next    func() (replication.Region, error, bool)
	close   func()
	current replication.Region
	ended   bool
}

func newHoles(ctx context.Context, disk replication.Source) *holes {
	next, stop := iter.Pull2(disk.Regions(ctx))
	return &holes{next: next, close: stop}
}

// until gives the end of the hole that offset lies in, or offset itself when it
// lies in none. Offsets must ascend.
func (h *holes) until(offset int64) (int64, error) {
	for !h.ended && h.current.End() <= offset {
		region, err, more := h.next()
		if err != nil {
			return 0, err
		}
		h.current, h.ended = region, !more
	}
	if h.ended || !h.current.Zero || h.current.Offset > offset {
		return offset, nil
	}
	return h.current.End(), nil
}
