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

// scanned is a segment with the records that belong to the log.
type scanned struct {
	*segmentReader
	records []record
	end     int64 // of the records
}

// recover reads the log of the disk and puts in order what a crash left behind.
func (d *disk) recover(ctx context.Context) (err error) {
	list, err := d.scan(ctx)
	defer func() {
		for _, s := range list {
			err = errors.Join(err, s.close())
		}
	}()
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return nil // a disk that was being created when the power went
	}
	settled := serial(0)
	for _, s := range list {
		for i := range s.records {
			settled = max(settled, s.records[i].settled)
		}
	}
	last := &list[len(list)-1]
	var doubtful []record
	if last.trailer == nil {
		doubtful, err = d.doubtful(last, settled)
		if err != nil {
			return err
		}
	}
	for _, s := range list {
		for i := range s.records {
			if err := d.adopt(&s.records[i]); err != nil {
				return err
			}
		}
	}
	d.log.last, d.log.previous, d.log.previousEnd = last.number, last.number, last.end
	if last.trailer != nil {
		return nil
	}
	if d.vault.options.ReadOnly {
		for i := range doubtful {
			if err := d.adopt(&doubtful[i]); err != nil {
				return err
			}
		}
		return nil
	}
	return d.rescue(last, doubtful)
}

// adopt takes a record that was read into the state.
func (d *disk) adopt(r *record) error {
	if err := d.apply(r); err != nil {
		return logDamagedProblem(d.id, r.segment, r.position, err)
	}
	d.log.serial, d.log.chain = r.serial, r.sum
	return nil
}

