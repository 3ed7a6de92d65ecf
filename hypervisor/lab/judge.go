package lab

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"riparo/replication"
)

// Verdict is what the record says of disks that somebody shows it.
type Verdict struct {
	OK bool `json:"ok"`
	// Branch and Sequence name the instant that the disks show; Time is when its
	// last write happened. When OK is false they name the newest write found.
	Branch   int       `json:"branch"`
	Sequence uint64    `json:"sequence"`
	Time     time.Time `json:"time"`
	// Until is when the next write of that branch happened that changed one of the
	// disks: they looked like this from Time to Until. Zero when there was none yet.
	Until time.Time `json:"until,omitzero"`
	// Checked is how many bytes were judged: all of the disks.
	Checked int64 `json:"checked_bytes"`
	// Clean: the workload stood still at a boundary and had marked all disks clean.
	Clean bool `json:"clean"`
	// HalfPair: the instant lies between two writes that belong together, which a
	// crash may show and an application-consistent point must not.
	HalfPair bool `json:"half_pair"`
	// Why is the first difference, as a sentence; empty when OK.
	Why string `json:"why,omitempty"`
}

// maxHidden is how many entries after the newest visible write are tried: discards
// leave no trace of themselves, so the instant may lie a few entries further on.
const maxHidden = 4096

// Judge finds out which instant of the machine's life the disks show, by key, and
// whether every byte of theirs is what it was at that instant: all writes up to
// it on all disks, none after it, the initial content where nothing was written,
// and zero where a hole is claimed. An error means that it could not be judged; a
// read error of a disk is a verdict.
func (r *Record) Judge(ctx context.Context, disks map[string]replication.Source) (Verdict, error) {
	if len(disks) == 0 {
		return Verdict{}, fmt.Errorf("judge %s: no disks were given", r.Machine())
	}
	// What is written from here on is younger than the disks and does not matter.
	j := &judgment{id: r.id(), lives: r.lives(), keys: slices.Sorted(maps.Keys(disks))}
	for _, key := range j.keys {
		why, err := j.read(ctx, key, disks[key])
		if err != nil {
			return Verdict{}, fmt.Errorf("judge %s: %w", j.id.Name, err)
		}
		if why != "" {
			return j.verdict(why), nil
		}
	}
	return j.verdict(j.settle(disks)), nil
}

// judgment is one Judge at work.
type judgment struct {
	id      identity
	lives   []life
	keys    []string
	shown   []shownDisk // as keys
	newest  instant     // the newest write found on any disk
	at      instant     // the instant that explains all disks, once settled
	until   time.Time   // when the disks stopped to look like that
	checked int64
}

// shownDisk is what was found on one disk.
type shownDisk struct {
	number uint8
	size   int64
	found  blockMap // for the blocks that any entry ever wrote
}

// settle finds the instant, beginning at the newest write found, and explains
// what speaks against it.
func (j *judgment) settle(disks map[string]replication.Source) (why string) {
	path, err := lineage(j.lives, j.newest)
	if err != nil {
		return err.Error()
	}
	expected := j.expect(path)
	sizes := j.id.sizes(path)
	wrong := 0
	for i, shown := range j.shown {
		wrong += shown.found.differences(expected[i], j.initial(shown.number))
	}
	found := false
	for at := j.newest; ; at.sequence++ {
		switch right := wrong == 0 && j.wrongSize(sizes) == ""; {
		case right && !found:
			j.at, found = at, true
		case !right && found:
			return "" // the entry before this one changed something
		}
		e, ok := j.lives[at.branch].at(at.sequence + 1)
		if !ok || at.sequence-j.newest.sequence == maxHidden {
			if !found {
				return j.explain(disks)
			}
			if !ok {
				j.until = time.Time{}
			}
			return ""
		}
		j.until = e.time()
		if e.kind == added || e.kind == grown {
			sizes[j.id.Disks[e.disk].Key] = diskAt{e.disk, int64(e.block) * BlockSize}
		}
		for i, shown := range j.shown {
			if shown.number == e.disk {
				wrong += expected[i].step(e, instant{at.branch, at.sequence + 1}, &shown.found, j.initial(shown.number))
			}
		}
	}
}

