package vfs

import (
	"fmt"
	"io"
	"io/fs"
	"slices"
)

// simFile is an open file of a simulated disk.
type simFile struct {
	sim      *Sim
	name     string
	node     *node
	readOnly bool
	closed   bool // guarded by sim.mu
}

// use checks that the file can serve op. The caller holds sim.mu.
func (f *simFile) use(op string, writes bool) error {
	if f.closed {
		return &fs.PathError{Op: op, Path: f.name, Err: fs.ErrClosed}
	}
	if writes && f.readOnly {
		return &fs.PathError{Op: op, Path: f.name, Err: fs.ErrPermission}
	}
	if writes {
		return f.sim.changes(op, f.name)
	}
	return f.sim.dead(op, f.name)
}

// ReadAt implements io.ReaderAt.
func (f *simFile) ReadAt(p []byte, offset int64) (int, error) {
	f.sim.linger(&f.sim.readDelay)
	f.sim.mu.Lock()
	defer f.sim.mu.Unlock()
	if err := f.use("read", false); err != nil {
		return 0, err
	}
	if offset < 0 {
		return 0, &fs.PathError{Op: "read", Path: f.name, Err: fs.ErrInvalid}
	}
	if offset >= int64(len(f.node.content)) {
		if len(p) == 0 {
			return 0, nil
		}
		return 0, io.EOF
	}
	n := copy(p, f.node.content[offset:])
	if len(f.node.bad) > 0 {
		for sector := offset / Sector; sector*Sector < offset+int64(n); sector++ {
			if f.node.bad[sector] {
				return 0, &fs.PathError{Op: "read", Path: f.name, Err: ErrIO}
			}
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// WriteAt implements io.WriterAt. A disk that is full takes what still fits.
func (f *simFile) WriteAt(p []byte, offset int64) (int, error) {
	f.sim.mu.Lock()
	defer f.sim.mu.Unlock()
	if err := f.use("write", true); err != nil {
		return 0, err
	}
	if offset < 0 {
		return 0, &fs.PathError{Op: "write", Path: f.name, Err: fs.ErrInvalid}
	}
	full := false
	if capacity := f.sim.capacity; capacity > 0 {
		grows := offset + int64(len(p)) - int64(len(f.node.content))
		if over := f.sim.used + grows - capacity; grows > 0 && over > 0 {
			p, full = p[:max(0, int64(len(p))-over)], true
		}
	}
	if len(p) > 0 {
		w := write{offset: offset, data: slices.Clone(p)}
		f.sim.writes++
		switch f.sim.writes {
		case f.sim.loseAt:
			w.fate = isLost
		case f.sim.misdirectAt:
			w.fate = goesElsewhere
		}
		f.change(w)
		for sector := offset / Sector; sector*Sector < offset+int64(len(p)); sector++ {
			delete(f.node.bad, sector) // a disk remaps a bad sector that is written
		}
	}
	if err := f.sim.step("write", f.name); err != nil {
		return 0, err
	}
	if full {
		return len(p), &fs.PathError{Op: "write", Path: f.name, Err: ErrNoSpace}
	}
	return len(p), nil
}

// Truncate implements File.
func (f *simFile) Truncate(size int64) error {
	f.sim.mu.Lock()
	defer f.sim.mu.Unlock()
	if err := f.use("truncate", true); err != nil {
		return err
	}
	if size < 0 {
		return &fs.PathError{Op: "truncate", Path: f.name, Err: fs.ErrInvalid}
	}
	grows := size - int64(len(f.node.content))
	if f.sim.capacity > 0 && grows > 0 && f.sim.used+grows > f.sim.capacity {
		return &fs.PathError{Op: "truncate", Path: f.name, Err: ErrNoSpace}
	}
	f.change(write{offset: size, truncate: true})
	return f.sim.step("truncate", f.name)
}

// change applies w to the content and remembers it as not synced.
func (f *simFile) change(w write) {
	before := len(f.node.content)
	f.node.own()
	f.node.content = w.apply(f.node.content)
	f.node.pending = append(f.node.pending, w)
	f.sim.used += int64(len(f.node.content) - before)
}

// Sync implements File.
func (f *simFile) Sync() error {
	f.sim.linger(&f.sim.syncDelay)
	f.sim.mu.Lock()
	defer f.sim.mu.Unlock()
	if err := f.use("sync", false); err != nil {
		return err
	}
	if err := f.sim.changes("sync", f.name); err != nil {
		f.node.pending = nil // as after an fsync that failed
		return err
	}
	f.sim.syncs++
	if f.sim.syncs == f.sim.failSyncAt {
		// Linux marks the pages clean: they stay readable until they are evicted or
		// the machine stops, and the next fsync is content. Most never reach the disk;
		// some had reached it before the error.
		if f.sim.random.IntN(2) == 0 {
			for _, w := range f.node.pending {
				f.node.medium = w.tear(f.node.medium, false, f.sim.random)
			}
		}
		f.node.pending = nil
		return &fs.PathError{Op: "sync", Path: f.name, Err: ErrIO}
	}
	if err := f.sim.step("sync", f.name); err != nil {
		return err // just before it took effect
	}
	for _, w := range f.node.pending {
		f.node.medium = w.arrive(f.node.medium)
		f.sim.betray(f.node, w)
	}
	f.node.pending = nil
	return nil
}

// Size implements File.
func (f *simFile) Size() (int64, error) {
	f.sim.mu.Lock()
	defer f.sim.mu.Unlock()
	if err := f.use("stat", false); err != nil {
		return 0, err
	}
	return int64(len(f.node.content)), nil
}

// Close implements io.Closer. It makes nothing durable.
func (f *simFile) Close() error {
	f.sim.mu.Lock()
	defer f.sim.mu.Unlock()
	if f.closed {
		return &fs.PathError{Op: "close", Path: f.name, Err: fs.ErrClosed}
	}
	f.closed = true
	return nil
}

// own gives a node bytes of its own before they change: most files of a disk that starts
// again are only read.
func (n *node) own() {
	if n.shared {
		n.content, n.medium, n.shared = slices.Clone(n.medium), slices.Clone(n.medium), false
	}
}

// apply makes the change in content and returns it.
func (w write) apply(content []byte) []byte {
	end := w.offset + int64(len(w.data))
	switch {
	case w.truncate && int64(len(content)) > w.offset:
		return content[:w.offset]
	case int64(len(content)) < end:
		content = extend(content, end)
	}
	copy(content[w.offset:], w.data)
	return content
}

// arrive makes the change on the medium, as far as the disk keeps its promise: the file
// system notes the length of the file in any case.
func (w write) arrive(medium []byte) []byte {
	if w.fate == arrives {
		return w.apply(medium)
	}
	return extend(medium, max(int64(len(medium)), w.offset+int64(len(w.data))))
}

// extend makes content size bytes long. What is added is zero.
func extend(content []byte, size int64) []byte {
	if size > int64(cap(content)) {
		return append(content, make([]byte, size-int64(len(content)))...)
	}
	before := len(content)
	content = content[:size]
	clear(content[before:])
	return content
}

func (f *simFile) String() string { return fmt.Sprintf("simulated file %s", f.name) }
