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
//
// What is damaged differs: the whole disk, if records of its log are lost. It is healed
// behind a point, and there is none before all of it was sent.
func (v *Vault) Judge(ctx context.Context, id replication.DiskID) (replication.Judge, error) {
	w, err := v.View(ctx, id, "")
	if p, ok := errors.AsType[*replication.Problem](err); ok && p.Code == CodeDamaged {
		return stranger{}, nil
	}
	if err != nil {
		return nil, err
	}
	return &judge{w}, nil
}

var (
	_ replication.Judge = (*judge)(nil)
	_ replication.Judge = stranger{}
)

// stranger judges of a head that nothing is known about.
type stranger struct{}

// Close implements replication.Judge.
func (stranger) Close() error { return nil }

// Differ implements replication.Judge.
func (stranger) Differ(_ context.Context, extent replication.Extent, _ []byte) ([]replication.Extent, error) {
	return []replication.Extent{extent}, nil
}

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
	var suspects []suspect
	var parts []entry // of the suspects
	blocks, differ := 0, 0
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
		before := len(parts)
		parts, list = inside(parts, list, at, end)
		s := suspect{Extent: replication.Extent{Offset: at, Length: end - at}}
		if content != nil {
			s.mine = content[at-extent.Offset : end-extent.Offset]
		}
		same, known, err := j.byMap(parts[before:], &s)
		if err != nil {
			return nil, err
		}
		if known && !same {
			differ++
		}
		if known && same {
			parts = parts[:before]
		} else {
			suspects = append(suspects, s)
		}
		at = end
	}
	// When every block of a longer run differs it is new content rather than
	// scattered blocks: looking into them would only cost reads.
	if differ == blocks && blocks > 4 {
		return []replication.Extent{extent}, nil
	}
	return j.byBytes(ctx, suspects, parts)
}

// suspect is a block, or what of it is compared, that has to be read.
type suspect struct {
	replication.Extent
	mine []byte // nil: all of it is zero
}

// byMap compares without reading, as far as the map of the disk allows it.
func (j *judge) byMap(list []entry, s *suspect) (same, known bool, err error) {
	zero := s.mine == nil || replication.IsZero(s.mine)
	if onlyZero(list) {
		return zero, zero, nil // what is not zero here is looked at block by block
	}
	if zero || len(list) != 1 {
		return false, false, nil
	}
	e := &list[0]
	if e.key == 0 || e.inner != 0 || e.length != int64(e.plain) || e.extent() != s.Extent {
		return false, false, nil
	}
	sum, err := j.view.blocks.keys.sumOf(e.key, e.offset, s.mine)
	return sum == e.sum, true, err
}

// byBytes reads what the disk has of the suspects, whose entries are parts, and gives the
// grains that differ. What is damaged differs.
func (j *judge) byBytes(ctx context.Context, suspects []suspect, parts []entry) ([]replication.Extent, error) {
	var out []replication.Extent
	if len(suspects) == 0 {
		return nil, nil
	}
	buffer := buffers.Get().(*[maxStoredBytes]byte)
	defer buffers.Put(buffer)
	damaged := false
	at := suspects[0].Offset // what is before it was read
	// finish compares the first suspect, of which all was read.
	finish := func() error {
		s := &suspects[0]
		theirs := buffer[:s.Length]
		clear(theirs[at-s.Offset:])
		if damaged {
			out = append(out, s.Extent)
		} else {
			out = s.differing(out, theirs)
		}
		if suspects = suspects[1:]; len(suspects) > 0 {
			at, damaged = suspects[0].Offset, false
		}
		return context.Cause(ctx)
	}
	_, err := j.view.blocks.each(parts, func(e *entry, read *stretch) error {
		for e.offset >= suspects[0].End() {
			if err := finish(); err != nil {
				return err
			}
		}
		theirs := buffer[:suspects[0].Length]
		clear(theirs[at-suspects[0].Offset : e.offset-suspects[0].Offset])
		at = e.end()
		err := j.view.blocks.read(e, theirs[e.offset-suspects[0].Offset:at-suspects[0].Offset], read)
		if p, ok := errors.AsType[*replication.Problem](err); ok && p.Code == CodeDamaged {
			j.view.disk.noteDamage(e, err)
			damaged = true
			return nil
		}
		return err
	})
	for err == nil && len(suspects) > 0 {
		err = finish()
	}
	return replication.Union(out), err
}

// differing adds the grains of a suspect that differ from what the disk has.
func (s *suspect) differing(out []replication.Extent, theirs []byte) []replication.Extent {
	for at := int64(0); at < s.Length; {
		end := min(at+judgeGrain-(s.Offset+at)%judgeGrain, s.Length)
		equal := false
		if s.mine == nil {
			equal = replication.IsZero(theirs[at:end])
		} else {
			equal = bytes.Equal(theirs[at:end], s.mine[at:end])
		}
		if !equal {
			out = append(out, replication.Extent{Offset: s.Offset + at, Length: end - at})
		}
		at = end
	}
	return out
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

// inside appends the entries that overlap [at, end), cut to it, and gives those that go
// on from there.
func inside(here, list []entry, at, end int64) (_, rest []entry) {
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
