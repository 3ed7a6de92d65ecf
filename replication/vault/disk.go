package vault

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"sort"
	"sync"
	"sync/atomic"

	"riparo/replication"
)

// disk is one protected disk of a vault.
type disk struct {
	vault  *Vault
	id     replication.DiskID
	folder string

	mu      sync.Mutex    // guards all below
	changed chan struct{} // closed and replaced when something below changed
	leading bool          // somebody appends to the log; see commit.go
	queue   map[replication.Sequence]*pending
	pins    map[uint64]bool // the open views, by the clock of their opening
	clock   uint64          // counts views and deaths of segments
	dead    []deadSegment
	// Segments that the last opening could not seal for want of space.
	unsealed []uint32
	damaged  map[location]bool // blocks found damaged by reading; at most maxDamaged
	turn     uint64            // counts what made waiting records void: Prepare and Rewind
	broken   error             // after a failure of the storage; final until reopened
	erased   bool

	trouble    error // why the maps could not be written last; nil if they could
	distrusted bool  // a map file is damaged; the next opening makes them anew

	gone        atomic.Bool   // erased: no file under the names of this disk is its own
	maintaining chan struct{} // holds one token for the one who maintains
	log         log           // used by the one who leads
	state
}

// state is what the records of a log add up to.
type state struct {
	serial   serial // of the last record
	disk     replication.Disk
	epoch    replication.Epoch
	sequence replication.Sequence
	points   []*point // in the order of their serials
	byID     map[replication.PointID]*point
	unmarked bool

	// The map: tiles, and memory for what comes after them.
	tiles   []tile
	folds   []fold
	memory  memory
	mapped  serial             // the last record that the tiles know of
	nextMap uint32             // number of the newest map file
	garbage []*mapFile         // not needed by the map; removed after the next catalog
	moves   map[location]entry // blocks whose content was stored again; never changed in place
	// What the part of the open layer that is in tiles changed, and its size in the
	// vault, in bytes.
	openChanged, openStored int64

	segments []segmentInfo // that are needed, ascending
	voids    []serialRange // rewound
	lost     []serialRange // records that cannot be read; see trusted
	mended   serial        // the record after which what was lost does not matter
}

func newDisk(v *Vault, id replication.DiskID) *disk {
	d := &disk{
		vault:   v,
		id:      id,
		folder:  v.diskFolder(id),
		changed: make(chan struct{}),
		queue:   map[replication.Sequence]*pending{},
		pins:    map[uint64]bool{},
		damaged: map[location]bool{},

		maintaining: make(chan struct{}, 1),
	}
	d.state.disk.ID = id
	d.byID = map[replication.PointID]*point{}
	d.log = log{
		fs: v.fs, folder: d.folder, vault: v.id, disk: id, tag: diskTag(v.id, id),
		session: v.session, limit: v.options.segmentBytes,
	}
	return d
}

// apply adds a record to the state. It is the same for a record that was just
// appended and for one that is read again after a restart.
func (s *state) apply(r *record) error {
	s.serial = r.serial
	if r.sequence > s.sequence {
		s.sequence = r.sequence
	}
	s.needs(r)
	switch r.kind {
	case kindBatch:
		s.memory.add(r.serial, r.entries())
		s.unmarked = true
	case kindMark:
		p, err := parseMarkBody(r)
		if err != nil {
			return err
		}
		if s.byID[p.id] != nil {
			return nil // a mark repeated under a new sequence
		}
		p.changed, p.stored = s.memory.mark(r.serial)
		p.changed += s.openChanged
		p.stored += s.openStored
		s.openChanged, s.openStored = 0, 0
		if n := len(s.points); n > 0 && slices.Equal(p.members, s.points[n-1].members) {
			p.members = s.points[n-1].members // share the memory
		}
		s.points = append(s.points, &p)
		s.byID[p.id] = &p
		s.unmarked = false
	case kindDisk:
		b, err := parseDiskBody(r.body)
		if err != nil {
			return err
		}
		s.disk = replication.Disk{ID: b.id, Machine: b.machine, Size: b.size}
		s.epoch = r.epoch
		if len(r.table) > 0 { // the disk was cut
			s.memory.add(r.serial, r.entries())
		}
	case kindRewind:
		b, err := parseRewindBody(r.body)
		if err != nil {
			return err
		}
		return s.rewind(r, b)
	case kindDrop:
		marks, err := parseDropBody(r.body)
		if err != nil {
			return err
		}
		s.drop(marks)
	case kindRelease:
		b, err := parseReleaseBody(r.body)
		if err != nil {
			return err
		}
		s.release(b)
	case kindMove:
		moves, err := parseMoves(r)
		if err != nil {
			return err
		}
		s.move(moves)
	case kindInventory:
		return s.adoptInventory(r)
	case kindMend:
		s.mended = r.serial
	default:
		return fmt.Errorf("record %d is of kind %d, which this version does not know", r.serial, r.kind)
	}
	return nil
}

