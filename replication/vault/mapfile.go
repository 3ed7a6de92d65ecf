package vault

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"riparo/replication/vfs"
)

// Sizes of a map file, in bytes.
const (
	entrySize    = 56
	pageSize     = 4096
	pageEntries  = (pageSize - 8) / entrySize // the rest is a CRC and 4 spare bytes
	mapMagic     = "RIPAROMP"
	mapSuffix    = ".map"
	maxTailBytes = 1 << 30
)

// mapFile is a part of a disk's map that has been written out: what the records
// after from, up to and including to, have changed. It is written once and never
// changed. It holds one layer for every recovery point inside, and, if there are
// several, all of them merged once more, so that a newer point needs to look only
// there.
type mapFile struct {
	number   uint32
	from, to serial
	layers   []mapLayer
	refs     []segmentRef
	fine     section // the layers one after the other
	whole    section // all layers merged; the same as fine if there is one

	use handleUse
}

// mapLayer is one layer of a map file.
type mapLayer struct {
	last  serial // of its newest record
	count int64  // of its entries
}

// segmentRef counts what a map needs of a segment.
type segmentRef struct {
	segment uint32
	entries uint32
	bytes   int64 // stored, as far as can be told: parts count by their share
}

// section is a run of sorted entries in a map file.
type section struct {
	file  *mapFile
	start int64 // first page
	count int64 // entries
	fence []int64
}

// handleUse keeps a map file open while it is needed and removes it when it is not.
type handleUse struct {
	mu    sync.Mutex // guards all below
	fs    vfs.FS
	name  string
	file  vfs.File
	users int
	dead  bool // to be removed after the last use
	// gone is set when the disk was erased: its files are removed, and the name may
	// be that of another disk's file by now.
	gone *atomic.Bool
}

// acquire keeps the file until release.
func (u *handleUse) acquire() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.users++
}

func (u *handleUse) release() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.users--
	return u.clean()
}

// discard removes the file as soon as nobody uses it.
func (u *handleUse) discard() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.dead = true
	return u.clean()
}

// close closes the file without removing it.
func (u *handleUse) close() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.file == nil {
		return nil
	}
	err := u.file.Close()
	u.file = nil
	return err
}

func (u *handleUse) clean() error {
	if !u.dead || u.users > 0 {
		return nil
	}
	var err error
	if u.file != nil {
		err = u.file.Close()
		u.file = nil
	}
	if !u.gone.Load() {
		err = errors.Join(err, u.fs.Remove(u.name))
	}
	return err
}

func (u *handleUse) get() (vfs.File, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.file == nil {
		f, err := u.fs.OpenRead(u.name)
		if err != nil {
			return nil, err
		}
		u.file = f
	}
	return u.file, nil
}

func mapName(number uint32) string { return fmt.Sprintf("%08x%s", number, mapSuffix) }

func mapNumber(name string) (uint32, bool) {
	hex, ok := strings.CutSuffix(name, mapSuffix)
	if !ok || len(hex) != 8 {
		return 0, false
	}
	n, err := strconv.ParseUint(hex, 16, 32)
	return uint32(n), err == nil && n > 0
}

func (e *entry) put(p []byte) {
	le := binary.LittleEndian
	le.PutUint64(p[0:], uint64(e.offset))
	le.PutUint64(p[8:], uint64(e.length))
	le.PutUint64(p[16:], uint64(e.sum))
	le.PutUint32(p[24:], e.segment)
	le.PutUint32(p[28:], e.position)
	le.PutUint32(p[32:], e.stored)
	le.PutUint32(p[36:], e.inner)
	le.PutUint32(p[40:], e.plain)
	le.PutUint32(p[44:], e.crc)
	clear(p[48:entrySize])
	p[48] = byte(e.codec)
}

func parseEntry(p []byte) entry {
	le := binary.LittleEndian
	return entry{
		offset:   int64(le.Uint64(p[0:])),
		length:   int64(le.Uint64(p[8:])),
		sum:      plainSum(le.Uint64(p[16:])),
		segment:  le.Uint32(p[24:]),
		position: le.Uint32(p[28:]),
		stored:   le.Uint32(p[32:]),
		inner:    le.Uint32(p[36:]),
		plain:    le.Uint32(p[40:]),
		crc:      le.Uint32(p[44:]),
		codec:    codec(p[48]),
	}
}

// check reports what makes the entry unacceptable: whoever reads a block by it
// relies on its numbers.
func (e *entry) check() error {
	switch {
	case e.offset < 0 || e.length <= 0 || e.offset+e.length < 0:
	case e.codec == codecZero:
		return nil
	case e.codec != codecRaw && e.codec != codecLZ4:
	case e.plain == 0 || e.plain > blockBytes || e.stored == 0 || e.stored > maxStoredBytes:
	case int64(e.inner)+e.length > int64(e.plain):
	default:
		return nil
	}
	return fmt.Errorf("the map has an impossible entry at %d", e.offset)
}

