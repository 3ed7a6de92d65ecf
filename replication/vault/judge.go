package vault

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"riparo/replication"
)

// judgeGrain is how finely a block that differs is looked into: the block of most
// guests.
const judgeGrain = 4 << 10

// judge compares content with the head of a disk as it was when the judge was made.
//
// A sealed block carries a keyed hash of its content, see blockSums. Whole blocks are
// compared by it, without being read; what differs, and what newer data covers in
// part, is read and compared byte for byte.
type judge struct{ view *View }

// Judge compares with the head of a disk, unmarked data included. It must be closed.
func (v *Vault) Judge(ctx context.Context, id replication.DiskID) (replication.Judge, error) {
	w, err := v.View(ctx, id, "")
	if err != nil {
		return nil, err
	}
	return &judge{w}, nil
}

var _ replication.Judge = (*judge)(nil)

// Close implements replication.Judge.
func (j *judge) Close() error { return j.view.Close() }

// Differ implements replication.Judge.
func (j *judge) Differ(ctx context.Context, extent replication.Extent, content []byte) ([]replication.Extent, error) {
	if err := extent.Within(j.view.size); err != nil {
		return nil, fmt.Errorf("compare disk %s: %w", j.view.disk.id, err)
	}
	if content != nil && int64(len(content)) != extent.Length {
		return nil, fmt.Errorf("compare disk %s: %d bytes for extent %s", j.view.disk.id, len(content), extent)
	}
	list, err := j.view.resolve(extent.Offset, extent.End())
	if err != nil {
		return nil, err
	}
	// First what the map knows.
	var unknown, differ []replication.Extent
	blocks := 0
	for at := extent.Offset; at < extent.End(); blocks++ {
		end := min((at/blockBytes+1)*blockBytes, extent.End())
		if content == nil {
			// Zeroes may be long; what the vault holds no data of is equal at once.
			if end = nextData(list, at, extent.End()); end > at {
				at = end
				continue
			}
			end = min((at/blockBytes+1)*blockBytes, extent.End())
		}
		var here []entry
		here, list = inside(list, at, end)
		block := replication.Extent{Offset: at, Length: end - at}
		var mine []byte
		if content != nil {
			mine = content[at-extent.Offset : end-extent.Offset]
		}
		same, known, err := j.byMap(here, block, mine)
		switch {
		case err != nil:
			return nil, err
		case !known:
			unknown = append(unknown, block)
		case !same:
			differ = append(differ, block)
		}
		at = end
	}
	// When every block of a longer run differs it is new content rather than
	// scattered blocks: looking into them would only cost reads.
	if len(differ) == blocks && blocks > 4 {
		return replication.Union(differ), nil
	}
	var out []replication.Extent
	for _, block := range append(unknown, differ...) {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		var mine []byte
		if content != nil {
			mine = content[block.Offset-extent.Offset : block.End()-extent.Offset]
		}
		if out, err = j.byBytes(out, block, mine); err != nil {
			return nil, err
		}
	}
	return replication.Union(out), nil
}

// byMap compares without reading, as far as the map of the disk allows it.
func (j *judge) byMap(list []entry, block replication.Extent, mine []byte) (same, known bool, err error) {
	zero := mine == nil || replication.IsZero(mine)
	if onlyZero(list) {
		return zero, zero, nil // what is not zero here is looked at block by block
	}
	if zero || len(list) != 1 {
		return false, false, nil
	}
	e := &list[0]
	if e.key == 0 || e.inner != 0 || e.length != int64(e.plain) || e.extent() != block {
		return false, false, nil
	}
	sum, err := j.view.blocks.keys.sumOf(e.key, e.offset, mine)
	return sum == e.sum, true, err
}

// byBytes reads what the disk has and adds the grains that differ.
func (j *judge) byBytes(out []replication.Extent, block replication.Extent, mine []byte) ([]replication.Extent, error) {
	buffer := buffers.Get().(*[maxStoredBytes]byte)
	defer buffers.Put(buffer)
	theirs := buffer[:block.Length]
	if err := readFull(j.view, theirs, block.Offset); err != nil {
		if p, ok := errors.AsType[*replication.Problem](err); ok && p.Code == CodeDamaged {
			return append(out, block), nil
		}
		return nil, err
	}
	for at := int64(0); at < block.Length; {
		end := min(at+judgeGrain-(block.Offset+at)%judgeGrain, block.Length)
		equal := false
		if mine == nil {
			equal = replication.IsZero(theirs[at:end])
		} else {
			equal = bytes.Equal(theirs[at:end], mine[at:end])
		}
		if !equal {
			out = append(out, replication.Extent{Offset: block.Offset + at, Length: end - at})
		}
		at = end
	}
	return out, nil
}

// nextData is where the first entry with data begins at or after an offset, end if
// there is none before it.
func nextData(list []entry, at, end int64) int64 {
	for i := range list {
		if list[i].codec != codecZero && list[i].end() > at {
			return min(max(list[i].offset, at), end)
		}
	}
	return end
}

// inside gives the entries that overlap [at, end), cut to it, and those that go on
// from there.
func inside(list []entry, at, end int64) (here, rest []entry) {
	for len(list) > 0 && list[0].end() <= at {
		list = list[1:]
	}
	for i := range list {
		if list[i].offset >= end {
			break
		}
		here = append(here, list[i].part(max(list[i].offset, at), min(list[i].end(), end)))
	}
	return here, list
}
