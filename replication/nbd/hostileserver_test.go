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
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"riparo/replication"
)

// wire builds what one end sends.
type wire []byte

func (w wire) u16(v uint16) wire              { return binary.BigEndian.AppendUint16(w, v) }
func (w wire) u32(v uint32) wire              { return binary.BigEndian.AppendUint32(w, v) }
func (w wire) u64(v uint64) wire              { return binary.BigEndian.AppendUint64(w, v) }
func (w wire) raw(b ...byte) wire             { return append(w, b...) }
func (w wire) text(s string) wire             { return append(w, s...) }
func (w wire) zeroes(n int) wire              { return append(w, make([]byte, n)...) }
func (w wire) named(s string) wire            { return appendString(w, s) }
func (w wire) join(o ...wire) wire            { return append(w, slices.Concat(o...)...) }
func greeting(flags uint16) wire              { return wire{}.u64(magicServer).u64(magicOption).u16(flags) }
func simple(errno uint32, cookie uint64) wire { return wire{}.u32(magicSimple).u32(errno).u64(cookie) }

func reply(option, kind uint32, data wire) wire {
	return wire{}.u64(magicOptionRep).u32(option).u32(kind).u32(uint32(len(data))).raw(data...)
}

func chunk(flags, kind uint16, cookie uint64, data wire) wire {
	return wire{}.u32(magicStructured).u16(flags).u16(kind).u64(cookie).u32(uint32(len(data))).raw(data...)
}

func info(size uint64, flags uint16) wire { return wire{}.u16(infoExport).u64(size).u16(flags) }

// agreed is the server's part of a handshake for an export of 1 MiB with
// base:allocation, which gets the number 7.
func agreed() wire {
	return greeting(flagFixedNewstyle|flagNoZeroes).join(
		reply(optStructuredReply, repAck, nil),
		reply(optSetMetaContext, repMetaContext, wire{}.u32(7).text(AllocationContext)), reply(optSetMetaContext, repAck, nil),
		reply(optGo, repInfo, info(1<<20, flagHasFlags|flagFlush|flagDF)), reply(optGo, repAck, nil))
}

// agreedLength is how many bytes a client sends until agreed is said.
const agreedLength = 4 + 16 + (16 + 4 + 1 + 4 + 4 + len(AllocationContext)) + (16 + 4 + 1 + 2 + 2)

// dialScript dials a server that says handshake, whatever it is asked; then it says
// one of the replies after each request. In the end it hangs up, or is silent if it
// stays.
func dialScript(t testing.TB, stays bool, handshake wire, replies ...wire) (*Client, error) {
	t.Helper()
	ours, theirs := net.Pipe()
	var server sync.WaitGroup
	requests := make(chan struct{}, 100)
	server.Go(func() {
		defer close(requests)
		_, err := io.CopyN(io.Discard, theirs, int64(agreedLength))
		for err == nil {
			if _, err = io.CopyN(io.Discard, theirs, requestHeaderLength); err == nil {
				requests <- struct{}{}
			}
		}
	})
	server.Go(func() {
		theirs.Write(handshake)
		for _, r := range replies {
			<-requests
			theirs.Write(r)
		}
		if !stays {
			theirs.Close()
		}
		for range requests { // whatever is asked after the end
		}
	})
	t.Cleanup(func() {
		theirs.Close()
		ours.Close()
		server.Wait()
	})
	c, err := DialAddress(t.Context(), Address{Network: "test", Address: "script", Export: "d"}, Options{
		Contexts: []string{AllocationContext}, Timeout: 5 * time.Second,
		Dial: func(context.Context, string, string) (net.Conn, error) { return ours, nil },
	})
	if err == nil {
		t.Cleanup(func() { c.Close() })
	}
	return c, err
}

