package vault

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"riparo/replication"
	"riparo/replication/vfs"
)

// VerifyOptions say what is verified.
type VerifyOptions struct {
	Disks    []replication.DiskID    // none: all
	Progress func(done, total int64) // bytes of segments; may be nil
}

// VerifyReport is what a verification found.
type VerifyReport struct {
	Disks    int
	Points   int
	Segments int
	Bytes    int64 // read and checked
	Damage   []Damage
}

// Damage is a place where the vault does not hold what was written.
type Damage struct {
	Disk    replication.DiskID
	Extent  replication.Extent    // of the disk; Length 0: unknown, or none of its data
	Points  []replication.PointID // that need the extent; empty also when only the head does
	Head    bool                  // the head needs it
	Segment uint32
	Offset  int64 // in the segment
	Reason  string
	// Map: it is a map that is damaged. Nothing is lost, for the log has all of it, but
	// until the vault is opened again the disk gives no room back.
	Map bool
	// Harmless: no point and not the head needs what is damaged. It is dead, repeats
	// something, or is made anew from the log when the vault is opened next.
	Harmless bool
}

// location is where a stored block begins.
type location struct {
	segment  uint32
	position uint32
}

// Verify reads all segments again and checks every record: header, table, the
// stored bytes and what they decompress to; that each is the one that became durable in its
// place; and that every block which a map names is there. What it passes can be read, and
// what it does not it names. Damage is no error; an error means that the verification
// could not be done. It changes nothing but this: a map that it finds damaged is made anew
// when the vault is opened next, unless the vault was opened for reading only.
func (v *Vault) Verify(ctx context.Context, o VerifyOptions) (VerifyReport, error) {
	var report VerifyReport
	var disks []*disk
	total := int64(0)
	for _, d := range v.list() {
		if len(o.Disks) == 0 || slices.Contains(o.Disks, d.id) {
			disks = append(disks, d)
			bytes, _ := d.storedBytes()
			total += bytes
		}
	}
	for _, id := range o.Disks {
		if _, err := v.findAny(id); err != nil {
			return report, fmt.Errorf("verify: %w", err)
		}
	}
	if p, err := v.readFile(filepath.Join(v.dir, headerName), headerSize); vfs.Short(err) {
		return report, fmt.Errorf("verify: %w", err)
	} else if err != nil {
		report.Damage = append(report.Damage, Damage{Reason: fmt.Sprintf("file %s: %v; it is made anew when the vault is opened next", headerName, err), Harmless: true})
	} else if err := new(Vault).parseHeader(p); err != nil {
		report.Damage = append(report.Damage, Damage{Reason: fmt.Sprintf("file %s: %v; it is made anew when the vault is opened next", headerName, err), Harmless: true})
	}
	if v.keys != nil {
		_, err := v.checkKeys(v.dir, func(err error, lost bool) {
			report.Damage = append(report.Damage, Damage{Reason: err.Error(), Harmless: !lost})
		})
		if err != nil {
			return report, fmt.Errorf("verify: %w", err)
		}
	}
	_, err := v.verifyDisks(ctx, disks, &report, func(done int64) {
		if o.Progress != nil {
			o.Progress(min(done, total), total)
		}
	})
	return report, err
}

// check verifies one disk, or some of its segments.
type check struct {
	disk   *disk
	report *VerifyReport
	pace   func(ctx context.Context, bytes int64) error // called for what was read; may be nil
	bad    []badBlock
	sound  []replication.Extent // of the segment, where records were read and checked; ascending
}

// badBlock is a stored block that cannot be read back.
type badBlock struct {
	location
	row    row
	reason error
}

// tail is what is known of a segment whose footer does not say it: of the one that is being
// written where its records end at this moment, and what its footer will say of them; and
// of any the sum of the last one.
type tail struct {
	end    int64
	footer []byte
	chain  uint32
	bound  bool // chain is known
}

