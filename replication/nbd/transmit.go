package nbd

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"sync"
	"time"

	"riparo/replication"
)

// order is a client's request.
type order struct {
	flags, command uint16
	cookie         uint64
	replication.Extent
}

// transmit answers requests, side by side, until the client leaves. When it
// returns, none is under way any more.
func (s *session) transmit(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// A reply that cannot be sent ends the session.
	defer context.AfterFunc(ctx, func() { s.conn.Close() })()
	var working sync.WaitGroup
	defer working.Wait()
	for {
		o, err := s.next()
		if err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return err
		}
		if o.command == cmdDisconnect {
			return nil
		}
		var payload *buffer
		refusal := s.judge(o)
		if o.command == cmdWrite {
			if payload, refusal, err = s.payload(ctx, o, refusal); err != nil {
				return err
			}
		}
		select {
		case s.window <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		working.Go(func() {
			defer func() { <-s.window }()
			if err := s.carryOut(ctx, o, payload, refusal); err != nil {
				cancel(err)
			}
			if payload != nil {
				s.server.buffers.give(s.share, payload)
			}
		})
	}
}

// next reads the head of a request. It waits for as long as the client is idle.
func (s *session) next() (order, error) {
	var b [requestHeaderLength]byte
	if _, err := io.ReadFull(s.r, b[:]); err != nil {
		return order{}, err
	}
	if binary.BigEndian.Uint32(b[:]) != magicRequest {
		return order{}, protocolErrorf("%x is no request", b[:4])
	}
	o := order{
		flags: binary.BigEndian.Uint16(b[4:]), command: binary.BigEndian.Uint16(b[6:]), cookie: binary.BigEndian.Uint64(b[8:]),
		Extent: replication.Extent{Offset: int64(binary.BigEndian.Uint64(b[16:])), Length: int64(binary.BigEndian.Uint32(b[24:]))},
	}
	if o.command == cmdWrite && o.Length > maxPayload {
		// Reading on would mean to take in what nobody needs.
		return order{}, protocolErrorf("a write of %d bytes: the limit is %d", o.Length, maxPayload)
	}
	return o, nil
}

// judge tells why a request cannot be carried out, or nil.
func (s *session) judge(o order) error {
	flags, known := allowedFlags(o.command)
	if !known || o.flags&^flags != 0 || o.flags&cmdFlagDF != 0 && !s.structured {
		return fmt.Errorf("%w: %s with flags %#x", errInvalidRequest, commandName(o.command), o.flags)
	}
	if o.command == cmdFlush {
		return nil
	}
	changes := o.command == cmdWrite || o.command == cmdTrim || o.command == cmdWriteZeroes
	if changes && s.export.Writer == nil {
		return errReadOnly
	}
	if o.Offset < 0 || o.Offset > s.export.size || o.Length > s.export.size-o.Offset {
		err := fmt.Errorf("%s is beyond the export of %d bytes", o.Extent, s.export.size)
		if o.command == cmdWrite || o.command == cmdWriteZeroes {
			return fmt.Errorf("%w: %w", errBeyondEnd, err)
		}
		return fmt.Errorf("%w: %w", errInvalidRequest, err)
	}
	switch {
	case o.command == cmdRead && o.Length > maxPayload:
		return fmt.Errorf("%w: a read of %d bytes: the limit is %d", errInvalidRequest, o.Length, maxPayload)
	case o.command == cmdBlockStatus && (o.Length == 0 || s.chosenFor != s.export || len(s.contexts) == 0):
		return fmt.Errorf("%w: block status of %d bytes, of %d contexts", errInvalidRequest, o.Length, len(s.contexts))
	}
	return nil
}

// allowedFlags are the flags that a command may carry. FUA is valid with every
// one, says the protocol, and means something only with those that write.
func allowedFlags(command uint16) (flags uint16, known bool) {
	switch command {
	case cmdRead:
		return cmdFlagFUA | cmdFlagDF, true
	case cmdWrite, cmdFlush, cmdTrim:
		return cmdFlagFUA, true
	case cmdWriteZeroes:
		return cmdFlagFUA | cmdFlagNoHole, true
	case cmdBlockStatus:
		return cmdFlagFUA | cmdFlagReqOne, true
	}
	return 0, false
}

