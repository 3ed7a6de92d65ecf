package vault

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
)

// Compaction gives back the room of blocks that no point needs: what is still needed
// of a segment is appended to the log once more, the maps are written anew, and then
// the segment is dead like any other. It goes on where it was cut off, for everything
// it does is a record of the log or can be made again.
//
// The order is what makes it safe. A record of kindMove is durable before a map names
// its blocks; the maps are durable before an inventory does without the old segment;
// and the old segment is removed when inventory and catalog are.
const (
	// wasteLimit: compaction begins when the segments of a disk are so many times as
	// large as what is needed of them, and ends below wasteGoal. With all other files
	// that stays below 1.3 on the average. The distance of the two pays for the maps
	// that are written anew each time. The package doc has what other pairs cost.
	wasteLimit = 1.242
	wasteGoal  = 1.184
	// When room is short, writing more is the lesser evil.
	shortLimit = 1.12
	shortGoal  = 1.08
	// fullSegment: a segment with more that is needed is not worth its copy.
	fullSegment = 0.9
	// A round moves roundBytes, or more if the maps that it makes stale are large, so
	// that those are not written for little; but no more than roundBlocks, which bounds
	// the memory it takes to about 16 MiB.
	roundBytes  = 32 << 20
	roundMaps   = 8 // times the bytes of stale maps
	roundBlocks = 96 << 10
	// moveBytes is how much one append moves: the sender waits no longer for it than
	// for a batch of its own.
	moveBytes = 1 << 20
	// moveRows bounds its table.
	moveRows = 4096
	// rowCost is what a block takes of a segment beside its data: its row in the table of
	// its record and in the footer. Copying it saves none of that.
	rowCost = 2 * blockRowSize
	// partGain: of a block, only what is needed is moved if that saves a sixteenth.
	partGain = 16
)

// compact moves blocks until the disk wastes little. pace is called with the bytes
// that were just written, without a lock: it is where compaction waits for its turn.
// It reports whether it moved something.
func (d *disk) compact(ctx context.Context, pace func(ctx context.Context, bytes int64) error) (bool, error) {
	d.compacting.Add(1)
	defer d.compacting.Add(-1)
	if err := d.alone(ctx); err != nil {
		return false, err
	}
	defer d.release()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	d.setGiveWay(func() { stop(errGivesWay) })
	defer d.setGiveWay(nil)
	did, err := d.compactAlone(ctx, pace)
	if errors.Is(context.Cause(ctx), errGivesWay) {
		d.passed.Store(true) // in case the disk stays
		return did, nil
	}
	return did, err
}

// errGivesWay ends a compaction for somebody who waits for it.
var errGivesWay = errors.New("the compaction gives way")

func (d *disk) setGiveWay(stop func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.giveWay = stop
	if stop != nil && d.hurried > 0 {
		stop()
	}
}

// hurry ends the compaction that is under way, and those that begin before done is called:
// somebody is about to end the disk.
func (d *disk) hurry() (done func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hurried++
	if d.giveWay != nil {
		d.giveWay()
	}
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.hurried--
	}
}

// compactAlone does what compact says. The caller maintains alone.
func (d *disk) compactAlone(ctx context.Context, pace func(ctx context.Context, bytes int64) error) (bool, error) {
	spilled := false
	for did := false; ; did = true {
		if err := d.order(ctx); err != nil {
			return did, err
		}
		victims, kept, err := d.wasteful()
		if err == nil && len(victims) == 0 && kept && !spilled {
			// A disk that hardly changes fills its memory in weeks, and till then a restart
			// would need all that was written since.
			spilled = true
			err = d.flush(ctx)
			if err != nil && d.vault.spend(err) {
				err = d.flush(ctx)
			}
			if err != nil {
				return did, err
			}
			victims, _, err = d.wasteful()
		}
		if len(victims) > 0 && !did {
			// Maps may hide that some of it is dead already.
			if err := d.tidyAll(ctx); err != nil {
				return false, err
			}
			victims, _, err = d.wasteful()
		}
		if err != nil || len(victims) == 0 {
			return did, err
		}
		if err := d.vacate(ctx, victims, pace); err != nil {
			return did, d.mapProblem(err)
		}
		if d.vault.options.eager {
			return true, d.order(ctx)
		}
	}
}

// tidyAll puts the maps in order so that they hide little of what is dead.
func (d *disk) tidyAll(ctx context.Context) error {
	d.setThorough(true)
	defer d.setThorough(false)
	return d.order(ctx)
}

func (d *disk) setThorough(yes bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.thorough = yes
}

// worth is a segment as compaction sees it.
type worth struct {
	segmentInfo
	size   int64 // of the file
	needed int64 // of it
	blocks int64 // that are needed, at most
}

