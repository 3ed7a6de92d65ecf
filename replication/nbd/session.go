package nbd

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// Limits of a handshake.
const (
	// maxOptions is far more than any client sends, and few enough to be over soon.
	maxOptions = 256
	// maxOptionData takes the longest name and a list of long queries.
	maxOptionData = 64 << 10
	// maxQueries bounds what one LIST or SET of contexts asks.
	maxQueries = 64
)

// session is one client's connection.
type session struct {
	server *Server
	conn   net.Conn // raw or TLS
	r      *bufio.Reader
	log    *slog.Logger

	// What was agreed on.
	noZeroes   bool
	secure     bool
	structured bool
	chosenFor  *served  // the export that contexts was chosen for
	contexts   []string // by number, counted from 1
	export     *served

	share   *semaphore.Weighted // of buffers
	window  chan struct{}       // a token for each request under way
	sending chan struct{}       // holds a token while a reply is being sent

	ending chan struct{} // closed when no more requests are to be taken
	once   sync.Once
}

func newSession(s *Server, conn net.Conn) *session {
	return &session{
		server: s, conn: conn, r: bufio.NewReaderSize(conn, readBufferSize),
		log:     s.options.Log.With("client", conn.RemoteAddr().String()),
		share:   semaphore.NewWeighted(connectionShare),
		window:  make(chan struct{}, maxUnderWay),
		sending: make(chan struct{}, 1),
		ending:  make(chan struct{}),
	}
}

// end makes the session take no more requests. It does not wait.
func (s *session) end() { s.once.Do(func() { close(s.ending) }) }

// run is the session from greeting to goodbye.
func (s *session) run(ctx context.Context) {
	// Requests under way outlive ctx for as long as they may still be answered.
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	raw := s.conn
	over := make(chan struct{})
	var watch sync.WaitGroup
	defer watch.Wait()
	defer close(over)
	watch.Go(func() {
		select {
		case <-over:
			return
		case <-ctx.Done():
		case <-s.ending:
		}
		s.end()
		raw.SetReadDeadline(time.Unix(1, 0))
		select {
		case <-over:
		case <-time.After(shutdownGrace):
			cancel()
			raw.Close()
		}
	})
	defer func() { s.conn.Close() }() // With TLS, this says goodbye.

	raw.SetDeadline(time.Now().Add(handshakeTime))
	err := s.handshake(ctx)
	if err == nil {
		raw.SetDeadline(time.Time{})
		select {
		case <-s.ending: // The line above has just undone how it is told.
		default:
			err = s.transmit(work)
		}
		s.server.leave(s.export, s)
	}
	switch {
	case err == nil, err == io.EOF, ctx.Err() != nil, s.isEnding():
		s.log.Debug("NBD session ended")
	default:
		s.log.Info("NBD session broken off", "error", err)
	}
}

func (s *session) isEnding() bool {
	select {
	case <-s.ending:
		return true
	default:
		return false
	}
}

var errAborted = errors.New("the client left during the handshake")

// handshake leads to the transmission phase with s.export in use.
func (s *session) handshake(ctx context.Context) error {
	b := binary.BigEndian.AppendUint64(nil, magicServer)
	b = binary.BigEndian.AppendUint64(b, magicOption)
	b = binary.BigEndian.AppendUint16(b, flagFixedNewstyle|flagNoZeroes)
	if _, err := s.conn.Write(b); err != nil {
		return err
	}
	var answer [4]byte
	if _, err := io.ReadFull(s.r, answer[:]); err != nil {
		return err
	}
	flags := binary.BigEndian.Uint32(answer[:])
	if flags&^(flagFixedNewstyle|flagNoZeroes) != 0 {
		return protocolErrorf("the client answered the greeting with flags %#x", flags)
	}
	s.noZeroes = flags&flagNoZeroes != 0
	for range maxOptions {
		done, err := s.option(ctx)
		if done || err != nil {
			return err
		}
	}
	return protocolErrorf("more than %d options", maxOptions)
}

