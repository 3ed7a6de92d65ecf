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
	// that stays below 1.3. Less waste costs more writing: of the pairs that TestChurn
	// tried, 1.22 and 1.16 wrote 1.66 bytes for each that was taken, these 1.18.
	wasteLimit = 1.27
	wasteGoal  = 1.22
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
)

// compact moves blocks until the disk wastes little. pace is called with the bytes
// that were just written, without a lock: it is where compaction waits for its turn.
// It reports whether it moved something.
func (d *disk) compact(ctx context.Context, pace func(ctx context.Context, bytes int64) error) (bool, error) {
	if err := d.alone(ctx); err != nil {
		return false, err
	}
	defer func() { <-d.maintaining }()
	d.compacting.Store(true)
	defer d.compacting.Store(false)
	for did := false; ; did = true {
		if err := d.order(ctx); err != nil {
			return did, err
		}
		victims, err := d.wasteful()
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

// worth is a segment as compaction sees it.
type worth struct {
	segmentInfo
	size   int64 // of the file
	needed int64 // of it
	blocks int64 // that are needed, at most
	age    uint64
}

// benefit is what the copy of a segment gives for what it costs, after Rosenblum and
// Ousterhout: room freed, and for how long, over what is read and written. What is old
// and still needed will be needed for long; what is young may die by itself.
func (w *worth) benefit() float64 {
	used := float64(w.needed) / float64(max(w.size, 1))
	return (1 - used) * float64(w.age) / (1 + used)
}

// wasteful chooses the segments of a round, in their order; none when the disk wastes
// little.
func (d *disk) wasteful() ([]worth, error) {
	files, err := d.vault.fs.ReadDir(d.folder)
	if err != nil {
		return nil, fmt.Errorf("list the segments of disk %s: %w", d.id, err)
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
	if len(d.lost) > 0 || d.usable() != nil || d.vault.options.ReadOnly {
		return nil, nil
	}
	for _, g := range d.dead {
		stored -= sizes[g.number] // they go when a view is closed
	}
	eager := d.vault.options.eager
	needed, total := d.needed()
	var list []worth
	for i, g := range d.segments[:max(0, len(d.segments)-1)] {
		w := worth{segmentInfo: g, size: sizes[g.number], age: uint64(d.serial - d.segments[i+1].first + 2)}
		if r := needed[g.number]; r != nil {
			w.needed, w.blocks = r.bytes, int64(r.entries)
		}
		switch {
		case w.size == 0 || d.hard[g.number] || !eager && float64(w.needed) > fullSegment*float64(w.size):
		case d.segments[i+1].first > d.mapped+1: // memory needs it after a restart
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
		return nil, nil
	}
	slices.SortFunc(list, func(a, b worth) int { return cmp.Compare(b.benefit(), a.benefit()) })
	room, blocks := d.roundRoom(), int64(0)
	var chosen []worth
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
	return chosen, nil
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
	positions []uint32        // ascending
	zeroes    []entry         // extents without data
	found     map[uint32]bool // of positions
}

// blocksOf reads the maps for what they need of segments.
func (d *disk) blocksOf(victims []worth) (map[uint32]*neededBlocks, error) {
	all := map[uint32]*neededBlocks{}
	for _, w := range victims {
		all[w.number] = &neededBlocks{found: map[uint32]bool{}}
	}
	d.mu.Lock()
	var files []*mapFile
	for _, t := range d.tiles {
		if slices.ContainsFunc(t.refs, func(r segmentRef) bool { return all[r.segment] != nil }) || t.stale(d.moves) {
			t.use.acquire()
			files = append(files, t.mapFile)
		}
	}
	moved := d.moves
	d.mu.Unlock()
	var errs []error
	for _, m := range files {
		c := m.fine.cursor(0, m.fine.count)
		for len(errs) == 0 && c.advance() {
			e := c.current
			moved.follow(&e)
			b := all[e.segment]
			switch {
			case b == nil:
			case e.codec == codecZero:
				b.zeroes = push(b.zeroes, e)
			case !b.found[e.position]:
				b.found[e.position] = true
				b.positions = append(b.positions, e.position)
			}
		}
		errs = append(errs, c.err, m.use.release())
		errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	}
	for _, b := range all {
		clear(b.found)
		slices.Sort(b.positions)
		slices.SortFunc(b.zeroes, func(x, y entry) int { return cmp.Compare(x.offset, y.offset) })
	}
	return all, errors.Join(errs...)
}

// touches reports whether a needed extent without data lies in e.
func (b *neededBlocks) touches(e *entry) bool {
	return slices.ContainsFunc(b.zeroes, func(z entry) bool { return z.offset < e.end() && e.offset < z.end() })
}

// mover moves the blocks of one segment.
type mover struct {
	disk    *disk
	ctx     context.Context
	pace    func(context.Context, int64) error
	segment uint32
	blocks  *neededBlocks
	voids   []serialRange // when the maps were read

	table   []row
	payload []byte
	body    []byte
	zeroes  []row // with their origins: all of a segment go in one record
	from    []byte
}

func (m *mover) run() error {
	s, err := openSegment(m.disk.vault.fs, m.disk.folder, m.segment)
	if err != nil {
		return err
	}
	err = m.records(s)
	return closeAfter(err, s)
}

func (m *mover) records(s *segmentReader) error {
	if s.trailer == nil {
		return &moveError{errNoTrailer}
	}
	records, err := s.footer()
	if err != nil {
		return &moveError{err}
	}
	for i := range records {
		if err := m.record(s, &records[i]); err != nil {
			return err
		}
	}
	if err := m.flush(); err != nil {
		return err
	}
	if n := len(m.blocks.positions); len(m.blocks.found) != n {
		return &moveError{fmt.Errorf("%d of %d blocks were found", len(m.blocks.found), n)}
	}
	if len(m.zeroes) > moveRows {
		return &moveError{fmt.Errorf("%d extents without data", len(m.zeroes))}
	}
	m.table, m.body = m.zeroes, m.from
	return m.flush()
}

// record moves what is needed of one record. Blocks of two records that were moved
// here once already are not mixed, so that reading the log without its catalog has
// few of them under way at a time.
func (m *mover) record(s *segmentReader, rec *record) error {
	if len(rec.table) == 0 {
		return nil
	}
	if rec.kind == kindMove {
		if err := m.flush(); err != nil {
			return err
		}
	}
	for i, e := range rec.entries() {
		at, err := rec.originOf(i)
		if err != nil {
			return &moveError{err}
		}
		if inRanges(m.voids, at) {
			continue // an extent without data may lie beside one that is needed
		}
		from := origin{e.location(), at}
		if e.codec == codecZero {
			if m.blocks.touches(&e) {
				m.zeroes = append(m.zeroes, row{extent: e.extent(), codec: codecZero})
				m.from = from.append(m.from)
			}
			continue
		}
		if _, needed := slices.BinarySearch(m.blocks.positions, e.position); !needed {
			continue
		}
		r, stored, err := m.disk.again(s, &e)
		if err != nil {
			return err
		}
		if len(m.table) == moveRows || len(m.payload)+len(stored) > moveBytes {
			if err := m.flush(); err != nil {
				return err
			}
		}
		m.blocks.found[e.position] = true
		m.table = append(m.table, r)
		m.payload = append(m.payload, stored...)
		m.body = from.append(m.body)
	}
	if rec.kind == kindMove {
		return m.flush()
	}
	return nil
}

// again gives the row and the stored bytes by which a block can be appended once
// more. A block that is damaged is left where it is, for Heal to find.
func (d *disk) again(s *segmentReader, e *entry) (row, []byte, error) {
	stored := make([]byte, e.stored)
	if err := readFull(s.file, stored, int64(e.position)); err != nil {
		return row{}, nil, &moveError{err}
	}
	r, stored, err := d.repeat(e, stored)
	if err != nil {
		return row{}, nil, &moveError{err}
	}
	return r, stored, nil
}

// flush appends what was collected.
func (m *mover) flush() error {
	if len(m.table) == 0 {
		return nil
	}
	r := newDraft(kindMove, m.table, m.payload, m.body)
	bytes := r.size()
	if err := m.append(r); err != nil {
		return err
	}
	m.table, m.payload, m.body = nil, m.payload[:0], nil
	return m.pace(m.ctx, bytes)
}

// errRewound ends the round of a compaction: some of what it would move is void now.
// The log must not say of void blocks that they were moved, for the rewind may be
// forgotten before that.
var errRewound = errors.New("the disk was rewound")

// append appends a record of moved blocks.
func (m *mover) append(r *draft) error {
	d := m.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.lead(m.ctx); err != nil {
		return err
	}
	defer d.follow()
	if !slices.Equal(d.voids, m.voids) {
		return errRewound
	}
	r.head.epoch = d.epoch
	return d.write(r)
}

// segmentPath is the file of a segment.
func (d *disk) segmentPath(number uint32) string {
	return filepath.Join(d.folder, segmentName(number))
}
