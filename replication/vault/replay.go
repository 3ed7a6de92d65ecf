package vault

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"riparo/replication/vfs"
)

// replayer reads a log from its segments.
type replayer struct {
	*disk
	ctx       context.Context
	there     []uint32 // segments that exist
	leftover  []uint32 // of those, the ones that nothing needs
	base      serial   // up to here a snapshot knows all but memory
	at        serial   // the last record that was read
	chain     uint32   // its sum
	bound     bool     // at and chain are known: the next record must follow
	witness   serial   // records up to here were durable
	segmentAt uint32   // that the record lies in
	closed    serial   // layers are closed up to here
	moved     movedBlocks
	whole     bool // all of the log is read, without a catalog
	// What waits until the newest segment is durable for certain: see settle.
	passed    []uint32          // segments that the log passes by, to be removed
	seams     []seam            // where the log goes on from one segment to the next
	sealedBy  map[uint32]uint64 // the session of the last record of a segment with a trailer
	uncertain bool              // the newest segment could not be written once more
	mends     []serialRange     // what was lost already when the head was mended, as its records say
	// What the catalog says about one of the records.
	known    serial
	knownSum uint32
}

// replay reads what follows the catalog, or everything.
func (d *disk) replay(ctx context.Context, c *catalog) error {
	r := &replayer{disk: d, ctx: ctx, sealedBy: map[uint32]uint64{}}
	var err error
	if r.there, err = d.segmentFiles(); err != nil {
		return err
	}
	if err := r.abandon(c); err != nil {
		return err
	}
	if c != nil {
		r.base, r.witness = c.serial, c.serial
		r.known, r.knownSum = c.serial, c.chain
	} else if err := r.findInventory(); err != nil {
		return err
	}
	r.whole = c == nil
	known := slices.Clone(r.lost)
	r.sort()
	maps, err := d.mapFiles()
	if err != nil {
		return err
	}
	for _, n := range maps {
		d.nextMap = max(d.nextMap, n) // no number is used twice
	}
	if len(r.there) == 0 && len(d.segments) == 0 {
		return nil // the disk was being created when the power went
	}
	r.missingSegments()
	// The tiles know all up to mapped.
	first := 0
	for i, n := range r.there {
		if g, ok := d.segmentInfo(n); ok && g.first <= d.mapped+1 {
			first = i
		}
	}
	if c == nil {
		first = 0
	}
	limits, err := r.bypass(first)
	if err != nil {
		return err
	}
	if r.whole {
		if err := r.findMoved(limits); err != nil {
			return err
		}
	}
	for i := first; i < len(r.there); i++ {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if err := r.segment(i, limits, c); err != nil {
			return err
		}
		if err := r.inject(r.at); err != nil {
			return err
		}
		if !d.vault.options.ReadOnly && r.broken == nil {
			r.closeUpTo(min(r.at, r.base))
			if err := d.spill(false); err != nil && !d.fits(err) {
				return writeProblem(d.id, err)
			}
		}
	}
	if err := r.settle(); err != nil {
		return err
	}
	return r.end(c, maps, known)
}

func byNumber(g segmentInfo, number uint32) int { return cmp.Compare(g.number, number) }

func (s *state) segmentInfo(number uint32) (segmentInfo, bool) {
	i, there := slices.BinarySearchFunc(s.segments, number, byNumber)
	if !there {
		return segmentInfo{}, false
	}
	return s.segments[i], true
}

// segment reads the records of the segment there[i] into the state.
func (r *replayer) segment(i int, limits map[uint32]int64, c *catalog) (err error) {
	number := r.there[i]
	s, err := openSegment(r.vault.fs, r.folder, number)
	if err != nil {
		return r.unreadable(number, err)
	}
	defer func() { err = errors.Join(err, s.close()) }()
	last := i == len(r.there)-1
	if last && r.leftAsItIs(s, c) {
		return nil
	}
	limit, ok := limits[number]
	if !ok {
		limit = -1
	}
	if h := s.header; h != nil && r.bound && h.previous == r.log.previous && h.first > r.at+1 {
		r.missing(serialRange{max(r.at, r.mapped), h.first - 1})
	}
	if h := s.header; h != nil && r.bound && h.first == r.at+1 && h.chain != r.chain {
		return logDamagedProblem(r.id, number, 0, errors.New("the segment does not go on where the one before it ends: it is of another copy of the vault"))
	}
	if h := s.header; h != nil && h.previous > 0 && !c.sealedBefore(number) {
		r.seams = append(r.seams, seam{number: h.previous, end: h.previousEnd, session: h.session, repeats: h.repeats > 0})
	}
	records, end, err := r.records(s, limit)
	if err != nil {
		return r.unreadable(number, err)
	}
	if last && s.trailer == nil {
		return r.lastSegment(s, records, c)
	}
	if len(records) == 0 {
		if g, known := slices.BinarySearchFunc(r.segments, number, byNumber); known {
			r.missingSegment(g) // it is there, and as good as gone
		}
	}
	for j := range records {
		if err := r.take(&records[j]); err != nil {
			return err
		}
	}
	r.log.previous, r.log.previousEnd = number, end
	switch {
	case s.trailer != nil && last:
		r.seams = append(r.seams, seam{number: number, end: s.trailer.footer})
	case s.trailer != nil && len(records) > 0:
		r.sealedBy[number] = records[len(records)-1].session
	case s.trailer == nil && limit < 0:
		r.unsealed = append(r.unsealed, number) // nothing says where its records end
	}
	return nil
}

