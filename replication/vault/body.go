package vault

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"riparo/replication"
)

// The bodies of records are written with encoder and read with decoder: unsigned
// varints, and strings as length and bytes. A decoder remembers its first error.

type encoder struct{ p []byte }

func (e *encoder) number(n uint64) { e.p = binary.AppendUvarint(e.p, n) }
func (e *encoder) text(s string)   { e.number(uint64(len(s))); e.p = append(e.p, s...) }

// stamp writes a time with nanoseconds; the zero time stays the zero time.
func (e *encoder) stamp(t time.Time) {
	if t.IsZero() {
		e.p = binary.AppendVarint(e.p, 0)
		e.number(1 << 30) // no number of nanoseconds
		return
	}
	e.p = binary.AppendVarint(e.p, t.Unix())
	e.number(uint64(t.Nanosecond()))
}

type decoder struct {
	p     []byte
	whole string // if it is set, it ends in p, and texts are parts of it
	err   error

	members []replication.DiskID // of the point under way
	shared  []replication.DiskID // the members of the last point, for those that have the same
}

var errShortBody = errors.New("the body of a record ends early")

func (d *decoder) number() uint64 {
	n, size := binary.Uvarint(d.p)
	if size <= 0 {
		d.fail()
		return 0
	}
	d.p = d.p[size:]
	return n
}

func (d *decoder) text() string {
	n := d.number()
	if n > uint64(len(d.p)) {
		d.fail()
		return ""
	}
	var s string
	if at := len(d.whole) - len(d.p); at >= 0 && len(d.p) > 0 {
		s = d.whole[at:][:n]
	} else {
		s = string(d.p[:n])
	}
	d.p = d.p[n:]
	return s
}

func (d *decoder) stamp() time.Time {
	seconds, size := binary.Varint(d.p)
	if size <= 0 {
		d.fail()
		return time.Time{}
	}
	d.p = d.p[size:]
	nano := d.number()
	if nano == 1<<30 {
		return time.Time{}
	}
	if nano >= 1e9 {
		d.fail()
	}
	return time.Unix(seconds, int64(nano)).UTC()
}

// count reads the length of a list whose items take at least one byte each.
func (d *decoder) count() int {
	n := d.number()
	if n > uint64(len(d.p)) {
		d.fail()
		return 0
	}
	return int(n)
}

func (d *decoder) fail() {
	if d.err == nil {
		d.err = errShortBody
	}
	d.p = nil
}

// done reports the first error, or that something was left.
func (d *decoder) done() error {
	if d.err == nil && len(d.p) > 0 {
		return fmt.Errorf("%d bytes too many in the body of a record", len(d.p))
	}
	return d.err
}

// diskBody is the body of kindDisk.
type diskBody struct {
	id      replication.DiskID
	machine replication.MachineID
	size    int64
}

func (b diskBody) encode() []byte {
	var e encoder
	e.text(string(b.id))
	e.text(string(b.machine))
	e.number(uint64(b.size))
	return e.p
}

func parseDiskBody(p []byte) (diskBody, error) {
	d := decoder{p: p}
	b := diskBody{id: replication.DiskID(d.text()), machine: replication.MachineID(d.text()), size: int64(d.number())}
	if err := d.done(); err != nil {
		return b, err
	}
	if b.size < 0 {
		return b, fmt.Errorf("a disk of %d bytes", b.size)
	}
	return b, b.id.Check()
}

// point is a recovery point of one disk as the vault keeps it.
type point struct {
	id          replication.PointID
	time        time.Time
	consistency replication.Consistency
	size        int64
	members     []replication.DiskID
	tag         string
	serial      serial // of its mark
	sequence    replication.Sequence
	changed     int64 // logical bytes since the point before it
	stored      int64 // what they take in the vault
	locked      int64 // until this time nobody lets it go, Unix nanoseconds; 0: not locked
	pinned      bool  // a person keeps it
}

func (e *encoder) point(p *point) {
	e.text(string(p.id))
	e.stamp(p.time)
	e.text(string(p.consistency))
	e.number(uint64(p.size))
	e.number(uint64(len(p.members)))
	for _, m := range p.members {
		e.text(string(m))
	}
	e.text(p.tag)
	e.number(uint64(p.serial))
	e.number(uint64(p.sequence))
	e.number(uint64(p.changed))
	e.number(uint64(p.stored))
	e.number(uint64(p.locked))
	e.flag(p.pinned)
}

func (d *decoder) point() point {
	p := point{
		id:          replication.PointID(d.text()),
		time:        d.stamp(),
		consistency: replication.Consistency(d.text()),
		size:        int64(d.number()),
	}
	d.members = d.members[:0]
	for range d.count() {
		d.members = append(d.members, replication.DiskID(d.text()))
	}
	if !slices.Equal(d.members, d.shared) {
		d.shared = append([]replication.DiskID(nil), d.members...)
	}
	p.members = d.shared
	p.tag = d.text()
	p.serial = serial(d.number())
	p.sequence = replication.Sequence(d.number())
	p.changed = int64(d.number())
	p.stored = int64(d.number())
	p.locked = int64(d.number())
	p.pinned = d.flag()
	if p.size < 0 || p.changed < 0 || p.stored < 0 || p.locked < 0 {
		d.fail()
	}
	return p
}

// parseMarkBody reads the body of kindMark: one point. Its serial and sequence are
// those of the record that carries it.
func parseMarkBody(r *record) (point, error) {
	d := decoder{p: r.body}
	p := d.point()
	p.serial, p.sequence = r.serial, r.sequence
	return p, d.done()
}

// rewindBody is the body of kindRewind.
type rewindBody struct {
	to replication.PointID
	at serial // of its mark
}

func (b rewindBody) encode() []byte {
	var e encoder
	e.text(string(b.to))
	e.number(uint64(b.at))
	return e.p
}

func parseRewindBody(p []byte) (rewindBody, error) {
	d := decoder{p: p}
	b := rewindBody{to: replication.PointID(d.text()), at: serial(d.number())}
	return b, d.done()
}

// encodeDrop is the body of kindDrop: the serials of the marks of the points.
func encodeDrop(marks []serial) []byte {
	var e encoder
	e.number(uint64(len(marks)))
	for _, m := range marks {
		e.number(uint64(m))
	}
	return e.p
}

func parseDropBody(p []byte) ([]serial, error) {
	d := decoder{p: p}
	var marks []serial
	for range d.count() {
		marks = append(marks, serial(d.number()))
	}
	return marks, d.done()
}

// releaseBody is the body of kindRelease: the points that do not need an erased
// member any more, by the serials of their marks.
type releaseBody struct {
	member replication.DiskID
	marks  []serial
}

func (b releaseBody) encode() []byte {
	var e encoder
	e.text(string(b.member))
	return append(e.p, encodeDrop(b.marks)...)
}

func parseReleaseBody(p []byte) (releaseBody, error) {
	d := decoder{p: p}
	b := releaseBody{member: replication.DiskID(d.text())}
	if d.err != nil {
		return b, d.err
	}
	var err error
	b.marks, err = parseDropBody(d.p)
	return b, err
}