func (s *state) rewind(r *record, b rewindBody) error {
	p := s.byID[b.to]
	if p == nil || p.serial != b.at {
		return fmt.Errorf("record %d rewinds to point %s, which is not there", r.serial, b.to)
	}
	for _, later := range s.points[s.indexAfter(b.at):] {
		delete(s.byID, later.id)
	}
	s.points = s.points[:s.indexAfter(b.at)]
	s.memory.cut(b.at)
	if b.at < s.mapped {
		s.cutTiles(b.at)
		s.mapped = r.serial
	}
	s.voids = addRange(s.voids, serialRange{b.at, r.serial})
	s.lost = slices.DeleteFunc(slices.Clone(s.lost), func(l serialRange) bool { return l.from >= b.at })
	s.openChanged, s.openStored = 0, 0
	s.unmarked = false
	s.epoch = r.epoch
	s.disk.Size = p.size
	return nil
}

// cutTiles forgets what the tiles say about records after at.
func (s *state) cutTiles(at serial) {
	s.tiles = slices.Clone(s.tiles)
	for n := len(s.tiles); n > 0 && s.tiles[n-1].upTo > at; n = len(s.tiles) {
		if s.tiles[n-1].from < at {
			s.tiles[n-1].upTo = at
			break
		}
		s.garbage = append(s.garbage, s.tiles[n-1].mapFile)
		s.tiles = s.tiles[:n-1]
	}
	s.folds = slices.DeleteFunc(slices.Clone(s.folds), func(f fold) bool {
		if f.to > at {
			s.garbage = append(s.garbage, f.mapFile)
		}
		return f.to > at
	})
}

// needs notes the segment of a record.
func (s *state) needs(r *record) {
	if n := len(s.segments); n == 0 || s.segments[n-1].number < r.segment {
		s.segments = append(slices.Clone(s.segments), segmentInfo{r.segment, r.serial})
	}
}

// move notes where blocks were stored again.
func (s *state) move(moves map[location]entry) {
	all := maps.Clone(s.moves)
	if all == nil {
		all = map[location]entry{}
	}
	for from, to := range moves {
		all[from] = to
		// What was moved to the block that moves again, moves with it.
		for old, was := range all {
			if was.location() == from {
				all[old] = to
			}
		}
	}
	s.moves = all
}

// redo adds a record to memory only: the snapshot that the state was restored from
// knows everything else about it.
func (s *state) redo(r *record) {
	if len(r.table) > 0 && r.kind != kindMove && !inRanges(s.voids, r.serial) {
		s.memory.add(r.serial, r.entries())
	}
}

// closeLayers closes the layers of the points whose marks lie after from and not
// after to. Their mark records may be gone with a segment that nothing else needed.
func (s *state) closeLayers(from, to serial) {
	for _, p := range s.points[s.indexAfter(from):s.indexAfter(to)] {
		s.memory.mark(p.serial)
	}
}

// trusted reports damage to the log that makes what happened up to a serial
// uncertain. The caller holds mu.
func (d *disk) trusted(id replication.PointID, at serial) error {
	for _, l := range d.lost {
		if at > l.from && (d.mended < l.to || at < d.mended) {
			return lostProblem(d.id, id, l)
		}
	}
	return nil
}