// mapWriter writes a map file.
type mapWriter struct {
	file     vfs.File
	name     string
	gone     *atomic.Bool
	vault    *Vault
	disk     uint32
	number   uint32
	from, to serial
	layers   []mapLayer
	refs     map[uint32]*segmentRef
	fine     int64 // entries
	whole    int64
	start    int64 // page of the whole section
	fence    []int64
	page     int64 // to be written next
	buffer   []byte
	written  int64 // pages of buffer that were written
	inPage   int
	err      error
}

// writeBuffer is how much of a map is written at once.
const writeBuffer = 64 * pageSize

func (d *disk) newMapWriter(number uint32, from, to serial) (*mapWriter, error) {
	name := filepath.Join(d.folder, mapName(number))
	f, err := d.vault.fs.Create(name)
	if err != nil {
		return nil, fmt.Errorf("create map %s of disk %s: %w", mapName(number), d.id, err)
	}
	return &mapWriter{
		file: f, name: name, gone: &d.gone, vault: d.vault, disk: d.log.tag, number: number, from: from, to: to,
		refs: map[uint32]*segmentRef{}, page: 1, buffer: make([]byte, 0, writeBuffer),
	}, nil
}

// layer begins a layer; its entries follow.
func (w *mapWriter) layer(last serial) { w.layers = append(w.layers, mapLayer{last: last}) }

// add adds an entry of the layer.
func (w *mapWriter) add(e *entry) {
	w.layers[len(w.layers)-1].count++
	w.fine++
	r := w.refs[e.segment]
	if r == nil {
		r = &segmentRef{segment: e.segment}
		w.refs[e.segment] = r
	}
	r.entries++
	if e.codec != codecZero {
		r.bytes += int64(e.stored) * e.length / int64(e.plain)
	}
	if len(w.layers) == 1 {
		w.fenced(e)
	}
	w.put(e)
}

// fenced notes the first offset of each page of the section that newer points use.
func (w *mapWriter) fenced(e *entry) {
	if w.inPage == 0 || w.inPage == pageEntries {
		w.fence = append(w.fence, e.offset)
	}
}

// merged begins the whole section, if there are several layers.
func (w *mapWriter) merged() {
	w.finishPage()
	w.start = w.page
	w.fence = nil
}

func (w *mapWriter) addMerged(e *entry) {
	w.whole++
	w.fenced(e)
	w.put(e)
}

func (w *mapWriter) put(e *entry) {
	if w.inPage == pageEntries {
		w.finishPage()
	}
	if w.inPage == 0 {
		if len(w.buffer) == cap(w.buffer) {
			w.flush()
		}
		n := len(w.buffer)
		w.buffer = w.buffer[:n+pageSize]
		clear(w.buffer[n:])
	}
	page := w.buffer[len(w.buffer)-pageSize:]
	e.put(page[w.inPage*entrySize:])
	w.inPage++
}

func (w *mapWriter) finishPage() {
	if w.inPage == 0 {
		return
	}
	page := w.buffer[len(w.buffer)-pageSize:]
	binary.LittleEndian.PutUint32(page[pageSize-4:], checksum(page[:pageSize-4]))
	w.inPage = 0
	w.page++
}

// flush writes what is complete.
func (w *mapWriter) flush() {
	if w.err == nil && len(w.buffer) > 0 {
		first := w.page - int64(len(w.buffer)/pageSize)
		_, w.err = w.file.WriteAt(w.buffer, first*pageSize)
	}
	w.buffer = w.buffer[:0]
}