// option reads and answers one option; done means that transmission begins.
func (s *session) option(ctx context.Context) (done bool, err error) {
	var b [16]byte
	if _, err := io.ReadFull(s.r, b[:]); err != nil {
		return false, err
	}
	option, n := binary.BigEndian.Uint32(b[8:]), binary.BigEndian.Uint32(b[12:])
	if binary.BigEndian.Uint64(b[:]) != magicOption {
		return false, protocolErrorf("%x is no option", b[:8])
	}
	if n > maxOptionData {
		// The time limit of the handshake bounds how much is read for nothing.
		if err := discard(s.r, int64(n)); err != nil {
			return false, err
		}
		return false, s.refuse(option, repErrTooBig, fmt.Sprintf("the limit is %d bytes", maxOptionData))
	}
	data := make([]byte, n)
	if _, err := io.ReadFull(s.r, data); err != nil {
		return false, err
	}
	if s.server.options.RequireTLS && !s.secure && option != optStartTLS && option != optAbort {
		if option == optExportName {
			return false, protocolErrorf("the client wants an export before TLS")
		}
		return false, s.refuse(option, repErrTLSReqd, "use STARTTLS first")
	}
	switch option {
	case optExportName:
		return s.exportName(string(data))
	case optAbort:
		s.reply(option, repAck, nil)
		return false, errAborted
	case optList:
		return false, s.list(data)
	case optStartTLS:
		return false, s.startTLS(ctx, data)
	case optInfo, optGo:
		return s.goOption(option, data)
	case optStructuredReply:
		if n != 0 {
			return false, s.refuse(option, repErrInvalid, "this option has no data")
		}
		s.structured = true
		return false, s.reply(option, repAck, nil)
	case optListMetaContext, optSetMetaContext:
		return false, s.metaContext(option, data)
	}
	return false, s.refuse(option, repErrUnsup, "")
}

func (s *session) reply(option, reply uint32, data []byte) error {
	b := make([]byte, 0, 20+len(data))
	b = binary.BigEndian.AppendUint64(b, magicOptionRep)
	b = binary.BigEndian.AppendUint32(b, option)
	b = binary.BigEndian.AppendUint32(b, reply)
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	_, err := s.conn.Write(append(b, data...))
	return err
}

func (s *session) refuse(option, reply uint32, why string) error {
	return s.reply(option, reply, []byte(why))
}

// exportName is the old way to choose an export: without a reply, so that a wrong
// name can be answered by hanging up only.
func (s *session) exportName(name string) (bool, error) {
	e, ok := s.server.find(name)
	if !ok || !s.server.use(e, s) {
		return false, fmt.Errorf("the client wants the export %q, which does not exist", name)
	}
	s.export = e
	b := binary.BigEndian.AppendUint64(nil, uint64(e.size))
	b = binary.BigEndian.AppendUint16(b, e.flags(s.structured))
	if !s.noZeroes {
		b = append(b, make([]byte, 124)...)
	}
	if _, err := s.conn.Write(b); err != nil {
		s.server.leave(e, s)
		return false, err
	}
	return true, nil
}

func (s *session) list(data []byte) error {
	if len(data) != 0 {
		return s.refuse(optList, repErrInvalid, "this option has no data")
	}
	for _, name := range s.server.Exports() {
		b := appendString(nil, name)
		if e, ok := s.server.find(name); ok {
			b = append(b, e.Description...)
		}
		if err := s.reply(optList, repServer, b); err != nil {
			return err
		}
	}
	return s.reply(optList, repAck, nil)
}

func (s *session) startTLS(ctx context.Context, data []byte) error {
	switch {
	case len(data) != 0:
		return s.refuse(optStartTLS, repErrInvalid, "this option has no data")
	case s.secure:
		return s.refuse(optStartTLS, repErrInvalid, "TLS is on already")
	case s.server.options.TLS == nil:
		return s.refuse(optStartTLS, repErrPolicy, "this server has no TLS")
	}
	if err := s.reply(optStartTLS, repAck, nil); err != nil {
		return err
	}
	// What came before the keys were agreed on could be anybody's, and so could
	// what was chosen.
	if s.r.Buffered() > 0 {
		return protocolErrorf("the client sent data before TLS began")
	}
	secured := tls.Server(s.conn, s.server.options.TLS)
	if err := secured.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS: %w", err)
	}
	s.conn, s.secure = secured, true
	s.r.Reset(secured)
	s.structured, s.chosenFor, s.contexts = false, nil, nil
	return nil
}

