package vault

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
)

// recover brings the state to the end of the log and puts in order what a crash
// left behind. The catalog says how far it need not read; if the catalog is not
// there, or does not fit, all of the log is read.
func (d *disk) recover(ctx context.Context) error {
	if err := d.certainNames(); err != nil {
		return err
	}
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

// forget closes all files and drops all state, to begin anew.
func (d *disk) forget() error {
	errs := []error{d.log.close()}
	for _, t := range d.tiles {
		errs = append(errs, t.use.close())
	}
	for _, f := range d.folds {
		errs = append(errs, f.use.close())
	}
	fresh := newDisk(d.vault, d.id)
	d.state, d.log, d.unsealed, d.injected = fresh.state, fresh.log, nil, false
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
		if err := s.checkPayload(&records[i]); err != nil {
			return unread(err), nil // one that cannot be read may have been acknowledged
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
			if records[i].kind == kindInventory && (found == nil || records[i].serial >= found.serial) {
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
		r.segments = append(r.segments, segmentInfo{found.segment, found.serial, found.serial})
	}
	return nil
}

func (r *replayer) unreadable(number uint32, err error) error {
	if p := (*versionError)(nil); errors.As(err, &p) {
		return err
	}
	return fmt.Errorf("read segment %s of disk %s: %w", segmentName(number), r.id, err)
}

// sort tells the segments that the log needs from those that an inventory does
// without.
func (r *replayer) sort() {
	newest := uint32(0)
	if n := len(r.segments); n > 0 {
		newest = r.segments[n-1].number
	}
	var needed []uint32
	for _, n := range r.there {
		if _, ok := r.segmentInfo(n); ok || n > newest {
			needed = append(needed, n)
		} else {
			r.leftover = append(r.leftover, n)
		}
		r.log.last = max(r.log.last, n)
	}
	r.there = needed
	for _, g := range r.segments {
		r.log.last = max(r.log.last, g.number)
	}
}

// mapFiles lists the numbers of the map files that exist.
func (d *disk) mapFiles() ([]uint32, error) {
	files, err := d.vault.fs.ReadDir(d.folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list the maps of disk %s: %w", d.id, err)
	}
	var numbers []uint32
	for _, f := range files {
		if n, ok := mapNumber(f.Name); ok {
			numbers = append(numbers, n)
		}
	}
	return numbers, nil
}

// clean removes files that nothing needs: dead segments that a crash left, and maps
// that are none of the disk's. It comes last, when the log has shown that the
// catalog is right.
func (r *replayer) clean(maps []uint32) error {
	var errs []error
	for _, n := range r.leftover {
		if err := r.vault.fs.Remove(r.segmentPath(n)); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	for _, n := range maps {
		// What the replay itself made superfluous goes after the next catalog.
		waits := slices.ContainsFunc(r.garbage, func(m *mapFile) bool { return m.number == n })
		if !waits && !r.usesMap(n) {
			if err := r.vault.fs.Remove(filepath.Join(r.folder, mapName(n))); !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

func (s *state) usesMap(number uint32) bool {
	return slices.ContainsFunc(s.tiles, func(t tile) bool { return t.number == number }) ||
		slices.ContainsFunc(s.folds, func(f fold) bool { return f.number == number })
}

// bypass finds out, from the newest segment backwards, where the records of each
// segment end as its successor says, and removes the segments that the log passes
// by: they were left by recoveries that were cut off.
func (r *replayer) bypass(first int) (limits map[uint32]int64, err error) {
	limits = map[uint32]int64{}
	kept := []uint32{}
	after, bounded := uint32(0), false // segments above it, up to the one looked at last, do not count
	for i := len(r.there) - 1; i >= first; i-- {
		n := r.there[i]
		if bounded && n > after {
			r.passed = append(r.passed, n)
			continue
		}
		kept = append(kept, n)
		s, err := openSegment(r.vault.fs, r.folder, n)
		if err != nil {
			return nil, r.unreadable(n, err)
		}
		if err := s.close(); err != nil {
			return nil, r.unreadable(n, err)
		}
		// Before the one that has none before it, none counts.
		if bounded = s.header != nil; bounded {
			after = s.header.previous
			limits[after] = s.header.previousEnd
		}
	}
	slices.Reverse(kept)
	r.there = append(r.there[:first:first], kept...)
	return limits, nil
}