// finish writes the rest, makes the file durable and gives it as it can be read.
func (w *mapWriter) finish() (*mapFile, error) {
	w.finishPage()
	w.flush()
	if w.start == 0 {
		w.start, w.whole = 1, w.fine
	}
	le := binary.LittleEndian
	var tail []byte
	for _, l := range w.layers {
		tail = le.AppendUint64(tail, uint64(l.last))
		tail = le.AppendUint64(tail, uint64(l.count))
	}
	refs := make([]segmentRef, 0, len(w.refs))
	for _, r := range w.refs {
		refs = append(refs, *r)
	}
	slices.SortFunc(refs, func(a, b segmentRef) int { return int(int64(a.segment) - int64(b.segment)) })
	for _, r := range refs {
		tail = le.AppendUint32(tail, r.segment)
		tail = le.AppendUint32(tail, r.entries)
		tail = le.AppendUint64(tail, uint64(r.bytes))
	}
	for _, offset := range w.fence {
		tail = le.AppendUint64(tail, uint64(offset))
	}
	h := make([]byte, pageSize)
	copy(h, mapMagic)
	le.PutUint32(h[8:], formatVersion)
	le.PutUint32(h[12:], w.disk)
	copy(h[16:32], w.vault.id[:])
	le.PutUint32(h[32:], w.number)
	le.PutUint32(h[36:], uint32(len(w.layers)))
	le.PutUint64(h[40:], uint64(w.from))
	le.PutUint64(h[48:], uint64(w.to))
	le.PutUint64(h[56:], uint64(w.fine))
	le.PutUint64(h[64:], uint64(w.whole))
	le.PutUint64(h[72:], uint64(w.start))
	le.PutUint64(h[80:], uint64(w.page*pageSize)) // of the tail
	le.PutUint64(h[88:], uint64(len(tail)))
	le.PutUint32(h[96:], uint32(len(refs)))
	le.PutUint32(h[100:], checksum(tail))
	le.PutUint32(h[pageSize-4:], checksum(h[:pageSize-4]))
	if w.err == nil && len(tail) > 0 {
		_, w.err = w.file.WriteAt(tail, w.page*pageSize)
	}
	if w.err == nil {
		_, w.err = w.file.WriteAt(h, 0)
	}
	if w.err == nil {
		w.err = w.file.Sync()
	}
	if w.err != nil {
		return nil, w.abandon(fmt.Errorf("write map %s: %w", mapName(w.number), w.err))
	}
	m := &mapFile{number: w.number, from: w.from, to: w.to, layers: w.layers, refs: refs}
	m.fine = section{file: m, start: 1, count: w.fine}
	m.whole = section{file: m, start: w.start, count: w.whole, fence: w.fence}
	m.use.fs, m.use.name, m.use.file, m.use.gone = w.vault.fs, w.name, w.file, w.gone
	return m, nil
}

// abandon removes what was written because of err.
func (w *mapWriter) abandon(err error) error {
	return errors.Join(err, w.file.Close(), w.vault.fs.Remove(w.name))
}

var errNoMap = errors.New("no map, or a damaged one")

// openMap opens a map file and checks its header and tail.
func (d *disk) openMap(number uint32) (_ *mapFile, err error) {
	name := filepath.Join(d.folder, mapName(number))
	f, err := d.vault.fs.OpenRead(name)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("open map %s of disk %s: %w", mapName(number), d.id, err), f.Close())
		}
	}()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	h := make([]byte, pageSize)
	if err := readFull(f, h, 0); err != nil {
		return nil, err
	}
	m, tail, err := parseMapHeader(h, size)
	if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	if m.number != number || le.Uint32(h[12:]) != d.log.tag {
		return nil, errNoMap
	}
	p := make([]byte, tail.length)
	if err := readFull(f, p, tail.position); err != nil {
		return nil, err
	}
	if err := m.parseTail(p, tail); err != nil {
		return nil, err
	}
	m.use.fs, m.use.name, m.use.file, m.use.gone = d.vault.fs, name, f, &d.gone
	return m, nil
}

// mapTail says where the tail of a map file is and what it has.
type mapTail struct {
	position, length int64
	layers, refs     int64
	crc              uint32
}

// parseMapHeader reads the first page of a map file of size bytes.
func parseMapHeader(h []byte, size int64) (*mapFile, mapTail, error) {
	le := binary.LittleEndian
	if len(h) != pageSize || string(h[:8]) != mapMagic || le.Uint32(h[8:]) != formatVersion ||
		checksum(h[:pageSize-4]) != le.Uint32(h[pageSize-4:]) {
		return nil, mapTail{}, errNoMap
	}
	m := &mapFile{number: le.Uint32(h[32:]), from: serial(le.Uint64(h[40:])), to: serial(le.Uint64(h[48:]))}
	m.fine = section{file: m, start: 1, count: int64(le.Uint64(h[56:]))}
	m.whole = section{file: m, start: int64(le.Uint64(h[72:])), count: int64(le.Uint64(h[64:]))}
	t := mapTail{
		position: int64(le.Uint64(h[80:])), length: int64(le.Uint64(h[88:])),
		layers: int64(le.Uint32(h[36:])), refs: int64(le.Uint32(h[96:])), crc: le.Uint32(h[100:]),
	}
	limit := size / pageSize * pageEntries
	switch {
	case m.fine.count < 0 || m.fine.count > limit || m.whole.count < 0 || m.whole.count > limit:
	case m.whole.start < 1 || m.whole.start > size/pageSize+1:
	case t.length < 0 || t.length > maxTailBytes || t.position < pageSize || t.position > size || t.length > size-t.position:
	case t.length != t.layers*16+t.refs*16+m.whole.pages()*8:
	default:
		return m, t, nil
	}
	return nil, t, errNoMap
}

