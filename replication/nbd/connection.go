package nbd

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"sync"
	"time"

	"riparo/replication"
)

const (
	// readBufferSize takes in many small replies with one system call and leaves
	// the bulk of a large one to go straight to where it belongs.
	readBufferSize = 16 << 10
	// maxUnderWay is how many requests one connection has under way: well above
	// what saturates a disk, and what QEMU reads ahead of answering (16).
	maxUnderWay = 64
	// fillGrace is how long a canceled read waits for the piece of data that is
	// just arriving in its buffer, before the connection is given up.
	fillGrace = 2 * time.Second
)

// request is one command and, later, its outcome.
type request struct {
	command, flags uint16
	offset         int64
	length         uint32
	payload        []byte // of a write

	into   []byte                  // where the data of a read goes
	filled coverage                // which parts of into have arrived
	status map[uint32][]descriptor // answers to block status, by context

	err  error         // of the server; valid once done is closed
	done chan struct{} // closed by the reader

	// Guarded by the connection's mutex. While filling, the reader writes to into.
	filling   chan struct{} // non-nil while filling, closed when it ends
	abandoned bool          // nobody waits any more; into must not be touched
}

func (r *request) extent() replication.Extent {
	return replication.Extent{Offset: r.offset, Length: int64(r.length)}
}

// connection carries requests of many callers, told apart by their cookies. One
// goroutine, started by newConnection and ended by close or by a failure, reads
// the replies.
type connection struct {
	conn    net.Conn
	r       *bufio.Reader
	info    exportInfo
	timeout time.Duration

	window  chan struct{} // a token for each request under way
	sending chan struct{} // holds a token while a request is being sent
	gone    chan struct{} // closed when the reader has ended

	mu      sync.Mutex // guards what follows
	waiting map[uint64]*request
	cookie  uint64
	dead    error
}

func newConnection(conn net.Conn, r *bufio.Reader, info exportInfo, timeout time.Duration) *connection {
	c := &connection{
		conn: conn, r: r, info: info, timeout: timeout,
		window: make(chan struct{}, maxUnderWay), sending: make(chan struct{}, 1), gone: make(chan struct{}),
		waiting: map[uint64]*request{},
	}
	go func() {
		defer close(c.gone)
		c.fail(c.receive())
		c.settle()
	}()
	return c
}

// do sends r and waits for its outcome. When it returns, r.into is not written to
// any more.
func (c *connection) do(ctx context.Context, r *request) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r.done = make(chan struct{})
	select {
	case c.window <- struct{}{}:
	case <-c.gone:
		return c.err()
	case <-ctx.Done():
		return ctx.Err()
	}
	cookie, err := c.expect(r)
	if err != nil {
		return err
	}
	if err := c.send(ctx, cookie, r); err != nil {
		return err
	}
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		c.abandon(r)
		return ctx.Err()
	}
}

// expect gives r a cookie and makes the reader know it. The token that r holds in
// the window goes back when it leaves c.waiting.
func (c *connection) expect(r *request) (uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead != nil {
		<-c.window
		return 0, c.dead
	}
	c.cookie++
	c.waiting[c.cookie] = r
	if len(c.waiting) == 1 {
		c.conn.SetReadDeadline(time.Now().Add(c.timeout))
	}
	return c.cookie, nil
}

// send writes the request. A request that was sent in part spoils the connection.
func (c *connection) send(ctx context.Context, cookie uint64, r *request) error {
	select {
	case c.sending <- struct{}{}:
		defer func() { <-c.sending }()
	case <-c.gone:
		return c.err()
	case <-ctx.Done():
		// It was never sent, yet a hostile server may answer it.
		c.abandon(r)
		c.forget(cookie)
		return ctx.Err()
	}
	var header [requestHeaderLength]byte
	binary.BigEndian.PutUint32(header[0:], magicRequest)
	binary.BigEndian.PutUint16(header[4:], r.flags)
	binary.BigEndian.PutUint16(header[6:], r.command)
	binary.BigEndian.PutUint64(header[8:], cookie)
	binary.BigEndian.PutUint64(header[16:], uint64(r.offset))
	binary.BigEndian.PutUint32(header[24:], r.length)
	c.conn.SetWriteDeadline(time.Now().Add(c.timeout))
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(interrupted)
		c.conn.SetWriteDeadline(time.Now())
	})
	defer func() {
		if !stop() {
			<-interrupted // Else it could hit the next request.
		}
	}()
	parts := net.Buffers{header[:]}
	if len(r.payload) > 0 {
		parts = append(parts, r.payload)
	}
	if _, err := parts.WriteTo(c.conn); err != nil {
		c.fail(fmt.Errorf("send %s %s: %w", commandName(r.command), r.extent(), err))
		<-c.gone
		return c.err()
	}
	return nil
}