// take brings one record into the state. A gap before it is damage, unless the
// snapshot explains it: segments in between may have been dead.
func (r *replayer) take(rec *record) error {
	if rec.recordHeader.disk != r.log.tag {
		return logDamagedProblem(r.id, rec.segment, rec.position, errors.New("a record of another disk"))
	}
	if rec.serial <= r.at {
		return nil // written again after a crash
	}
	if rec.serial > r.at+1 {
		r.gap(rec)
	}
	r.segmentAt = rec.segment
	if err := r.inject(rec.serial - 1); err != nil {
		return err
	}
	r.needs(rec)
	if rec.kind == kindMend {
		d := decoder{p: rec.body}
		if r.mends = append(r.mends, d.ranges()...); len(rec.body) == 0 { // an older program does not say
			r.mends = append(r.mends, serialRange{0, rec.serial})
		}
	}
	if err := r.add(rec); err != nil {
		return logDamagedProblem(r.id, rec.segment, rec.position, err)
	}
	if r.contradicted(rec) {
		return errMisfit
	}
	r.at, r.chain, r.bound = rec.serial, rec.sum, true
	r.witness = max(r.witness, rec.settled)
	r.state.serial, r.log.serial, r.log.chain = rec.serial, rec.serial, rec.sum
	return nil
}

// gap notes what is missing before a record. Segments in between may have been dead, if
// the snapshot knows of it; the beginning of the record's own was not.
func (r *replayer) gap(rec *record) {
	if r.bound && rec.segment == r.segmentAt {
		r.missing(serialRange{max(r.at, r.mapped), rec.serial - 1})
		return
	}
	from := rec.serial - 1
	switch {
	case r.bound:
		from = max(r.at, r.base)
	case r.whole && r.base == 0:
		from = 0 // without an inventory nothing was ever let go: the log begins with its first record
	}
	if g, known := r.segmentInfo(rec.segment); known {
		from = min(from, max(r.at, r.mapped, g.first-1))
	}
	r.missing(serialRange{from, rec.serial - 1})
}

// add brings the record into what the snapshot and the tiles do not know.
func (r *replayer) add(rec *record) error {
	if rec.serial <= r.mapped {
		return nil
	}
	r.closeUpTo(min(rec.serial-1, r.base))
	if rec.serial <= r.base {
		r.redo(rec)
		return nil
	}
	return r.apply(rec)
}

// closeUpTo closes the layers of all points of the snapshot up to a serial.
func (r *replayer) closeUpTo(to serial) {
	from := max(r.closed, r.mapped)
	if to > from {
		r.closeLayers(from, to)
		r.closed = to
	}
}

// missingSegments notes the records of segments that should be there and are not,
// as far as the tiles do not know them.
func (r *replayer) missingSegments() {
	for i, g := range r.segments {
		if _, there := slices.BinarySearch(r.there, g.number); there {
			continue
		}
		r.missingSegment(i)
	}
}

// missingSegment notes the records of the i-th segment that the snapshot knows.
func (r *replayer) missingSegment(i int) {
	to := r.base
	if i+1 < len(r.segments) {
		to = r.segments[i+1].first - 1
	}
	r.missing(serialRange{max(r.segments[i].first-1, r.mapped), to})
}

