package vfs

import (
	"io/fs"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"time"
)

// Operations is the number of changes so far: creations, renames, removals,
// writes, truncations and syncs.
func (s *Sim) Operations() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.operations
}

// CutPower cuts the power inside the operation that comes after n more, and with
// n = 0 inside the next one. From then on everything fails with ErrPowerCut.
func (s *Sim) CutPower(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cutAt = s.operations + 1 + n
}

// PowerIsCut reports whether the power is cut.
func (s *Sim) PowerIsCut() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cut
}

// FailSync makes the fsync of a file fail that comes after n more.
func (s *Sim) FailSync(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failSyncAt = s.syncs + 1 + n
}

// FailSyncDir makes the fsync of a folder fail that comes after n more. Names stay as
// they are seen, and are durable after the next one that succeeds.
func (s *Sim) FailSyncDir(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failSyncDirAt = s.syncDirs + 1 + n
}

// SetDelay makes each read, and each sync of a file, take so long. The time is that of
// package time, which testing/synctest makes virtual.
func (s *Sim) SetDelay(read, sync time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readDelay, s.syncDelay = read, sync
}

// linger waits as long as a slow disk does. Others use the disk meanwhile.
func (s *Sim) linger(delay *time.Duration) {
	s.mu.Lock()
	d := *delay
	s.mu.Unlock()
	if d > 0 {
		time.Sleep(d)
	}
}

// SetReadOnly refuses all changes with ErrReadOnly, after n more of them. What was
// written and not synced by then is lost at the next start, as after a failed fsync. With
// n below 0 the disk takes changes again.
func (s *Sim) SetReadOnly(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readOnlyAt = 0
	if n >= 0 {
		s.readOnlyAt = s.operations + 1 + n
	}
}

// LoseWrite makes the write that comes after n more never reach the medium, though its
// fsync succeeds. What it wrote stays readable until it is evicted or the machine stops.
func (s *Sim) LoseWrite(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loseAt = s.writes + 1 + n
}

// MisdirectWrite makes the write that comes after n more reach another place, of the same
// or another file, though its fsync succeeds: what was there is overwritten, and where
// it belongs nothing came.
func (s *Sim) MisdirectWrite(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.misdirectAt = s.writes + 1 + n
}

// Betrayed counts the writes that an fsync promised and that were lost, or went
// elsewhere.
func (s *Sim) Betrayed() (lost, elsewhere int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.wentLost, s.wentElsewhere
}

// betray lets a write of a file that was synced strike what it should not. The caller
// holds mu.
func (s *Sim) betray(origin *node, w write) {
	switch w.fate {
	case arrives:
		return
	case isLost:
		s.wentLost++
		return
	}
	s.wentElsewhere++
	victim := origin
	if others := s.written(); s.random.IntN(2) == 0 {
		victim = others[s.random.IntN(len(others))]
	}
	if len(victim.medium) < Sector {
		return // too small to be met: it went where nobody has anything
	}
	at := s.random.Int64N(int64(len(victim.medium))/Sector) * Sector
	if victim == origin && at == w.offset/Sector*Sector {
		at = 0
	}
	victim.own()
	copy(victim.medium[at:], w.data)
	if at < int64(len(victim.content)) {
		copy(victim.content[at:], w.data)
	}
	for _, later := range victim.pending { // what is in memory stays as it was
		if later.fate == arrives && !later.truncate && later.offset < int64(len(victim.content)) {
			copy(victim.content[later.offset:], later.data)
		}
	}
}

// written are the files of the disk, in the order of their names.
func (s *Sim) written() []*node {
	var list []*node
	for _, name := range slices.Sorted(maps.Keys(s.current)) {
		if n := s.current[name]; !n.dir {
			list = append(list, n)
		}
	}
	return list
}

// Evict forgets what an fsync that failed left readable: from now on the files
// read as the medium and the writes that are still waiting for a sync have them.
func (s *Sim) Evict() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.current {
		if n.shared {
			continue
		}
		before := len(n.content)
		n.content = slices.Clone(n.medium)
		for _, w := range n.pending {
			n.content = w.apply(n.content)
		}
		s.used += int64(len(n.content) - before)
	}
}

// SetCapacity limits the size of all files together, in bytes; 0 is no limit.
func (s *Sim) SetCapacity(bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.capacity = bytes
}

// FlipBit changes one bit of a file, on the medium and as it is read.
func (s *Sim) FlipBit(name string, bit int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.current[clean(name)]
	if n == nil || n.dir || bit < 0 || bit/8 >= int64(len(n.content)) {
		return &fs.PathError{Op: "flip bit", Path: name, Err: fs.ErrNotExist}
	}
	n.own()
	n.content[bit/8] ^= 1 << (bit % 8)
	if bit/8 < int64(len(n.medium)) {
		n.medium[bit/8] ^= 1 << (bit % 8)
	}
	return nil
}

// LoseSector makes the sector at offset of a file unreadable until it is written.
func (s *Sim) LoseSector(name string, offset int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.current[clean(name)]
	if n == nil || n.dir {
		return &fs.PathError{Op: "lose sector", Path: name, Err: fs.ErrNotExist}
	}
	if n.bad == nil {
		n.bad = map[int64]bool{}
	}
	n.bad[offset/Sector] = true
	return nil
}

