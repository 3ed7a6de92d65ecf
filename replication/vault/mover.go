package vault

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"riparo/replication"
	"riparo/replication/vfs"
)

// mover moves the blocks of one segment.
type mover struct {
	disk    *disk
	ctx     context.Context
	pace    func(context.Context, int64) error
	segment uint32
	blocks  *neededBlocks
	voids   []serialRange // when the maps were read

	table   []row
	payload []byte
	body    []byte
	zeroes  []row // with their origins: all of a segment go in one record
	from    []byte
}

func (m *mover) run() error {
	s, err := openSegment(m.disk.vault.fs, m.disk.folder, m.segment)
	if err != nil && !vfs.Short(err) {
		return &moveError{err} // others can be moved all the same
	}
	if err != nil {
		return err
	}
	err = m.records(s)
	return closeAfter(err, s)
}

func (m *mover) records(s *segmentReader) error {
	if s.trailer == nil {
		return &moveError{errNoTrailer}
	}
	records, err := s.footer()
	if err != nil {
		return &moveError{err}
	}
	for i := range records {
		if err := m.gaps(&records[i]); err != nil {
			return err
		}
		if len(m.zeroes) > moveRows { // before anything is there twice
			return &moveError{fmt.Errorf("%d extents without data, and more", len(m.zeroes))}
		}
	}
	for i := range records {
		if err := m.record(s, &records[i]); err != nil {
			return err
		}
	}
	if err := m.flush(); err != nil {
		return err
	}
	if n := m.blocks.missing(); n > 0 {
		return &moveError{fmt.Errorf("%d blocks that are needed are not there", n)}
	}
	m.table, m.body = m.zeroes, m.from
	return m.flush()
}

// gaps notes what is needed of the extents of a record that have no data.
func (m *mover) gaps(rec *record) error {
	first, err := rec.broughtBy()
	if err != nil {
		return &moveError{err}
	}
	for i, e := range rec.entries() {
		if e.codec != codecZero || !m.blocks.touches(&e) {
			continue
		}
		at := first(i)
		if inRanges(m.voids, at) {
			continue // it may lie beside one that is needed
		}
		m.zeroes = append(m.zeroes, row{extent: e.extent(), codec: codecZero})
		m.from = origin{e.location(), at}.append(m.from)
	}
	return nil
}

// record moves what is needed of one record. Blocks of two records that were moved
// here once already are not mixed, so that reading the log without its catalog has
// few of them under way at a time.
func (m *mover) record(s *segmentReader, rec *record) error {
	if len(rec.table) == 0 {
		return nil
	}
	if rec.kind == kindMove {
		if err := m.flush(); err != nil {
			return err
		}
	}
	first, err := rec.broughtBy()
	if err != nil {
		return &moveError{err}
	}
	for i, e := range rec.entries() {
		at := first(i)
		if e.codec == codecZero || inRanges(m.voids, at) {
			continue
		}
		from := origin{e.location(), at}
		parts := m.blocks.of(e.position)
		if len(parts) == 0 {
			continue
		}
		c, err := m.disk.again(s, &e, parts)
		if err != nil {
			return err
		}
		// The parts of a block are in one record, which says all that became of it.
		if len(m.table)+len(c.table) > moveRows || len(m.payload)+len(c.payload) > moveBytes {
			if err := m.flush(); err != nil {
				return err
			}
		}
		m.blocks.found[e.position] = true
		m.table = append(m.table, c.table...)
		m.payload = append(m.payload, c.payload...)
		for range c.table {
			m.body = from.append(m.body)
		}
	}
	if rec.kind == kindMove {
		return m.flush()
	}
	return nil
}

// again gives what is appended so that a block, or what is needed of it, is stored once
// more. A block that is damaged is left where it is, for Heal to find.
func (d *disk) again(s *segmentReader, e *entry, parts []blockPart) (content, error) {
	stored := make([]byte, e.stored)
	if err := readFull(s.file, stored, int64(e.position)); err != nil {
		return content{}, &moveError{err}
	}
	if c, ok, err := d.partsOf(e, stored, parts); ok || err != nil {
		return c, err
	}
	r, stored, err := d.repeat(e, stored)
	if err != nil {
		return content{}, &moveError{err}
	}
	return content{table: []row{r}, payload: stored}, nil
}

// partsOf makes blocks of the parts of a block that are needed, if that is worth it.
func (d *disk) partsOf(e *entry, stored []byte, parts []blockPart) (_ content, worth bool, err error) {
	needed := int64(0)
	for _, p := range parts {
		needed += p.to - p.from
	}
	if needed > e.length-e.length/partGain {
		return content{}, false, nil
	}
	whole := make([]byte, e.plain)
	if err := d.keys.checkBlock(e, slices.Clone(stored), whole); err != nil {
		return content{}, false, &moveError{err}
	}
	var changes []replication.Change
	for _, p := range parts {
		data := whole[p.from-e.offset : p.to-e.offset]
		if replication.IsZero(data) {
			return content{}, false, nil // its row would not say where it was
		}
		changes = append(changes, replication.Change{Extent: replication.Extent{Offset: p.from, Length: p.to - p.from}, Data: data})
	}
	c, err := d.encode(changes)
	return c, err == nil && len(c.payload) < int(e.stored)-int(e.stored)/partGain, err
}

// flush appends what was collected.
func (m *mover) flush() error {
	if len(m.table) == 0 {
		return nil
	}
	r := newDraft(kindMove, m.table, m.payload, m.body)
	bytes := r.size()
	if err := m.append(r); err != nil {
		return err
	}
	m.table, m.payload, m.body = nil, m.payload[:0], nil
	return m.pace(m.ctx, bytes)
}

// errRewound ends the round of a compaction: some of what it would move is void now.
// The log must not say of void blocks that they were moved, for the rewind may be
// forgotten before that.
var errRewound = errors.New("the disk was rewound")

// append appends a record of moved blocks.
func (m *mover) append(r *draft) error {
	d := m.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.lead(m.ctx); err != nil {
		return err
	}
	defer d.follow()
	if !slices.Equal(d.voids, m.voids) {
		return errRewound
	}
	r.head.epoch = d.epoch
	return d.write(r)
}