// missing notes records that were durable and cannot be read. Without maps, what was
// moved by them is missing where it was written first.
func (r *replayer) missing(l serialRange) {
	if l.to <= l.from {
		return
	}
	for i, g := range r.segments {
		last := i+1 == len(r.segments)
		if r.whole && g.oldest < g.first && g.first <= l.to && (last || r.segments[i+1].first > l.from+1) {
			l.from = min(l.from, g.oldest-1)
		}
	}
	r.lost = addRange(r.lost, l)
}

// end finishes the replay. known is what was lost already when the snapshot was taken.
func (r *replayer) end(c *catalog, maps []uint32, known []serialRange) error {
	if err := r.inject(r.base); err != nil {
		return err
	}
	r.closeUpTo(r.base)
	if c != nil && r.at < c.serial {
		// Records that the catalog witnesses are not there any more.
		r.missing(serialRange{max(r.at, r.mapped), c.serial})
		r.state.serial, r.log.serial, r.log.chain = c.serial, c.serial, c.chain
	}
	for _, l := range r.lost {
		was := slices.ContainsFunc(slices.Concat(known, r.mends), func(k serialRange) bool { return k.from <= l.from && l.to <= k.to })
		if !was && l.to <= r.mended {
			r.mended = 0 // the mend compared when this was still there: the next one does anew
		}
	}
	if r.vault.options.ReadOnly {
		return nil
	}
	if r.broken != nil {
		// What is in doubt is no witness, and lets nothing go: an inventory may be of it.
		return nil
	}
	before := len(r.leftover)
	if c == nil {
		before = 0 // a catalog may be there, only it could not be used this time
	}
	r.sort() // an inventory that came after the catalog does without more of them
	goes := len(r.leftover) > before
	kept := false // because there is no room for what makes it superfluous
	if r.injected || c != nil && goes {
		// The log says where moved blocks belong only if all of it is read. And what the
		// maps of the catalog do not know may be of a segment that goes.
		err := r.spill(true)
		if err != nil && !errors.Is(err, vfs.ErrNoSpace) {
			return writeProblem(r.id, err)
		}
		kept = err != nil
	}
	if (c == nil || goes) && !kept {
		err := r.writeCatalog()
		if err != nil && !errors.Is(err, vfs.ErrNoSpace) {
			return writeProblem(r.id, err)
		}
		kept = err != nil
	}
	if kept { // the catalog that is there must not miss them
		r.leftover = r.leftover[:before]
	}
	return r.clean(maps)
}

// records reads the records of a segment, as far as limit if it is not negative.
// What is damaged in the midst of them is passed over: it is missing then.
func (r *replayer) records(s *segmentReader, limit int64) (records []record, end int64, err error) {
	if s.trailer != nil {
		if records, err := s.footer(); err == nil {
			return records, s.trailer.footer, nil
		}
		limit = s.trailer.footer
	}
	if limit < 0 {
		limit = s.size
	}
	at, chain, bound := r.at, r.chain, r.bound
	if s.header != nil {
		at, chain, bound = s.header.first-1, s.header.chain, true
	}
	end = segmentHeaderSize
	for position := int64(segmentHeaderSize); position < limit; {
		rec, err := s.record(position)
		if err == nil && rec.recordHeader.disk == r.log.tag && (!bound || rec.serial == at+1 && rec.chain == chain) && !r.contradicted(&rec) {
			records = append(records, rec)
			at, chain, bound = rec.serial, rec.sum, true
			position += rec.size()
			end = position
			continue
		}
		next, ok, err := r.resume(s, at, position, limit)
		if err != nil {
			return records, end, err
		}
		if !ok {
			break
		}
		bound = false
		position = next
	}
	return records, end, nil
}

// contradicted reports whether the catalog knows another record of the same serial. That
// one was durable; this is what an append left that failed, and what was written over it has
// not arrived.
func (r *replayer) contradicted(rec *record) bool {
	return rec.serial == r.known && rec.sum != r.knownSum
}

// resume looks for the next record behind a place where none can be read. There is
// one that counts if it proves that the missing ones were durable when it was
// written; otherwise it is part of what a power cut left behind.
func (r *replayer) resume(s *segmentReader, at serial, position, limit int64) (int64, bool, error) {
	for position = roundUp(position + 1); position < limit; position += alignment {
		rec, err := s.record(position)
		if err != nil || rec.recordHeader.disk != r.log.tag || rec.serial <= at || r.contradicted(&rec) {
			continue
		}
		if max(rec.settled, r.witness) <= at {
			return 0, false, nil
		}
		r.missing(serialRange{max(at, r.mapped), rec.serial - 1})
		return position, true, nil
	}
	return 0, false, nil
}
