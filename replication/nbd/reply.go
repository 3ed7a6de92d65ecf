package nbd

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"riparo/replication"
)

// Limits of what a server may send in answer to one request.
const (
	// maxStatusChunk is what nbdkit sends at most, 1 Mi descriptors, and the
	// number of the context before them.
	maxStatusChunk = 4 + 8<<20
	// maxPieces bounds the holes that data arriving out of order may leave.
	maxPieces = 4096
	// maxErrorChunk is more than the longest message that the protocol allows.
	maxErrorChunk = 16 << 10
)

// descriptor is one entry of a BLOCK_STATUS answer.
type descriptor struct{ length, flags uint32 }

// receive reads replies until the connection ends; it returns why it did.
func (c *connection) receive() error {
	var b [chunkHeaderLength]byte
	for {
		if _, err := io.ReadFull(c.r, b[:4]); err != nil {
			return c.ended(err)
		}
		var err error
		switch magic := binary.BigEndian.Uint32(b[:]); magic {
		case magicSimple:
			if _, err = io.ReadFull(c.r, b[4:simpleHeaderLength]); err == nil {
				err = c.receiveSimple(b[:])
			}
		case magicStructured:
			if _, err = io.ReadFull(c.r, b[4:chunkHeaderLength]); err == nil {
				err = c.receiveChunk(b[:])
			}
		default:
			err = protocolErrorf("%x is no reply", b[:4])
		}
		if err != nil {
			return c.ended(err)
		}
		c.mu.Lock()
		if len(c.waiting) > 0 && c.dead == nil {
			c.conn.SetReadDeadline(time.Now().Add(c.timeout))
		}
		c.mu.Unlock()
	}
}

// ended says what an end in the middle of things means.
func (c *connection) ended(err error) error {
	switch {
	case err == io.EOF:
		return io.ErrUnexpectedEOF
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("the server owed a reply and was silent for %s: %w", c.timeout, err)
	}
	return err
}

func (c *connection) receiveSimple(b []byte) error {
	number, cookie := binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint64(b[8:])
	r, err := c.find(cookie)
	if err != nil {
		return err
	}
	switch {
	case number != 0:
		r.refuse(number, "")
	case r.command == cmdBlockStatus:
		return protocolErrorf("a simple reply to block status")
	case r.command == cmdRead && c.info.structured:
		return protocolErrorf("a simple reply to a read after structured replies were agreed on")
	case r.command == cmdRead:
		r.filled.add(0, int(r.length))
		if err := c.fill(r, 0, int(r.length)); err != nil {
			return err
		}
	}
	return c.conclude(cookie, r)
}

func (c *connection) receiveChunk(b []byte) error {
	if !c.info.structured {
		return protocolErrorf("a structured reply without agreement")
	}
	flags, kind := binary.BigEndian.Uint16(b[4:]), binary.BigEndian.Uint16(b[6:])
	cookie, n := binary.BigEndian.Uint64(b[8:]), int64(binary.BigEndian.Uint32(b[16:]))
	r, err := c.find(cookie)
	if err != nil {
		return err
	}
	switch {
	case kind == chunkNone:
		if n != 0 || flags&chunkFlagDone == 0 {
			return protocolErrorf("an empty chunk with %d bytes and flags %#x", n, flags)
		}
	case kind == chunkOffsetData:
		err = c.data(r, n)
	case kind == chunkOffsetHole:
		err = c.hole(r, n)
	case kind == chunkBlockStatus:
		err = c.blockStatus(r, n)
	case kind&chunkErrorBit != 0:
		err = c.errorChunk(r, kind, n)
	default:
		err = protocolErrorf("a chunk of unknown kind %d", kind)
	}
	if err != nil || flags&chunkFlagDone == 0 {
		return err
	}
	return c.conclude(cookie, r)
}

// conclude judges whether what arrived is an answer to r.
func (c *connection) conclude(cookie uint64, r *request) error {
	if r.err == nil {
		switch {
		case r.command == cmdRead && !r.filled.whole(int(r.length)):
			return protocolErrorf("the reply to read %s ended before all of it had arrived", r.extent())
		case r.command == cmdBlockStatus && len(r.status) != len(c.info.contexts):
			return protocolErrorf("the reply to block status %s tells of %d contexts of %d", r.extent(), len(r.status), len(c.info.contexts))
		}
	}
	c.finish(cookie, r)
	return nil
}

func (c *connection) data(r *request, n int64) error {
	if r.command != cmdRead || n <= 8 {
		return protocolErrorf("a data chunk of %d bytes in reply to %s", n, commandName(r.command))
	}
	var b [8]byte
	if _, err := io.ReadFull(c.r, b[:]); err != nil {
		return err
	}
	at, err := r.place(binary.BigEndian.Uint64(b[:]), n-8)
	if err != nil {
		return err
	}
	return c.fill(r, at, int(n-8))
}

