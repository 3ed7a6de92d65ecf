package vault

import (
	"context"
	"errors"
	"slices"

	"riparo/replication"
	"riparo/replication/vfs"
)

// named looks at the blocks that maps name where no record was verified.
//
// A verification follows the log, and who reads follows the maps. Both come to the same
// blocks unless the storage lied: then a record may be gone from the log while a map, which
// was written in time, still names its blocks. Records that follow each other are one
// stretch, so in a sound vault this costs a comparison for each entry and no read.
type named struct {
	disk   *disk
	sound  map[uint32][]replication.Extent // by segment, where records were verified; ascending
	newest uint32                          // of these segments; later ones were not there when it began
	only   bool                            // what lies in no segment of sound is not looked at
	moves  moves
	blocks blocks
	looked map[location]bool
	bad    []badBlock
	failed error // what could not be looked at, for a shortage
	plain  [blockBytes]byte
}

// namedMost bounds what is remembered of places that no record leads to.
const namedMost = maxDamaged

// maps gives what the map of the disk is made of. The files are acquired.
func (d *disk) maps() (files []*mapFile, memory [][]entry, moved moves) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, t := range d.tiles {
		files = append(files, t.mapFile)
	}
	for _, f := range d.folds {
		files = append(files, f.mapFile)
	}
	for _, m := range files {
		m.use.acquire()
	}
	return files, d.memory.upTo(d.serial), d.moves
}

func (d *disk) named(sound map[uint32][]replication.Extent, moved moves) *named {
	n := &named{disk: d, sound: sound, moves: moved, looked: map[location]bool{},
		blocks: blocks{fs: d.vault.fs, folder: d.folder, disk: d.id, keys: d.keys}}
	for number := range sound {
		n.newest = max(n.newest, number)
	}
	return n
}

// memory looks at the map that no file holds yet.
func (n *named) memory(maps [][]entry) {
	for _, list := range maps {
		for i := range list {
			n.entry(list[i])
		}
	}
}

// entry looks at the block that an entry of a map names.
func (n *named) entry(e entry) {
	if e.codec == codecZero {
		return
	}
	n.moves.follow(&e)
	stretches, known := n.sound[e.segment]
	switch {
	case n.only && !known, e.segment > n.newest, covered(stretches, &e):
		return
	case n.looked[e.location()], len(n.looked) >= namedMost:
		return
	}
	n.looked[e.location()] = true
	err := n.read(&e)
	switch {
	case err == nil:
	case vfs.Short(err):
		n.failed = errors.Join(n.failed, err)
	default:
		n.bad = append(n.bad, badBlockOf(&e, err))
	}
}

// covered reports whether the block of e lies in verified records.
func covered(stretches []replication.Extent, e *entry) bool {
	block := replication.Extent{Offset: int64(e.position), Length: int64(e.stored)}
	return slices.ContainsFunc(stretches, func(s replication.Extent) bool { return s.Intersect(block) == block })
}

func (n *named) read(e *entry) error {
	h, err := n.blocks.acquire(e.segment)
	if err != nil {
		return err
	}
	stored := make([]byte, e.stored)
	if err = readFull(h.file, stored, int64(e.position)); err == nil {
		err = n.disk.keys.checkBlock(e, stored, n.plain[:])
	}
	return errors.Join(err, n.blocks.release(h))
}

// needed leaves of the damaged blocks those that a point or the head needs: a map may name
// what went long ago.
func (n *named) needed(ctx context.Context) ([]badBlock, error) {
	if n.failed != nil {
		return nil, n.failed
	}
	var list []badBlock
	for _, b := range n.bad {
		f, err := n.disk.assess(ctx, finding{badBlock: b})
		if err != nil {
			return nil, err
		}
		n.disk.mu.Lock()
		from, to := f.of(n.disk.points)
		n.disk.mu.Unlock()
		if f.head || from < to {
			list = append(list, b)
		}
	}
	return list, nil
}

// verified notes that a record was read and checked.
func (c *check) verified(rec *record) {
	if n := len(c.sound); n > 0 && c.sound[n-1].End() == rec.position {
		c.sound[n-1].Length += rec.size()
		return
	}
	c.sound = append(c.sound, replication.Extent{Offset: rec.position, Length: rec.size()})
}

// scrubNamed looks at the blocks that maps name in segments that were just checked, where
// no record leads to them. What it meets takes the place of what was known of these places.
// A map that is damaged is made anew when the vault is opened next.
func (c *check) scrubNamed(ctx context.Context, sound map[uint32][]replication.Extent) (err error) {
	d := c.disk
	files, memory, moved := d.maps()
	defer func() {
		for _, m := range files {
			err = errors.Join(err, m.use.release())
		}
	}()
	n := d.named(sound, moved)
	n.only = true
	defer func() { err = errors.Join(err, n.blocks.close()) }()
	n.memory(memory)
	whole := true
	for _, m := range files {
		for _, s := range []*section{&m.fine, &m.whole} {
			k := s.cursor(0, s.count)
			for at := int64(1); k.advance(); at++ {
				n.entry(k.current)
				if at%(pageEntries*cursorPages) == 0 {
					if err := c.pace(ctx, cursorPages*pageSize); err != nil {
						return err
					}
				}
			}
			if k.err != nil {
				whole = false
				_ = d.mapProblem(k.err) // told to whoever reads there
			}
		}
	}
	bad, err := n.needed(ctx)
	if err != nil {
		return err
	}
	d.mu.Lock()
	for at, f := range d.damaged {
		stretches, checked := sound[at.segment]
		again := func(b badBlock) bool { return b.location == at }
		if e := f.place(); whole && checked && !covered(stretches, &e) && !slices.ContainsFunc(bad, again) {
			delete(d.damaged, at) // it can be read after all
		}
	}
	d.mu.Unlock()
	d.remember(bad)
	return nil
}

// place is the block as a map names it.
func (b *badBlock) place() entry {
	return entry{segment: b.segment, position: b.position, stored: b.row.stored}
}
