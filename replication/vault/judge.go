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

// judge compares content with the head of a disk as it was when the judge was made:
// byte for byte, but for zeroes that the map knows of.
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
	var unknown []replication.Extent
	for at := extent.Offset; at < extent.End(); {
		if content == nil {
			// Zeroes may be long; what the vault holds no data of is equal at once.
			if at = nextData(list, at, extent.End()); at == extent.End() {
				break
			}
		}
		block := replication.Extent{Offset: at, Length: min((at/blockBytes+1)*blockBytes, extent.End()) - at}
		var here []entry
		here, list = inside(list, at, block.End())
		zero := content == nil || replication.IsZero(content[at-extent.Offset:block.End()-extent.Offset])
		if !zero || !onlyZero(here) {
			unknown = append(unknown, block)
		}
		at = block.End()
	}
	var out []replication.Extent
	for _, block := range unknown {
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