// goOption answers INFO, and GO, which also begins the transmission.
func (s *session) goOption(option uint32, data []byte) (bool, error) {
	name, rest, ok := cutString(data)
	if !ok || len(rest) < 2 || len(rest) != 2+2*int(binary.BigEndian.Uint16(rest)) {
		return false, s.refuse(option, repErrInvalid, "the request is malformed")
	}
	e, ok := s.server.find(name)
	if !ok {
		return false, s.refuse(option, repErrUnknown, "no such export")
	}
	b := binary.BigEndian.AppendUint16(nil, infoExport)
	b = binary.BigEndian.AppendUint64(b, uint64(e.size))
	b = binary.BigEndian.AppendUint16(b, e.flags(s.structured))
	if err := s.reply(option, repInfo, b); err != nil {
		return false, err
	}
	b = binary.BigEndian.AppendUint16(nil, infoBlockSize)
	for _, v := range []uint32{1, 4096, maxPayload} { // smallest, preferred, largest
		b = binary.BigEndian.AppendUint32(b, v)
	}
	if err := s.reply(option, repInfo, b); err != nil {
		return false, err
	}
	told := map[uint16]bool{}
	for rest = rest[2:]; len(rest) > 0; rest = rest[2:] {
		kind := binary.BigEndian.Uint16(rest)
		text := e.name
		if kind == infoDescription {
			text = e.Description
		}
		if kind != infoName && kind != infoDescription || told[kind] {
			continue
		}
		told[kind] = true
		if err := s.reply(option, repInfo, append(binary.BigEndian.AppendUint16(nil, kind), text...)); err != nil {
			return false, err
		}
	}
	if option == optInfo {
		return false, s.reply(option, repAck, nil)
	}
	if !s.server.use(e, s) {
		return false, s.refuse(option, repErrUnknown, "the export has just been removed")
	}
	if err := s.reply(option, repAck, nil); err != nil {
		s.server.leave(e, s)
		return false, err
	}
	s.export = e
	return true, nil
}

// metaContext lists contexts, or chooses those that BLOCK_STATUS will tell of.
func (s *session) metaContext(option uint32, data []byte) error {
	setting := option == optSetMetaContext
	if setting {
		s.chosenFor, s.contexts = nil, nil
	}
	name, rest, ok := cutString(data)
	if !ok || len(rest) < 4 {
		return s.refuse(option, repErrInvalid, "the request is malformed")
	}
	count := binary.BigEndian.Uint32(rest)
	rest = rest[4:]
	if count > maxQueries {
		return s.refuse(option, repErrTooBig, fmt.Sprintf("the limit is %d queries", maxQueries))
	}
	queries := make([]string, count)
	for i := range queries {
		if queries[i], rest, ok = cutString(rest); !ok {
			return s.refuse(option, repErrInvalid, "the request is malformed")
		}
	}
	if len(rest) != 0 || setting && !s.structured {
		return s.refuse(option, repErrInvalid, "structured replies come first, and nothing after the queries")
	}
	e, ok := s.server.find(name)
	if !ok {
		return s.refuse(option, repErrUnknown, "no such export")
	}
	var names []string
	if !setting && count == 0 {
		names = e.Export.contexts()
	}
	told := map[string]bool{}
	for _, q := range queries {
		for _, name := range e.matching(q, !setting) {
			if !told[name] {
				told[name] = true
				names = append(names, name)
			}
		}
	}
	for i, name := range names {
		number := uint32(0) // Without meaning when listing.
		if setting {
			number = uint32(i) + 1
		}
		if err := s.reply(option, repMetaContext, append(binary.BigEndian.AppendUint32(nil, number), name...)); err != nil {
			return err
		}
	}
	if setting {
		s.chosenFor, s.contexts = e, names
	}
	return s.reply(option, repAck, nil)
}
