package vault

import (
	"errors"

	"riparo/replication/vfs"
)

// A disk is left so that it opens quickly: its memory is in a map file, its segment is
// sealed, and the catalog says both. Then the next opening reads no record at all. All
// of it is a hint. The catalog has a checksum, and what it says about the newest segment
// has to fit what that one says about itself; otherwise the log is read, as after a
// crash.

const (
	// leftShare and leftRecords: with fewer records than this share of what memory may
	// hold, and fewer than so many, a disk is left as it is. To read 256 records takes
	// less than to write a map file, and a segment for a few of them would be wasted.
	leftShare   = 128
	leftRecords = 24
)

// leave does that when the vault is closed. The caller leads, and does not hold mu. An
// error means that the next opening reads the log.
func (d *disk) leave() error {
	if d.muchToRead() {
		// A full disk is no reason to fail, and neither is a map that could not be
		// written: the log has all of it.
		if err := d.spill(true); err != nil && !errors.Is(err, vfs.ErrNoSpace) {
			return errors.Join(err, d.writeCatalog())
		}
		if d.log.current != nil {
			if err := d.log.seal(); isFinal(err) {
				return err // what the catalog would say of the segment is not certain
			}
		}
	}
	return d.writeCatalog()
}

// muchToRead reports whether the next opening would have to read many records, or few
// that change much.
func (d *disk) muchToRead() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	limit := d.vault.options.memoryEntries
	first := serial(1) // of the segment where reading would begin
	for _, g := range d.segments {
		if g.first <= d.mapped+1 {
			first = g.first
		}
	}
	return d.memory.entries > limit/4 || d.serial-first >= serial(max(leftRecords, limit/leftShare))
}

// What a catalog says about the segment that it names, in bits: see leftAt.
const (
	// leftBefore: all segments before it are sealed for certain.
	leftBefore = 1 << iota
	// leftSealed: it is itself.
	leftSealed
)

// leftAt tells what is certain about the seals of the segments up to the newest one. The
// caller holds mu and leads.
func (d *disk) leftAt() (bits uint32) {
	if len(d.unsealed) == 0 {
		bits |= leftBefore
		if d.log.current == nil {
			bits |= leftSealed
		}
	}
	return bits
}

// leftAsItIs reports whether the newest segment is as the catalog left it, sealed, and
// the maps know all of it. Then the log goes on behind it, and nothing of it is read.
func (r *replayer) leftAsItIs(s *segmentReader, c *catalog) bool {
	if c == nil || c.left&leftSealed == 0 || c.mapped != c.serial || c.segment != s.number || s.header == nil || s.trailer == nil {
		return false
	}
	t := s.trailer
	if t.footer != c.end || t.last != c.serial || t.chain != c.chain || t.disk != r.log.tag || s.header.first > c.serial {
		return false
	}
	r.at, r.chain, r.bound, r.segmentAt = c.serial, c.chain, true, s.number
	r.state.serial, r.log.serial, r.log.chain = c.serial, c.serial, c.chain
	r.log.previous, r.log.previousEnd = s.number, c.end
	return true
}

// sealedBefore reports whether the catalog proves that what lies before a segment is
// sealed.
func (c *catalog) sealedBefore(number uint32) bool {
	return c != nil && c.left&leftBefore != 0 && c.segment == number
}