func TestTheClientRefusesAnUnreasonableHandshake(t *testing.T) {
	begin := greeting(flagFixedNewstyle | flagNoZeroes)
	structured := begin.join(reply(optStructuredReply, repAck, nil))
	contexts := structured.join(reply(optSetMetaContext, repMetaContext, wire{}.u32(7).text(AllocationContext)), reply(optSetMetaContext, repAck, nil))
	export := func(size uint64, flags uint16, more ...wire) wire {
		return contexts.join(reply(optGo, repInfo, info(size, flags))).join(more...).join(reply(optGo, repAck, nil))
	}
	blocks := func(low, preferred, high uint32) wire {
		return reply(optGo, repInfo, wire{}.u16(infoBlockSize).u32(low).u32(preferred).u32(high))
	}
	for what, script := range map[string]wire{
		"nothing":                        {},
		"not NBD":                        wire{}.text("220 mail.example.com ESMTP\r\n"),
		"half a greeting":                begin[:10],
		"oldstyle":                       wire{}.u64(magicServer).u64(magicOldstyle).zeroes(200),
		"an unknown greeting":            wire{}.u64(magicServer).u64(1).zeroes(200),
		"no fixed newstyle":              greeting(flagNoZeroes).zeroes(200),
		"a reply to another option":      begin.join(reply(optGo, repAck, nil)),
		"a reply without magic":          begin.zeroes(20),
		"a reply that is too long":       begin.u64(magicOptionRep).u32(optStructuredReply).u32(repAck).u32(math.MaxUint32).zeroes(100),
		"a reply that ends early":        begin.u64(magicOptionRep).u32(optStructuredReply).u32(repAck).u32(100).zeroes(5),
		"a list in reply to nothing":     begin.join(reply(optStructuredReply, repServer, wire{}.named("x"))),
		"a context without a number":     structured.join(reply(optSetMetaContext, repMetaContext, wire{}.u16(1))),
		"the context missing":            structured.join(reply(optSetMetaContext, repAck, nil)),
		"another context":                structured.join(reply(optSetMetaContext, repMetaContext, wire{}.u32(1).text("base:other")), reply(optSetMetaContext, repAck, nil)),
		"contexts without end":           structured.join(bytes.Repeat(reply(optSetMetaContext, repMetaContext, wire{}.u32(1).text(AllocationContext)), maxOptionReplies+10)),
		"one context too many":           structured.join(reply(optSetMetaContext, repMetaContext, wire{}.u32(7).text(AllocationContext)), reply(optSetMetaContext, repMetaContext, wire{}.u32(8).text("x:y")), reply(optSetMetaContext, repAck, nil)),
		"no size":                        contexts.join(reply(optGo, repAck, nil)),
		"a short size":                   contexts.join(reply(optGo, repInfo, info(5, 1)[:11]), reply(optGo, repAck, nil)),
		"an information without a kind":  contexts.join(reply(optGo, repInfo, wire{9}), reply(optGo, repAck, nil)),
		"a size above 2^63":              export(1<<63, flagHasFlags),
		"no flags":                       export(1<<20, 0),
		"a block of 0 bytes":             export(1<<20, flagHasFlags, blocks(0, 4096, 1<<20)),
		"a block of 3 bytes":             export(1<<20, flagHasFlags, blocks(3, 4096, 1<<20)),
		"a block of 1 GiB":               export(1<<30, flagHasFlags, blocks(1<<30, 1<<30, 1<<30)),
		"a largest block of 0 bytes":     export(1<<20, flagHasFlags, blocks(512, 4096, 0)),
		"a largest block that is odd":    export(1<<20, flagHasFlags, blocks(512, 4096, 1000)),
		"a size that is no whole blocks": export(1000, flagHasFlags, blocks(512, 4096, 1<<20)),
		"a short block size":             export(1<<20, flagHasFlags, reply(optGo, repInfo, wire{}.u16(infoBlockSize).u32(1))),
	} {
		c, err := dialScript(t, false, script)
		if err == nil {
			t.Errorf("%s was accepted", what)
			c.Close()
			continue
		}
		if p := replication.AsProblem(err); !strings.HasPrefix(p.Code, "nbd.") || p.Effect == "" {
			t.Errorf("%s: got %v, want a problem", what, err)
		}
	}
}

