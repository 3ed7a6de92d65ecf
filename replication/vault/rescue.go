package vault

import (
	"errors"
	"path/filepath"
	"slices"

	"riparo/replication/vfs"
)

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
	doubtful, refused := records[keep:], false
	for i := range doubtful {
		err := s.checkPayload(&doubtful[i])
		if vfs.Short(err) {
			return r.unreadable(s.number, err)
		}
		if refused = unread(err); refused {
			break // it may have been acknowledged: nothing is cut off
		}
		if err != nil {
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
	if r.at < r.witness || refused {
		// Records that were durable, or may have been, cannot be read. Their data may still
		// be there and the maps may know it: nothing here may be written over.
		for i := range doubtful { // the log goes on behind them: no serial is used twice
			if err := r.take(&doubtful[i]); err != nil {
				return err
			}
		}
		r.log.previous, r.log.previousEnd = s.number, roundUp(s.size)
		r.unsealed = append(r.unsealed, s.number)
		r.uncertain = true
		return nil
	}
	if r.vault.options.ReadOnly {
		return r.onlyRead(s, doubtful, end)
	}
	if keep > 0 {
		r.log.previous, r.log.previousEnd = s.number, end
	} else if s.header != nil {
		r.log.previous, r.log.previousEnd = s.header.previous, s.header.previousEnd
	}
	if len(doubtful) == 0 && keep > 0 && s.header != nil && s.size == end && c != nil && c.serial == r.at {
		return r.reopen(s, records)
	}
	err := r.rescue(s, doubtful)
	if errors.Is(err, vfs.ErrNoSpace) {
		// They can be read where they are. Nothing more is acknowledged until the vault
		// is opened with space to write them again.
		r.broken, r.uncertain = err, true
		r.noteRoom(err)
		return r.onlyRead(s, doubtful, end)
	}
	if err != nil {
		return err
	}
	return r.sealOld(s, records, end)
}

// onlyRead takes what is in doubt from where it is, behind the end of what is certain.
// What lies behind it does not count.
func (r *replayer) onlyRead(s *segmentReader, doubtful []record, end int64) error {
	for i := range doubtful {
		if err := r.take(&doubtful[i]); err != nil {
			return err
		}
		end = doubtful[i].position + doubtful[i].size()
	}
	if end > segmentHeaderSize { // otherwise the log ends in the segment before
		r.log.onlyRead, r.log.onlyReadEnd = s.number, end
	}
	return nil
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
		drafts = append(drafts, n)
	}
	r.log.repeating = true
	err := r.log.append(drafts, nil)
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
	if len(records) == 0 {
		r.segments = slices.DeleteFunc(slices.Clone(r.segments), func(g segmentInfo) bool { return g.number == s.number })
		if err := s.close(); err != nil { // Windows removes no file that is open
			return r.unreadable(s.number, err)
		}
		return r.removeSegment(s.number)
	}
	return r.writeSeal(s, records, end)
}
