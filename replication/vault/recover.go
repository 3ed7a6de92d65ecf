package vault

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"riparo/replication/vfs"
)

// recover brings the state to the end of the log and puts in order what a crash
// left behind. The catalog says how far it need not read; if the catalog is not
// there, or does not fit, all of the log is read.
func (d *disk) recover(ctx context.Context) error {
	c, err := d.readCatalog()
	if err == nil {
		if err = d.replay(ctx, c); !errors.Is(err, errMisfit) {
			return err
		}
	}
	if err := d.forget(); err != nil {
		return err
	}
	return d.replay(ctx, nil)
}

// errMisfit: the catalog does not fit the log.
var errMisfit = errors.New("the catalog does not fit the log")

// forget drops all state, to begin anew.
func (d *disk) forget() error {
	var errs []error
	for _, t := range d.tiles {
		errs = append(errs, t.use.close())
	}
	for _, f := range d.folds {
		errs = append(errs, f.use.close())
	}
	fresh := newDisk(d.vault, d.id)
	d.state, d.log = fresh.state, fresh.log
	return errors.Join(errs...)
}

// segmentFiles lists the numbers of the segments that exist, ascending.
func (d *disk) segmentFiles() ([]uint32, error) {
	files, err := d.vault.fs.ReadDir(d.folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the segments of disk %s: %w", d.id, err)
	}
	var numbers []uint32
	for _, f := range files {
		if n, ok := segmentNumber(f.Name); ok && !f.Dir {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

// replayer reads a log from its segments.
type replayer struct {
	*disk
	ctx     context.Context
	there   []uint32 // segments that exist
	base    serial   // up to here a snapshot knows all but memory
	at      serial   // the last record that was read
	chain   uint32   // its sum
	bound   bool     // at and chain are known: the next record must follow
	witness serial   // records up to here were durable
	closed  serial   // layers are closed up to here
	// What the catalog says about one of the records.
	known    serial
	knownSum uint32
}

// replay reads what follows the catalog, or everything.
func (d *disk) replay(ctx context.Context, c *catalog) error {
	r := &replayer{disk: d, ctx: ctx}
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
	if err := r.clean(c); err != nil {
		return err
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
	for i := first; i < len(r.there); i++ {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if err := r.segment(i, limits, c); err != nil {
			return err
		}
		if !d.vault.options.ReadOnly {
			if err := d.spill(false); err != nil {
				return writeProblem(d.id, err)
			}
		}
	}
	return r.end(c)
}

func (s *state) segmentInfo(number uint32) (segmentInfo, bool) {
	for _, g := range s.segments {
		if g.number == number {
			return g, true
		}
	}
	return segmentInfo{}, false
}

// abandon removes a newest segment whose first append was cut off. Nothing in it was
// ever acknowledged, and what it repeats is still in the one before.
func (r *replayer) abandon(c *catalog) error {
	for len(r.there) > 0 {
		n := r.there[len(r.there)-1]
		if c != nil {
			if _, ok := r.segmentInfo(n); ok {
				return nil
			}
		}
		whole, err := r.begun(n)
		if err != nil {
			return r.unreadable(n, err)
		}
		if whole {
			return nil
		}
		r.there = r.there[:len(r.there)-1]
		r.log.last = max(r.log.last, n)
		if r.vault.options.ReadOnly {
			continue
		}
		if err := r.removeSegment(n); err != nil {
			return err
		}
	}
	return nil
}

// begun reports whether the first append of a segment became durable, as far as can
// be told.
func (r *replayer) begun(number uint32) (_ bool, err error) {
	s, err := openSegment(r.vault.fs, r.folder, number)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if s.trailer != nil || s.header != nil && s.header.repeats == 0 {
		return true, nil
	}
	lost := r.lost
	records, _, err := r.records(s, -1)
	r.lost = lost // what is missing is noted when the log is read for good
	if err != nil || len(records) == 0 {
		return false, err
	}
	newest := records[len(records)-1]
	if newest.settled >= records[0].serial {
		return true, nil // there was a second append
	}
	if s.header == nil {
		return false, nil
	}
	for i := range records {
		if s.checkPayload(&records[i]) != nil {
			return false, nil
		}
	}
	return newest.serial >= s.header.repeats, nil
}

// removeSegment removes a segment for good: it must not come back after a crash, for
// then it might not be the newest one any more, and what is in it would count.
func (r *replayer) removeSegment(number uint32) error {
	err := r.vault.fs.Remove(filepath.Join(r.folder, segmentName(number)))
	if err == nil {
		err = r.vault.fs.SyncDir(r.folder)
	}
	if err != nil {
		return writeProblem(r.id, fmt.Errorf("remove the unfinished segment %s: %w", segmentName(number), err))
	}
	return nil
}

// findInventory looks for the newest inventory in the log and restores its snapshot.
func (r *replayer) findInventory() error {
	var found *record
	for _, n := range r.there {
		if err := context.Cause(r.ctx); err != nil {
			return err
		}
		s, err := openSegment(r.vault.fs, r.folder, n)
		if err != nil {
			return r.unreadable(n, err)
		}
		records, _, err := r.records(s, -1)
		if err = errors.Join(err, s.close()); err != nil {
			return r.unreadable(n, err)
		}
		for i := range records {
			if records[i].kind == kindInventory && (found == nil || records[i].serial > found.serial) {
				found = &records[i]
			}
			r.witness = max(r.witness, records[i].settled)
		}
	}
	r.lost = nil // what is missing is noted when the log is read for good
	if found == nil {
		return nil // nothing was ever deleted: that happens after an inventory
	}
	d := decoder{p: found.body}
	if err := r.restore(&d); err != nil {
		return logDamagedProblem(r.id, found.segment, found.position, err)
	}
	r.base = found.serial
	if _, ok := r.segmentInfo(found.segment); !ok {
		r.segments = append(r.segments, segmentInfo{found.segment, found.serial})
	}
	return nil
}

func (r *replayer) unreadable(number uint32, err error) error {
	if p := (*versionError)(nil); errors.As(err, &p) {
		return err
	}
	return fmt.Errorf("read segment %s of disk %s: %w", segmentName(number), r.id, err)
}

// clean removes files that nothing needs: segments that an inventory does without,
// and maps that the catalog does not name.
func (r *replayer) clean(c *catalog) error {
	newest := uint32(0)
	if n := len(r.segments); n > 0 {
		newest = r.segments[n-1].number
	}
	var needed, leftover []uint32
	for _, n := range r.there {
		if _, ok := r.segmentInfo(n); ok || n > newest {
			needed = append(needed, n)
		} else {
			leftover = append(leftover, n)
		}
		r.log.last = max(r.log.last, n)
	}
	r.there = needed
	for _, g := range r.segments {
		r.log.last = max(r.log.last, g.number)
	}
	files, err := r.vault.fs.ReadDir(r.folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("list the files of disk %s: %w", r.id, err)
	}
	var errs []error
	for _, f := range files {
		if n, ok := mapNumber(f.Name); ok && !r.usesMap(n) {
			r.nextMap = max(r.nextMap, n)
			if !r.vault.options.ReadOnly {
				errs = append(errs, r.vault.fs.Remove(filepath.Join(r.folder, f.Name)))
			}
		}
	}
	if !r.vault.options.ReadOnly {
		for _, n := range leftover {
			errs = append(errs, r.vault.fs.Remove(filepath.Join(r.folder, segmentName(n))))
		}
	}
	return errors.Join(errs...)
}

func (s *state) usesMap(number uint32) bool {
	return slices.ContainsFunc(s.tiles, func(t tile) bool { return t.number == number }) ||
		slices.ContainsFunc(s.folds, func(f fold) bool { return f.number == number })
}

// segment reads the records of the segment there[i] into the state.
func (r *replayer) segment(i int, limits map[uint32]int64, c *catalog) (err error) {
	number := r.there[i]
	s, err := openSegment(r.vault.fs, r.folder, number)
	if err != nil {
		return r.unreadable(number, err)
	}
	defer func() { err = errors.Join(err, s.close()) }()
	limit, ok := limits[number]
	if !ok {
		limit = -1
	}
	if h := s.header; h != nil && r.bound && h.first == r.at+1 && h.chain != r.chain {
		return logDamagedProblem(r.id, number, 0, errors.New("the segment does not go on where the one before it ends: it is of another copy of the vault"))
	}
	records, end, err := r.records(s, limit)
	if err != nil {
		return r.unreadable(number, err)
	}
	last := i == len(r.there)-1
	if last && s.trailer == nil {
		return r.lastSegment(s, records, c)
	}
	for j := range records {
		if err := r.take(&records[j]); err != nil {
			return err
		}
	}
	r.log.previous, r.log.previousEnd = number, end
	if s.trailer == nil && !r.vault.options.ReadOnly && len(records) > 0 {
		// An earlier recovery was cut off, or had no space.
		return r.sealOld(s, records, end)
	}
	return nil
}

// bypass finds out, from the newest segment backwards, where the records of each
// segment end as its successor says, and removes the segments that the log passes
// by: they were left by recoveries that were cut off.
func (r *replayer) bypass(first int) (limits map[uint32]int64, err error) {
	limits = map[uint32]int64{}
	kept := []uint32{}
	after := uint32(0) // segments above it, up to the one looked at last, do not count
	for i := len(r.there) - 1; i >= first; i-- {
		n := r.there[i]
		if after > 0 && n > after {
			if !r.vault.options.ReadOnly {
				if err := r.removeSegment(n); err != nil {
					return nil, err
				}
			}
			continue
		}
		kept = append(kept, n)
		after = 0
		s, err := openSegment(r.vault.fs, r.folder, n)
		if err != nil {
			return nil, r.unreadable(n, err)
		}
		if err := s.close(); err != nil {
			return nil, r.unreadable(n, err)
		}
		if s.header != nil && s.header.previous > 0 {
			after = s.header.previous
			limits[after] = s.header.previousEnd
		}
	}
	slices.Reverse(kept)
	r.there = append(r.there[:first:first], kept...)
	return limits, nil
}

// take brings one record into the state. A gap before it is damage, unless an
// inventory explains it.
func (r *replayer) take(rec *record) error {
	if rec.recordHeader.disk != r.log.tag {
		return logDamagedProblem(r.id, rec.segment, rec.position, errors.New("a record of another disk"))
	}
	if rec.serial <= r.at {
		return nil // written again after a crash
	}
	if r.bound && rec.serial > r.at+1 && rec.serial > r.base+1 {
		r.missing(serialRange{max(r.at, r.base), rec.serial - 1})
	}
	if err := r.add(rec); err != nil {
		return logDamagedProblem(r.id, rec.segment, rec.position, err)
	}
	if rec.serial == r.known && rec.sum != r.knownSum {
		return errMisfit
	}
	r.at, r.chain, r.bound = rec.serial, rec.sum, true
	r.witness = max(r.witness, rec.settled)
	r.state.serial, r.log.serial, r.log.chain = rec.serial, rec.serial, rec.sum
	return nil
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
		if slices.Contains(r.there, g.number) {
			continue
		}
		to := r.base
		if i+1 < len(r.segments) {
			to = r.segments[i+1].first - 1
		}
		r.missing(serialRange{max(g.first-1, r.mapped), to})
	}
}

// missing notes records that were durable and cannot be read.
func (r *replayer) missing(l serialRange) {
	if l.to > l.from {
		r.lost = addRange(r.lost, l)
	}
}

// end finishes the replay.
func (r *replayer) end(c *catalog) error {
	r.closeUpTo(r.base)
	if c != nil && r.at < c.serial {
		// Records that the catalog witnesses are not there any more.
		r.missing(serialRange{max(r.at, r.mapped), c.serial})
		r.state.serial, r.log.serial, r.log.chain = c.serial, c.serial, c.chain
	}
	if r.vault.options.ReadOnly || c != nil {
		return nil
	}
	if err := r.writeCatalog(); err != nil && !errors.Is(err, vfs.ErrNoSpace) {
		return writeProblem(r.id, err)
	}
	return nil
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
		if err == nil && rec.recordHeader.disk == r.log.tag && (!bound || rec.serial == at+1 && rec.chain == chain) {
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

// resume looks for the next record behind a place where none can be read. There is
// one that counts if it proves that the missing ones were durable when it was
// written; otherwise it is part of what a power cut left behind.
func (r *replayer) resume(s *segmentReader, at serial, position, limit int64) (int64, bool, error) {
	for position = roundUp(position + 1); position < limit; position += alignment {
		rec, err := s.record(position)
		if err != nil || rec.recordHeader.disk != r.log.tag || rec.serial <= at {
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

// lastSegment takes the records of a segment that was not sealed: those that were
// durable for certain, and as many of the others as are whole. The others are
// written once more.
func (r *replayer) lastSegment(s *segmentReader, records []record, c *catalog) error {
	for i := range records {
		r.witness = max(r.witness, records[i].settled)
	}
	keep := len(records)
	for keep > 0 && records[keep-1].serial > r.witness {
		keep--
	}
	doubtful := records[keep:]
	for i := range doubtful {
		if s.checkPayload(&doubtful[i]) != nil {
			doubtful = doubtful[:i]
			break
		}
	}
	records = records[:keep]
	for i := range records {
		if err := r.take(&records[i]); err != nil {
			return err
		}
	}
	end := int64(segmentHeaderSize)
	if keep > 0 {
		end = records[keep-1].position + records[keep-1].size()
	}
	if r.vault.options.ReadOnly {
		for i := range doubtful {
			if err := r.take(&doubtful[i]); err != nil {
				return err
			}
		}
		return nil
	}
	if keep > 0 {
		r.log.previous, r.log.previousEnd = s.number, end
	} else if s.header != nil {
		r.log.previous, r.log.previousEnd = s.header.previous, s.header.previousEnd
	}
	if len(doubtful) == 0 && keep > 0 && s.header != nil && s.size == end && c != nil && c.serial == r.at {
		return r.reopen(s, records)
	}
	if err := r.rescue(s, doubtful); err != nil {
		return err
	}
	return r.sealOld(s, records, end)
}

// reopen goes on in a segment that was closed in good order.
func (r *replayer) reopen(s *segmentReader, records []record) error {
	footer, err := footerOf(s, records)
	if err != nil {
		return r.unreadable(s.number, err)
	}
	f, err := r.vault.fs.Open(filepath.Join(r.folder, segmentName(s.number)))
	if err != nil {
		return r.unreadable(s.number, err)
	}
	r.log.current = &segmentWriter{number: s.number, file: f, first: s.header.first, end: s.size, footer: footer}
	return nil
}

// footerOf puts the footer of a segment together.
func footerOf(s *segmentReader, records []record) ([]byte, error) {
	var footer []byte
	for i := range records {
		meta := make([]byte, records[i].meta())
		if err := readFull(s.file, meta, records[i].position); err != nil {
			return nil, err
		}
		footer = appendFooter(footer, records[i].position, meta, records[i].recordHeader.body)
	}
	return footer, nil
}

// rescue writes the doubtful records once more, into a new segment. To sync the old
// one again would prove nothing: after an fsync that failed, the system may show
// data that it will never write.
func (r *replayer) rescue(s *segmentReader, doubtful []record) error {
	if len(doubtful) == 0 {
		return nil
	}
	var drafts []*draft
	for i := range doubtful {
		rec := &doubtful[i]
		payload := make([]byte, rec.payload)
		if err := readFull(s.file, payload, rec.position+rec.meta()); err != nil {
			return r.unreadable(s.number, err)
		}
		n := newDraft(rec.kind, rec.table, payload, rec.body)
		n.head.sequence, n.head.epoch, n.head.time = rec.sequence, rec.epoch, rec.time
		n.head.key, n.head.cipher = rec.key, rec.cipher
		drafts = append(drafts, n)
	}
	r.log.repeating = true
	err := r.log.append(drafts)
	r.log.repeating = false
	if err != nil {
		return r.failed(err)
	}
	for _, n := range drafts {
		if err := r.take(&n.record); err != nil {
			return err
		}
	}
	return nil
}

// sealOld ends a segment that a crash left open: with a footer, or by removing it if
// nothing of it counts.
func (r *replayer) sealOld(s *segmentReader, records []record, end int64) error {
	name := filepath.Join(r.folder, segmentName(s.number))
	if len(records) == 0 {
		return r.removeSegment(s.number)
	}
	footer, err := footerOf(s, records)
	if err != nil {
		return r.unreadable(s.number, err)
	}
	newest := &records[len(records)-1]
	t := trailer{
		footer: end, length: int64(len(footer)), first: records[0].serial, last: newest.serial,
		chain: newest.sum, crc: checksum(footer), number: s.number, disk: r.log.tag,
	}
	f, err := r.vault.fs.Open(name)
	if err == nil {
		_, err = f.WriteAt(append(footer, t.encode()...), end)
		if err == nil {
			err = f.Truncate(end + t.length + trailerSize)
		}
		if err == nil {
			err = f.Sync()
		}
		err = errors.Join(err, f.Close())
	}
	if errors.Is(err, vfs.ErrNoSpace) {
		// It stays as it is, and the next segment, which says where it ends, must stay.
		r.unsealed = append(r.unsealed, s.number)
		return nil
	}
	if err != nil {
		return writeProblem(r.id, fmt.Errorf("seal segment %s: %w", segmentName(s.number), err))
	}
	return nil
}

func (d *disk) exists() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.serial > 0 && !d.erased
}

// close waits for the append under way, refuses what waits, and remembers the state
// in the catalog.
func (d *disk) close(why error) error {
	d.maintaining <- struct{}{}
	d.mu.Lock()
	broken := d.broken
	d.broken = why
	d.refuse(why)
	for d.leading {
		changed := d.changed
		d.mu.Unlock()
		<-changed
		d.mu.Lock()
	}
	tidy := broken == nil && !d.distrusted && !d.erased && d.serial > 0 && !d.vault.options.ReadOnly
	files := make([]*mapFile, 0, len(d.tiles)+len(d.folds))
	for _, t := range d.tiles {
		files = append(files, t.mapFile)
	}
	for _, f := range d.folds {
		files = append(files, f.mapFile)
	}
	d.mu.Unlock()
	var errs []error
	if tidy {
		// Without a catalog the next opening reads the log: a full disk is no reason
		// to fail here.
		if err := d.writeCatalog(); err != nil && !errors.Is(err, vfs.ErrNoSpace) {
			errs = append(errs, err)
		}
	}
	for _, m := range files {
		errs = append(errs, m.use.close())
	}
	return errors.Join(append(errs, d.log.close())...)
}
