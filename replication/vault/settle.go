package vault

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"riparo/replication/vfs"
)

// What a recovery sees need not be on the medium: see Recovery in the comment of the
// package for the rules that keep a later power cut from taking away what it relied on.

// seam is where the log goes on from a segment to the next one, as that one says.
type seam struct {
	number  uint32
	end     int64  // of the records
	session uint64 // that made the next segment; 0 if there is none
	repeats bool   // the next segment was made by a recovery, before it sealed this one
}

// certainNames makes the names of the disk's files durable as they are seen: an fsync of
// the folder may have failed, or not have come.
func (d *disk) certainNames() error {
	if d.vault.options.ReadOnly {
		return nil
	}
	if err := d.vault.fs.SyncDir(d.folder); err != nil {
		return writeProblem(d.id, fmt.Errorf("sync folder %s: %w", d.folder, err))
	}
	return nil
}

// settle removes and seals what the newest segment makes superfluous. It comes after
// the records of that one were written once more.
func (r *replayer) settle() error {
	if r.vault.options.ReadOnly {
		return nil
	}
	for _, n := range r.passed {
		if r.uncertain {
			break // the next opening passes them by again
		}
		if err := r.removeSegment(n); err != nil {
			return err
		}
	}
	for _, m := range r.seams {
		if !m.repeats && m.session > 0 && r.sealedBy[m.number] == m.session {
			continue
		}
		if err := r.sealAgain(m); err != nil {
			return err
		}
	}
	return nil
}

// sealAgain writes the footer of a segment that ends at a seam, once more if need be.
// Without it, only the next segment says where the records end, and that one may die.
func (r *replayer) sealAgain(m seam) (err error) {
	s, err := openSegment(r.vault.fs, r.folder, m.number)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // dead
	}
	if err != nil {
		return r.unreadable(m.number, err)
	}
	defer func() { err = errors.Join(err, s.close()) }()
	lost := r.lost
	records, end, err := r.records(s, m.end)
	r.lost = lost // what is missing was noted when the log was read
	if err != nil {
		return r.unreadable(m.number, err)
	}
	n := len(records)
	if r.uncertain || s.header == nil || n == 0 || end != m.end ||
		records[0].serial != s.header.first || records[n-1].serial != s.header.first+serial(n-1) {
		r.unsealed = append(r.unsealed, m.number)
		return nil
	}
	if s.trailer != nil && !m.repeats && records[n-1].session == m.session {
		return nil
	}
	return r.writeSeal(s, records, end)
}

// writeSeal ends a segment with a footer for its records.
func (r *replayer) writeSeal(s *segmentReader, records []record, end int64) error {
	footer, err := footerOf(s, records)
	if err != nil {
		return r.unreadable(s.number, err)
	}
	newest := &records[len(records)-1]
	t := trailer{
		footer: end, length: int64(len(footer)), first: records[0].serial, last: newest.serial,
		chain: newest.sum, crc: checksum(footer), number: s.number, disk: r.log.tag,
	}
	f, err := r.vault.fs.Open(filepath.Join(r.folder, segmentName(s.number)))
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

// fits reports that err left something in memory for want of space, and that there is
// room for it.
func (d *disk) fits(err error) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return errors.Is(err, vfs.ErrNoSpace) && d.memory.entries < maxUnwritten*d.vault.options.memoryEntries
}