// begin tells which segments there are, and of the one that is being written its tail,
// and reports those that are missing.
func (c *check) begin(ctx context.Context) (numbers []uint32, tails map[uint32]tail, err error) {
	d := c.disk
	d.mu.Lock()
	if err := d.still(ctx); err != nil {
		d.mu.Unlock()
		return nil, nil, err
	}
	points := len(d.points)
	segments := slices.Clone(d.segments)
	numbers, err = d.segmentFiles()
	tails = map[uint32]tail{}
	if w := d.log.current; w != nil {
		tails[w.number] = tail{w.end, w.footer, d.log.chain, true} // the footer is only added to
	} else if d.log.onlyRead > 0 {
		tails[d.log.onlyRead] = tail{end: d.log.onlyReadEnd, chain: d.log.chain, bound: true}
	} else if d.log.previous > 0 {
		tails[d.log.previous] = tail{end: d.log.previousEnd, chain: d.log.chain, bound: true}
	}
	unsealed := slices.Clone(d.unsealed)
	d.mu.Unlock()
	if err != nil {
		return nil, nil, err
	}
	if d.vault.options.ReadOnly || d.roomless {
		// It is as it was left. What a recovery would remove is none of the log, and what it
		// would seal is open.
		known := func(n uint32) bool {
			return slices.ContainsFunc(segments, func(g segmentInfo) bool { return g.number == n })
		}
		numbers = slices.DeleteFunc(numbers, func(n uint32) bool { return !known(n) })
		unsealed = numbers
	}
	for _, n := range unsealed {
		i, found := slices.BinarySearch(numbers, n)
		if _, known := tails[n]; !known && found && i+1 < len(numbers) {
			tails[n] = c.goesOn(n, numbers[i+1])
		}
	}
	c.report.Disks++
	c.report.Points += points
	for _, g := range segments {
		if _, there := slices.BinarySearch(numbers, g.number); !there {
			c.damaged(g.number, 0, errors.New("the segment is missing"))
		}
	}
	return numbers, tails, nil
}

// goesOn is what the segment that follows says of the end of one.
func (c *check) goesOn(number, following uint32) tail {
	next, err := openSegment(c.disk.vault.fs, c.disk.folder, following)
	if err != nil {
		return tail{} // told where it is verified itself
	}
	defer next.close()
	if next.header == nil || next.header.previous != number {
		return tail{}
	}
	return tail{end: next.header.previousEnd, chain: next.header.chain, bound: true}
}

// damaged reports damage that is not in a block.
func (c *check) damaged(segment uint32, offset int64, err error) {
	c.report.Damage = append(c.report.Damage, Damage{Disk: c.disk.id, Segment: segment, Offset: offset, Reason: err.Error()})
}

// repeated reports damage to what only repeats data.
func (c *check) repeated(segment uint32, offset int64, err error) {
	c.damaged(segment, offset, err)
	c.report.Damage[len(c.report.Damage)-1].Harmless = true
}

// lost reports the records that the last opening could not read.
func (c *check) lost() {
	d := c.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, l := range d.lost {
		damage := Damage{Disk: d.id, Extent: replication.Extent{Length: d.disk.Size}, Reason: fmt.Sprintf("records %d to %d of the log cannot be read", l.from+1, l.to)}
		for _, p := range d.points {
			if d.trusted(p.id, p.serial) != nil {
				damage.Points = append(damage.Points, p.id)
			}
		}
		damage.Head = d.trusted("", d.serial) != nil
		c.report.Damage = append(c.report.Damage, damage)
	}
}

// derived verifies the map files and the catalog, and the blocks that a map names outside
// of the records that were verified.
func (c *check) derived(ctx context.Context, sound map[uint32][]replication.Extent) error {
	d := c.disk
	d.mu.Lock()
	mapped := d.mapped
	d.mu.Unlock()
	files, memory, moved := d.maps()
	named := d.named(sound, moved)
	named.memory(memory)
	var errs []error
	for _, m := range files {
		if err := context.Cause(ctx); err != nil {
			errs = append(errs, err)
		} else if n, err := c.mapFile(m, named); vfs.Short(err) {
			errs = append(errs, err)
		} else if err != nil {
			c.repeated(0, 0, d.distrust(err)) // an opening does not look at every page
		} else {
			c.report.Bytes += n
		}
		errs = append(errs, m.use.release())
	}
	if p, err := d.vault.readFile(filepath.Join(d.folder, catalogName), maxCatalogBytes); err == nil {
		var s state
		if _, err := parseCatalog(p, d.log.tag, &s); err != nil {
			c.repeated(0, 0, fmt.Errorf("catalog: %w; it is made anew from the log", err))
		}
	} else if vfs.Short(err) {
		errs = append(errs, err)
	} else if mapped > 0 {
		c.repeated(0, 0, fmt.Errorf("catalog: %w; it is made anew from the log", err))
	}
	if err := errors.Join(append(errs, named.blocks.close())...); err != nil {
		return err
	}
	var err error
	c.bad, err = named.needed(ctx)
	return err
}

