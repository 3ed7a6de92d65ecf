package nbd

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"riparo/replication"
)

// The file of an overlay, version 1. All numbers are little-endian.
//
//	0      header, 4096 bytes: "RIPAROVL", version u32, block size u32, disk size
//	       u64, length of the identity u16, the identity; in the last 4 bytes the
//	       CRC-32C of what is before them
//	4096   states: 2 bits for each block of 64 KiB, in pages of 4 KiB; in each sector
//	       of 512 bytes the last 4 are the CRC-32C of its number and the states in it
//	data   the blocks, each at data + its offset on the disk; data is the next
//	       multiple of 64 KiB after the states
//
// The file is sparse: it takes up space for what was written only. A page of
// states is written in place. It may be torn by a crash, which is harmless: each
// sector of it is then old or new, and both are true, because a state is written
// after what it says has become durable.
const (
	overlayMagic    = "RIPAROVL"
	overlayVersion  = 1
	overlayHeader   = 4096
	overlayIdentity = 1024 // limit of an identity, bytes

	// overlayBlock is what is copied at the first write to it: the cluster size of
	// qcow2, for the same reasons.
	overlayBlock = 64 << 10
	// maxOverlaySize bounds the states in memory: 2^46 bytes (64 TiB) have 256 MiB
	// of them if every GiB was written to.
	maxOverlaySize = 1 << 46
)

// layout is where things are in the file.
type layout struct {
	size     int64
	identity string
	pages    int64 // of states
	data     int64
}

func newLayout(size int64, identity string) (layout, error) {
	if size < 0 || size > maxOverlaySize {
		return layout{}, fmt.Errorf("a disk of %d bytes: the limit is %d", size, int64(maxOverlaySize))
	}
	if len(identity) > overlayIdentity {
		return layout{}, fmt.Errorf("an identity of %d bytes: the limit is %d", len(identity), overlayIdentity)
	}
	l := layout{size: size, identity: identity}
	blocks := (size + overlayBlock - 1) / overlayBlock
	l.pages = (blocks + blocksPerPage - 1) / blocksPerPage
	l.data = (overlayHeader + l.pages*statePageSize + overlayBlock - 1) / overlayBlock * overlayBlock
	return l, nil
}

func (l layout) pageOffset(page int64) int64 { return overlayHeader + page*statePageSize }

// block is the extent of a block; the last one may be short.
func (l layout) block(n int64) replication.Extent {
	return replication.Extent{Offset: n * overlayBlock, Length: min(overlayBlock, l.size-n*overlayBlock)}
}

// wholeBlocks reports whether an extent begins and ends where blocks do.
func (l layout) wholeBlocks(e replication.Extent) bool {
	return e.Offset%overlayBlock == 0 && (e.Length%overlayBlock == 0 || e.End() == l.size)
}

// maxRun is the most that is written under one hold of its blocks.
const maxRun = 1 << 20

// part is the beginning of an extent that lies within one block, or is made of
// whole blocks up to maxRun.
func (l layout) part(e replication.Extent) replication.Extent {
	block := l.block(e.Offset / overlayBlock)
	if e.Offset != block.Offset || e.Length < block.Length {
		return e.Intersect(block)
	}
	whole := l.wholePart(e)
	whole.Length = min(whole.Length, maxRun)
	return whole
}

// wholePart is the whole blocks at the beginning of an extent.
func (l layout) wholePart(e replication.Extent) replication.Extent {
	if e.End() != l.size {
		e.Length -= e.Length % overlayBlock
	}
	return e
}

