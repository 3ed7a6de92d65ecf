package nbd

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"net"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"riparo/replication"
)

// pipeListener accepts what dial opens, in memory, so that time can be the test's.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "memory", Net: "unix"} }

func (l *pipeListener) dial(context.Context, string, string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case l.conns <- theirs:
		return ours, nil
	case <-l.closed:
		return nil, syscall.ECONNREFUSED
	}
}

// servePipe runs a server in memory; stop ends it.
func servePipe(t *testing.T, o ServerOptions, exports map[string]Export) (s *Server, l *pipeListener, stop func()) {
	s, l = NewServer(o), newPipeListener()
	for name, e := range exports {
		if err := s.Add(name, e); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.Serve(ctx, l) }()
	return s, l, func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
	}
}

func option(number uint32, data wire) wire {
	return wire{}.u64(magicOption).u32(number).u32(uint32(len(data))).raw(data...)
}

func goOption(name string) wire { return option(optGo, wire{}.named(name).u16(0)) }

func requestOf(command, flags uint16, cookie, offset uint64, length uint32) wire {
	return wire{}.u32(magicRequest).u16(flags).u16(command).u64(cookie).u64(offset).u32(length)
}

var accepted = wire{}.u32(flagFixedNewstyle | flagNoZeroes)

// talk sends something to a server and gives all that it answers until it hangs
// up, or, if it does not, until it has been silent for a minute.
func talk(t *testing.T, l *pipeListener, say wire) (answer wire, hungUp bool) {
	t.Helper()
	conn, err := l.dial(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go conn.Write(say)
	b := make([]byte, 1<<16)
	for {
		conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		n, err := conn.Read(b)
		answer = append(answer, b[:n]...)
		if err != nil {
			return answer, errors.Is(err, io.EOF)
		}
	}
}

// replies takes the option replies out of an answer.
func replies(t *testing.T, answer wire) (kinds []uint32) {
	t.Helper()
	answer = answer[min(18, len(answer)):]
	for len(answer) >= 20 && binary.BigEndian.Uint64(answer) == magicOptionRep {
		n := binary.BigEndian.Uint32(answer[16:])
		kinds = append(kinds, binary.BigEndian.Uint32(answer[12:]))
		answer = answer[20+n:]
	}
	return kinds
}

func TestTheServerHangsUpOnNonsense(t *testing.T) {
	disk := newMemoryDisk(1 << 20)
	begun := accepted.join(goOption("d"))
	for what, say := range map[string]wire{
		"unknown flags":               wire{}.u32(1 << 5),
		"not an option":               accepted.text("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"),
		"an export that is not there": accepted.join(option(optExportName, wire{}.text("none"))),
		"data behind STARTTLS":        accepted.join(option(optStartTLS, nil), option(optList, nil)),
		"a goodbye":                   accepted.join(option(optAbort, nil)),
		"not a request":               begun.zeroes(requestHeaderLength),
		"a write of 4 GiB":            begun.join(requestOf(cmdWrite, 0, 1, 0, math.MaxUint32)),
		"options for ever":            accepted.join(bytes.Repeat(option(99, nil), maxOptions+1)),
		"a disconnect":                begun.join(requestOf(cmdDisconnect, 0, 1, 0, 0)),
		"a hello that is not TLS":     accepted.join(option(optStartTLS, nil)),
	} {
		synctest.Test(t, func(t *testing.T) {
			a := newAuthority(t)
			_, l, stop := servePipe(t, ServerOptions{TLS: a.forServer()}, map[string]Export{"d": {Source: disk}})
			defer stop()
			if what == "a hello that is not TLS" {
				conn, _ := l.dial(t.Context(), "", "")
				defer conn.Close()
				go conn.Write(say)
				io.ReadFull(conn, make([]byte, 18+20))
				go conn.Write(bytes.Repeat([]byte("hello"), 100))
				if _, err := io.Copy(io.Discard, conn); err != nil {
					t.Errorf("%s: %v", what, err)
				}
				return
			}
			if answer, hungUp := talk(t, l, say); !hungUp {
				t.Errorf("%s: the server stayed and answered %x", what, answer)
			}
		})
	}
}

func TestTheServerRefusesOptionsAndStays(t *testing.T) {
	disk := newMemoryDisk(1 << 20)
	context := func(number uint32, name string, queries ...string) wire {
		w := wire{}.named(name).u32(uint32(len(queries)))
		for _, q := range queries {
			w = w.named(q)
		}
		return option(number, w)
	}
	sr := option(optStructuredReply, nil)
	for what, c := range map[string]struct {
		say  wire
		last uint32
	}{
		"an unknown option":                   {option(99, wire{}.zeroes(10)), repErrUnsup},
		"an option that is long":              {option(99, wire{}.zeroes(maxOptionData+1)), repErrTooBig},
		"a list with data":                    {option(optList, wire{1}), repErrInvalid},
		"a list":                              {option(optList, nil), repAck},
		"STARTTLS with data":                  {option(optStartTLS, wire{1}), repErrInvalid},
		"STARTTLS without TLS":                {option(optStartTLS, nil), repErrPolicy},
		"structured replies with data":        {option(optStructuredReply, wire{1}), repErrInvalid},
		"information without a name":          {option(optInfo, nil), repErrInvalid},
		"information with half a name":        {option(optInfo, wire{}.u32(100).text("d").u16(0)), repErrInvalid},
		"information with a name of 4 GiB":    {option(optInfo, wire{}.u32(math.MaxUint32).text("d").u16(0)), repErrInvalid},
		"information with too few kinds":      {option(optInfo, wire{}.named("d").u16(2).u16(0)), repErrInvalid},
		"information with too many kinds":     {option(optInfo, wire{}.named("d").u16(0).u16(0)), repErrInvalid},
		"information of what is not there":    {option(optInfo, wire{}.named("none").u16(0)), repErrUnknown},
		"information, all kinds twice":        {option(optInfo, wire{}.named("d").u16(9).u16(0).u16(1).u16(2).u16(3).u16(1).u16(2).u16(77).u16(1).u16(0)), repAck},
		"go to what is not there":             {goOption("none"), repErrUnknown},
		"contexts before structured replies":  {context(optSetMetaContext, "d", AllocationContext), repErrInvalid},
		"contexts of what is not there":       {sr.join(context(optSetMetaContext, "none", AllocationContext)), repErrUnknown},
		"contexts, malformed":                 {sr.join(option(optSetMetaContext, wire{}.named("d").u32(2).named("x"))), repErrInvalid},
		"contexts with something behind":      {sr.join(option(optSetMetaContext, wire{}.named("d").u32(0).zeroes(3))), repErrInvalid},
		"contexts without a count":            {sr.join(option(optSetMetaContext, wire{}.named("d").u16(0))), repErrInvalid},
		"too many contexts":                   {sr.join(option(optSetMetaContext, wire{}.named("d").u32(math.MaxUint32))), repErrTooBig},
		"contexts that we do not have":        {sr.join(context(optSetMetaContext, "d", "base:other", "qemu:dirty-bitmap:", "x")), repAck},
		"contexts, listed by their beginning": {sr.join(context(optListMetaContext, "d", "base:", "base:", "qemu:")), repAck},
		"contexts, all listed":                {sr.join(context(optListMetaContext, "d")), repAck},
	} {
		synctest.Test(t, func(t *testing.T) {
			_, l, stop := servePipe(t, ServerOptions{}, map[string]Export{"d": {Source: disk, Description: "x"}})
			defer stop()
			answer, hungUp := talk(t, l, accepted.join(c.say))
			kinds := replies(t, answer)
			if hungUp && time.Since(time.Time{}) == 0 || len(kinds) == 0 || kinds[len(kinds)-1] != c.last {
				t.Errorf("%s: got the replies %#x (hung up: %t), want %#x last", what, kinds, hungUp, c.last)
			}
		})
	}
}

func TestWithTLSRequiredNothingIsToldBefore(t *testing.T) {
	a := newAuthority(t)
	for what, say := range map[string]wire{
		"list": option(optList, nil), "info": option(optInfo, wire{}.named("d").u16(0)), "go": goOption("d"),
		"contexts": option(optListMetaContext, wire{}.named("d").u32(0)), "structured": option(optStructuredReply, nil), "unknown": option(99, nil),
	} {
		synctest.Test(t, func(t *testing.T) {
			_, l, stop := servePipe(t, ServerOptions{TLS: a.forServer(), RequireTLS: true}, map[string]Export{"d": {Source: newMemoryDisk(9)}})
			defer stop()
			answer, _ := talk(t, l, accepted.join(say))
			if kinds := replies(t, answer); len(kinds) != 1 || kinds[0] != repErrTLSReqd {
				t.Errorf("%s: got %#x, want only %#x", what, kinds, uint32(repErrTLSReqd))
			}
		})
	}
}

// TestWhatWasChosenBeforeTLSIsForgotten: it could have been chosen by anybody.
func TestWhatWasChosenBeforeTLSIsForgotten(t *testing.T) {
	a := newAuthority(t)
	_, socket := serve(t, ServerOptions{TLS: a.forServer()}, map[string]Export{"d": {Source: newMemoryDisk(9)}})
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	h := &handshake{conn: conn, r: bufio.NewReader(conn), address: Address{Export: "d"}}
	if _, err := h.greet(); err != nil {
		t.Fatal(err)
	}
	info := exportInfo{structured: true, minBlock: 1, maxBlock: maxPayload, contexts: map[string]uint32{}}
	config := a.forClient()
	config.ServerName = "localhost"
	if err := errors.Join(h.send(optStructuredReply, nil), h.acknowledged(optStructuredReply), h.setContexts(&info, []string{AllocationContext}),
		h.startTLS(t.Context(), config), h.goOption(&info)); err != nil {
		t.Fatal(err)
	}
	if info.flags&flagDF != 0 {
		t.Error("structured replies were agreed on before TLS and are still in force")
	}
	if _, err := h.conn.Write(requestOf(cmdBlockStatus, 0, 5, 0, 9)); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, simpleHeaderLength)
	if _, err := io.ReadFull(h.r, answer); err != nil || !bytes.Equal(answer, simple(errnoInvalid, 5)) {
		t.Errorf("status of a context chosen before TLS: got %x, %v, want EINVAL", answer, err)
	}
}