// Files lists the files of the disk with their sizes, sorted by path.
func (s *Sim) Files() (names []string, sizes []int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(s.current)) {
		if n := s.current[name]; !n.dir {
			names = append(names, name)
			sizes = append(sizes, int64(len(n.content)))
		}
	}
	return names, sizes
}

// survival is how much of what was not synced is still there after a power cut.
type survival int

const (
	nothing survival = iota // only what was synced
	all                     // the disk was quick
	prefix                  // the first writes, whole
	heads                   // the first sectors of any writes
	sectors                 // any sectors of any writes
	junk                    // the same, with junk where nothing was written
	survivals
)

// Restart gives the disk as it may be found after the power was cut now, with the
// power back and without the faults that were set. The capacity stays. The old
// disk is dead.
func (s *Sim) Restart() *Sim {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut = true
	r := s.random
	how := survival(r.IntN(int(survivals)))
	tree := maps.Clone(s.durable)
	s.restartNames(tree, how)

	after := NewSim(r.Uint64())
	after.capacity = s.capacity
	reborn := map[*node]*node{}
	for _, name := range slices.Sorted(maps.Keys(tree)) {
		old := tree[name]
		if reborn[old] == nil {
			fresh := &node{dir: old.dir, bad: maps.Clone(old.bad)}
			if !old.dir {
				fresh.medium = old.afterCut(how, r)
				fresh.content, fresh.shared = fresh.medium, true
			}
			reborn[old] = fresh
		}
		after.durable[name] = reborn[old]
		after.used += int64(len(reborn[old].content))
	}
	// What lies in a folder that was lost is lost with it.
	for _, name := range slices.Sorted(maps.Keys(after.durable)) {
		if !after.reachable(name) {
			after.used -= int64(len(after.durable[name].content))
			delete(after.durable, name)
		}
	}
	after.current = maps.Clone(after.durable)
	return after
}

// restartNames decides which changes of names survive. Within one name they keep
// their order.
func (s *Sim) restartNames(tree map[string]*node, how survival) {
	keep := len(s.names)
	switch how {
	case nothing:
		keep = 0
	case prefix:
		keep = s.random.IntN(keep + 1)
	}
	for _, c := range s.names[:keep] {
		if how >= heads && s.random.IntN(2) == 0 {
			continue
		}
		c.apply(tree)
	}
}

// afterCut is the content of a file after a power cut.
func (n *node) afterCut(how survival, r *rand.Rand) []byte {
	content := n.medium
	if len(n.pending) > 0 {
		content = slices.Clone(content)
	}
	switch how {
	case nothing:
	case all:
		for _, w := range n.pending {
			content = w.apply(content)
		}
	case prefix:
		for _, w := range n.pending[:r.IntN(len(n.pending)+1)] {
			content = w.apply(content)
		}
	case heads:
		for _, w := range n.pending {
			content = w.head(r).apply(content)
		}
	default:
		for _, w := range n.pending {
			content = w.tear(content, how == junk, r)
		}
	}
	return content
}

// head is a write that was cut off after some of its sectors.
func (w write) head(r *rand.Rand) write {
	first := w.offset / Sector
	last := (w.offset + int64(len(w.data)) + Sector - 1) / Sector
	if w.truncate || r.IntN(2) == 0 || last == first {
		return w
	}
	end := (first + r.Int64N(last-first)) * Sector
	w.data = w.data[:max(0, min(int64(len(w.data)), end-w.offset))]
	if len(w.data) == 0 {
		return write{} // nothing of it
	}
	return w
}

// tear applies some sectors of w.
func (w write) tear(content []byte, fill bool, r *rand.Rand) []byte {
	if w.truncate {
		if r.IntN(2) == 0 {
			content = w.apply(content)
		}
		return content
	}
	for done := int64(0); done < int64(len(w.data)); {
		at := w.offset + done
		end := min((at/Sector+1)*Sector-w.offset, int64(len(w.data)))
		if r.IntN(2) == 0 {
			size := int64(len(content))
			content = write{offset: at, data: w.data[done:end]}.apply(content)
			if fill && at > size {
				for i := size; i < at; i++ {
					content[i] = byte(r.Uint32())
				}
			}
		}
		done = end
	}
	return content
}

// reachable reports whether all folders above name exist on the medium.
func (s *Sim) reachable(name string) bool {
	for folder := filepath.Dir(name); !isTop(folder); folder = filepath.Dir(folder) {
		if n := s.durable[folder]; n == nil || !n.dir {
			return false
		}
	}
	return true
}

// Clone gives an independent copy of the disk as it is, without the faults that were
// set and without locks.
func (s *Sim) Clone() *Sim {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := NewSim(s.random.Uint64())
	c.capacity, c.used = s.capacity, s.used
	copies := map[*node]*node{}
	copied := func(n *node) *node {
		if n == nil {
			return nil
		}
		if copies[n] == nil {
			// What is pending is never changed, only added to.
			c := &node{
				dir: n.dir, content: n.content, medium: n.medium, shared: n.shared,
				pending: slices.Clone(n.pending), bad: maps.Clone(n.bad),
			}
			if !c.shared {
				c.content, c.medium = slices.Clone(c.content), slices.Clone(c.medium)
			}
			copies[n] = c
		}
		return copies[n]
	}
	for name, n := range s.current {
		c.current[name] = copied(n)
	}
	for name, n := range s.durable {
		c.durable[name] = copied(n)
	}
	for _, change := range s.names {
		change.node = copied(change.node)
		c.names = append(c.names, change)
	}
	return c
}
