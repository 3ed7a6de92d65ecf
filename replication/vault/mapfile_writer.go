package vault

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync/atomic"

	"riparo/replication/vfs"
)

// mapWriter writes a map file.
type mapWriter struct {
	file     vfs.File
	name     string
	gone     *atomic.Bool
	vault    *Vault
	disk     uint32
	number   uint32
	made     mapStamp
	from, to serial
	layers   []mapLayer
	refs     map[uint32]*segmentRef
	fine     int64 // entries
	whole    int64
	moves    moves
	entry    entry // see now
	start    int64 // page of the whole section
	fence    []int64
	page     int64 // to be written next
	buffer   []byte
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
	d.mu.Lock()
	moves := d.moves
	d.mu.Unlock()
	return &mapWriter{
		moves: moves,
		file:  f, name: name, gone: &d.gone, vault: d.vault, disk: d.log.tag, number: number, from: from, to: to,
		made: mapStamp{session: d.vault.session, count: d.vault.mapsMade.Add(1)},
		refs: map[uint32]*segmentRef{}, page: 1,
	}, nil
}

// layer begins a layer; its entries follow.
func (w *mapWriter) layer(last serial) { w.layers = append(w.layers, mapLayer{last: last}) }

// add adds an entry of the layer.
func (w *mapWriter) add(from *entry) {
	e := w.now(from)
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

// now is the entry with the place where its block is now.
func (w *mapWriter) now(e *entry) *entry {
	w.entry = *e
	w.moves.follow(&w.entry)
	return &w.entry
}

func (w *mapWriter) addMerged(from *entry) {
	e := w.now(from)
	w.whole++
	w.fenced(e)
	w.put(e)
}

func (w *mapWriter) put(e *entry) {
	if w.inPage == pageEntries {
		w.finishPage()
	}
	if w.inPage == 0 {
		if len(w.buffer) == writeBuffer {
			w.flush()
		}
		w.buffer = append(w.buffer, make([]byte, pageSize)...)
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
	binary.LittleEndian.PutUint32(page[pageSize-8:], w.made.page(w.page))
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
	le.PutUint32(h[8:], derivedVersion)
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
	le.PutUint64(h[104:], w.made.session)
	le.PutUint64(h[112:], w.made.count)
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
	m := &mapFile{number: w.number, made: w.made, from: w.from, to: w.to, layers: w.layers, refs: refs, moved: w.moves.newest()}
	m.fine = section{file: m, start: 1, count: w.fine}
	m.whole = section{file: m, start: w.start, count: w.whole, fence: w.fence}
	m.use.fs, m.use.name, m.use.file, m.use.gone = w.vault.fs, w.name, w.file, w.gone
	return m, nil
}

// abandon removes what was written because of err.
func (w *mapWriter) abandon(err error) error {
	return errors.Join(err, w.file.Close(), w.vault.fs.Remove(w.name))
}
