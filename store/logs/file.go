package logs

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// active is the file that is written to; older ones are riparo-TIME-REASON.log
	// and, once compressed, the same with .gz behind it.
	active   = "riparo.log"
	stemOf   = "riparo-"
	suffix   = ".log"
	zipped   = ".gz"
	firstMax = 4 << 10 // as much of the first line as tells one file from another
	// settled is how long an unfinished last line is taken for one that is being
	// written. After that a crash tore it, and it is shown.
	settled = 2 * time.Second
)

// file is what is known of one file of the log, whatever it is called now.
type file struct {
	mu         sync.Mutex // guards the rest; held while the file is indexed
	chunks     []chunk
	to         int64 // indexed up to here
	complete   bool  // a compressed file: it does not grow
	components map[string]bool
	broken     error // what kept the end of it from being read
}

// place is where a file is at the moment.
type place struct {
	*file
	id      uint64
	held    *os.File
	zipped  bool
	size    int64 // on disk
	settled bool  // nobody writes to it
}

// lookAgain is how often the folder is listed anew when files were renamed
// meanwhile. Rotations are seconds apart at the very least.
const lookAgain = 20

// list finds the files of the log, the oldest first, and opens them: whatever they
// are called from now on, these are the ones. Call release when done with them.
func (r *Reader) list() (places []place, release func(), err error) {
	release = func() {
		for _, p := range places {
			p.held.Close() // it was only read from
		}
		places = nil
	}
	for range lookAgain {
		var before, now []string
		if before, err = r.names(); err != nil {
			break
		}
		if places, err = r.openAll(before); err != nil && !errors.Is(err, fs.ErrNotExist) {
			break
		}
		if now, err = r.names(); err == nil && slices.Equal(before, now) {
			return r.recall(places), release, nil
		}
		release() // a file was rotated or compressed while we looked
	}
	release()
	if err == nil {
		err = errors.New("its files are renamed all the time")
	}
	return nil, release, fmt.Errorf("list the log folder: %w", err)
}