// forget takes back a request that was never sent.
func (c *connection) forget(cookie uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leave(cookie)
}

// leave takes a request out of those under way. The caller holds c.mu.
func (c *connection) leave(cookie uint64) {
	if _, ok := c.waiting[cookie]; !ok {
		return
	}
	delete(c.waiting, cookie)
	<-c.window
	if len(c.waiting) == 0 && c.dead == nil {
		c.conn.SetReadDeadline(time.Time{}) // Silence is allowed while nothing is owed.
	}
}

// abandon makes sure that the reader leaves r.into alone. What still arrives for
// r is thrown away.
func (c *connection) abandon(r *request) {
	c.mu.Lock()
	r.abandoned = true
	filling := r.filling
	c.mu.Unlock()
	if filling == nil {
		return
	}
	grace := time.NewTimer(fillGrace)
	defer grace.Stop()
	select {
	case <-filling:
	case <-grace.C:
		c.fail(fmt.Errorf("a canceled read would not end: %w", context.DeadlineExceeded))
		<-c.gone
	}
}

// beginFill is called by the reader before it writes to r.into. It reports false
// if it must not.
func (c *connection) beginFill(r *request) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.abandoned {
		return false
	}
	r.filling = make(chan struct{})
	return true
}

func (c *connection) endFill(r *request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(r.filling)
	r.filling = nil
}

// find gives the request with a cookie that a reply names.
func (c *connection) find(cookie uint64) (*request, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, ok := c.waiting[cookie]
	if !ok {
		return nil, protocolErrorf("a reply to request %d, which is not under way", cookie)
	}
	return r, nil
}

// finish hands the outcome to whoever waits. Only the reader calls it.
func (c *connection) finish(cookie uint64, r *request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leave(cookie)
	close(r.done)
}

// fail ends the connection because of err; the first one counts. The reader
// notices and settles what is under way.
func (c *connection) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead == nil {
		c.dead = fmt.Errorf("%w: %w", ErrLost, err)
	}
	c.conn.Close()
}

// settle gives all requests under way the reason why the connection ended. It is
// the last act of the reader.
func (c *connection) settle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for cookie, r := range c.waiting {
		if r.err == nil {
			r.err = c.dead
		}
		c.leave(cookie)
		close(r.done)
	}
}

func (c *connection) err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dead
}

func (c *connection) alive() bool { return c.err() == nil }

// problem is why the connection is of no use any more, for a person.
func (c *connection) problem(a Address) error {
	err := c.err()
	return &replication.Problem{Code: "nbd.lost", Cause: fmt.Sprintf("%s: %v", a, err), Effect: "the rest of its disk cannot be read", Action: "check the server and begin the transfer again", Remedy: replication.Retry, Err: err}
}

// close says goodbye and waits until the reader has ended.
func (c *connection) close() {
	c.mu.Lock()
	alive := c.dead == nil
	if alive {
		c.dead = net.ErrClosed
	}
	c.mu.Unlock()
	if alive {
		// The server need not answer and may be stuck: a second is politeness.
		c.conn.SetWriteDeadline(time.Now().Add(time.Second))
		select {
		case c.sending <- struct{}{}:
			var bye [requestHeaderLength]byte
			binary.BigEndian.PutUint32(bye[0:], magicRequest)
			binary.BigEndian.PutUint16(bye[6:], cmdDisconnect)
			c.conn.Write(bye[:])
			<-c.sending
		default:
		}
	}
	c.fail(net.ErrClosed)
	<-c.gone
}