func (m *mapFile) parseTail(p []byte, t mapTail) error {
	le := binary.LittleEndian
	if checksum(p) != t.crc {
		return errNoMap
	}
	total := int64(0)
	for range t.layers {
		l := mapLayer{last: serial(le.Uint64(p)), count: int64(le.Uint64(p[8:]))}
		if l.count < 0 || l.count > m.fine.count {
			return errNoMap
		}
		total += l.count
		m.layers = append(m.layers, l)
		p = p[16:]
	}
	if total != m.fine.count {
		return errNoMap
	}
	for range t.refs {
		m.refs = append(m.refs, segmentRef{segment: le.Uint32(p), entries: le.Uint32(p[4:]), bytes: int64(le.Uint64(p[8:]))})
		p = p[16:]
	}
	for len(p) > 0 {
		m.whole.fence = append(m.whole.fence, int64(le.Uint64(p)))
		p = p[8:]
	}
	return nil
}

// pages is the number of pages of the section.
func (s *section) pages() int64 { return (s.count + pageEntries - 1) / pageEntries }

// mapError is damage to a map file. Its content can be made again from the log.
type mapError struct {
	name string
	err  error
}

func (e *mapError) Error() string { return fmt.Sprintf("map %s: %v", e.name, e.err) }
func (e *mapError) Unwrap() error { return e.err }

// read reads count pages from the page first of the section into p.
func (s *section) read(p []byte, first int64) error {
	f, err := s.file.use.get()
	if err == nil {
		err = readFull(f, p, (s.start+first)*pageSize)
	}
	for at := 0; err == nil && at < len(p); at += pageSize {
		page := p[at : at+pageSize]
		if checksum(page[:pageSize-4]) != binary.LittleEndian.Uint32(page[pageSize-4:]) {
			err = fmt.Errorf("page %d has a wrong checksum", s.start+first+int64(at/pageSize))
		}
	}
	if err != nil {
		return &mapError{mapName(s.file.number), err}
	}
	return nil
}

var pages = sync.Pool{New: func() any { return new([pageSize]byte) }}

// overlapping calls visit for the entries that overlap [from, to), in order.
func (s *section) overlapping(from, to int64, visit func(*entry)) error {
	if s.count == 0 {
		return nil
	}
	page := pages.Get().(*[pageSize]byte)
	defer pages.Put(page)
	// The last page that begins at or before from may hold what reaches into it.
	first := int64(max(0, sort.Search(len(s.fence), func(i int) bool { return s.fence[i] > from })-1))
	for n := first; n < s.pages() && s.fence[n] < to; n++ {
		if err := s.read(page[:], n); err != nil {
			return err
		}
		for i := range min(pageEntries, s.count-n*pageEntries) {
			e := parseEntry(page[i*entrySize:])
			if err := e.check(); err != nil {
				return &mapError{mapName(s.file.number), err}
			}
			if e.offset >= to {
				return nil
			}
			if e.end() > from {
				visit(&e)
			}
		}
	}
	return nil
}

// cursor reads a section from one entry on.
type cursor struct {
	section *section
	next    int64 // entry
	end     int64
	buffer  []byte
	first   int64 // page of the buffer
	current entry
	err     error
}

// cursorPages are read at once.
const cursorPages = 16

func (s *section) cursor(from, to int64) *cursor { return &cursor{section: s, next: from, end: to} }

// advance moves to the next entry and reports whether there is one.
func (c *cursor) advance() bool {
	if c.err != nil || c.next >= c.end {
		return false
	}
	page := c.next / pageEntries
	if len(c.buffer) == 0 || page >= c.first+int64(len(c.buffer)/pageSize) {
		if c.buffer == nil {
			c.buffer = make([]byte, cursorPages*pageSize)
		}
		c.first = page
		c.buffer = c.buffer[:min(cursorPages, c.section.pages()-page)*pageSize]
		if c.err = c.section.read(c.buffer, page); c.err != nil {
			return false
		}
	}
	at := (page-c.first)*pageSize + c.next%pageEntries*entrySize
	c.current = parseEntry(c.buffer[at:])
	if err := c.current.check(); err != nil {
		c.err = &mapError{mapName(c.section.file.number), err}
		return false
	}
	c.next++
	return true
}

// layersUpTo reads the layers whose last record is not after at, merged. The result
// is bounded by the size of a run.
func (m *mapFile) layersBetween(from, to serial) ([][]entry, error) {
	var maps [][]entry
	first := int64(0)
	for _, l := range m.layers {
		if l.last > from && l.last <= to && l.count > 0 {
			list := make([]entry, 0, l.count)
			c := m.fine.cursor(first, first+l.count)
			for c.advance() {
				list = append(list, c.current)
			}
			if c.err != nil {
				return nil, c.err
			}
			maps = append(maps, list)
		}
		first += l.count
	}
	return maps, nil
}
