package nbd

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
	"net"
	"time"
)

// Limits of what a server may say in a handshake.
const (
	maxOptionReply   = 64 << 10
	maxOptionReplies = 4096
)

// exportInfo is what a server told about an export.
type exportInfo struct {
	size       int64
	flags      uint16
	structured bool
	minBlock   uint32
	maxBlock   uint32
	contexts   map[string]uint32
}

func (i exportInfo) multiConn() bool { return i.flags&flagMultiConn != 0 }

// handshake is the client's side of the negotiation.
type handshake struct {
	conn    net.Conn
	r       *bufio.Reader
	address Address
	replies int
	// unheard is true from the beginning of TLS until the server says something.
	unheard bool
}

// errAfterTLS: with TLS 1.3 a server judges the client's certificate after the
// client believes that all is well.
var errAfterTLS = errors.New("the server ended the connection right after TLS began")

// optionError is a server's refusal of one option.
type optionError struct {
	option, reply uint32
	message       string
}

func (e *optionError) Error() string {
	why := fmt.Sprintf("error %#x", e.reply)
	switch e.reply {
	case repErrUnsup:
		why = "it does not know it"
	case repErrPolicy:
		why = "forbidden by its policy"
	case repErrInvalid:
		why = "it takes it for invalid"
	case repErrTLSReqd:
		why = "it wants TLS"
	case repErrUnknown:
		why = "no such export"
	case repErrShutdown:
		why = "it is shutting down"
	case repErrBlockSize:
		why = "it wants its block size to be honored"
	}
	text := fmt.Sprintf("the server refused option %d: %s", e.option, why)
	if e.message != "" {
		text += fmt.Sprintf(" (%q)", e.message)
	}
	return text
}

func (e *optionError) Is(target error) bool {
	return target == ErrNoExport && e.reply == repErrUnknown
}

// negotiate leads from the greeting to the transmission phase. The caller closes
// the connection to interrupt it.
func (h *handshake) negotiate(ctx context.Context, config *tls.Config, contexts []string) (exportInfo, error) {
	none := exportInfo{}
	noZeroes, err := h.greet()
	if err != nil {
		return none, err
	}
	if config != nil {
		if err := h.startTLS(ctx, config); err != nil {
			return none, err
		}
	}
	info := exportInfo{minBlock: 1, maxBlock: maxPayload, contexts: map[string]uint32{}}
	if err := h.send(optStructuredReply, nil); err != nil {
		return none, err
	}
	var refusal *optionError
	switch err := h.acknowledged(optStructuredReply); {
	case err == nil:
		info.structured = true
	case errors.As(err, &refusal) && refusal.reply != repErrTLSReqd:
		// An old server; without structured replies there are no contexts either.
	default:
		return none, err
	}
	if len(contexts) > 0 {
		if err := h.setContexts(&info, contexts); err != nil {
			return none, err
		}
	}
	err = h.goOption(&info)
	if errors.As(err, &refusal) && refusal.reply == repErrUnsup {
		err = h.exportName(&info, noZeroes)
	}
	if err != nil {
		return none, err
	}
	return info, info.check()
}

// check refuses what no sane server says.
func (i *exportInfo) check() error {
	switch {
	case i.size < 0:
		return protocolErrorf("the export has more than %d bytes", math.MaxInt64)
	case i.flags&flagHasFlags == 0:
		return protocolErrorf("transmission flags %#x", i.flags)
	case i.minBlock == 0 || bits.OnesCount32(i.minBlock) != 1 || i.minBlock > 64<<10:
		return protocolErrorf("the smallest block is %d bytes", i.minBlock)
	case i.maxBlock < i.minBlock || i.maxBlock%i.minBlock != 0:
		return protocolErrorf("the largest block is %d bytes, the smallest %d", i.maxBlock, i.minBlock)
	case i.size%int64(i.minBlock) != 0:
		return protocolErrorf("the export of %d bytes is no multiple of the smallest block, %d", i.size, i.minBlock)
	}
	return nil
}