// segments lists the numbers of the segments that exist, ascending.
func (d *disk) segments() ([]uint32, error) {
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

// scan reads the records of all segments.
func (d *disk) scan(ctx context.Context) (list []scanned, err error) {
	numbers, err := d.segments()
	if err != nil {
		return nil, err
	}
	for _, n := range numbers {
		r, err := openSegment(d.vault.fs, d.folder, n)
		if err != nil {
			if p := (*versionError)(nil); errors.As(err, &p) {
				return list, err
			}
			return list, fmt.Errorf("open segment %s of disk %s: %w", segmentName(n), d.id, err)
		}
		list = append(list, scanned{segmentReader: r})
	}
	// A segment whose first append was cut off has nothing that counts.
	for len(list) > 0 && list[len(list)-1].header == nil {
		last := list[len(list)-1]
		if err := last.close(); err != nil {
			return list, err
		}
		list = list[:len(list)-1]
		d.log.last = max(d.log.last, last.number)
		if d.vault.options.ReadOnly {
			continue
		}
		if err := d.vault.fs.Remove(filepath.Join(d.folder, segmentName(last.number))); err != nil {
			return list, fmt.Errorf("remove the unfinished segment %s of disk %s: %w", segmentName(last.number), d.id, err)
		}
	}
	at, chain := serial(0), uint32(0)
	for i := range list {
		if err := context.Cause(ctx); err != nil {
			return list, err
		}
		s := &list[i]
		if s.header == nil {
			return list, logDamagedProblem(d.id, s.number, 0, errNoSegment)
		}
		if i == 0 {
			at, chain = s.header.first-1, s.header.chain
		}
		if s.header.first != at+1 || s.header.chain != chain || s.header.vault != d.vault.id || s.header.disk != d.id {
			return list, logDamagedProblem(d.id, s.number, 0, errors.New("it does not go on where the segment before it ends"))
		}
		limit := int64(-1)
		if i+1 < len(list) && list[i+1].header != nil && list[i+1].header.previous == s.number {
			limit = list[i+1].header.previousEnd
		}
		if err := d.read(s, at, chain, limit); err != nil {
			return list, err
		}
		if n := len(s.records); n > 0 {
			at, chain = s.records[n-1].serial, s.records[n-1].sum
		}
		if i+1 < len(list) && s.trailer == nil && limit != s.end {
			return list, logDamagedProblem(d.id, s.number, s.end, errNoRecord)
		}
	}
	return list, nil
}

// read reads the records of one segment that follow the record at with sum chain.
func (d *disk) read(s *scanned, at serial, chain uint32, limit int64) error {
	if s.trailer != nil {
		records, err := s.footer()
		if err == nil {
			s.records, s.end = records, s.trailer.footer
			return nil
		}
	}
	s.end = segmentHeaderSize
	for limit < 0 || s.end < limit {
		r, err := s.record(s.end)
		if err != nil || r.serial != at+1 || r.chain != chain || r.recordHeader.disk != d.log.tag {
			break
		}
		at, chain = r.serial, r.sum
		s.records = append(s.records, r)
		s.end += r.size()
	}
	return nil
}

// doubtful takes the records out of the last segment that may not be durable,
// because nothing proves that their fsync returned, and gives those of them that
// are whole.
func (d *disk) doubtful(s *scanned, settled serial) ([]record, error) {
	keep := len(s.records)
	for keep > 0 && s.records[keep-1].serial > settled {
		keep--
	}
	doubtful := s.records[keep:]
	s.records = s.records[:keep]
	s.end = segmentHeaderSize
	if keep > 0 {
		s.end = s.records[keep-1].position + s.records[keep-1].size()
	}
	for i := range doubtful {
		if s.checkPayload(&doubtful[i]) != nil {
			return doubtful[:i], nil
		}
	}
	return doubtful, nil
}

// rescue writes the doubtful records once more, into a new segment. To sync the old
// one again would prove nothing: after an fsync that failed, the system may show
// data that it will never write. Then the old segment is sealed before them.
func (d *disk) rescue(last *scanned, doubtful []record) error {
	var drafts []*draft
	for i := range doubtful {
		r := &doubtful[i]
		payload := make([]byte, r.payload)
		if err := readFull(last.file, payload, r.position+r.meta()); err != nil {
			return fmt.Errorf("read segment %s of disk %s: %w", segmentName(last.number), d.id, err)
		}
		n := newDraft(r.kind, r.table, payload, r.body)
		n.head.sequence, n.head.epoch, n.head.time = r.sequence, r.epoch, r.time
		n.head.key, n.head.cipher = r.key, r.cipher
		drafts = append(drafts, n)
	}
	if len(drafts) > 0 {
		if err := d.log.append(drafts); err != nil {
			return d.failed(err)
		}
		for _, n := range drafts {
			if err := d.apply(&n.record); err != nil {
				return logDamagedProblem(d.id, n.record.segment, n.record.position, err)
			}
		}
	}
	if err := d.sealOld(last); err != nil {
		return writeProblem(d.id, err)
	}
	return nil
}

// sealOld writes the footer of a segment that a crash left open.
func (d *disk) sealOld(s *scanned) error {
	name := segmentName(s.number)
	var footer []byte
	t := trailer{footer: s.end, first: s.header.first, last: s.header.first - 1, chain: s.header.chain, number: s.number, disk: d.log.tag}
	for i := range s.records {
		r := &s.records[i]
		meta := make([]byte, r.meta())
		if err := readFull(s.file, meta, r.position); err != nil {
			return fmt.Errorf("read segment %s: %w", name, err)
		}
		footer = appendFooter(footer, r.position, meta, r.body32())
		t.last, t.chain = r.serial, r.sum
	}
	t.length, t.crc = int64(len(footer)), checksum(footer)
	f, err := d.vault.fs.Open(filepath.Join(d.folder, name))
	if err != nil {
		return fmt.Errorf("open segment %s: %w", name, err)
	}
	_, err = f.WriteAt(append(footer, t.encode()...), s.end)
	if err == nil {
		err = f.Truncate(s.end + t.length + trailerSize)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil && !errors.Is(err, vfs.ErrNoSpace) {
		return fmt.Errorf("seal segment %s: %w", name, err)
	}
	return nil // without space it stays as it is, which every reader understands
}

func (h *recordHeader) body32() uint32 { return h.body }

func (d *disk) exists() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.disk.Size >= 0 && d.log.serial > 0 && !d.erased
}

// close waits for the append under way and refuses what waits.
func (d *disk) close(why error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.broken = why
	d.refuse(why)
	for d.leading {
		changed := d.changed
		d.mu.Unlock()
		<-changed
		d.mu.Lock()
	}
	return d.log.close()
}