func TestTheServerAnswersEveryRequestOnce(t *testing.T) {
	const size = 1 << 20
	const done = chunkFlagDone
	type ask struct {
		what           string
		command, flags uint16
		offset         uint64
		length         uint32
		payload        int
		readOnly       uint32 // errno of a read-only export
		writable       uint32 // errno of one that can be written
	}
	asks := []ask{
		{"read", cmdRead, 0, 0, 100, 0, 0, 0},
		{"read to the end", cmdRead, 0, size - 1, 1, 0, 0, 0},
		{"read of nothing", cmdRead, 0, size, 0, 0, 0, 0},
		{"read, not divided", cmdRead, cmdFlagDF, 0, size, 0, 0, 0},
		{"read beyond the end", cmdRead, 0, size - 1, 2, 0, errnoInvalid, errnoInvalid},
		{"read far beyond", cmdRead, 0, math.MaxUint64, 1, 0, errnoInvalid, errnoInvalid},
		{"read that wraps around", cmdRead, 0, 1<<63 - 1, math.MaxUint32, 0, errnoInvalid, errnoInvalid},
		{"read of 4 GiB", cmdRead, 0, 0, math.MaxUint32, 0, errnoInvalid, errnoInvalid},
		{"read with unknown flags", cmdRead, 1 << 9, 0, 1, 0, errnoInvalid, errnoInvalid},
		{"write", cmdWrite, 0, 5, 100, 100, errnoPerm, 0},
		{"write through", cmdWrite, cmdFlagFUA, 5, 100, 100, errnoPerm, 0},
		{"write of nothing", cmdWrite, 0, 5, 0, 0, errnoPerm, 0},
		{"write beyond the end", cmdWrite, 0, size - 1, 2, 2, errnoPerm, errnoNoSpace},
		{"long write beyond the end", cmdWrite, 0, 5, 3 << 20, 3 << 20, errnoPerm, errnoNoSpace},
		{"flush", cmdFlush, 0, 0, 0, 0, 0, 0},
		{"trim", cmdTrim, 0, 0, 65536, 0, errnoPerm, 0},
		{"trim beyond the end", cmdTrim, 0, 0, math.MaxUint32, 0, errnoPerm, errnoInvalid},
		{"zeroes", cmdWriteZeroes, 0, 100, 65536, 0, errnoPerm, 0},
		{"zeroes without a hole", cmdWriteZeroes, cmdFlagNoHole, 100, 65536, 0, errnoPerm, 0},
		{"fast zeroes", cmdWriteZeroes, cmdFlagFastZero, 100, 65536, 0, errnoInvalid, errnoInvalid},
		{"zeroes beyond the end", cmdWriteZeroes, 0, 1, math.MaxUint32, 0, errnoPerm, errnoNoSpace},
		{"status", cmdBlockStatus, 0, 0, size, 0, 0, 0},
		{"status of one", cmdBlockStatus, cmdFlagReqOne, 0, size, 0, 0, 0},
		{"status of nothing", cmdBlockStatus, 0, 0, 0, 0, errnoInvalid, errnoInvalid},
		{"status beyond the end", cmdBlockStatus, 0, 1, size, 0, errnoInvalid, errnoInvalid},
		{"cache", 5, 0, 0, 100, 0, errnoInvalid, errnoInvalid},
		{"resize", 8, 0, 0, 100, 0, errnoInvalid, errnoInvalid},
		{"unknown", 999, 0xffff, math.MaxUint64, math.MaxUint32, 0, errnoInvalid, errnoInvalid},
	}
	for _, writable := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			disk := newMemoryDisk(size).scatter(1, 3)
			e := Export{Source: disk}
			if writable {
				e.Writer = disk
			}
			_, l, stop := servePipe(t, ServerOptions{}, map[string]Export{"d": e})
			defer stop()
			conn, err := l.dial(t.Context(), "", "")
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			say := accepted.join(option(optStructuredReply, nil), option(optSetMetaContext, wire{}.named("d").u32(1).named(AllocationContext)), goOption("d"))
			for i, a := range asks {
				say = say.join(requestOf(a.command, a.flags, uint64(i), a.offset, a.length)).zeroes(a.payload)
			}
			go conn.Write(say)
			in := make([]byte, 18)
			io.ReadFull(conn, in)
			for last, option := uint32(0), uint32(0); last != repAck || option != optGo; {
				var b [20]byte
				io.ReadFull(conn, b[:])
				option, last = binary.BigEndian.Uint32(b[8:]), binary.BigEndian.Uint32(b[12:])
				io.CopyN(io.Discard, conn, int64(binary.BigEndian.Uint32(b[16:])))
			}
			got := map[uint64]uint32{}
			for len(got) < len(asks) {
				var b [chunkHeaderLength]byte
				if _, err := io.ReadFull(conn, b[:4]); err != nil {
					t.Fatalf("after %d answers: %v", len(got), err)
				}
				if binary.BigEndian.Uint32(b[:]) == magicSimple {
					io.ReadFull(conn, b[4:simpleHeaderLength])
					cookie := binary.BigEndian.Uint64(b[8:])
					if _, twice := got[cookie]; twice {
						t.Errorf("%s: answered twice", asks[cookie].what)
					}
					got[cookie] = binary.BigEndian.Uint32(b[4:])
					continue
				}
				io.ReadFull(conn, b[4:])
				data := make([]byte, binary.BigEndian.Uint32(b[16:]))
				io.ReadFull(conn, data)
				cookie, errno := binary.BigEndian.Uint64(b[8:]), uint32(0)
				if binary.BigEndian.Uint16(b[6:]) == chunkError {
					errno = binary.BigEndian.Uint32(data)
				}
				if binary.BigEndian.Uint16(b[4:])&done != 0 {
					if _, twice := got[cookie]; twice {
						t.Errorf("%s: answered twice", asks[cookie].what)
					}
					got[cookie] = errno
				}
			}
			for i, a := range asks {
				want := a.readOnly
				if writable {
					want = a.writable
				}
				if got[uint64(i)] != want {
					t.Errorf("%s, writable %t: got error %d, want %d", a.what, writable, got[uint64(i)], want)
				}
			}
		})
	}
}

func TestASlowHandshakeIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, l, stop := servePipe(t, ServerOptions{}, map[string]Export{"d": {Source: newMemoryDisk(1)}})
		defer stop()
		conn, _ := l.dial(t.Context(), "", "")
		defer conn.Close()
		begun := time.Now()
		say := accepted.join(bytes.Repeat(option(99, nil), 100))
		var client sync.WaitGroup
		defer client.Wait()
		client.Go(func() {
			for _, b := range say { // a byte a second, without end as it were
				if _, err := conn.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		})
		io.Copy(io.Discard, conn)
		if took := time.Since(begun); took != handshakeTime {
			t.Errorf("the server waited %s for the handshake, want %s", took, handshakeTime)
		}
	})
}

func TestAClientThatDoesNotReadStopsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newMemoryDisk(64<<20).scatter(4, 100)
		_, l, stop := servePipe(t, ServerOptions{}, map[string]Export{"d": {Source: disk}})
		defer stop()
		var stuck []net.Conn
		for range 20 {
			conn, _ := l.dial(t.Context(), "", "")
			defer conn.Close()
			stuck = append(stuck, conn)
			say := accepted.join(option(optStructuredReply, nil), goOption("d"))
			for i := range 200 {
				say = say.join(requestOf(cmdRead, 0, uint64(i), 0, 32<<20))
			}
			go conn.Write(say)
			// It reads the handshake and nothing after it.
			io.ReadFull(conn, make([]byte, 18+20+20+12+20+14+20))
		}
		begun := time.Now()
		c, err := DialAddress(t.Context(), Address{Network: "test", Export: "d"}, Options{Dial: l.dial})
		if err != nil {
			t.Fatal(err)
		}
		sameContent(t, c, disk)
		c.Close()
		if took := time.Since(begun); took > time.Second {
			t.Errorf("the other client waited %s", took)
		}
		// And those who are stuck are put out.
		time.Sleep(stallTime + time.Second)
		for i, conn := range stuck {
			conn.SetReadDeadline(time.Now().Add(time.Second))
			if _, err := io.Copy(io.Discard, conn); err != nil {
				t.Errorf("client %d is still connected after %s: %v", i, stallTime, err)
			}
		}
	})
}