// names gives the names of the files of the log, the oldest first.
func (r *Reader) names() ([]string, error) {
	entries, err := os.ReadDir(r.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, e := range entries {
		stem := strings.TrimSuffix(e.Name(), zipped)
		if e.Type().IsRegular() && (stem == active || strings.HasPrefix(stem, stemOf) && strings.HasSuffix(stem, suffix)) {
			names = append(names, e.Name())
		}
	}
	slices.SortFunc(names, func(a, b string) int {
		switch {
		case a == b:
			return 0
		case a == active: // the newest
			return 1
		case b == active:
			return -1
		}
		return strings.Compare(a, b)
	})
	return names, err
}

// openAll opens files and tells which they are. The error is that one of them is
// not there any more.
func (r *Reader) openAll(names []string) (places []place, err error) {
	for _, name := range names {
		stem := strings.TrimSuffix(name, zipped)
		if stem != name && slices.Contains(names, stem) {
			continue // it is just being made; the one that is whole counts
		}
		p := place{zipped: stem != name, settled: stem != active}
		if p.held, err = openShared(filepath.Join(r.dir, name)); err != nil {
			return places, err
		}
		if err := r.identify(stem, &p); err != nil || p.id == 0 {
			p.held.Close()
			if err != nil {
				return places, err
			}
			continue // nothing is in it yet
		}
		places = append(places, p)
	}
	return places, nil
}

// recall joins files with what is known of them. What is gone is forgotten.
func (r *Reader) recall(places []place) []place {
	r.mu.Lock()
	defer r.mu.Unlock()
	kept := map[uint64]*file{}
	for i, p := range places {
		if kept[p.id] = r.files[p.id]; kept[p.id] == nil {
			kept[p.id] = &file{components: map[string]bool{}}
		}
		places[i].file = kept[p.id]
	}
	r.files = kept
	return places
}

// identify fills in which file a place has; its id stays 0 while the file has no
// first line.
func (r *Reader) identify(stem string, p *place) error {
	info, err := p.held.Stat()
	if err != nil {
		return err
	}
	p.size = info.Size()
	p.settled = p.settled || time.Since(info.ModTime()) > settled
	r.mu.Lock()
	p.id = r.known[stem]
	r.mu.Unlock()
	if p.id != 0 {
		return nil
	}
	first := make([]byte, firstMax)
	n, _ := io.ReadFull(p.open(), first) // a short file, or one that cannot be read: see below
	if n == 0 {
		if p.zipped { // it cannot be read, which is worth saying
			p.id = numberOf([]byte(stem))
		}
		return nil
	}
	first = first[:n]
	if end := bytes.IndexByte(first, '\n'); end >= 0 {
		first = first[:end]
	} else if n < firstMax && !p.settled {
		return nil
	}
	p.id = numberOf(first)
	if stem != active {
		r.mu.Lock()
		r.known[stem] = p.id
		r.mu.Unlock()
	}
	return nil
}

func numberOf(first []byte) uint64 {
	h := fnv.New64a()
	h.Write(first)
	return max(h.Sum64(), 1)
}

// open reads a file from its beginning, uncompressed.
func (p *place) open() io.Reader {
	in := io.NewSectionReader(p.held, 0, endOffset)
	if !p.zipped {
		return in
	}
	z, err := gzip.NewReader(bufio.NewReaderSize(in, 64<<10))
	if err != nil {
		return failing{err}
	}
	return z
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// snapshot brings the index of a file up to date and gives it as it is now, with the
// offset that it reaches.
func (p *place) snapshot(ctx context.Context, w *work) ([]chunk, int64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := p.index(ctx, w)
	return slices.Clone(p.chunks), p.to, err
}

// index reads what is not indexed yet, and counts it as work. The file's lock is held.
func (p *place) index(ctx context.Context, w *work) error {
	if p.complete || !p.zipped && p.to >= p.size {
		return nil
	}
	// A chunk that is not full yet is made anew with what has come since.
	if n := len(p.chunks); n > 0 && p.chunks[n-1].to-p.chunks[n-1].from < chunkSize/2 {
		p.to = p.chunks[n-1].from
		p.chunks = p.chunks[:n-1]
	}
	in := p.open()
	if err := skip(in, p.to); err != nil {
		return p.isBroken(err)
	}
	s := splitter{in: in, at: p.to, settled: p.settled}
	for {
		data, from, err := s.next()
		if errors.Is(err, io.EOF) {
			p.complete = p.zipped
			return nil
		}
		if err != nil {
			p.complete = p.zipped
			return p.isBroken(err)
		}
		p.chunks = append(p.chunks, p.describe(data, from, lastBefore(p.chunks, len(p.chunks))))
		p.to = from + int64(len(data))
		w.did(len(data))
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// unread is isBroken for who does not hold the lock.
func (p *place) unread(err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.isBroken(err)
}

// isBroken notes that a file, or the end of it, cannot be read: the others can.
func (p *place) isBroken(err error) error {
	p.broken = fmt.Errorf("%s: %w", filepath.Base(p.held.Name()), err)
	return nil
}

// lastBefore is the time of the last line before a chunk.
func lastBefore(chunks []chunk, i int) time.Time {
	if i == 0 {
		return time.Time{}
	}
	return chunks[i-1].last
}

// splitter cuts a stream into blocks that end with a line.
type splitter struct {
	in      io.Reader
	at      int64
	settled bool // an unfinished last line is one
	buffer  []byte
	given   int
	ended   error // why there is no more to read
}

// next gives a block and where it begins. It belongs to the splitter.
func (s *splitter) next() ([]byte, int64, error) {
	if s.buffer == nil {
		s.buffer = make([]byte, 0, chunkSize)
	}
	s.buffer = s.buffer[:copy(s.buffer[:cap(s.buffer)], s.buffer[s.given:])]
	s.given = 0
	for s.ended == nil && len(s.buffer) < chunkSize {
		s.read()
	}
	cut := bytes.LastIndexByte(s.buffer, '\n') + 1
	for cut == 0 && s.ended == nil && len(s.buffer) < maxLine {
		s.buffer = slices.Grow(s.buffer, chunkSize)
		s.read()
		cut = bytes.LastIndexByte(s.buffer, '\n') + 1
	}
	if cut == 0 && (len(s.buffer) >= maxLine || s.ended != nil && s.settled) {
		cut = len(s.buffer)
	}
	if cut == 0 {
		return nil, s.at, s.ended
	}
	from := s.at
	s.given, s.at = cut, s.at+int64(cut)
	return s.buffer[:cut], from, nil
}

func (s *splitter) read() {
	n, err := s.in.Read(s.buffer[len(s.buffer):min(cap(s.buffer), maxLine)])
	s.buffer = s.buffer[:len(s.buffer)+n]
	s.ended = err
}