// mapFile verifies every page of a map file, and shows its entries.
func (c *check) mapFile(m *mapFile, named *named) (int64, error) {
	fresh, err := c.disk.openMap(m.number, m.made)
	if err != nil {
		return 0, err
	}
	defer fresh.use.close()
	for _, s := range []*section{&fresh.fine, &fresh.whole} {
		k := s.cursor(0, s.count)
		for k.advance() {
			named.entry(k.current)
		}
		if k.err != nil {
			return 0, k.err
		}
	}
	return (fresh.fine.pages() + fresh.whole.pages()) * pageSize, nil
}

// segment verifies one segment; t is zero for those that are not being written. It
// reads ahead in large pieces.
func (c *check) segment(ctx context.Context, k *checker, number uint32, t tail) error {
	r, err := openSegment(c.disk.vault.fs, c.disk.folder, number)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // dead, and deleted since
	}
	if vfs.Short(err) {
		return err
	}
	if err != nil {
		c.damaged(number, 0, err)
		return nil
	}
	defer r.close()
	c.report.Segments++
	if r.header == nil {
		c.repeated(number, 0, errNoSegment)
	}
	end, promised := t.end, t.footer
	switch {
	case r.trailer != nil:
		end = r.trailer.footer
		t.chain, t.bound = r.trailer.chain, true
		if promised, err = r.footerBytes(); err != nil {
			c.repeated(number, end, err)
		}
	case end == 0:
		end = r.size
		c.repeated(number, r.size, errNoTrailer)
	}
	// Records that it does not tell are met below, where they are.
	footer, _, err := r.repeated(promised)
	if err != nil {
		c.repeated(number, end, err)
	}
	k.ahead.open(r.file, r.size)
	chain, bound := uint32(0), false // sum of the record before
	if r.header != nil {
		chain, bound = r.header.chain, true
	}
	for at := int64(segmentHeaderSize); at < end; {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		rec, err := r.recordBy(at, func(n int64) ([]byte, error) { return k.ahead.slice(at, n) })
		known, next := findRecord(footer, at)
		switch {
		case err != nil:
		case rec.chain != chain && bound || rec.recordHeader.disk != c.disk.log.tag:
			err = errors.New("it is not the record that was written after the one before")
		case known != nil && rec.sum != known.sum, t.bound && at+rec.size() >= end && rec.sum != t.chain:
			// A try that failed leaves a record as good as any. The next one is written over
			// it, and may not have arrived.
			err = errors.New("it is not the record that became durable here")
		}
		if err != nil {
			err = fmt.Errorf("a record: %w", err)
			bound = false
			if known == nil {
				c.damaged(number, at, err)
				if next == 0 {
					break
				}
				at = next
				continue
			}
			if r.trailer != nil { // the footer repeats what the record said
				c.repeated(number, at, err)
			} else { // for as long as this vault is open, it is known
				c.damaged(number, at, err)
			}
			rec = *known
		} else {
			chain, bound = rec.sum, true
		}
		if c.payload(k, &rec) {
			c.verified(&rec)
		}
		if c.pace != nil {
			if err := c.pace(ctx, rec.size()); err != nil {
				return err
			}
		}
		at += rec.size()
	}
	c.report.Bytes += r.size
	return nil
}

// findRecord finds what a footer says about the record at a position, and where the
// first one behind it is, 0 if there is none.
func findRecord(footer []record, at int64) (known *record, next int64) {
	i, found := slices.BinarySearchFunc(footer, at, func(r record, at int64) int { return cmp.Compare(r.position, at) })
	if found {
		known = &footer[i]
		i++
	}
	if i < len(footer) {
		next = footer[i].position
	}
	return known, next
}

// payload verifies the blocks of a record and its padding. It reports whether each of them
// was looked at.
func (c *check) payload(k *checker, rec *record) bool {
	at := rec.position + rec.meta()
	p, err := k.ahead.slice(at, int64(rec.payload)+int64(rec.pad))
	if err != nil {
		c.damaged(rec.segment, at, err)
		return false
	}
	for _, e := range rec.entries() {
		if e.codec == codecZero {
			continue
		}
		stored := p[:e.stored]
		p = p[e.stored:]
		if err := c.disk.keys.checkBlock(&e, stored, k.plain[:]); err != nil {
			c.bad = append(c.bad, badBlockOf(&e, err))
		}
	}
	if !replication.IsZero(p) {
		c.repeated(rec.segment, rec.position+rec.size()-int64(len(p)), errors.New("the padding is not zero; nothing is kept in it"))
	}
	return true
}