func (l layout) header() []byte {
	b := make([]byte, overlayHeader)
	copy(b, overlayMagic)
	binary.LittleEndian.PutUint32(b[8:], overlayVersion)
	binary.LittleEndian.PutUint32(b[12:], overlayBlock)
	binary.LittleEndian.PutUint64(b[16:], uint64(l.size))
	binary.LittleEndian.PutUint16(b[24:], uint16(len(l.identity)))
	copy(b[26:], l.identity)
	binary.LittleEndian.PutUint32(b[overlayHeader-4:], crc32.Checksum(b[:overlayHeader-4], castagnoli))
	return b
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// openOverlayFile opens or makes the file, claims it for this process and checks
// that it belongs to the disk below.
func openOverlayFile(path string, l layout) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, overlayProblem("overlay.unusable", path, fmt.Sprintf("cannot be opened: %v", err), "choose a file that can be written", err)
	}
	err = lockFile(f)
	if err != nil {
		f.Close()
		return nil, overlayProblem("overlay.busy", path, "is in use by another process", "end the other one, or choose another file", err)
	}
	if err := claimOverlay(f, path, l); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func claimOverlay(f *os.File, path string, l layout) error {
	info, err := f.Stat()
	if err != nil {
		return overlayProblem("overlay.unusable", path, fmt.Sprintf("cannot be examined: %v", err), "check the disk that holds it", err)
	}
	if !info.Mode().IsRegular() {
		return overlayProblem("overlay.unusable", path, "is not a regular file", "choose a file that can be written", fs.ErrInvalid)
	}
	if err := readFromMedium(f); err != nil {
		return overlayProblem("overlay.unusable", path, fmt.Sprintf("cannot be read: %v", err), "check the disk that holds it", err)
	}
	head := make([]byte, overlayHeader)
	n, err := f.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return overlayProblem("overlay.unusable", path, fmt.Sprintf("cannot be read: %v", err), "check the disk that holds it", err)
	}
	// A crash while the file is being made leaves it empty or, its header being
	// written first, with a part of the header and nothing behind it.
	unfinished := info.Size() <= overlayHeader && (n < 8 || string(head[:8]) == overlayMagic || len(bytes.Trim(head[:n], "\x00")) == 0)
	if !unfinished {
		if err := checkHeader(head, path, l); err != nil {
			return err
		}
		if info.Size() != l.data+l.size {
			return overlayProblem("overlay.damaged", path, fmt.Sprintf("is damaged: it has %d bytes, not %d", info.Size(), l.data+l.size), "begin with a new file", nil)
		}
		return nil
	}
	if err := makeOverlay(f, path, l); err != nil {
		return overlayProblem("overlay.unusable", path, fmt.Sprintf("cannot be made: %v", err), "make room, or choose another file", err)
	}
	return nil
}

// makeOverlay makes the header durable before the file gets its length: a file of
// that length is complete.
func makeOverlay(f *os.File, path string, l layout) error {
	if err := makeSparse(f); err != nil {
		return err
	}
	if _, err := f.WriteAt(l.header(), 0); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Truncate(l.data + l.size); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return syncDirectory(filepath.Dir(path))
}

func checkHeader(head []byte, path string, l layout) error {
	switch {
	case string(head[:8]) != overlayMagic:
		return overlayProblem("overlay.foreign", path, "is a file of another kind", "choose another file; this one was not touched", nil)
	case binary.LittleEndian.Uint32(head[overlayHeader-4:]) != crc32.Checksum(head[:overlayHeader-4], castagnoli):
		return overlayProblem("overlay.damaged", path, "is damaged: the checksum of its header is wrong", "begin with a new file", nil)
	case binary.LittleEndian.Uint32(head[8:]) != overlayVersion:
		return overlayProblem("overlay.version", path, fmt.Sprintf("has the format %d; this version reads %d", binary.LittleEndian.Uint32(head[8:]), overlayVersion), "use the version of Riparo that made it", nil)
	}
	other := layout{size: int64(binary.LittleEndian.Uint64(head[16:]))}
	if n := int(binary.LittleEndian.Uint16(head[24:])); n <= overlayIdentity {
		other.identity = string(head[26 : 26+n])
	}
	if !bytes.Equal(head, l.header()) {
		return overlayProblem("overlay.mismatch", path, fmt.Sprintf("belongs to %q of %d bytes, not to %q of %d", other.identity, other.size, l.identity, l.size), "serve what it belongs to, or begin with a new file", nil)
	}
	return nil
}

func overlayProblem(code, path, what, action string, err error) error {
	if err == nil {
		err = errors.New(what)
	}
	return &replication.Problem{Code: code, Cause: fmt.Sprintf("the overlay %s %s", path, what), Effect: "nothing was served", Action: action, Remedy: replication.Stop, Err: err}
}