func FuzzServer(f *testing.F) {
	sr := option(optStructuredReply, nil)
	contexts := option(optSetMetaContext, wire{}.named("d").u32(1).named(AllocationContext))
	begun := accepted.join(sr, contexts, goOption("d"))
	f.Add([]byte(begun.join(requestOf(cmdRead, 0, 1, 0, 1000), requestOf(cmdBlockStatus, 0, 2, 0, 5000), requestOf(cmdDisconnect, 0, 3, 0, 0))), false)
	f.Add([]byte(begun.join(requestOf(cmdWrite, cmdFlagFUA, 1, 10, 20)).zeroes(20).join(requestOf(cmdWriteZeroes, 0, 2, 0, 5000), requestOf(cmdTrim, 0, 2, 0, 5000), requestOf(cmdFlush, 0, 3, 0, 0))), true)
	f.Add([]byte(accepted.join(option(optList, nil), option(optListMetaContext, wire{}.named("d").u32(0)), option(optInfo, wire{}.named("d").u16(1).u16(3)), option(optAbort, nil))), false)
	f.Add([]byte(wire{}.u32(1).join(option(optExportName, wire{}.text("d")), requestOf(cmdRead, 0, 1, 0, 2<<20))), false)
	f.Fuzz(func(t *testing.T, say []byte, writable bool) {
		disk := newMemoryDisk(3<<20).scatter(1, 3)
		e := Export{Source: disk, Dirty: map[string][]replication.Extent{"x": {{Offset: 5, Length: 100}}}}
		if writable {
			e.Writer = disk
		}
		s := NewServer(ServerOptions{})
		if err := s.Add("d", e); err != nil {
			t.Fatal(err)
		}
		ours, theirs := net.Pipe()
		var client sync.WaitGroup
		client.Go(func() { io.Copy(io.Discard, ours) })
		client.Go(func() {
			ours.Write(say)
			ours.Close()
		})
		s.room.Acquire(t.Context(), 1)
		session := newSession(s, theirs)
		session.run(t.Context())
		client.Wait()
		s.Remove("d") // hangs if a user was forgotten
		if !session.share.TryAcquire(connectionShare) {
			t.Fatal("a buffer was not given back")
		}
	})
}