func (h *handshake) greet() (noZeroes bool, err error) {
	var b [18]byte
	if _, err := io.ReadFull(h.r, b[:]); err != nil {
		return false, fmt.Errorf("read the greeting: %w", err)
	}
	if binary.BigEndian.Uint64(b[:]) != magicServer {
		return false, protocolErrorf("what answers there is no NBD server")
	}
	switch binary.BigEndian.Uint64(b[8:]) {
	case magicOption:
	case magicOldstyle:
		return false, protocolErrorf("the server speaks oldstyle only; newstyle is needed")
	default:
		return false, protocolErrorf("unknown greeting %x", b[8:16])
	}
	flags := binary.BigEndian.Uint16(b[16:])
	if flags&flagFixedNewstyle == 0 {
		return false, protocolErrorf("the server lacks fixed newstyle")
	}
	answer := uint32(flags & (flagFixedNewstyle | flagNoZeroes))
	if _, err := h.conn.Write(binary.BigEndian.AppendUint32(nil, answer)); err != nil {
		return false, fmt.Errorf("answer the greeting: %w", err)
	}
	return flags&flagNoZeroes != 0, nil
}

func (h *handshake) startTLS(ctx context.Context, config *tls.Config) error {
	if err := h.send(optStartTLS, nil); err != nil {
		return err
	}
	if err := h.acknowledged(optStartTLS); err != nil {
		return err
	}
	// Bytes that came before the keys were agreed on could be anybody's.
	if h.r.Buffered() > 0 {
		return protocolErrorf("the server sent data before TLS began")
	}
	secured := tls.Client(h.conn, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS: %w", err)
	}
	h.conn, h.unheard = secured, true
	h.r.Reset(secured)
	return nil
}

// setContexts asks for contexts and takes the numbers that the server gives them.
func (h *handshake) setContexts(info *exportInfo, contexts []string) error {
	if info.structured {
		b := appendString(nil, h.address.Export)
		b = binary.BigEndian.AppendUint32(b, uint32(len(contexts)))
		for _, name := range contexts {
			b = appendString(b, name)
		}
		if err := h.send(optSetMetaContext, b); err != nil {
			return err
		}
		for {
			reply, data, err := h.receive(optSetMetaContext)
			var refusal *optionError
			if errors.As(err, &refusal) && (refusal.reply == repErrUnsup || refusal.reply == repErrInvalid) {
				break // Whatever is missing is named below.
			}
			if err != nil {
				return err
			}
			if reply == repAck {
				break
			}
			if reply != repMetaContext || len(data) < 4 {
				return protocolErrorf("reply %d of %d bytes to a request for contexts", reply, len(data))
			}
			info.contexts[string(data[4:])] = binary.BigEndian.Uint32(data)
		}
	}
	seen := map[uint32]bool{}
	for _, name := range contexts {
		id, ok := info.contexts[name]
		if !ok {
			return fmt.Errorf("%w: %s", ErrNoContext, name)
		}
		if seen[id] {
			return protocolErrorf("two contexts have the number %d", id)
		}
		seen[id] = true
	}
	if len(info.contexts) != len(contexts) {
		return protocolErrorf("the server chose %d contexts of %d", len(info.contexts), len(contexts))
	}
	return nil
}

func (h *handshake) goOption(info *exportInfo) error {
	b := appendString(nil, h.address.Export)
	b = binary.BigEndian.AppendUint16(b, 1)
	b = binary.BigEndian.AppendUint16(b, infoBlockSize)
	if err := h.send(optGo, b); err != nil {
		return err
	}
	told := false
	for {
		reply, data, err := h.receive(optGo)
		switch {
		case err != nil:
			return err
		case reply == repAck && !told:
			return protocolErrorf("the server did not tell the size of the export")
		case reply == repAck:
			return nil
		case reply != repInfo || len(data) < 2:
			return protocolErrorf("reply %d of %d bytes to a request for the export", reply, len(data))
		}
		switch kind := binary.BigEndian.Uint16(data); {
		case kind == infoExport && len(data) == 12:
			info.size = int64(binary.BigEndian.Uint64(data[2:]))
			info.flags = binary.BigEndian.Uint16(data[10:])
			told = true
		case kind == infoBlockSize && len(data) == 14:
			info.minBlock = binary.BigEndian.Uint32(data[2:])
			info.maxBlock = binary.BigEndian.Uint32(data[10:])
			if info.maxBlock > maxPayload {
				info.maxBlock = maxPayload
			}
		case kind == infoExport || kind == infoBlockSize:
			return protocolErrorf("information %d of %d bytes", kind, len(data))
		}
	}
}

