package nbd

import (
	"bufio"
	"context"
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