// expect is what each shown disk must hold at the end of a path, for the blocks
// that the entries on it wrote.
func (j *judgment) expect(path []life) []blockMap {
	out := make([]blockMap, len(j.shown))
	byNumber := map[uint8]*blockMap{}
	for i, shown := range j.shown {
		out[i] = newBlockMap(shown.size / BlockSize)
		byNumber[shown.number] = &out[i]
	}
	for _, l := range path {
		for i, e := range l.entries {
			if m := byNumber[e.disk]; m != nil {
				m.note(e, instant{l.number, l.parentSequence + uint64(i) + 1})
			}
		}
	}
	return out
}

// initial tells what an untouched block of a disk shows.
func (j *judgment) initial(disk uint8) func(uint32) trait {
	return func(number uint32) trait {
		if j.id.initialZero(disk, number) {
			return isZero
		}
		return isInitial
	}
}

// wrongSize tells of a disk that has another size than at the instant, or should
// not be there.
func (j *judgment) wrongSize(sizes map[string]diskAt) string {
	for i, key := range j.keys {
		want, ok := sizes[key]
		shown := j.shown[i]
		switch {
		case !ok || want.number != shown.number:
			return fmt.Sprintf("disk %s: the machine did not have this disk at that instant", key)
		case want.size != shown.size:
			return fmt.Sprintf("disk %s has %d bytes; at that instant it had %d", key, shown.size, want.size)
		}
	}
	return ""
}

// explain finds the first difference from the instant of the newest write.
func (j *judgment) explain(disks map[string]replication.Source) string {
	path, err := lineage(j.lives, j.newest)
	if err != nil {
		return err.Error()
	}
	if why := j.wrongSize(j.id.sizes(path)); why != "" {
		return why
	}
	expected := j.expect(path)
	for i, key := range j.keys {
		shown := j.shown[i]
		number, ok := shown.found.firstDifference(expected[i], j.initial(shown.number))
		if !ok {
			continue
		}
		want := make([]byte, BlockSize)
		should := "its initial content"
		if t := expected[i].get(number); t == nothing {
			j.id.initial(want, shown.number, number)
		} else if t == isZero {
			should = "zeroes"
		} else {
			at := t.instant()
			e, _ := j.lives[at.branch].at(at.sequence)
			j.id.content(want, at, e, number)
			should = fmt.Sprintf("the write of %s at %s", at, e.time().UTC().Format(time.RFC3339Nano))
		}
		got := make([]byte, BlockSize)
		if _, err := disks[key].ReadAt(got, int64(number)*BlockSize); err != nil {
			return fmt.Sprintf("disk %s offset %d: %v", key, int64(number)*BlockSize, err)
		}
		found := "something that was never written there"
		switch t := shown.found.get(number); {
		case t == isZero:
			found = "zeroes"
		case t == isInitial:
			found = "its initial content"
		case t.isWrite():
			found = "the write of " + t.instant().String()
		}
		return difference(key, number, got, want, found, should) + fmt.Sprintf(" (the newest write found is %s)", j.newest)
	}
	return "the disks differ from every instant"
}

// difference says where two blocks part.
func difference(key string, number uint32, got, want []byte, found, should string) string {
	at := 0
	for at < len(got)-1 && got[at] == want[at] {
		at++
	}
	end := min(at+8, len(got))
	return fmt.Sprintf("disk %s offset %d: found %x, want %x: the block at %d shows %s and should show %s",
		key, int64(number)*BlockSize+int64(at), got[at:end], want[at:end], int64(number)*BlockSize, found, should)
}

func (j *judgment) verdict(why string) Verdict {
	at := j.at
	if why != "" {
		at = j.newest
	}
	v := Verdict{OK: why == "", Branch: int(at.branch), Sequence: at.sequence, Checked: j.checked, Why: why, Time: j.id.Created}
	if int(at.branch) >= len(j.lives) {
		return v
	}
	if v.OK {
		v.Until = j.until
	}
	// The first entry of a branch continues the life of its parent.
	for at.branch != 0 && at.sequence == j.lives[at.branch].parentSequence {
		at = instant{j.lives[at.branch].parent, j.lives[at.branch].parentSequence}
	}
	if e, ok := j.lives[at.branch].at(at.sequence); ok {
		v.Time = e.time()
		v.Clean = e.kind == clean && e.count == 0
		v.HalfPair = e.kind == first
	}
	return v
}