// exportName is how servers from before 2016 are asked. They give no reason when
// they refuse: the connection just ends.
func (h *handshake) exportName(info *exportInfo, noZeroes bool) error {
	if err := h.send(optExportName, []byte(h.address.Export)); err != nil {
		return err
	}
	b := make([]byte, 10, 134)
	if !noZeroes {
		b = b[:134]
	}
	if _, err := io.ReadFull(h.r, b); err != nil {
		return fmt.Errorf("%w: the server ended the connection when asked for %q: %w", ErrNoExport, h.address.Export, err)
	}
	info.size = int64(binary.BigEndian.Uint64(b))
	info.flags = binary.BigEndian.Uint16(b[8:])
	return nil
}

func (h *handshake) send(option uint32, data []byte) error {
	b := make([]byte, 0, 16+len(data))
	b = binary.BigEndian.AppendUint64(b, magicOption)
	b = binary.BigEndian.AppendUint32(b, option)
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	if _, err := h.conn.Write(append(b, data...)); err != nil {
		return h.broken(fmt.Errorf("send option %d: %w", option, err))
	}
	return nil
}

func (h *handshake) broken(err error) error {
	if h.unheard {
		return fmt.Errorf("%w: %w", errAfterTLS, err)
	}
	return err
}

// receive reads one reply to an option; a refusal is an *optionError.
func (h *handshake) receive(option uint32) (reply uint32, data []byte, err error) {
	if h.replies++; h.replies > maxOptionReplies {
		return 0, nil, protocolErrorf("more than %d replies in one handshake", maxOptionReplies)
	}
	var b [20]byte
	if _, err := io.ReadFull(h.r, b[:]); err != nil {
		return 0, nil, h.broken(fmt.Errorf("read the reply to option %d: %w", option, err))
	}
	h.unheard = false
	if binary.BigEndian.Uint64(b[:]) != magicOptionRep || binary.BigEndian.Uint32(b[8:]) != option {
		return 0, nil, protocolErrorf("%x is no reply to option %d", b[:12], option)
	}
	reply = binary.BigEndian.Uint32(b[12:])
	n := binary.BigEndian.Uint32(b[16:])
	if n > maxOptionReply {
		return 0, nil, protocolErrorf("a reply of %d bytes to option %d: the limit is %d", n, option, maxOptionReply)
	}
	data = make([]byte, n)
	if _, err := io.ReadFull(h.r, data); err != nil {
		return 0, nil, fmt.Errorf("read the reply to option %d: %w", option, err)
	}
	if reply&repError != 0 {
		return reply, nil, &optionError{option: option, reply: reply, message: string(data[:min(len(data), 256)])}
	}
	return reply, data, nil
}

func (h *handshake) acknowledged(option uint32) error {
	reply, _, err := h.receive(option)
	if err == nil && reply != repAck {
		err = protocolErrorf("reply %d to option %d", reply, option)
	}
	return err
}

func (h *handshake) list(ctx context.Context, config *tls.Config) ([]string, error) {
	if _, err := h.greet(); err != nil {
		return nil, err
	}
	if config != nil {
		if err := h.startTLS(ctx, config); err != nil {
			return nil, err
		}
	}
	if err := h.send(optList, nil); err != nil {
		return nil, err
	}
	var names []string
	for {
		reply, data, err := h.receive(optList)
		if err != nil {
			return nil, err
		}
		if reply == repAck {
			// A polite goodbye; the server may be gone before it is answered.
			h.conn.SetDeadline(time.Now().Add(time.Second))
			h.send(optAbort, nil)
			return names, nil
		}
		name, _, ok := cutString(data)
		if reply != repServer || !ok {
			return nil, protocolErrorf("reply %d of %d bytes to a request for the list", reply, len(data))
		}
		names = append(names, name)
	}
}
