package vault

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"riparo/replication/vfs"
)

// segmentReader reads a segment back.
type segmentReader struct {
	number  uint32
	file    vfs.File
	size    int64
	header  *segmentHeader // nil: damaged or torn
	trailer *trailer       // nil: not sealed
}

// openSegment opens a segment for reading. A header or trailer that is damaged is
// no error.
func openSegment(fsys vfs.FS, folder string, number uint32) (_ *segmentReader, err error) {
	name := filepath.Join(folder, segmentName(number))
	f, err := fsys.OpenRead(name)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	r := &segmentReader{number: number, file: f}
	if r.size, err = f.Size(); err != nil {
		return nil, err
	}
	if r.size >= segmentHeaderSize {
		p := make([]byte, segmentHeaderSize)
		if err := readFull(f, p, 0); err != nil {
			return nil, err
		}
		h, err := parseSegmentHeader(p)
		if version, ok := errors.AsType[*versionError](err); ok {
			return nil, versionProblem(name, version)
		}
		if err == nil && h.number == number {
			r.header = &h
		}
	}
	if r.size >= segmentHeaderSize+trailerSize {
		p := make([]byte, trailerSize)
		if err := readFull(f, p, r.size-trailerSize); err != nil {
			return nil, err
		}
		if t, err := parseTrailer(p, r.size); err == nil && t.number == number {
			r.trailer = &t
		}
	}
	return r, nil
}

// footer gives the records of a sealed segment without reading its data.
func (r *segmentReader) footer() ([]record, error) {
	p, err := r.footerBytes()
	if err != nil {
		return nil, err
	}
	records, unread, err := r.repeated(p)
	return records, errors.Join(err, unread)
}

func (r *segmentReader) footerBytes() ([]byte, error) {
	p := make([]byte, r.trailer.length)
	if err := readFull(r.file, p, r.trailer.footer); err != nil {
		return nil, err
	}
	if checksum(p) != r.trailer.crc {
		return nil, errors.New("the footer has a wrong checksum")
	}
	return p, nil
}

// repeated gives the records that a footer repeats. Of long ones it says only where they
// are; those of them that cannot be read are left out, and unread says why.
func (r *segmentReader) repeated(footer []byte) (records []record, unread, err error) {
	list, err := parseFooter(footer, r.number)
	if err != nil {
		return nil, nil, err
	}
	for _, f := range list {
		if f.whole {
			records = append(records, f.record)
			continue
		}
		full, err := r.record(f.position)
		if err != nil {
			unread = err
			continue
		}
		records = append(records, full)
	}
	return records, unread, nil
}

// record reads the record at a position, all but its payload.
func (r *segmentReader) record(position int64) (record, error) {
	return r.recordBy(position, func(n int64) ([]byte, error) {
		p := make([]byte, n)
		return p, readFull(r.file, p, position)
	})
}

// recordBy does that with what read gives of the segment from there on; the body of
// the record is part of it.
func (r *segmentReader) recordBy(position int64, read func(n int64) ([]byte, error)) (record, error) {
	p, err := read(recordHeaderSize)
	if err != nil {
		return record{}, endOf(err)
	}
	h, err := parseRecordHeader(p)
	if err != nil {
		return record{}, err
	}
	if position+h.size() > r.size {
		return record{}, errNoRecord
	}
	if p, err = read(h.meta()); err != nil {
		return record{}, endOf(err)
	}
	rec, err := parseMeta(p)
	rec.segment, rec.position = r.number, position
	return rec, err
}

// endOf makes the end of a file the end of the log.
func endOf(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errNoRecord
	}
	return err
}

// checkPayload re-reads the stored blocks of a record and tells the first one whose
// checksum is wrong.
func (r *segmentReader) checkPayload(rec *record) error {
	p := make([]byte, rec.payload)
	if err := readFull(r.file, p, rec.position+rec.meta()); err != nil {
		return err
	}
	for _, b := range rec.table {
		if checksum(p[:b.stored]) != b.crc {
			return fmt.Errorf("record %d: block %s has a wrong checksum", rec.serial, b.extent)
		}
		p = p[b.stored:]
	}
	return nil
}

// unread tells a read that the storage refused from what shows that something is damaged.
func unread(err error) bool {
	_, refused := errors.AsType[*fs.PathError](err)
	return refused
}

// close closes the file. It may be called twice.
func (r *segmentReader) close() error {
	if r.file == nil {
		return nil
	}
	f := r.file
	r.file = nil
	return f.Close()
}
