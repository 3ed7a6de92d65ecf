package vault

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"riparo/replication"
	"riparo/replication/vfs"
)

const (
	// maxHandles bounds the segments that a view has open at once.
	maxHandles = 64
	// cachedBlocks is how many blocks a view keeps decompressed: readers that ask for
	// 4 KiB at a time, as virtual machines do, would decompress each one 16 times.
	cachedBlocks = 16
)

// blocks reads the blocks of one disk for one view.
type blocks struct {
	fs     vfs.FS
	folder string
	disk   replication.DiskID
	keys   *dataKeys

	mu     sync.Mutex // guards all below
	open   map[uint32]*handle
	clock  uint64
	closed bool
	cache  [cachedBlocks]cachedBlock
	next   int // of the cache, to be replaced
}

// handle is an open segment.
type handle struct {
	file  vfs.File
	users int
	used  uint64 // clock of the last use
}

// cachedBlock is the content of a block, in a room that is used again once another block
// has taken its place.
type cachedBlock struct {
	location
	room *[blockBytes]byte // nil: there is none
}

var errViewClosed = errors.New("the view is closed")

// acquire opens a segment, or gives the handle that is open. It is given back with
// release.
func (b *blocks) acquire(number uint32) (*handle, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, errViewClosed
	}
	b.clock++
	h := b.open[number]
	if h == nil {
		if len(b.open) >= maxHandles {
			if err := b.evict(); err != nil {
				return nil, err
			}
		}
		f, err := b.fs.OpenRead(filepath.Join(b.folder, segmentName(number)))
		if err != nil {
			return nil, err
		}
		if b.open == nil {
			b.open = map[uint32]*handle{}
		}
		if once, ok := f.(vfs.Streamer); ok {
			once.Stream()
		}
		h = &handle{file: f}
		b.open[number] = h
	}
	h.users++
	h.used = b.clock
	return h, nil
}

func (b *blocks) release(h *handle) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	h.users--
	if b.closed && h.users == 0 {
		return h.file.Close()
	}
	return nil
}

// evict closes the handle that was not used for the longest time. If all are in use,
// there is one more than there should be for a while. The caller holds mu.
func (b *blocks) evict() error {
	oldest := uint32(0)
	for n, h := range b.open {
		if h.users == 0 && (oldest == 0 || h.used < b.open[oldest].used) {
			oldest = n
		}
	}
	if oldest == 0 {
		return nil
	}
	h := b.open[oldest]
	delete(b.open, oldest)
	return h.file.Close()
}

// close closes all handles; those in use, when they are given back.
func (b *blocks) close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	var errs []error
	for _, h := range b.open {
		if h.users == 0 {
			errs = append(errs, h.file.Close())
		}
	}
	b.open = nil
	for i := range b.cache {
		b.replace(i, cachedBlock{})
	}
	return errors.Join(errs...)
}

var (
	buffers  = sync.Pool{New: func() any { return new([maxStoredBytes]byte) }}
	contents = sync.Pool{New: func() any { return new([blockBytes]byte) }}
)

// read reads the bytes of e into p, which has its length. Its block may be in what was
// read of its segment already.
func (b *blocks) read(e *entry, p []byte, read *stretch) error {
	if e.codec == codecZero {
		clear(p)
		return nil
	}
	if len(p) == int(e.plain) {
		return b.load(e, p, read)
	}
	if b.cached(e, p) {
		return nil
	}
	room := contents.Get().(*[blockBytes]byte)
	if err := b.load(e, room[:e.plain], read); err != nil {
		contents.Put(room)
		return err
	}
	copy(p, room[e.inner:e.plain])
	b.remember(e.location(), room)
	return nil
}

// load reads the whole block of e into p.
func (b *blocks) load(e *entry, p []byte, read *stretch) error {
	stored := read.stored(e)
	if stored == nil {
		buffer := buffers.Get().(*[maxStoredBytes]byte)
		defer buffers.Put(buffer)
		stored = buffer[:e.stored]
		if err := b.fetch(e, stored); err != nil {
			return err
		}
	}
	if checksum(stored) != e.crc {
		return b.damaged(e, errors.New("a block has a wrong checksum"))
	}
	inner, err := b.keys.unseal(e, stored)
	if problem, ok := errors.AsType[*replication.Problem](err); ok {
		return problem // there is no key
	}
	if err == nil {
		err = e.decode(p, inner)
	}
	if err != nil {
		return b.damaged(e, err)
	}
	return nil
}

// fetch reads the stored bytes of the block of e.
func (b *blocks) fetch(e *entry, stored []byte) (err error) {
	h, err := b.acquire(e.segment)
	if errors.Is(err, errViewClosed) {
		return fmt.Errorf("read disk %s: %w", b.disk, err)
	}
	if err != nil {
		return b.damaged(e, err)
	}
	defer func() { err = errors.Join(err, b.release(h)) }()
	if err := readFull(h.file, stored, int64(e.position)); err != nil {
		return b.damaged(e, err)
	}
	return nil
}

// damaged is the problem of a block that cannot be read, but for a shortage, which passes.
func (b *blocks) damaged(e *entry, err error) error {
	if vfs.Short(err) {
		return fmt.Errorf("read disk %s: %w", b.disk, err)
	}
	return damagedProblem(b.disk, replication.Extent{Offset: e.offset - int64(e.inner), Length: int64(e.plain)}, e.segment, int64(e.position), err)
}

// cached reads the bytes of e into p from what is remembered, if it can.
func (b *blocks) cached(e *entry, p []byte) bool {
	at := e.location()
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.cache {
		if b.cache[i].location == at && b.cache[i].room != nil {
			copy(p, b.cache[i].room[e.inner:e.plain])
			return true
		}
	}
	return false
}

// remember keeps the content of a block, and its room.
func (b *blocks) remember(at location, room *[blockBytes]byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		contents.Put(room)
		return
	}
	b.replace(b.next, cachedBlock{at, room})
	b.next = (b.next + 1) % cachedBlocks
}

// replace gives the place of a block to another one. The caller holds mu, as whoever copies
// from a room does.
func (b *blocks) replace(i int, with cachedBlock) {
	if room := b.cache[i].room; room != nil {
		contents.Put(room)
	}
	b.cache[i] = with
}