func TestTheClientRefusesUnreasonableReplies(t *testing.T) {
	data := func(offset uint64, n int) wire { return wire{}.u64(offset).zeroes(n) }
	hole := func(offset uint64, n uint32) wire { return wire{}.u64(offset).u32(n) }
	const done = chunkFlagDone
	// Every read asks for 1000 bytes at 500, with the cookie 1.
	for what, script := range map[string]wire{
		"no reply":                         wire{}.u32(12345).zeroes(100),
		"half a header":                    chunk(done, chunkNone, 1, nil)[:9],
		"an unknown cookie":                chunk(0, chunkOffsetData, 2, data(500, 1000)),
		"a cookie that was answered":       chunk(0, chunkOffsetData, 1, data(500, 1000)).join(chunk(done, chunkNone, 1, nil), chunk(done, chunkNone, 1, nil)),
		"a simple reply":                   simple(0, 1).zeroes(1000),
		"data before the request":          chunk(done, chunkOffsetData, 1, data(499, 1000)),
		"data after the request":           chunk(done, chunkOffsetData, 1, data(501, 1000)),
		"data far after the request":       chunk(done, chunkOffsetData, 1, data(math.MaxUint64-10, 1000)),
		"more data than was asked for":     chunk(done, chunkOffsetData, 1, data(500, 1001)),
		"data of no length":                chunk(done, chunkOffsetData, 1, data(500, 0)),
		"data of less than no length":      chunk(done, chunkOffsetData, 1, wire{}.u32(5)),
		"data of 4 GiB":                    wire{}.u32(magicStructured).u16(done).u16(chunkOffsetData).u64(1).u32(math.MaxUint32).zeroes(2000),
		"data twice":                       chunk(0, chunkOffsetData, 1, data(500, 600)).join(chunk(done, chunkOffsetData, 1, data(900, 600))),
		"the same data twice":              chunk(0, chunkOffsetData, 1, data(500, 1000)).join(chunk(done, chunkOffsetData, 1, data(500, 1000))),
		"data with a gap":                  chunk(0, chunkOffsetData, 1, data(500, 400)).join(chunk(done, chunkOffsetData, 1, data(901, 599))),
		"data that ends early":             chunk(done, chunkOffsetData, 1, data(500, 999)),
		"no data at all":                   chunk(done, chunkNone, 1, nil),
		"a hole that is too long":          chunk(done, chunkOffsetHole, 1, hole(500, math.MaxUint32)),
		"a hole of no length":              chunk(done, chunkOffsetHole, 1, hole(500, 0)),
		"a hole that is short":             chunk(done, chunkOffsetHole, 1, hole(500, 10)[:9]),
		"a hole where there was data":      chunk(0, chunkOffsetData, 1, data(500, 1000)).join(chunk(done, chunkOffsetHole, 1, hole(700, 10))),
		"status in reply to a read":        chunk(done, chunkBlockStatus, 1, wire{}.u32(7).u32(1000).u32(0)),
		"an unknown chunk":                 chunk(done, 99, 1, wire{}.zeroes(10)),
		"an empty chunk that goes on":      chunk(0, chunkNone, 1, nil),
		"an empty chunk that is not empty": chunk(done, chunkNone, 1, wire{5}),
		"an error without an error":        chunk(done, chunkError, 1, wire{}.u32(0).u16(0)),
		"an error that is short":           chunk(done, chunkError, 1, wire{}.u32(5)),
		"an error with too long a message": chunk(done, chunkError, 1, wire{}.u32(5).u16(100).text("no")),
		"an error of 4 GiB":                wire{}.u32(magicStructured).u16(done).u16(chunkError).u64(1).u32(math.MaxUint32).zeroes(2000),
		"the end in the middle of data":    chunk(done, chunkOffsetData, 1, data(500, 1000))[:700],
		"the end":                          {},
	} {
		c, err := dialScript(t, false, agreed(), script)
		if err != nil {
			t.Fatal(err)
		}
		p := bytes.Repeat([]byte{0xee}, 1200)
		err = c.Read(t.Context(), p[100:1100], 500)
		if what == "a cookie that was answered" {
			// The read was good; the connection is not any more.
			for err == nil {
				err = c.Read(t.Context(), p[100:1100], 500)
			}
		}
		if !errors.Is(err, ErrLost) {
			t.Errorf("%s: got %v, want %v", what, err, ErrLost)
		}
		if !strings.HasPrefix(what, "the end") && what != "half a header" && !errors.Is(err, errProtocol) {
			t.Errorf("%s: got %v, want %v", what, err, errProtocol)
		}
		if bytes.Count(p[:100], []byte{0xee}) != 100 || bytes.Count(p[1100:], []byte{0xee}) != 100 {
			t.Errorf("%s: the client wrote outside of its buffer", what)
		}
	}
}

