package vault

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"riparo/replication"
)

const (
	// formatVersion is the newest one. It is raised when an older program would misread
	// the files. Encrypted vaults have sealedVersion and others plainVersion, and
	// codecVersions more for each generation of the codecs that they may hold.
	formatVersion = sealedVersion + 2*codecVersions
	plainVersion  = 1
	sealedVersion = 2
	codecVersions = 2
	// derivedVersion is that of catalogs and maps. Those of another version are made
	// anew from the log.
	derivedVersion = 2
	// sealBytes is where a segment ends: large enough for sequential speed, small
	// enough to rewrite when most of it is dead.
	sealBytes = 64 << 20
	// segmentHeaderSize fills one unit of alignment.
	segmentHeaderSize = alignment
	trailerSize       = 64
	// footerBodyBytes: longer bodies are not repeated in the footer.
	footerBodyBytes = 4096
)

// Magic numbers of the parts of a segment.
const (
	segmentMagic = "RIPAROSG"
	trailerMagic = "RIPAROFT"
)

// vaultID tells one vault from another.
type vaultID [16]byte

// diskTag is in every record, so that one that strayed from another disk or vault
// is not taken for its own.
func diskTag(v vaultID, id replication.DiskID) uint32 {
	return checksum(append(v[:], id...))
}

// segmentHeader begins a segment. It says where the log goes on from: what lies in
// the segment before after its end is not part of the log.
type segmentHeader struct {
	version     uint32
	vault       vaultID
	disk        replication.DiskID
	number      uint32
	first       serial // of its records
	chain       uint32 // sum of the record before
	session     uint64
	created     int64 // Unix nanoseconds
	previous    uint32
	previousEnd int64
	// repeats is the last of the records that this segment repeats from behind the
	// end of the previous one, 0 if it repeats none. What the header says about that
	// end counts only if all of them are here.
	repeats serial
}

func (h *segmentHeader) encode() []byte {
	p := make([]byte, segmentHeaderSize)
	le := binary.LittleEndian
	copy(p, segmentMagic)
	le.PutUint32(p[8:], cmp.Or(h.version, plainVersion))
	le.PutUint32(p[12:], segmentHeaderSize)
	copy(p[16:32], h.vault[:])
	le.PutUint32(p[32:], h.number)
	le.PutUint32(p[36:], h.chain)
	le.PutUint64(p[40:], uint64(h.first))
	le.PutUint64(p[48:], h.session)
	le.PutUint64(p[56:], uint64(h.created))
	le.PutUint32(p[64:], h.previous)
	le.PutUint64(p[72:], uint64(h.previousEnd))
	le.PutUint64(p[80:], uint64(h.repeats))
	p[128] = byte(len(h.disk))
	copy(p[129:], h.disk)
	le.PutUint32(p[segmentHeaderSize-4:], checksum(p[:segmentHeaderSize-4]))
	return p
}

var errNoSegment = errors.New("no segment header, or a damaged one")

func parseSegmentHeader(p []byte) (segmentHeader, error) {
	var h segmentHeader
	le := binary.LittleEndian
	if len(p) < segmentHeaderSize || string(p[:8]) != segmentMagic ||
		checksum(p[:segmentHeaderSize-4]) != le.Uint32(p[segmentHeaderSize-4:]) {
		return h, errNoSegment
	}
	if h.version = le.Uint32(p[8:]); h.version > formatVersion {
		return h, &versionError{found: h.version}
	}
	copy(h.vault[:], p[16:32])
	h.number = le.Uint32(p[32:])
	h.chain = le.Uint32(p[36:])
	h.first = serial(le.Uint64(p[40:]))
	h.session = le.Uint64(p[48:])
	h.created = int64(le.Uint64(p[56:]))
	h.previous = le.Uint32(p[64:])
	h.previousEnd = int64(le.Uint64(p[72:]))
	h.repeats = serial(le.Uint64(p[80:]))
	n := int(p[128])
	if 129+n > segmentHeaderSize-4 {
		return h, errNoSegment
	}
	h.disk = replication.DiskID(p[129 : 129+n])
	return h, nil
}

// trailer is the last 64 bytes of a sealed segment.
type trailer struct {
	footer int64 // position of the footer; the records end here
	length int64 // of the footer
	first  serial
	last   serial
	chain  uint32 // sum of the last record
	crc    uint32 // CRC32C of the footer
	number uint32
	disk   uint32
}