// payload takes in the data of a write. A large one is written piece by piece as
// it comes; what is left to be done with the request is in the buffer.
func (s *session) payload(ctx context.Context, o order, refusal error) (*buffer, error, error) {
	s.conn.SetReadDeadline(time.Now().Add(stallTime))
	defer func() {
		s.conn.SetReadDeadline(time.Time{})
		if s.isEnding() {
			s.conn.SetReadDeadline(time.Unix(1, 0))
		}
	}()
	if refusal != nil || o.Length == 0 {
		return nil, refusal, discard(s.r, o.Length)
	}
	b, err := s.server.buffers.take(ctx, s.share, int(min(o.Length, bufferSize)))
	if err != nil {
		return nil, nil, err
	}
	rest := o.Extent
	for rest.Length > bufferSize {
		piece := b.data(bufferSize)
		if _, err := io.ReadFull(s.r, piece); err != nil {
			s.server.buffers.give(s.share, b)
			return nil, nil, err
		}
		if refusal == nil {
			_, refusal = s.export.Writer.WriteAt(piece, rest.Offset)
		}
		rest.Offset, rest.Length = rest.Offset+bufferSize, rest.Length-bufferSize
	}
	if _, err := io.ReadFull(s.r, b.data(int(rest.Length))); err != nil {
		s.server.buffers.give(s.share, b)
		return nil, nil, err
	}
	return b, refusal, nil
}

// carryOut does what was asked and answers. An error means that the answer could
// not be sent.
func (s *session) carryOut(ctx context.Context, o order, payload *buffer, refusal error) error {
	if refusal == nil {
		switch o.command {
		case cmdRead:
			return s.read(ctx, o)
		case cmdBlockStatus:
			return s.blockStatus(ctx, o)
		}
		refusal = s.change(ctx, o, payload)
	}
	return s.answer(ctx, o, refusal)
}

// change carries out what changes the disk.
func (s *session) change(ctx context.Context, o order, payload *buffer) error {
	w := s.export.Writer
	if w == nil {
		return nil // A flush where nothing can have been written.
	}
	var err error
	switch {
	case o.command == cmdFlush:
		return w.Sync()
	case o.Length == 0:
	case o.command == cmdWrite:
		tail := (o.Length-1)%bufferSize + 1
		_, err = w.WriteAt(payload.data(int(tail)), o.End()-tail)
	case o.command == cmdWriteZeroes && o.flags&cmdFlagNoHole != 0:
		err = writeZeroes(ctx, w, o.Extent)
	default:
		err = w.Zero(o.Extent)
	}
	if err == nil && o.flags&cmdFlagFUA != 0 {
		err = w.Sync()
	}
	return err
}

// zeroes are never written to.
var zeroes [bufferSize]byte

// writeZeroes makes zeroes that take up space, as NO_HOLE asks: a later write
// there does not fail for want of it. It ends once an answer could not be sent: a
// request may be for 4 GiB.
func writeZeroes(ctx context.Context, w Writer, e replication.Extent) error {
	for e.Length > 0 {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		n := min(e.Length, int64(len(zeroes)))
		if _, err := w.WriteAt(zeroes[:n], e.Offset); err != nil {
			return err
		}
		e.Offset, e.Length = e.Offset+n, e.Length-n
	}
	return nil
}

// hold waits for the turn to send; the caller gives it back by calling what it
// returns.
func (s *session) hold(ctx context.Context) (func(), error) {
	select {
	case s.sending <- struct{}{}:
		return func() { <-s.sending }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// send writes one reply or chunk as a whole.
func (s *session) send(ctx context.Context, b []byte) error {
	release, err := s.hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	return s.write(b)
}

// write sends while the turn is held.
func (s *session) write(b []byte) error {
	s.conn.SetWriteDeadline(time.Now().Add(stallTime))
	if _, err := s.conn.Write(b); err != nil {
		return fmt.Errorf("send a reply: %w", err)
	}
	return nil
}

// answer ends a request that has no data to give, well or with err.
func (s *session) answer(ctx context.Context, o order, err error) error {
	if err != nil {
		s.log.Debug("NBD request refused", "request", commandName(o.command), "extent", o.Extent, "error", err)
	}
	if !s.structured || o.command != cmdRead && o.command != cmdBlockStatus {
		return s.send(ctx, simpleHeader(o, errnoOf(err)))
	}
	if err == nil {
		return s.send(ctx, chunkHeader(nil, o, chunkFlagDone, chunkNone, 0))
	}
	// Clients show it to their user; a line is enough.
	text := err.Error()
	text = text[:min(len(text), 512)]
	b := chunkHeader(nil, o, chunkFlagDone, chunkError, 6+len(text))
	b = binary.BigEndian.AppendUint32(b, errnoOf(err))
	b = binary.BigEndian.AppendUint16(b, uint16(len(text)))
	return s.send(ctx, append(b, text...))
}

func simpleHeader(o order, number uint32) []byte {
	b := binary.BigEndian.AppendUint32(make([]byte, 0, headRoom), magicSimple)
	b = binary.BigEndian.AppendUint32(b, number)
	return binary.BigEndian.AppendUint64(b, o.cookie)
}

func chunkHeader(b []byte, o order, flags, kind uint16, length int) []byte {
	b = binary.BigEndian.AppendUint32(b, magicStructured)
	b = binary.BigEndian.AppendUint16(b, flags)
	b = binary.BigEndian.AppendUint16(b, kind)
	b = binary.BigEndian.AppendUint64(b, o.cookie)
	return binary.BigEndian.AppendUint32(b, uint32(length))
}
