package vault

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync/atomic"
)

// Sizes of a map file, in bytes.
const (
	entrySize    = 56
	pageSize     = 4096
	pageEntries  = (pageSize - 8) / entrySize // the rest says whose page it is, and a CRC
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
	made     mapStamp
	from, to serial
	layers   []mapLayer
	refs     []segmentRef
	fine     section // the layers one after the other
	whole    section // all layers merged; the same as fine if there is one

	moved serial // moves up to here are in it; 0 when it was opened

	use handleUse
}

// mapStamp tells a map file from any other that ever had its number: the number of
// one that is gone may be used again while an old catalog still names it.
type mapStamp struct {
	session uint64 // that made it
	count   uint64 // among the map files of that session, of all disks
}

// page is what a page of the file says of its place. A write that went astray may leave a
// page where another belongs, and its CRC is right there, too.
func (m mapStamp) page(number int64) uint32 {
	var p [24]byte
	le := binary.LittleEndian
	le.PutUint64(p[:], m.session)
	le.PutUint64(p[8:], m.count)
	le.PutUint64(p[16:], uint64(number))
	return checksum(p[:])
}

// stale reports whether the map names places that blocks have left since.
func (m *mapFile) stale(all moves) bool {
	if all.empty() {
		return false
	}
	return slices.ContainsFunc(m.refs, func(r segmentRef) bool { return all.segments[r.segment] > m.moved })
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
	last  atomic.Pointer[mapPage] // that was asked for
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

var errNoMap = errors.New("no map, or a damaged one")

// openMap opens a map file and checks its header and tail.
func (d *disk) openMap(number uint32, made mapStamp) (_ *mapFile, err error) {
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
	if m.number != number || m.made != made || le.Uint32(h[12:]) != d.log.tag {
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
	if len(h) != pageSize || string(h[:8]) != mapMagic || le.Uint32(h[8:]) != derivedVersion ||
		checksum(h[:pageSize-4]) != le.Uint32(h[pageSize-4:]) {
		return nil, mapTail{}, errNoMap
	}
	m := &mapFile{number: le.Uint32(h[32:]), from: serial(le.Uint64(h[40:])), to: serial(le.Uint64(h[48:]))}
	m.made = mapStamp{session: le.Uint64(h[104:]), count: le.Uint64(h[112:])}
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
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, io.ErrUnexpectedEOF):
		return &mapError{mapName(s.file.number), err}
	case err != nil: // it may pass
		return fmt.Errorf("read map %s: %w", mapName(s.file.number), err)
	}
	for at := 0; at < len(p); at += pageSize {
		page, number := p[at:at+pageSize], s.start+first+int64(at/pageSize)
		if checksum(page[:pageSize-4]) != binary.LittleEndian.Uint32(page[pageSize-4:]) {
			return &mapError{mapName(s.file.number), fmt.Errorf("page %d has a wrong checksum", number)}
		}
		if binary.LittleEndian.Uint32(page[pageSize-8:]) != s.file.made.page(number) {
			return &mapError{mapName(s.file.number), fmt.Errorf("page %d belongs elsewhere", number)}
		}
	}
	return nil
}

// mapPage is a page of a section that was read. It is never changed.
type mapPage struct {
	number  int64
	content [pageSize]byte
}

// page gives a page of the section. The one that was asked for last is kept: who reads a
// disk from its beginning to its end needs each many times.
func (s *section) page(number int64) (*mapPage, error) {
	if p := s.last.Load(); p != nil && p.number == number {
		return p, nil
	}
	p := &mapPage{number: number}
	if err := s.read(p.content[:], number); err != nil {
		return nil, err
	}
	s.last.Store(p)
	return p, nil
}

// overlapping calls visit for the entries that overlap [from, to), in order.
func (s *section) overlapping(from, to int64, visit func(*entry)) error {
	if s.count == 0 {
		return nil
	}
	// The last page that begins at or before from may hold what reaches into it.
	first := int64(max(0, sort.Search(len(s.fence), func(i int) bool { return s.fence[i] > from })-1))
	for n := first; n < s.pages() && s.fence[n] < to; n++ {
		p, err := s.page(n)
		if err != nil {
			return err
		}
		page := p.content[:]
		count := int(min(pageEntries, s.count-n*pageEntries))
		for i := sort.Search(count, func(i int) bool { return entryEnd(page[i*entrySize:]) > from }); i < count; i++ {
			e := parseEntry(page[i*entrySize:])
			if err := e.check(); err != nil {
				return &mapError{mapName(s.file.number), err}
			}
			if e.offset >= to {
				return nil
			}
			visit(&e)
		}
	}
	return nil
}

// layersUpTo reads the layers whose last record is not after at, merged. The result
// is bounded by the size of a run.
func (m *mapFile) layersBetween(from, to serial) ([][]entry, error) {
	var maps [][]entry
	first := int64(0)
	var c *cursor // one for all: they follow each other
	for _, l := range m.layers {
		if l.last > from && l.last <= to && l.count > 0 {
			if c == nil {
				c = m.fine.cursor(first, m.fine.count)
			}
			list := make([]entry, 0, l.count)
			for int64(len(list)) < l.count && c.advance() {
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