func TestTheClientRefusesUnreasonableStatus(t *testing.T) {
	const done = chunkFlagDone
	for what, script := range map[string]wire{
		"a simple reply":            simple(0, 1),
		"nothing":                   chunk(done, chunkNone, 1, nil),
		"a status of no length":     chunk(done, chunkBlockStatus, 1, wire{}.u32(7).u32(0).u32(0)),
		"no status at all":          chunk(done, chunkBlockStatus, 1, wire{}.u32(7)),
		"a status that is cut":      chunk(done, chunkBlockStatus, 1, wire{}.u32(7).u32(5).u16(0)),
		"a context not asked for":   chunk(done, chunkBlockStatus, 1, wire{}.u32(8).u32(5).u32(0)),
		"a context twice":           chunk(0, chunkBlockStatus, 1, wire{}.u32(7).u32(5).u32(0)).join(chunk(done, chunkBlockStatus, 1, wire{}.u32(7).u32(5).u32(0))),
		"data in reply to status":   chunk(done, chunkOffsetData, 1, wire{}.u64(0).u32(0)),
		"a hole in reply to status": chunk(done, chunkOffsetHole, 1, wire{}.u64(0).u32(1)),
		"a status of 4 GiB":         wire{}.u32(magicStructured).u16(done).u16(chunkBlockStatus).u64(1).u32(math.MaxUint32 - 3).zeroes(2000),
		"the same answer for ever":  chunk(done, chunkBlockStatus, 1, wire{}.u32(7).u32(1).u32(0)), // and then the end
	} {
		c, err := dialScript(t, false, agreed(), script)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range c.Regions(t.Context()) {
			err = errors.Join(err, e)
		}
		if !errors.Is(err, ErrLost) {
			t.Errorf("%s: got %v, want %v", what, err, ErrLost)
		}
	}
}

func TestAnErrorChunkIsTheServersAnswer(t *testing.T) {
	c, err := dialScript(t, true, agreed(),
		chunk(chunkFlagDone, chunkError, 1, wire{}.u32(errnoNoSpace).u16(4).text("full")),
		chunk(0, chunkErrorOffset, 2, wire{}.u32(errnoIO).u16(3).text("bad").u64(600)).join(chunk(chunkFlagDone, chunkNone, 2, nil)),
		chunk(0, chunkOffsetData, 3, wire{}.u64(1).zeroes(1)).join(chunk(chunkFlagDone, chunkOffsetHole, 3, wire{}.u64(0).u32(1))))
	if err != nil {
		t.Fatal(err)
	}
	err = c.Read(t.Context(), make([]byte, 10), 0)
	if told, ok := errors.AsType[*ServerError](err); !ok || told.Message != "full" || !errors.Is(err, errNoSpace) {
		t.Errorf("got %v, want ENOSPC with its message", err)
	}
	err = c.Read(t.Context(), make([]byte, 1000), 500)
	if told, ok := errors.AsType[*ServerError](err); !ok || told.Number != errnoIO {
		t.Errorf("got %v, want EIO", err)
	}
	if err := c.Read(t.Context(), make([]byte, 2), 0); err != nil {
		t.Errorf("data out of order: %v", err)
	}
}

func TestASilentServerIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		if _, err := dialScript(t, true, greeting(flagFixedNewstyle)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("in the handshake: got %v, want %v", err, context.DeadlineExceeded)
		}
		if took := time.Since(begun); took != 5*time.Second {
			t.Errorf("it took %s, want the timeout of 5s", took)
		}
		c, err := dialScript(t, true, agreed())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour) // Nothing is owed meanwhile.
		begun = time.Now()
		_, err = c.ReadAt(make([]byte, 10), 0)
		if took := time.Since(begun); !errors.Is(err, ErrLost) || took != 5*time.Second {
			t.Errorf("got %v after %s, want %v after 5s", err, took, ErrLost)
		}
		_, err = c.ReadAt(make([]byte, 10), 0)
		if p := replication.AsProblem(err); p.Code != "nbd.lost" || p.Remedy != replication.Retry {
			t.Errorf("afterwards: got %v, want the problem nbd.lost", err)
		}
	})
}

// scriptedServer speaks to a client that has dialed, request by request.
type scriptedServer struct {
	net.Conn
	r *bufio.Reader
}

// dialBy dials a server that the test plays itself.
func dialBy(t *testing.T) (*Client, scriptedServer) {
	ours, theirs := net.Pipe()
	s := scriptedServer{theirs, bufio.NewReader(theirs)}
	ready := make(chan struct{})
	go func() {
		defer close(ready)
		go theirs.Write(agreed()) // A pipe has no room: both ends talk at once.
		io.ReadFull(s.r, make([]byte, 4))
		discard(s.r, int64(agreedLength)-4)
	}()
	c, err := DialAddress(t.Context(), Address{Network: "test", Export: "d"}, Options{
		Contexts: []string{AllocationContext}, Timeout: 5 * time.Second,
		Dial: func(context.Context, string, string) (net.Conn, error) { return ours, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	<-ready
	return c, s
}

func (s scriptedServer) request(t *testing.T) (command uint16, cookie uint64) {
	var b [requestHeaderLength]byte
	if _, err := io.ReadFull(s.r, b[:]); err != nil {
		t.Fatal(err)
	}
	return binary.BigEndian.Uint16(b[6:]), binary.BigEndian.Uint64(b[8:])
}

func TestACanceledReadIsForgottenAndTheNextOneGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := dialBy(t)
		defer s.Close()
		ctx, cancel := context.WithCancel(t.Context())
		p := make([]byte, 100)
		outcome := make(chan error)
		go func() { outcome <- c.Read(ctx, p, 0) }()
		_, first := s.request(t)
		cancel()
		if err := <-outcome; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want %v", err, context.Canceled)
		}
		go func() { outcome <- c.Read(t.Context(), make([]byte, 10), 0) }()
		_, second := s.request(t)
		s.Write(chunk(chunkFlagDone, chunkOffsetData, first, wire{}.u64(0).raw(bytes.Repeat([]byte{9}, 100)...)))
		s.Write(chunk(chunkFlagDone, chunkOffsetData, second, wire{}.u64(0).zeroes(10)))
		if err := <-outcome; err != nil {
			t.Errorf("the read after it: %v", err)
		}
		if bytes.Contains(p, []byte{9}) {
			t.Error("the buffer of the canceled read was written to")
		}
		// Canceled in the middle of its data: the buffer is free only afterwards.
		ctx, cancel = context.WithCancel(t.Context())
		go func() { outcome <- c.Read(ctx, p, 0) }()
		_, third := s.request(t)
		reply := chunk(chunkFlagDone, chunkOffsetData, third, wire{}.u64(0).raw(bytes.Repeat([]byte{8}, 100)...))
		s.Write(reply[:60])
		synctest.Wait()
		cancel()
		begun := time.Now()
		if err := <-outcome; !errors.Is(err, context.Canceled) || time.Since(begun) != fillGrace {
			t.Errorf("got %v after %s, want %v after %s", err, time.Since(begun), context.Canceled, fillGrace)
		}
		if err := c.Read(t.Context(), p, 0); !errors.Is(err, ErrLost) {
			t.Errorf("a server that stops in the middle: got %v, want %v", err, ErrLost)
		}
		c.Close()
	})
}

func TestRepliesMayComeInAnyOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := dialBy(t)
		defer s.Close()
		const n = 20
		results := make([]chan byte, n)
		for i := range n {
			results[i] = make(chan byte, 1)
			go func() {
				var p [1]byte
				c.Read(t.Context(), p[:], int64(i))
				results[i] <- p[0]
			}()
		}
		type asked struct{ cookie, offset uint64 }
		var list []asked
		for range n {
			var b [requestHeaderLength]byte
			io.ReadFull(s.r, b[:])
			list = append(list, asked{binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint64(b[16:])})
		}
		slices.SortFunc(list, func(a, b asked) int { return int(b.offset) - int(a.offset) })
		for _, a := range list {
			s.Write(chunk(chunkFlagDone, chunkOffsetData, a.cookie, wire{}.u64(a.offset).raw(byte(a.offset)+1)))
		}
		for i := range n {
			if got := <-results[i]; got != byte(i)+1 {
				t.Errorf("read %d: got %d, want %d", i, got, i+1)
			}
		}
		go io.Copy(io.Discard, s.r)
		c.Close()
	})
}

func TestCloseEndsWhatIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := dialBy(t)
		defer s.Close()
		outcome := make(chan error, 2)
		go func() { _, err := c.ReadAt(make([]byte, 10), 0); outcome <- err }()
		s.request(t)
		go io.Copy(io.Discard, s.r)
		c.Close()
		if err := <-outcome; !errors.Is(err, net.ErrClosed) && !errors.Is(err, context.Canceled) {
			t.Errorf("under way: got %v, want %v", err, net.ErrClosed)
		}
		if _, err := c.ReadAt(make([]byte, 10), 0); err == nil {
			t.Error("a closed client reads")
		}
		c.Close()
	})
}

func FuzzClient(f *testing.F) {
	f.Add([]byte(agreed()), false, uint16(0))
	f.Add([]byte(greeting(3)), false, uint16(0))
	data := chunk(chunkFlagDone, chunkOffsetData, 1, wire{}.u64(10).zeroes(1000))
	f.Add([]byte(data.join(chunk(chunkFlagDone, chunkBlockStatus, 2, wire{}.u32(7).u32(1<<20).u32(3)))), true, uint16(len(data)))
	hole := chunk(0, chunkOffsetHole, 1, wire{}.u64(10).u32(1000))
	f.Add([]byte(hole.join(chunk(chunkFlagDone, chunkError, 1, wire{}.u32(5).u16(2).text("no")))), true, uint16(0))
	f.Add([]byte(simple(5, 1).join(simple(0, 2))), true, uint16(16))
	f.Fuzz(func(t *testing.T, script []byte, agree bool, cut uint16) {
		// Time is the test's, so that a server which is silent costs none.
		synctest.Test(t, func(t *testing.T) { fuzzClient(t, script, agree, cut) })
	})
}

func fuzzClient(t *testing.T, script []byte, agree bool, cut uint16) {
	var c *Client
	var err error
	if agree {
		n := min(int(cut), len(script))
		c, err = dialScript(t, false, agreed(), script[:n], script[n:])
	} else {
		c, err = dialScript(t, false, script)
	}
	if err != nil {
		return
	}
	p := bytes.Repeat([]byte{0xee}, 1200)
	c.Read(t.Context(), p[100:1100], 10)
	if bytes.Count(p[:100], []byte{0xee}) != 100 || bytes.Count(p[1100:], []byte{0xee}) != 100 {
		t.Fatal("the client wrote outside of its buffer")
	}
	at := int64(0)
	for r, err := range c.Regions(t.Context()) {
		if err != nil {
			break
		}
		if r.Offset != at || r.Length <= 0 || r.End() > c.Size() {
			t.Fatalf("region %v after %d in %d bytes", r, at, c.Size())
		}
		at = r.End()
	}
}
