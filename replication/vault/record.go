package vault

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"riparo/replication"
)

// Sizes of the log format, in bytes. See the package comment for the layout.
const (
	// alignment is where every append begins. A sector that holds acknowledged
	// data is never written again, so that a torn write can damage only what was
	// not acknowledged; and direct I/O needs it.
	alignment = 4096
	// recordHeaderSize is the fixed part of a record.
	recordHeaderSize = 96
	// blockSize is one row of a record's table.
	blockRowSize = 40
)

// Limits of one record. They bound what a reader allocates before it has checked
// anything but the header's CRC.
const (
	// maxRows: a change of each kind splits into at most 17 blocks per MiB.
	maxRows = replication.MaxBatchChanges + 2*replication.MaxBatchBytes/blockBytes + replication.MaxBatchChanges
	// maxBodyBytes: an inventory of 100,000 points is about 20 MiB.
	maxBodyBytes = 64 << 20
	// maxPayloadBytes: a batch whose every block was stored raw and sealed.
	maxPayloadBytes = replication.MaxBatchBytes + maxRows*64
)

// kind says what a record is.
type kind uint8

const (
	kindBatch     kind = 1  // rows and their data
	kindMark      kind = 2  // closes a recovery point
	kindDisk      kind = 3  // size, machine or owner changed; may cut the disk
	kindRewind    kind = 4  // what came after a point is no more part of the disk
	kindDrop      kind = 5  // points let go
	kindInventory kind = 6  // all that is still needed of everything before it
	kindRelease   kind = 7  // points do not need an erased member any more
	kindMove      kind = 8  // rows that take the place of stored blocks
	kindMend      kind = 9  // the head is right again in spite of lost records
	kindLock      kind = 10 // points that nobody may let go before a time
	kindPin       kind = 11 // points that a person keeps, or does not any more
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(p []byte) uint32 { return crc32.Checksum(p, castagnoli) }

// recordHeader is the fixed part of a record.
type recordHeader struct {
	kind     kind
	rows     uint32 // of the table
	body     uint32 // bytes that follow the table
	payload  uint32 // bytes that follow the body
	pad      uint32 // zero bytes that follow the payload
	serial   serial
	sequence replication.Sequence
	epoch    replication.Epoch
	session  uint64 // counts the openings of the vault for writing
	settled  serial // the last record that was durable when this one was written
	time     int64  // of the vault's clock, Unix nanoseconds
	chain    uint32 // sum of the record before
	disk     uint32 // tag of vault and disk
	key      uint32 // the newest data key that a block is sealed with; 0: none
	cipher   uint8  // 0: none; 1: AES-256-GCM, of the blocks
	content  uint32 // CRC32C of table and body
	sum      uint32 // CRC32C of the header before this field
}

const recordMagic = 0x43455252 // "RREC"

// errNoRecord means that the bytes are not a whole record header.
var errNoRecord = errors.New("no record")

// seal writes h to p and sets h.sum.
func (h *recordHeader) seal(p []byte) {
	p = p[:recordHeaderSize]
	clear(p)
	le := binary.LittleEndian
	le.PutUint32(p[0:], recordMagic)
	p[4] = byte(h.kind)
	p[5] = h.cipher
	le.PutUint16(p[6:], blockRowSize)
	le.PutUint32(p[8:], h.rows)
	le.PutUint32(p[12:], h.body)
	le.PutUint32(p[16:], h.payload)
	le.PutUint32(p[20:], h.pad)
	le.PutUint64(p[24:], uint64(h.serial))
	le.PutUint64(p[32:], uint64(h.sequence))
	le.PutUint64(p[40:], uint64(h.epoch))
	le.PutUint64(p[48:], h.session)
	le.PutUint64(p[56:], uint64(h.settled))
	le.PutUint64(p[64:], uint64(h.time))
	le.PutUint32(p[72:], h.chain)
	le.PutUint32(p[76:], h.disk)
	le.PutUint32(p[80:], h.key)
	le.PutUint32(p[88:], h.content)
	h.sum = checksum(p[:92])
	le.PutUint32(p[92:], h.sum)
}

// parseRecordHeader reads a header and checks its CRC and its limits, so that its
// lengths may be trusted for an allocation.
func parseRecordHeader(p []byte) (recordHeader, error) {
	var h recordHeader
	le := binary.LittleEndian
	if len(p) < recordHeaderSize || le.Uint32(p) != recordMagic {
		return h, errNoRecord
	}
	h.sum = le.Uint32(p[92:])
	if checksum(p[:92]) != h.sum {
		return h, errNoRecord
	}
	h.kind = kind(p[4])
	h.cipher = p[5]
	h.rows = le.Uint32(p[8:])
	h.body = le.Uint32(p[12:])
	h.payload = le.Uint32(p[16:])
	h.pad = le.Uint32(p[20:])
	h.serial = serial(le.Uint64(p[24:]))
	h.sequence = replication.Sequence(le.Uint64(p[32:]))
	h.epoch = replication.Epoch(le.Uint64(p[40:]))
	h.session = le.Uint64(p[48:])
	h.settled = serial(le.Uint64(p[56:]))
	h.time = int64(le.Uint64(p[64:]))
	h.chain = le.Uint32(p[72:])
	h.disk = le.Uint32(p[76:])
	h.key = le.Uint32(p[80:])
	h.content = le.Uint32(p[88:])
	switch {
	case le.Uint16(p[6:]) != blockRowSize:
		return h, fmt.Errorf("record %d has rows of %d bytes: this version knows %d", h.serial, le.Uint16(p[6:]), blockRowSize)
	case h.rows > maxRows || h.body > maxBodyBytes || h.payload > maxPayloadBytes || h.pad >= alignment || h.serial == 0:
		return h, fmt.Errorf("record %d claims %d rows, %d and %d bytes: beyond the limits", h.serial, h.rows, h.body, h.payload)
	}
	return h, nil
}

// meta is the length of header, table and body.
func (h *recordHeader) meta() int64 {
	return recordHeaderSize + int64(h.rows)*blockRowSize + int64(h.body)
}

// size is the length of the whole record with what pads it.
func (h *recordHeader) size() int64 { return h.meta() + int64(h.payload) + int64(h.pad) }

// codec says how a block's bytes are stored.
type codec uint8

const (
	codecZero  codec = 0 // not at all: every byte is zero
	codecRaw   codec = 1
	codecLZ4   codec = 2 // one LZ4 block
	codecS2    codec = 3 // one S2 block
	codecZstd  codec = 4 // one zstd frame
	codecMinLZ codec = 5 // one MinLZ block

	newestCodec = codecMinLZ
)

// known reports whether this version reads blocks that are stored so.
func (c codec) known() bool { return c <= newestCodec }

// generation tells who knows a codec: programs of generation 0 know raw and LZ4, of 1
// also S2 and zstd, of 2 all.
func (c codec) generation() uint32 {
	switch {
	case c <= codecLZ4:
		return 0
	case c <= codecZstd:
		return 1
	}
	return 2
}

// row is one block of a record: where it lies on the disk and how it is stored.
// The blocks of a record follow each other in its payload.
type row struct {
	extent replication.Extent
	stored uint32 // bytes in the payload
	crc    uint32 // CRC32C of the stored bytes
	sum    plainSum
	codec  codec
	key    uint32 // of the data key that the stored bytes are sealed with; 0: none
}

// plainSum is a 64-bit checksum of a block's content: CRC32C and CRC32 (IEEE)
// together. It finds damage that happened before the block was stored, and tells
// whether a source still has the content of a damaged block. Of a sealed block it is
// a keyed hash, see blockSums.
type plainSum uint64

func sumOf(p []byte) plainSum {
	return plainSum(checksum(p)) | plainSum(crc32.ChecksumIEEE(p))<<32
}

func (r row) put(p []byte) {
	le := binary.LittleEndian
	le.PutUint64(p[0:], uint64(r.extent.Offset))
	le.PutUint64(p[8:], uint64(r.extent.Length))
	le.PutUint32(p[16:], r.stored)
	le.PutUint32(p[20:], r.crc)
	le.PutUint64(p[24:], uint64(r.sum))
	p[32] = byte(r.codec)
	clear(p[33:36])
	le.PutUint32(p[36:], r.key)
}

func parseRow(p []byte) row {
	le := binary.LittleEndian
	return row{
		extent: replication.Extent{Offset: int64(le.Uint64(p[0:])), Length: int64(le.Uint64(p[8:]))},
		stored: le.Uint32(p[16:]),
		crc:    le.Uint32(p[20:]),
		sum:    plainSum(le.Uint64(p[24:])),
		codec:  codec(p[32]),
		key:    le.Uint32(p[36:]),
	}
}

// check reports what makes the row unacceptable.
func (r row) check() error {
	e := r.extent
	switch {
	case e.Offset < 0 || e.Length <= 0 || e.Offset+e.Length < 0:
		return fmt.Errorf("block %s is no extent", e)
	case r.codec == codecZero && r.stored == 0:
		return nil
	case r.codec == codecZero:
		return fmt.Errorf("block %s without data has %d bytes", e, r.stored)
	case !r.codec.known():
		return fmt.Errorf("block %s is stored by codec %d: this version knows 0 to %d", e, r.codec, newestCodec)
	case e.Length > blockBytes || r.stored == 0 || int64(r.stored) > maxStoredBytes:
		return fmt.Errorf("block %s is stored in %d bytes: beyond the limits", e, r.stored)
	}
	return nil
}

// record is a record as it is read: all but its payload.
type record struct {
	recordHeader
	segment  uint32 // where it lies
	position int64  // of its header in the segment
	table    []row
	body     []byte
}

// parseMeta reads header, table and body from p, which begins with the header.
func parseMeta(p []byte) (record, error) {
	h, err := parseRecordHeader(p)
	if err != nil {
		return record{}, err
	}
	if int64(len(p)) < h.meta() {
		return record{recordHeader: h}, fmt.Errorf("record %d ends after %d of %d bytes", h.serial, len(p), h.meta())
	}
	p = p[recordHeaderSize:h.meta()]
	r := record{recordHeader: h}
	if checksum(p) != h.content {
		return r, fmt.Errorf("record %d: its table has a wrong checksum", h.serial)
	}
	total := int64(0)
	r.table = make([]row, h.rows)
	for i := range r.table {
		r.table[i] = parseRow(p[i*blockRowSize:])
		if err := r.table[i].check(); err != nil {
			return r, fmt.Errorf("record %d: %w", h.serial, err)
		}
		total += int64(r.table[i].stored)
	}
	if total != int64(h.payload) {
		return r, fmt.Errorf("record %d: its blocks have %d bytes, its payload %d", h.serial, total, h.payload)
	}
	r.body = p[int64(h.rows)*blockRowSize:]
	return r, nil
}

// entries are the map entries of the record's blocks.
func (r *record) entries() []entry {
	list := make([]entry, 0, len(r.table))
	at := r.position + r.meta()
	for _, b := range r.table {
		e := entry{offset: b.extent.Offset, length: b.extent.Length, codec: b.codec, segment: r.segment}
		if b.codec != codecZero {
			e.position, e.stored = uint32(at), b.stored
			e.plain, e.crc, e.sum, e.key = uint32(b.extent.Length), b.crc, b.sum, b.key
		}
		at += int64(b.stored)
		list = append(list, e)
	}
	return list
}
