package nbd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"sync"

	"riparo/replication"
)

// Overlay is a disk that shows a source and can be written: what is written goes
// to a sparse file, the source stays as it is. It is the disk of a test failover.
//
// # What is promised
//
// After Sync returned nil, everything written before it is there when the overlay
// is opened again, whatever happened to the machine. What was written since then
// may be there, in whole or in part, or not, sector by sector, as with the cache
// of any disk; a sector that was not written since keeps its content always. To
// hold that, a block is first copied whole into the file, and the file says that
// it has the block only after the copy was made durable.
//
// When a Sync fails, nobody can tell what is on the disk: from then on Write, Zero
// and Sync fail too, and the overlay has to be opened again.
//
// What the file says of itself, whose it is and where each block lies, is under
// checksums: a flipped bit there is told by OpenOverlay. The content of the blocks is
// not, as that of no disk that is written in place; only the file system below can
// answer for it.
//
// An overlay belongs to the disk below it. The identity given at its making (the
// name of the recovery point) and the size are kept in the file, and Open refuses
// another one. While it is open, no other process can open it.
//
// Overlay is a [replication.Source], a [Writer] and a [RegionMapper]: serve it as
// Export{Source: o, Writer: o}.
type Overlay struct {
	base   replication.Source
	below  *holes
	file   storage
	layout layout
	locks  blockLocks

	mu     sync.RWMutex // guards what follows
	states blockStates
	broken error

	syncing chan struct{} // holds a token while a Sync runs
}

// OpenOverlay opens the overlay at path, or makes one if there is none. identity
// names what the source shows.
func OpenOverlay(path string, base replication.Source, identity string) (*Overlay, error) {
	l, err := newLayout(base.Size(), identity)
	if err != nil {
		return nil, fmt.Errorf("overlay %s: %w", path, err)
	}
	f, err := openOverlayFile(path, l)
	if err != nil {
		return nil, err
	}
	o, err := newOverlay(overlayStorage{f}, base, l)
	if err != nil {
		f.Close()
		if errors.Is(err, errStates) {
			return nil, overlayProblem("overlay.damaged", path, fmt.Sprintf("is damaged: %v", err), "begin with a new file", err)
		}
		return nil, overlayProblem("overlay.unusable", path, fmt.Sprintf("cannot be read: %v", err), "check the disk that holds it", err)
	}
	return o, nil
}

// storage is the open file of an overlay; a test stands in for it with one that
// loses power.
type storage interface {
	io.ReaderAt
	io.WriterAt
	// Release makes a range zero and gives back its space. Where that is not
	// possible the range keeps what it has.
	Release(off, length int64) error
	Sync() error
	Close() error
}

// overlayStorage is storage in a real file.
type overlayStorage struct{ *os.File }

func (s overlayStorage) Release(off, length int64) error { return releaseSpace(s.File, off, length) }

func newOverlay(f storage, base replication.Source, l layout) (*Overlay, error) {
	o := &Overlay{base: base, below: newHoles(base), file: f, layout: l, states: blockStates{pages: map[int64]*statePage{}}, syncing: make(chan struct{}, 1)}
	return o, o.states.load(f, l)
}

// Size of the disk in bytes.
func (o *Overlay) Size() int64 { return o.layout.size }

// Close closes the file without a Sync.
func (o *Overlay) Close() error { return o.file.Close() }

// WrittenBytes is how much of the disk the overlay holds itself, in bytes.
func (o *Overlay) WrittenBytes() int64 {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return o.states.held * overlayBlock
}

// ReadAt reads the disk as it is now.
func (o *Overlay) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off > o.layout.size {
		return 0, fmt.Errorf("read the overlay at %d: outside of its %d bytes", off, o.layout.size)
	}
	var end error
	if rest := o.layout.size - off; int64(len(p)) > rest {
		p, end = p[:rest], io.EOF
	}
	for done := 0; done < len(p); {
		at := off + int64(done)
		run, state := o.run(replication.Extent{Offset: at, Length: int64(len(p) - done)})
		part := p[done : done+int(run.Length)]
		var err error
		switch state {
		case blockBelow:
			err = replication.ReadFull(o.base, part, at)
		case blockData:
			_, err = io.ReadFull(io.NewSectionReader(o.file, o.layout.data+at, run.Length), part)
		case blockZero:
			clear(part)
		}
		if err != nil {
			return done, err
		}
		done += len(part)
	}
	return len(p), end
}

// run is the beginning of an extent that lies in blocks of one state.
func (o *Overlay) run(e replication.Extent) (replication.Extent, blockState) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	block := e.Offset / overlayBlock
	state := o.states.get(block)
	end := o.states.runEnd(block, (e.End()+overlayBlock-1)/overlayBlock)
	e.Length = min(end*overlayBlock, e.End()) - e.Offset
	return e, state
}

// WriteAt writes to the disk. If the file system is full, the error wraps ENOSPC,
// and blocks that the overlay does not hold yet are still those of the source.
func (o *Overlay) WriteAt(p []byte, off int64) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	e := replication.Extent{Offset: off, Length: int64(len(p))}
	if err := e.Within(o.layout.size); err != nil {
		return 0, err
	}
	done := 0
	for e.Length > 0 {
		part := o.layout.part(e)
		if err := o.write(p[done:done+int(part.Length)], part); err != nil {
			return done, fmt.Errorf("write %s to the overlay: %w", part, err)
		}
		done += int(part.Length)
		e.Offset, e.Length = part.End(), e.Length-part.Length
	}
	return done, nil
}

