package vault

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
)

// The catalog of a disk remembers what its log adds up to, so that opening need not
// read the log again: the snapshot, which map files there are, and how far they go.
// It is derived; without it, or with a wrong one, the log is read instead. It is also
// a witness: what it knows of was durable, so that a log which ends before is
// damaged and not merely cut off.
const (
	catalogName  = "catalog"
	catalogMagic = "RIPAROCT"
	// catalogHeader: magic, version, disk tag, length and CRC of the rest, what is certain
	// about seals (0 in older ones), own CRC.
	catalogHeader   = 64
	maxCatalogBytes = 1 << 30
)

// catalog is what the file says besides the snapshot.
type catalog struct {
	serial  serial // of the last record
	chain   uint32
	segment uint32 // that it lies in
	end     int64  // of its records
	left    uint32 // what is certain about the seals; see leave.go
	mapped  serial // how far the map files go
	nextMap uint32
	tiles   []tileName
	folds   []foldName
}

type tileName struct {
	number uint32
	made   mapStamp
	upTo   serial
}

type foldName struct {
	number uint32
	made   mapStamp
	level  int
}

func (e *encoder) mapName(m *mapFile) {
	e.number(uint64(m.number))
	e.number(m.made.session)
	e.number(m.made.count)
}

func (d *decoder) mapStamp() mapStamp { return mapStamp{session: d.number(), count: d.number()} }

// encodeCatalog gives the file's content. The caller holds mu.
func (d *disk) encodeCatalog() []byte {
	var e encoder
	d.snapshot(&e)
	segment, end := d.log.previous, d.log.previousEnd
	if w := d.log.current; w != nil {
		segment, end = w.number, w.end
	}
	e.number(uint64(d.log.serial))
	e.number(uint64(d.log.chain))
	e.number(uint64(segment))
	e.number(uint64(end))
	e.number(uint64(d.mapped))
	e.number(uint64(d.nextMap))
	e.number(uint64(len(d.tiles)))
	for _, t := range d.tiles {
		e.mapName(t.mapFile)
		e.number(uint64(t.upTo))
	}
	e.number(uint64(len(d.folds)))
	for _, f := range d.folds {
		e.mapName(f.mapFile)
		e.number(uint64(f.level))
	}
	h := make([]byte, catalogHeader, catalogHeader+len(e.p))
	copy(h, catalogMagic)
	le := binary.LittleEndian
	le.PutUint32(h[8:], derivedVersion)
	le.PutUint32(h[12:], d.log.tag)
	le.PutUint64(h[16:], uint64(len(e.p)))
	le.PutUint32(h[24:], checksum(e.p))
	le.PutUint32(h[28:], d.leftAt())
	le.PutUint32(h[catalogHeader-4:], checksum(h[:catalogHeader-4]))
	return append(h, e.p...)
}

var errNoCatalog = errors.New("no catalog, or a damaged one")

// parseCatalog reads a catalog and puts its snapshot into s.
func parseCatalog(p []byte, tag uint32, s *state) (catalog, error) {
	var c catalog
	le := binary.LittleEndian
	if len(p) < catalogHeader || string(p[:8]) != catalogMagic || le.Uint32(p[8:]) != derivedVersion ||
		checksum(p[:catalogHeader-4]) != le.Uint32(p[catalogHeader-4:]) || le.Uint32(p[12:]) != tag {
		return c, errNoCatalog
	}
	rest := p[catalogHeader:]
	if le.Uint64(p[16:]) != uint64(len(rest)) || checksum(rest) != le.Uint32(p[24:]) {
		return c, errNoCatalog
	}
	d := decoder{p: rest}
	if err := s.restore(&d); err != nil {
		return c, err
	}
	c.left = le.Uint32(p[28:])
	c.serial = serial(d.number())
	c.chain = uint32(d.number())
	c.segment = uint32(d.number())
	c.end = int64(d.number())
	c.mapped = serial(d.number())
	c.nextMap = uint32(d.number())
	for range d.count() {
		c.tiles = append(c.tiles, tileName{uint32(d.number()), d.mapStamp(), serial(d.number())})
	}
	for range d.count() {
		c.folds = append(c.folds, foldName{uint32(d.number()), d.mapStamp(), int(d.number())})
	}
	if err := d.done(); err != nil {
		return c, err
	}
	if c.mapped > c.serial || len(s.segments) == 0 {
		return c, errNoCatalog
	}
	return c, nil
}

// readCatalog brings the state to where the catalog was written, all but memory. An
// error means that the log must be read instead.
func (d *disk) readCatalog() (*catalog, error) {
	p, err := d.vault.readFile(filepath.Join(d.folder, catalogName), maxCatalogBytes)
	if err != nil {
		return nil, err
	}
	c, err := parseCatalog(p, d.log.tag, &d.state)
	if err != nil {
		return nil, err
	}
	d.mapped, d.nextMap = c.mapped, c.nextMap
	at := serial(0)
	for _, t := range c.tiles {
		m, err := d.openMap(t.number, t.made)
		if err != nil {
			return nil, err
		}
		d.tiles = append(d.tiles, tile{m, t.upTo})
		if m.from != at || t.upTo > m.to || t.upTo <= m.from {
			return nil, fmt.Errorf("map %s does not go on where the one before it ends", mapName(t.number))
		}
		at = t.upTo
	}
	for _, f := range c.folds {
		m, err := d.openMap(f.number, f.made)
		if err != nil {
			return nil, err
		}
		d.folds = append(d.folds, fold{m, f.level})
	}
	return &c, nil
}

// writeCatalog replaces the catalog and then removes the map files that it does not
// name. The caller leads, and does not hold mu.
func (d *disk) writeCatalog() error {
	d.mu.Lock()
	if d.distrusted || d.injected {
		d.mu.Unlock()
		return nil
	}
	p := d.encodeCatalog()
	d.catalogBytes = int64(len(p))
	garbage := d.garbage
	d.garbage = nil
	d.mu.Unlock()
	if err := d.vault.replaceFile(d.folder, catalogName, p); err != nil {
		d.mu.Lock()
		d.garbage = append(d.garbage, garbage...)
		d.mu.Unlock()
		return fmt.Errorf("write the catalog of disk %s: %w", d.id, err)
	}
	var errs []error
	d.mu.Lock()
	distrusted := d.distrusted
	d.mu.Unlock()
	if distrusted { // meanwhile: the next opening is not to believe this one either
		if err := d.vault.fs.Remove(filepath.Join(d.folder, catalogName)); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	for _, m := range garbage {
		errs = append(errs, m.use.discard())
	}
	return errors.Join(errs...)
}
