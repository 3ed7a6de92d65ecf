package vault

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"riparo/replication"
	"riparo/replication/vfs"
)

// disk is one protected disk of a vault.
type disk struct {
	vault  *Vault
	id     replication.DiskID
	folder string
	sick   error // why it could not be opened; set while the vault is opened
	// It was opened without room for what had to be written, with so many bytes free;
	// set while the vault is opened. See roomless.go.
	roomless bool
	free     int64

	mu      sync.Mutex    // guards all below
	changed chan struct{} // closed and replaced when something below changed
	leading bool          // somebody appends to the log; see commit.go
	queue   map[replication.Sequence]*pending
	reach   replication.Sequence // of the commit under way
	stage   *stage               // of the commit after it; nil: none
	pins    map[uint64]bool      // the open views, by the clock of their opening
	clock   uint64               // counts views and deaths of segments
	dead    []deadSegment
	// Segments that the last opening could not seal for want of space.
	unsealed     []uint32
	damaged      map[location]*finding // blocks found damaged; at most maxDamaged
	rotten       map[uint32][]Damage   // by segment, what the scrub found damaged that is no block
	lastMeasures measures
	turn         uint64 // counts what made waiting records void: Prepare, Rewind, a failure
	broken       error  // after a failure of the storage; final until reopened
	erased       bool
	superseded   bool // it is being opened once more; see roomless.go

	trouble      error // why the maps could not be written last; nil if they could
	catalogBytes int64 // of the last catalog that this opening wrote

	injected   bool  // memory has moved blocks, which no catalog may leave to the log
	distrusted bool  // a map file is damaged; the next opening makes them anew
	why        error // that a map was first found damaged by

	hard map[uint32]bool // segments that compaction leaves as they are; see compact.go

	gone        atomic.Bool   // erased: no file under the names of this disk is its own
	passed      atomic.Bool   // maintenance was asked for while somebody maintained it
	compacting  atomic.Int32  // compactions that are under way, or about to begin
	taking      gauge         // that its files take
	thorough    bool          // tidy hides little; of the one who maintains
	maintaining chan struct{} // holds one token for the one who maintains: see release
	giveWay     func()        // ends the compaction that is under way; nil without one
	hurried     int           // who wants none: see hurry
	log         log           // used by the one who leads
	keys        *dataKeys     // nil: the vault is not encrypted
	keyHolder   uint32        // a segment with a block of the oldest data key; of the one who maintains
	state
}

func newDisk(v *Vault, id replication.DiskID) *disk {
	d := &disk{
		vault:   v,
		id:      id,
		folder:  v.diskFolder(id),
		changed: make(chan struct{}),
		queue:   map[replication.Sequence]*pending{},
		pins:    map[uint64]bool{},
		damaged: map[location]*finding{},
		rotten:  map[uint32][]Damage{},
		hard:    map[uint32]bool{},

		maintaining: make(chan struct{}, 1),
	}
	d.keys = v.keys.ofDisk(id, d.folder)
	d.state.disk.ID = id
	d.byID = map[replication.PointID]*point{}
	d.log = log{
		fs: v.fs, folder: d.folder, vault: v.id, disk: id, tag: diskTag(v.id, id),
		session: v.session, version: v.version(), limit: v.options.segmentBytes,
	}
	return d
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
	err := d.log.append(drafts, nil)
	if err != nil && !isFinal(err) && !carriesData(drafts) && d.vault.spend(err) {
		err = d.log.append(drafts, nil)
	}
	d.mu.Lock()
	if err != nil {
		return d.failed(err)
	}
	for _, r := range drafts {
		if err := d.apply(&r.record); err != nil {
			d.fail(brokenProblem(d.id, err))
			return d.broken
		}
	}
	return nil
}

// carriesData tells drafts that the reserve is not for.
func carriesData(drafts []*draft) bool {
	return slices.ContainsFunc(drafts, func(r *draft) bool { return r.head.kind == kindBatch || r.head.kind == kindMove })
}

func isFinal(err error) bool { _, final := err.(*finalError); return final }

// failed remembers a final failure of the log. The caller holds mu.
func (d *disk) failed(err error) error {
	if !isFinal(err) {
		return writeProblem(d.id, err)
	}
	d.fail(brokenProblem(d.id, err))
	return d.broken
}

// fail makes the disk useless until it is opened again. What waits is refused: the log may
// take it after all, and what is behind the failure is not found again. The caller holds mu.
func (d *disk) fail(why error) {
	d.broken = why
	d.refuse(why)
}

func (d *disk) exists() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return (d.serial > 0 || d.sick != nil) && !d.erased
}

// close waits for the append under way, refuses what waits, and leaves the disk so that
// it opens quickly.
func (d *disk) close(why error) error {
	defer d.hurry()()
	d.maintaining <- struct{}{}
	defer d.release() // who waits for it finds out why it cannot be used
	d.mu.Lock()
	broken := d.broken
	d.broken = why
	d.refuse(why)
	for d.leading {
		changed := d.changed
		d.mu.Unlock()
		<-changed
		d.mu.Lock()
	}
	tidy := broken == nil && d.sick == nil && !d.distrusted && !d.erased && d.serial > 0 && !d.vault.options.ReadOnly
	d.mu.Unlock()
	var errs []error
	if tidy {
		// Without a catalog the next opening reads the log: a full disk is no reason
		// to fail here.
		if err := d.leave(); err != nil && !errors.Is(err, vfs.ErrNoSpace) {
			errs = append(errs, err)
		}
	}
	d.mu.Lock()
	var files []*mapFile
	for _, t := range d.tiles {
		files = append(files, t.mapFile)
	}
	for _, f := range d.folds {
		files = append(files, f.mapFile)
	}
	d.mu.Unlock()
	for _, m := range files {
		errs = append(errs, m.use.close())
	}
	return errors.Join(append(errs, d.log.close())...)
}

// trusted reports damage to the log that makes what happened up to a serial
// uncertain. The caller holds mu.
func (d *disk) trusted(id replication.PointID, at serial) error {
	for _, l := range d.lost {
		if d.doubts(l, at) {
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
	if first {
		d.why = err
	}
	d.mu.Unlock()
	if first && !d.vault.options.ReadOnly {
		err = errors.Join(err, d.vault.fs.Remove(filepath.Join(d.folder, catalogName)))
	}
	action := "open the vault again: the map is made anew from the log"
	if d.vault.options.ReadOnly {
		action = "let the disk be healed, and open the vault again: the map is made anew from the log"
	}
	return &replication.Problem{
		Code:   CodeIndex,
		Cause:  err.Error(),
		Effect: "nothing of the disk is lost, but its map cannot be read",
		Action: action,
		Remedy: replication.Retry,
		Err:    err,
	}
}