// benefit is what the copy of a segment gives for what it costs: room freed over what
// is read and written. How old a segment is does not count: of what retention lets go,
// the old segments are falling by themselves, and those that have fallen most are the
// cheapest.
func (w *worth) benefit() float64 {
	used := float64(w.needed) / float64(max(w.size, 1))
	return (1 - used) / (1 + used)
}

// wasteful chooses the segments of a round, in their order; none when the disk wastes
// little. It reports whether there are others that only memory keeps: it needs them after
// a restart.
func (d *disk) wasteful() (chosen []worth, kept bool, err error) {
	files, err := d.vault.fs.ReadDir(d.folder)
	if err != nil {
		return nil, false, fmt.Errorf("list the segments of disk %s: %w", d.id, err)
	}
	sizes := map[uint32]int64{}
	stored := int64(0)
	for _, f := range files {
		if n, ok := segmentNumber(f.Name); ok {
			sizes[n] = f.Size
			stored += f.Size
		}
	}
	short := d.vault.short()
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.lost) > 0 || d.usable() != nil || d.vault.options.ReadOnly || d.distrusted || d.injected {
		return nil, false, nil // in the last two cases nothing would be let go
	}
	for _, g := range d.dead {
		stored -= sizes[g.number] // they go when a view is closed
	}
	eager := d.vault.options.eager
	needed, total := d.needed()
	var list []worth
	for i, g := range d.segments[:max(0, len(d.segments)-1)] {
		w := worth{segmentInfo: g, size: sizes[g.number]}
		if r := needed[g.number]; r != nil {
			w.needed, w.blocks = r.bytes, int64(r.entries)
		}
		if d.hard[g.number] {
			stored -= max(0, w.size-w.needed) // nothing would free it: others would be moved for it again and again
		}
		switch {
		case w.size == 0 || d.hard[g.number] || !eager && float64(w.needed) > fullSegment*float64(w.size):
		case d.segments[i+1].first > d.mapped+1:
			kept = true
		case slices.ContainsFunc(d.unsealed, func(n uint32) bool { return n <= g.number }):
		default:
			list = append(list, w)
		}
	}
	limit := total + d.vault.options.segmentBytes // the one that is written to is not waste
	most, goal := wasteLimit, wasteGoal
	if short {
		most, goal = shortLimit, shortGoal
	}
	if !eager && float64(stored) <= most*float64(limit) {
		return nil, false, nil
	}
	if !eager { // who takes all begins with the oldest
		slices.SortStableFunc(list, func(a, b worth) int { return cmp.Compare(b.benefit(), a.benefit()) })
	}
	room, blocks := d.roundRoom(), int64(0)
	for _, w := range list {
		if !eager && float64(stored) <= goal*float64(limit) || len(chosen) > 0 && (room < w.needed || blocks+w.blocks > roundBlocks) {
			break
		}
		chosen = append(chosen, w)
		stored -= w.size - w.needed
		room -= w.needed
		blocks += w.blocks
	}
	slices.SortFunc(chosen, func(a, b worth) int { return cmp.Compare(a.number, b.number) })
	return chosen, kept, nil
}

// needed tells what the maps need of each segment, and of all together. The caller
// holds mu.
func (d *disk) needed() (map[uint32]*segmentRef, int64) {
	all := map[uint32]*segmentRef{}
	total := int64(0)
	add := func(segment uint32, entries uint32, bytes int64) {
		r := all[segment]
		if r == nil {
			r = &segmentRef{}
			all[segment] = r
		}
		bytes += int64(entries) * rowCost
		r.entries += entries
		r.bytes += bytes
		total += bytes
	}
	for _, t := range d.tiles {
		for _, r := range t.refs {
			add(r.segment, r.entries, r.bytes)
		}
	}
	for _, l := range d.memory.layers {
		for _, list := range l.maps {
			for i := range list {
				add(list[i].segment, 1, list[i].share())
			}
		}
	}
	return all, total
}

// share is what e takes of its stored block, in bytes.
func (e *entry) share() int64 {
	if e.codec == codecZero {
		return 0
	}
	return int64(e.stored) * e.length / int64(e.plain)
}

// roundRoom is how much a round may move. The caller holds mu.
func (d *disk) roundRoom() int64 {
	maps := int64(0)
	for _, t := range d.tiles {
		maps += (t.fine.count + t.whole.count) * entrySize
	}
	return max(min(roundBytes, d.vault.options.segmentBytes), roundMaps*maps)
}

