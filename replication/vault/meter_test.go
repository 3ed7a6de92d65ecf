package vault

import (
	"encoding/binary"
	"fmt"
	"path/filepath"
	"strings"
	"sync"

	"riparo/replication/vfs"
)

// writtenFS counts the bytes that are written to files, by what they are.
type writtenFS struct {
	vfs.FS
	mu   sync.Mutex
	kind [kinds]int64
}

// What bytes are written for.
const (
	ofPayload   = iota // blocks of the sender's batches, as they are stored
	ofRecords          // headers and tables of batches
	ofPadding          // up to the next multiple of 4096
	ofPoints           // marks, drops, and whatever else is small
	ofInventory        // records of kind 6
	ofMoved            // blocks that compaction moved
	ofMoves            // headers, tables and bodies of these
	ofSegments         // headers and footers of segments
	ofMaps
	ofCatalogs
	kinds
)

var kindNames = [kinds]string{"payload", "records", "padding", "points", "inventories", "moved", "moves", "segments", "maps", "catalogs"}

// written is a count of bytes by what they are.
type written [kinds]int64

func (w written) total() int64 {
	n := int64(0)
	for _, b := range w {
		n += b
	}
	return n
}

func (w written) since(before written) written {
	for i := range w {
		w[i] -= before[i]
	}
	return w
}

// String tells for each kind its bytes for each byte of payload.
func (w written) String() string {
	var parts []string
	for i, n := range w {
		parts = append(parts, fmt.Sprintf("%s %.3f", kindNames[i], float64(n)/float64(max(w[ofPayload], 1))))
	}
	return strings.Join(parts, ", ")
}

func (c *writtenFS) written() written {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.kind
}

func (c *writtenFS) count(kind int, n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kind[kind] += n
}

func (c *writtenFS) Create(name string) (vfs.File, error) {
	f, err := c.FS.Create(name)
	return c.counted(name, f, err)
}

func (c *writtenFS) Open(name string) (vfs.File, error) {
	f, err := c.FS.Open(name)
	return c.counted(name, f, err)
}

func (c *writtenFS) counted(name string, f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &writtenFile{f, c, filepath.Ext(name)}, nil
}

type writtenFile struct {
	vfs.File
	fs     *writtenFS
	suffix string
}

func (f *writtenFile) WriteAt(p []byte, offset int64) (int, error) {
	n, err := f.File.WriteAt(p, offset)
	switch f.suffix {
	case segmentSuffix:
		f.fs.segment(p[:n], offset)
	case mapSuffix:
		f.fs.count(ofMaps, int64(n))
	default:
		f.fs.count(ofCatalogs, int64(n))
	}
	return n, err
}

// segment counts what one write to a segment has.
func (c *writtenFS) segment(p []byte, offset int64) {
	if offset == 0 {
		c.count(ofSegments, segmentHeaderSize)
		p = p[segmentHeaderSize:]
	}
	le := binary.LittleEndian
	for len(p) > 0 {
		if len(p) < recordHeaderSize || le.Uint32(p) != recordMagic {
			c.count(ofSegments, int64(len(p)))
			return
		}
		table := int64(le.Uint32(p[8:])) * int64(le.Uint16(p[6:]))
		body, payload, pad := int64(le.Uint32(p[12:])), int64(le.Uint32(p[16:])), int64(le.Uint32(p[20:]))
		overhead := recordHeaderSize + table + body
		c.count(ofPadding, pad)
		switch kind(p[4]) {
		case kindBatch:
			c.count(ofRecords, overhead)
			c.count(ofPayload, payload)
		case kindMove:
			c.count(ofMoves, overhead)
			c.count(ofMoved, payload)
		case kindInventory:
			c.count(ofInventory, overhead)
		default:
			c.count(ofPoints, overhead)
		}
		p = p[overhead+payload+pad:]
	}
}
