package vault

import (
	"errors"
	"fmt"
	"path/filepath"

	"riparo/replication"
	"riparo/replication/vfs"
)

// log appends to the segments of one disk. Only the leader of a commit uses it; see
// commit.go. Its fields change only after what they describe is durable, so that an
// append that failed can be made again.
type log struct {
	fs      vfs.FS
	folder  string
	vault   vaultID
	disk    replication.DiskID
	tag     uint32
	session uint64
	version uint32
	limit   int64 // bytes; segments are sealed before they grow past it

	serial serial // of the last record
	chain  uint32 // its sum

	current *segmentWriter // nil before the first append
	last    uint32         // number of the newest segment that exists or was tried
	// The place where the log goes on when there is no current segment.
	previous    uint32
	previousEnd int64
	repeating   bool // the next append repeats what lies behind that place
	// The newest segment, if it is read where it is and not written once more, and where the
	// records end that count.
	onlyRead    uint32
	onlyReadEnd int64
}

// segmentWriter is the segment that is appended to.
type segmentWriter struct {
	number uint32
	file   vfs.File
	first  serial
	end    int64 // of the durable records
	footer []byte
}

// draft is a record before it has its place in the log.
type draft struct {
	head    recordHeader
	meta    []byte // room for the header, then table and body
	payload []byte
	record  record            // filled in by append: as it was written, to be applied
	mark    *replication.Mark // of kindMark
}

// newDraft makes a record of rows, their payload and a body.
func newDraft(k kind, table []row, payload, body []byte) *draft {
	d := &draft{payload: payload}
	d.meta = make([]byte, recordHeaderSize+len(table)*blockRowSize+len(body))
	at := recordHeaderSize
	for _, r := range table {
		r.put(d.meta[at:])
		at += blockRowSize
	}
	copy(d.meta[at:], body)
	d.head.kind = k
	d.head.rows, d.head.body, d.head.payload = uint32(len(table)), uint32(len(body)), uint32(len(payload))
	for _, r := range table {
		if r.key > 0 {
			d.head.cipher, d.head.key = cipherGCM, max(d.head.key, r.key)
		}
	}
	d.head.content = checksum(d.meta[recordHeaderSize:])
	d.record.table, d.record.body = table, d.meta[at:]
	return d
}

func (d *draft) size() int64 { return int64(len(d.meta) + len(d.payload)) }

var (
	// appends are the buffers of appends, used again.
	appends = newSpares(keptAppends, func() *[]byte { return new([]byte) })
	zeroes  [alignment]byte
)

// append writes the drafts as one, and makes them durable. When it returns nil they
// are, and have their place. An error that wraps vfs.ErrNoSpace left everything as
// it was, if it is not a *finalError; after a finalError the log must be opened
// again. The first drafts may be on a stage, whose memory is given back.
func (l *log) append(drafts []*draft, ready *stage) error {
	total := int64(0)
	for _, d := range drafts {
		total += d.size()
	}
	if ready == nil {
		ready = newStage(segmentHeaderSize + roundUp(total))
	}
	defer ready.leave()
	if l.current != nil && l.current.end > segmentHeaderSize && l.current.end+total > l.limit {
		if err := l.seal(); err != nil {
			return err
		}
	}
	w := l.current
	fresh := w == nil
	buffer := ready.buffer
	if fresh {
		w = &segmentWriter{number: l.last + 1, first: l.serial + 1}
		h := segmentHeader{
			version: l.version, vault: l.vault, disk: l.disk, number: w.number, first: w.first, chain: l.chain, session: l.session,
			created: drafts[0].head.time, previous: l.previous, previousEnd: l.previousEnd,
		}
		if l.repeating {
			h.repeats = l.serial + serial(len(drafts))
		}
		copy(buffer, h.encode())
	}
	start := w.end
	if !fresh {
		start -= segmentHeaderSize // for which there is room in the buffer
	}
	at, chain, footer := l.serial, l.chain, w.footer
	settled := l.serial
	end := int64(segmentHeaderSize) // of the drafts so far, in the buffer
	for i, d := range drafts {
		at++
		d.head.serial, d.head.chain, d.head.settled = at, chain, settled
		d.head.session, d.head.disk = l.session, l.tag
		position := start + end
		end += d.size()
		if i == len(drafts)-1 {
			d.head.pad = uint32(roundUp(end) - end)
		}
		d.head.seal(d.meta)
		chain = d.head.sum
		d.record.recordHeader, d.record.segment, d.record.position = d.head, w.number, position
		footer = appendFooter(footer, position, d.meta, d.head.body)
		if i < ready.drafts {
			copy(buffer[position-start:], d.meta) // with the header that it has now
		} else {
			buffer = append(append(buffer, d.meta...), d.payload...)
		}
	}
	buffer = append(buffer, zeroes[:roundUp(end)-end]...)
	if !fresh {
		buffer, start = buffer[segmentHeaderSize:], w.end
	}
	if fresh {
		if err := l.create(w); err != nil {
			return err
		}
	}
	l.reserve(w, start+int64(len(buffer)), len(buffer))
	if _, err := w.file.WriteAt(buffer, start); err != nil {
		return l.undo(w, fresh, fmt.Errorf("write %d bytes to segment %s: %w", len(buffer), segmentName(w.number), err))
	}
	if err := w.file.Sync(); err != nil {
		return &finalError{fmt.Errorf("sync segment %s: %w", segmentName(w.number), err)}
	}
	if fresh {
		if err := l.fs.SyncDir(l.folder); err != nil {
			return &finalError{fmt.Errorf("sync folder %s: %w", l.folder, err)}
		}
		l.current = w
	}
	w.end, w.footer = start+int64(len(buffer)), footer
	l.serial, l.chain = at, chain
	return nil
}