// vacate moves what is needed of segments to the end of the log.
func (d *disk) vacate(ctx context.Context, victims []worth, pace func(context.Context, int64) error) error {
	d.mu.Lock()
	voids := d.voids
	d.mu.Unlock()
	blocks, err := d.blocksOf(victims)
	if err != nil {
		return err
	}
	for _, w := range victims {
		m := mover{disk: d, ctx: ctx, pace: pace, segment: w.number, blocks: blocks[w.number], voids: voids}
		err := m.run()
		if err == nil {
			continue
		}
		if errors.Is(err, errRewound) {
			return nil // the next round sees what is needed now
		}
		damage := (*moveError)(nil)
		if !errors.As(err, &damage) {
			return fmt.Errorf("compact segment %s of disk %s: %w", segmentName(w.number), d.id, err)
		}
		// It stays as it is until it was healed or the vault is opened again.
		d.mu.Lock()
		d.hard[w.number] = true
		d.mu.Unlock()
	}
	return nil
}

// moveError says that a segment cannot be compacted.
type moveError struct{ err error }

func (e *moveError) Error() string { return e.err.Error() }

// neededBlocks are the blocks of one segment that a map needs.
type neededBlocks struct {
	parts  []blockPart     // by position and place
	zeroes []entry         // extents without data, by their place once they are settled
	reach  []int64         // of these, where those up to each one end at most
	found  map[uint32]bool // positions that were met in the segment
}

// blockPart is a part of a block that is needed.
type blockPart struct {
	position uint32 // of the block
	from, to int64  // on the disk
}

// settle sorts the parts, and joins those that meet.
func (b *neededBlocks) settle() {
	slices.SortFunc(b.parts, func(x, y blockPart) int {
		return cmp.Or(cmp.Compare(x.position, y.position), cmp.Compare(x.from, y.from))
	})
	joined := b.parts[:0]
	for _, p := range b.parts {
		if n := len(joined); n > 0 && joined[n-1].position == p.position && p.from <= joined[n-1].to {
			joined[n-1].to = max(joined[n-1].to, p.to)
			continue
		}
		joined = append(joined, p)
	}
	b.parts = joined
	slices.SortFunc(b.zeroes, func(x, y entry) int { return cmp.Compare(x.offset, y.offset) })
	b.reach = make([]int64, len(b.zeroes))
	for i, end := 0, int64(0); i < len(b.zeroes); i++ {
		end = max(end, b.zeroes[i].end())
		b.reach[i] = end
	}
}

// of gives the parts of one block.
func (b *neededBlocks) of(position uint32) []blockPart {
	i, found := slices.BinarySearchFunc(b.parts, position, func(p blockPart, at uint32) int { return cmp.Compare(p.position, at) })
	if !found {
		return nil
	}
	n := i
	for n < len(b.parts) && b.parts[n].position == position {
		n++
	}
	return b.parts[i:n]
}

// missing reports how many blocks were not met.
func (b *neededBlocks) missing() int {
	n := 0
	for i, p := range b.parts {
		if (i == 0 || b.parts[i-1].position != p.position) && !b.found[p.position] {
			n++
		}
	}
	return n
}

// blocksOf reads the maps for what they need of segments.
func (d *disk) blocksOf(victims []worth) (map[uint32]*neededBlocks, error) {
	all := map[uint32]*neededBlocks{}
	for _, w := range victims {
		all[w.number] = &neededBlocks{found: map[uint32]bool{}}
	}
	d.mu.Lock()
	var files []tile
	for _, t := range d.tiles {
		if slices.ContainsFunc(t.refs, func(r segmentRef) bool { return all[r.segment] != nil }) || t.stale(d.moves) {
			t.use.acquire()
			files = append(files, t)
		}
	}
	moved := d.moves
	d.mu.Unlock()
	var errs []error
	for _, m := range files {
		c := m.fine.cursor(0, m.entriesUpTo(m.upTo)) // a rewind may have come since it was put in order
		for len(errs) == 0 && c.advance() {
			e := c.current
			moved.follow(&e)
			b := all[e.segment]
			switch {
			case b == nil:
			case e.codec == codecZero:
				b.zeroes = push(b.zeroes, e)
			default:
				b.parts = append(b.parts, blockPart{e.position, e.offset, e.end()})
			}
		}
		errs = append(errs, c.err, m.use.release())
		errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	}
	for _, b := range all {
		b.settle()
	}
	return all, errors.Join(errs...)
}

// touches reports whether a needed extent without data lies in e.
func (b *neededBlocks) touches(e *entry) bool {
	// The first that ends behind the beginning of e; there may be a million of them.
	i, _ := slices.BinarySearch(b.reach, e.offset+1)
	return i < len(b.zeroes) && b.zeroes[i].offset < e.end()
}

// segmentPath is the file of a segment.
func (d *disk) segmentPath(number uint32) string {
	return filepath.Join(d.folder, segmentName(number))
}
