package nbd

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
)

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