// appendBytes are room for all that one append takes, if not one batch alone is more: a
// large page.
const appendBytes = 2 << 20

// room gives an empty buffer for size bytes. Those of usual size are kept in the pool.
// They begin at a page, so that they can be written directly.
func room(pooled *[]byte, size int64) []byte {
	switch {
	case int64(cap(*pooled)) >= size:
		return (*pooled)[:0]
	case size > appendBytes:
		return vfs.Memory(int(size))[:0]
	case size > 256<<10:
		*pooled = vfs.Memory(appendBytes)[:0]
	default:
		*pooled = make([]byte, 0, size)
	}
	return *pooled
}

// reserve announces the appends that will follow a large one: the segment grows to
// twice what it has, and no further than where it is sealed.
func (l *log) reserve(w *segmentWriter, end int64, length int) {
	const large = 256 << 10
	if file, ok := w.file.(vfs.Reserver); ok && length >= large {
		file.Reserve(max(end, min(2*end, l.limit)))
	}
}

// finalError is a failure after which nothing is known about what was written.
type finalError struct{ err error }

func (e *finalError) Error() string { return e.err.Error() }
func (e *finalError) Unwrap() error { return e.err }

// create makes the file of a new segment.
func (l *log) create(w *segmentWriter) error {
	name := filepath.Join(l.folder, segmentName(w.number))
	f, err := l.fs.Create(name)
	if err != nil {
		err = fmt.Errorf("create segment %s: %w", segmentName(w.number), err)
		if errors.Is(err, vfs.ErrNoSpace) || vfs.Short(err) {
			return err // nothing was made
		}
		return &finalError{err}
	}
	w.file = f
	return nil
}

// undo cleans up after a write that failed. A full disk is nothing final: what was
// written lies behind the end of the log.
func (l *log) undo(w *segmentWriter, fresh bool, err error) error {
	if !errors.Is(err, vfs.ErrNoSpace) {
		return &finalError{err}
	}
	if !fresh {
		return err
	}
	closing := errors.Join(w.file.Close(), l.fs.Remove(filepath.Join(l.folder, segmentName(w.number))))
	if closing != nil {
		return &finalError{errors.Join(err, closing)}
	}
	return err
}

// seal writes the footer of the current segment and closes it. The log goes on in a
// new one.
func (l *log) seal() error {
	w := l.current
	t := trailer{
		footer: w.end, length: int64(len(w.footer)), first: w.first, last: l.serial,
		chain: l.chain, crc: checksum(w.footer), number: w.number, disk: l.tag,
	}
	tail := append(w.footer[:len(w.footer):len(w.footer)], t.encode()...)
	name := segmentName(w.number)
	if _, err := w.file.WriteAt(tail, w.end); err != nil {
		return l.undo(w, false, fmt.Errorf("write footer of segment %s: %w", name, err))
	}
	if err := w.file.Truncate(w.end + int64(len(tail))); err != nil {
		// Also without room, as on a file system that copies on write: a footer that is there
		// says that nothing comes behind it.
		return &finalError{fmt.Errorf("cut segment %s: %w", name, err)}
	}
	if err := w.file.Sync(); err != nil {
		return &finalError{fmt.Errorf("sync segment %s: %w", name, err)}
	}
	l.previous, l.previousEnd, l.last = w.number, w.end, w.number
	l.current = nil
	if err := w.file.Close(); err != nil {
		return &finalError{fmt.Errorf("close segment %s: %w", name, err)}
	}
	return nil
}

func (l *log) close() error {
	if l.current == nil || l.current.file == nil {
		return nil
	}
	err := l.current.file.Close()
	l.current.file = nil
	return err
}

// roundUp gives the next multiple of alignment.
func roundUp(n int64) int64 { return (n + alignment - 1) / alignment * alignment }