// write writes a part of one block, or whole blocks.
func (o *Overlay) write(p []byte, e replication.Extent) error {
	first, last := e.Offset/overlayBlock, (e.End()-1)/overlayBlock
	defer o.locks.hold(first, last)()
	if err := o.usable(); err != nil {
		return err
	}
	if !o.layout.wholeBlocks(e) && o.state(first) != blockData {
		whole := o.layout.block(first)
		b := make([]byte, whole.Length)
		if o.state(first) == blockBelow {
			if err := replication.ReadFull(o.base, b, whole.Offset); err != nil {
				return err
			}
		}
		copy(b[e.Offset-whole.Offset:], p)
		p, e = b, whole
	}
	if _, err := o.file.WriteAt(p, o.layout.data+e.Offset); err != nil {
		return err
	}
	o.set(first, last, blockData)
	return nil
}

// Zero makes an extent all zero and gives back the space it took, where the
// system can.
func (o *Overlay) Zero(e replication.Extent) error {
	if e.Length == 0 {
		return nil
	}
	if err := e.Within(o.layout.size); err != nil {
		return err
	}
	for e.Length > 0 {
		part := o.layout.part(e)
		if !o.layout.wholeBlocks(part) {
			if err := o.zeroInBlock(part); err != nil {
				return fmt.Errorf("write zeroes %s to the overlay: %w", part, err)
			}
		} else {
			part = o.layout.wholePart(e)
			if err := o.zeroBlocks(part); err != nil {
				return fmt.Errorf("zero %s of the overlay: %w", part, err)
			}
		}
		e.Offset, e.Length = part.End(), e.Length-part.Length
	}
	return nil
}

func (o *Overlay) zeroInBlock(e replication.Extent) error {
	if _, state := o.run(e); state == blockZero {
		return o.usable()
	}
	return o.write(make([]byte, e.Length), e)
}

func (o *Overlay) zeroBlocks(e replication.Extent) error {
	first, last := e.Offset/overlayBlock, (e.End()-1)/overlayBlock
	defer o.locks.hold(first, last)()
	if err := o.usable(); err != nil {
		return err
	}
	o.set(first, last, blockZero)
	// Only now may the old data go: nobody reads it any more.
	return o.file.Release(o.layout.data+e.Offset, e.Length)
}

// Sync makes durable what was written.
func (o *Overlay) Sync() error {
	o.syncing <- struct{}{}
	defer func() { <-o.syncing }()
	if err := o.usable(); err != nil {
		return err
	}
	// What changes from here on belongs to the next Sync.
	o.mu.Lock()
	pages := o.states.takeDirty()
	o.mu.Unlock()
	if err := o.file.Sync(); err != nil {
		return o.giveUp(err)
	}
	if len(pages) == 0 {
		return nil
	}
	for _, p := range pages {
		if _, err := o.file.WriteAt(p.encode(), o.layout.pageOffset(p.number)); err != nil {
			// Nothing is lost: the pages are in memory and the next Sync tries again.
			o.mu.Lock()
			o.states.markDirty(pages)
			o.mu.Unlock()
			return fmt.Errorf("write down what the overlay holds: %w", err)
		}
	}
	if err := o.file.Sync(); err != nil {
		return o.giveUp(err)
	}
	return nil
}

// giveUp remembers that a Sync failed: the system may have thrown away what it
// could not write, and says so only once.
func (o *Overlay) giveUp(err error) error {
	err = fmt.Errorf("make the overlay durable: %w", err)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.broken = errors.Join(errBroken, err)
	return err
}

var errBroken = errors.New("the overlay could not be made durable before and has to be opened again")

func (o *Overlay) usable() error {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return o.broken
}

func (o *Overlay) state(block int64) blockState {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return o.states.get(block)
}

func (o *Overlay) set(first, last int64, state blockState) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for b := first; b <= last; b++ {
		o.states.set(b, state)
	}
}

// Regions yields the whole disk as it is now.
func (o *Overlay) Regions(ctx context.Context) iter.Seq2[replication.Region, error] {
	return o.RegionsIn(ctx, replication.Extent{Length: o.layout.size})
}

// RegionsIn yields the regions of an extent as they are now.
func (o *Overlay) RegionsIn(ctx context.Context, e replication.Extent) iter.Seq2[replication.Region, error] {
	return func(yield func(replication.Region, error) bool) {
		list, err := o.below.get(ctx)
		if err != nil {
			yield(replication.Region{}, err)
			return
		}
		join := joiner{yield: yield}
		for e.Length > 0 {
			run, state := o.run(e)
			if state == blockBelow {
				for r := range within(list, run) {
					if !join.add(r) {
						return
					}
				}
			} else if !join.add(replication.Region{Extent: run, Zero: state == blockZero}) {
				return
			}
			e.Offset, e.Length = run.End(), e.Length-run.Length
		}
		join.end()
	}
}