// distrust makes the next opening of the vault read the log instead of the maps.
func (d *disk) distrust(err error) error {
	d.mu.Lock()
	first := !d.distrusted
	d.distrusted = true
	d.mu.Unlock()
	if first && !d.vault.options.ReadOnly {
		err = errors.Join(err, d.vault.fs.Remove(filepath.Join(d.folder, catalogName)))
	}
	return &replication.Problem{
		Code:   CodeIndex,
		Cause:  err.Error(),
		Effect: "nothing of the disk is lost, but its map cannot be read",
		Action: "open the vault again: the map is made anew from the log",
		Remedy: replication.Retry,
		Err:    err,
	}
}

func (s *state) drop(marks []serial) {
	gone := make(map[serial]bool, len(marks))
	for _, m := range marks {
		gone[m] = true
	}
	kept := s.points[:0:0]
	for _, p := range s.points {
		if gone[p.serial] {
			delete(s.byID, p.id)
		} else {
			kept = append(kept, p)
		}
	}
	s.points = kept
	s.memory.drop(func(at serial) bool { return gone[at] })
}

// release takes an erased member out of points. Points that were handed out are not
// changed.
func (s *state) release(b releaseBody) {
	freed := make(map[serial]bool, len(b.marks))
	for _, m := range b.marks {
		freed[m] = true
	}
	s.points = slices.Clone(s.points)
	for i, p := range s.points {
		if !freed[p.serial] {
			continue
		}
		fresh := *p
		fresh.members = slices.DeleteFunc(slices.Clone(p.members), func(id replication.DiskID) bool { return id == b.member })
		if i > 0 && slices.Equal(fresh.members, s.points[i-1].members) {
			fresh.members = s.points[i-1].members // share the memory
		}
		s.points[i] = &fresh
		s.byID[p.id] = &fresh
	}
}

// indexAfter is the index of the first point whose mark comes after at.
func (s *state) indexAfter(at serial) int {
	return sort.Search(len(s.points), func(i int) bool { return s.points[i].serial > at })
}

// report is the state as a Sink tells it.
func (s *state) report() replication.DiskState {
	st := replication.DiskState{Disk: s.disk, Epoch: s.epoch, Sequence: s.sequence, Unmarked: s.unmarked}
	if n := len(s.points); n > 0 {
		st.Point = s.points[n-1].id
	}
	return st
}

// wake tells all who wait that something changed. The caller holds mu.
func (d *disk) wake() {
	close(d.changed)
	d.changed = make(chan struct{})
}

// wait gives mu back until something changed or ctx is done. The caller holds mu,
// and holds it again afterwards.
func (d *disk) wait(ctx context.Context) error {
	changed := d.changed
	d.mu.Unlock()
	defer d.mu.Lock()
	select {
	case <-changed:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// usable reports why the disk takes nothing more, or nil. The caller holds mu.
func (d *disk) usable() error {
	switch {
	case d.erased:
		return fmt.Errorf("disk %s: %w", d.id, replication.ErrUnknownDisk)
	case d.broken != nil:
		return d.broken
	}
	return nil
}

// still waits until nobody appends. The caller holds mu, and as long as it does,
// nobody will.
func (d *disk) still(ctx context.Context) error {
	for d.leading {
		if err := d.wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

// lead waits until nobody appends and takes the lead. The caller holds mu.
func (d *disk) lead(ctx context.Context) error {
	if err := d.still(ctx); err != nil {
		return err
	}
	if err := d.usable(); err != nil {
		return err
	}
	d.leading = true
	return nil
}

// follow gives the lead back. The caller holds mu.
func (d *disk) follow() {
	d.leading = false
	d.wake()
}

// write appends drafts of the vault's own and applies them. The caller holds mu and
// leads; mu is given back meanwhile.
func (d *disk) write(drafts ...*draft) error {
	now := d.vault.now().UnixNano()
	for _, r := range drafts {
		r.head.time = now
	}
	d.mu.Unlock()
	err := d.log.append(drafts)
	d.mu.Lock()
	if err != nil {
		return d.failed(err)
	}
	for _, r := range drafts {
		if err := d.apply(&r.record); err != nil {
			d.broken = brokenProblem(d.id, err)
			return d.broken
		}
	}
	return nil
}

// failed remembers a final failure of the log. The caller holds mu.
func (d *disk) failed(err error) error {
	problem := writeProblem(d.id, err)
	if _, final := err.(*finalError); final {
		problem = brokenProblem(d.id, err)
		d.broken = problem
	}
	return problem
}