func (t *trailer) encode() []byte {
	p := make([]byte, trailerSize)
	le := binary.LittleEndian
	copy(p, trailerMagic)
	le.PutUint64(p[8:], uint64(t.footer))
	le.PutUint64(p[16:], uint64(t.length))
	le.PutUint64(p[24:], uint64(t.first))
	le.PutUint64(p[32:], uint64(t.last))
	le.PutUint32(p[40:], t.chain)
	le.PutUint32(p[44:], t.crc)
	le.PutUint32(p[48:], t.number)
	le.PutUint32(p[52:], t.disk)
	le.PutUint32(p[60:], checksum(p[:60]))
	return p
}

var errNoTrailer = errors.New("not sealed, or its trailer is damaged")

func parseTrailer(p []byte, size int64) (trailer, error) {
	var t trailer
	le := binary.LittleEndian
	if len(p) != trailerSize || string(p[:8]) != trailerMagic || checksum(p[:60]) != le.Uint32(p[60:]) {
		return t, errNoTrailer
	}
	t.footer = int64(le.Uint64(p[8:]))
	t.length = int64(le.Uint64(p[16:]))
	t.first = serial(le.Uint64(p[24:]))
	t.last = serial(le.Uint64(p[32:]))
	t.chain = le.Uint32(p[40:])
	t.crc = le.Uint32(p[44:])
	t.number = le.Uint32(p[48:])
	t.disk = le.Uint32(p[52:])
	if t.footer < segmentHeaderSize || t.length < 0 || t.length > size || t.footer+t.length+trailerSize != size {
		return t, errNoTrailer
	}
	return t, nil
}

// appendFooter adds a record to a footer: its position, header and table, and its
// body unless that is long.
func appendFooter(footer []byte, position int64, meta []byte, body uint32) []byte {
	footer = binary.LittleEndian.AppendUint64(footer, uint64(position))
	if body > footerBodyBytes {
		meta = meta[:len(meta)-int(body)]
	}
	return append(footer, meta...)
}

// footerRecord is a record as a footer repeats it.
type footerRecord struct {
	record
	whole bool // its body is there
}

// parseFooter reads the records of a footer.
func parseFooter(p []byte, segment uint32) ([]footerRecord, error) {
	var list []footerRecord
	for len(p) > 0 {
		if len(p) < 8+recordHeaderSize {
			return nil, fmt.Errorf("footer of segment %d ends inside a record", segment)
		}
		position := int64(binary.LittleEndian.Uint64(p))
		p = p[8:]
		h, err := parseRecordHeader(p)
		if err != nil {
			return nil, fmt.Errorf("footer of segment %d: %w", segment, err)
		}
		meta, whole := h.meta(), true
		if h.body > footerBodyBytes {
			meta, whole = meta-int64(h.body), false
		}
		if int64(len(p)) < meta {
			return nil, fmt.Errorf("footer of segment %d ends inside a record", segment)
		}
		f := footerRecord{record: record{recordHeader: h}, whole: whole}
		if whole {
			if f.record, err = parseMeta(p[:meta]); err != nil {
				return nil, fmt.Errorf("footer of segment %d: %w", segment, err)
			}
		} else {
			for at := int64(recordHeaderSize); at < meta; at += blockRowSize {
				r := parseRow(p[at:])
				if err := r.check(); err != nil {
					return nil, fmt.Errorf("footer of segment %d: %w", segment, err)
				}
				f.table = append(f.table, r)
			}
		}
		f.segment, f.position = segment, position
		list = append(list, f)
		p = p[meta:]
	}
	return list, nil
}

const segmentSuffix = ".segment"

// segmentName is the file name of a segment: "0000002a.segment".
func segmentName(number uint32) string { return fmt.Sprintf("%08x%s", number, segmentSuffix) }

// segmentNumber reads it back.
func segmentNumber(name string) (uint32, bool) {
	hex, ok := strings.CutSuffix(filepath.Base(name), segmentSuffix)
	if !ok || len(hex) != 8 {
		return 0, false
	}
	n, err := strconv.ParseUint(hex, 16, 32)
	return uint32(n), err == nil && n > 0
}
