package vault

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"sync"

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
	turn    uint64 // counts what made waiting records void: Prepare and Rewind
	broken  error  // after a failure of the storage; final until reopened
	erased  bool

	log log // used by the one who leads
	state
}

// state is what the records of a log add up to.
type state struct {
	disk     replication.Disk
	epoch    replication.Epoch
	sequence replication.Sequence
	points   []*point // in the order of their serials
	byID     map[replication.PointID]*point
	unmarked bool
	memory   memory
}

func newDisk(v *Vault, id replication.DiskID) *disk {
	d := &disk{
		vault:   v,
		id:      id,
		folder:  v.diskFolder(id),
		changed: make(chan struct{}),
		queue:   map[replication.Sequence]*pending{},
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
	if r.sequence > s.sequence {
		s.sequence = r.sequence
	}
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
	case kindMove:
		moves, err := parseMoves(r)
		if err != nil {
			return err
		}
		s.memory.move(moves)
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
	s.unmarked = false
	s.epoch = r.epoch
	s.disk.Size = p.size
	return nil
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

// lead waits until nobody appends and takes the lead. The caller holds mu.
func (d *disk) lead(ctx context.Context) error {
	for d.leading {
		if err := d.wait(ctx); err != nil {
			return err
		}
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