func (c *connection) hole(r *request, n int64) error {
	if r.command != cmdRead || n != 12 {
		return protocolErrorf("a hole chunk of %d bytes in reply to %s", n, commandName(r.command))
	}
	var b [12]byte
	if _, err := io.ReadFull(c.r, b[:]); err != nil {
		return err
	}
	length := int64(binary.BigEndian.Uint32(b[8:]))
	at, err := r.place(binary.BigEndian.Uint64(b[:]), length)
	if err != nil {
		return err
	}
	if c.beginFill(r) {
		clear(r.into[at : at+int(length)])
		c.endFill(r)
	}
	return nil
}

// place turns an offset of the disk into one of r.into, and claims the part.
func (r *request) place(offset uint64, length int64) (int, error) {
	at := offset - uint64(r.offset)
	if offset < uint64(r.offset) || length <= 0 || at > uint64(r.length) || uint64(length) > uint64(r.length)-at {
		return 0, protocolErrorf("%d bytes at %d in reply to read %s", length, offset, r.extent())
	}
	if !r.filled.add(int(at), int(length)) {
		return 0, protocolErrorf("the reply to read %s tells a part twice, or comes in more than %d pieces", r.extent(), maxPieces)
	}
	return int(at), nil
}

// fill takes length bytes from the wire into r.into, or throws them away when
// nobody waits for them any more.
func (c *connection) fill(r *request, at, length int) error {
	if !c.beginFill(r) {
		return discard(c.r, int64(length))
	}
	defer c.endFill(r)
	_, err := io.ReadFull(c.r, r.into[at:at+length])
	return err
}

func discard(r *bufio.Reader, n int64) error {
	_, err := io.CopyN(io.Discard, r, n)
	return err
}

func (c *connection) blockStatus(r *request, n int64) error {
	if r.command != cmdBlockStatus || n < 12 || (n-4)%8 != 0 || n > maxStatusChunk {
		return protocolErrorf("a status chunk of %d bytes in reply to %s", n, commandName(r.command))
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(c.r, b); err != nil {
		return err
	}
	id := binary.BigEndian.Uint32(b)
	if !c.knows(id) || r.status[id] != nil {
		return protocolErrorf("status of context %d, which was not asked for or told before", id)
	}
	list := make([]descriptor, 0, (n-4)/8)
	for b = b[4:]; len(b) > 0; b = b[8:] {
		d := descriptor{length: binary.BigEndian.Uint32(b), flags: binary.BigEndian.Uint32(b[4:])}
		if d.length == 0 {
			return protocolErrorf("a status of no length")
		}
		list = append(list, d)
	}
	if r.status == nil {
		r.status = map[uint32][]descriptor{}
	}
	r.status[id] = list
	return nil
}

func (c *connection) knows(id uint32) bool {
	for _, known := range c.info.contexts {
		if known == id {
			return true
		}
	}
	return false
}

func (c *connection) errorChunk(r *request, kind uint16, n int64) error {
	if n < 6 || n > maxErrorChunk {
		return protocolErrorf("an error chunk of %d bytes", n)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(c.r, b); err != nil {
		return err
	}
	number, length := binary.BigEndian.Uint32(b), int64(binary.BigEndian.Uint16(b[4:]))
	switch {
	case number == 0:
		return protocolErrorf("an error chunk without an error")
	case length > n-6, kind == chunkErrorOffset && n != 6+length+8, kind == chunkError && n != 6+length:
		return protocolErrorf("an error chunk of %d bytes with a message of %d", n, length)
	}
	r.refuse(number, string(b[6:6+length]))
	return nil
}

// refuse remembers the first error that the server reports.
func (r *request) refuse(number uint32, message string) {
	if r.err == nil {
		r.err = &ServerError{Command: commandName(r.command), Extent: r.extent(), Number: number, Message: message}
	}
}

// coverage knows which parts of a buffer have been filled. Servers answer in
// order as a rule; then it is one piece that grows.
type coverage struct{ pieces []replication.Extent }

// add reports false if a part was there before, or the pieces are too many.
func (v *coverage) add(at, length int) bool {
	e := replication.Extent{Offset: int64(at), Length: int64(length)}
	i, found := slices.BinarySearchFunc(v.pieces, e, func(p, e replication.Extent) int {
		switch {
		case p.End() <= e.Offset:
			return -1
		case p.Offset >= e.End():
			return 1
		}
		return 0
	})
	switch {
	case found || len(v.pieces) >= maxPieces:
		return false
	case i > 0 && v.pieces[i-1].End() == e.Offset:
		v.pieces[i-1].Length += e.Length
		if i < len(v.pieces) && v.pieces[i].Offset == v.pieces[i-1].End() {
			v.pieces[i-1].Length += v.pieces[i].Length
			v.pieces = slices.Delete(v.pieces, i, i+1)
		}
	case i < len(v.pieces) && v.pieces[i].Offset == e.End():
		v.pieces[i].Offset, v.pieces[i].Length = e.Offset, v.pieces[i].Length+e.Length
	default:
		v.pieces = slices.Insert(v.pieces, i, e)
	}
	return true
}

func (v *coverage) whole(length int) bool {
	return len(v.pieces) == 1 && v.pieces[0].Length == int64(length)
}
