package nbd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"riparo/replication"
)

// Options tell how to talk to a server.
type Options struct {
	// Export is the name of the export; the one in the URI goes before it.
	Export string
	// Contexts are the metadata contexts that must be there: AllocationContext,
	// DirtyBitmapPrefix+NAME. If the server lacks one, Dial fails with ErrNoContext.
	Contexts []string
	// TLS, if set, is used and not gone on without. An nbds:// address asks for
	// TLS by itself and trusts the system's certificates if this is nil.
	TLS *tls.Config
	// Connections is the most connections to open; 0 means 1. More than one are
	// opened only to a server that says it allows it.
	Connections int
	// Timeout is how long the server may be silent while it owes a reply, and
	// how long the handshake may take. 0 means DefaultTimeout.
	Timeout time.Duration
	// Dial, if set, opens connections in place of net.Dialer, for instance
	// through an SSH session.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

const (
	// DefaultTimeout is longer than a disk array takes to fail over.
	DefaultTimeout = 60 * time.Second
	// maxConnections: beyond these a single server gets no faster.
	maxConnections = 16
)

// Errors of Dial and of a client, to be found with errors.Is.
var (
	// ErrNoExport: the server has no export of that name.
	ErrNoExport = errors.New("no such export")
	// ErrNoContext: the export lacks a metadata context that was asked for. A
	// dirty bitmap that is gone shows itself so.
	ErrNoContext = errors.New("no such metadata context")
	// ErrLost: the connection ended while it was needed.
	ErrLost = errors.New("the connection to the NBD server was lost")
)

// Client is one export of an NBD server, over one connection or several. It is a
// [replication.Source]; on an export that can be written it is a writer too.
// Calls are safe from several goroutines and then go over the wire side by side.
//
// What the server sends is checked: it cannot make the client read or write past
// a buffer, hold more than a bounded amount of memory, or wait for longer than
// Options.Timeout for a sign of life.
type Client struct {
	address Address
	options Options
	info    exportInfo

	life context.Context // ends with Close; for calls that bring no ctx
	end  context.CancelFunc

	mu          sync.Mutex // guards what follows
	connections []*connection
	turn        int
	mappers     map[string]*connection // for one context each, see mapper
	closed      bool
}

// Dial connects to the export that uri names. See [ParseURI]. ctx bounds the
// dialing only.
func Dial(ctx context.Context, uri string, o Options) (*Client, error) {
	a, err := ParseURI(uri)
	if err != nil {
		return nil, &replication.Problem{Code: "nbd.address", Cause: err.Error(), Remedy: replication.Stop, Err: err}
	}
	if a.Export == "" {
		a.Export = o.Export
	}
	return DialAddress(ctx, a, o)
}

// DialAddress is Dial for an address that is not a URI.
func DialAddress(ctx context.Context, a Address, o Options) (*Client, error) {
	if a.Export == "" {
		a.Export = o.Export
	}
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	o.Connections = min(max(o.Connections, 1), maxConnections)
	c := &Client{address: a, options: o, mappers: map[string]*connection{}}
	c.life, c.end = context.WithCancel(context.WithoutCancel(ctx))
	first, err := c.connect(ctx, o.Contexts)
	if err != nil {
		c.end()
		return nil, err
	}
	c.info = first.info
	c.connections = []*connection{first}
	for c.info.multiConn() && len(c.connections) < o.Connections {
		more, err := c.connect(ctx, o.Contexts)
		if err != nil {
			return nil, errors.Join(err, c.Close())
		}
		c.connections = append(c.connections, more)
		if more.info.size != c.info.size || more.info.flags != c.info.flags {
			err := fmt.Errorf("connect to %s again: %w", a, protocolErrorf("the export has %d bytes and flags %#x now: it had %d and %#x", more.info.size, more.info.flags, c.info.size, c.info.flags))
			return nil, errors.Join(err, c.Close())
		}
	}
	return c, nil
}

// Size of the export in bytes.
func (c *Client) Size() int64 { return c.info.size }

// ReadOnly reports whether the server refuses writes.
func (c *Client) ReadOnly() bool { return c.info.flags&flagReadOnly != 0 }

// Has reports whether a metadata context was agreed on.
func (c *Client) Has(context string) bool {
	_, ok := c.info.contexts[context]
	return ok
}

// Connections is how many connections carry reads and writes.
func (c *Client) Connections() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.connections)
}

// ReadAt fills p from off. It is bound by Options.Timeout and by Close.
func (c *Client) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read at %d of %s: negative offset", off, c.address)
	}
	if off >= c.info.size {
		return 0, io.EOF
	}
	var end error
	if rest := c.info.size - off; int64(len(p)) > rest {
		p, end = p[:rest], io.EOF
	}
	if err := c.Read(c.life, p, off); err != nil {
		return 0, err
	}
	return len(p), end
}

// Read fills p from off, all of it or none. When it returns, also because ctx
// ended, p is not written to any more.
func (c *Client) Read(ctx context.Context, p []byte, off int64) error {
	if len(p) == 0 {
		return nil
	}
	if err := (replication.Extent{Offset: off, Length: int64(len(p))}).Within(c.info.size); err != nil {
		return fmt.Errorf("read from %s: %w", c.address, err)
	}
	if align := int64(c.info.minBlock); off%align != 0 || int64(len(p))%align != 0 {
		return c.readUnaligned(ctx, p, off, align)
	}
	for len(p) > 0 {
		n := min(len(p), int(c.info.maxBlock))
		if err := c.do(ctx, &request{command: cmdRead, offset: off, length: uint32(n), into: p[:n]}); err != nil {
			return err
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// readUnaligned serves a read that the server's smallest block does not allow.
func (c *Client) readUnaligned(ctx context.Context, p []byte, off, align int64) error {
	start := off / align * align
	end := min((off+int64(len(p))+align-1)/align*align, c.info.size)
	whole := make([]byte, end-start)
	if err := c.Read(ctx, whole, start); err != nil {
		return err
	}
	copy(p, whole[off-start:])
	return nil
}

// WriteAt writes p at off. What was written is durable after Sync.
func (c *Client) WriteAt(p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		n := min(len(p)-done, int(c.info.maxBlock))
		r := &request{command: cmdWrite, offset: off + int64(done), length: uint32(n), payload: p[done : done+n]}
		if err := c.change(r); err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}

// Zero makes an extent all zero and lets the server release its space.
func (c *Client) Zero(e replication.Extent) error {
	if c.info.flags&flagWriteZeroes != 0 {
		return c.changeParts(cmdWriteZeroes, e)
	}
	zeroes := make([]byte, min(e.Length, 1<<20))
	for e.Length > 0 {
		n := min(e.Length, int64(len(zeroes)))
		if _, err := c.WriteAt(zeroes[:n], e.Offset); err != nil {
			return err
		}
		e.Offset, e.Length = e.Offset+n, e.Length-n
	}
	return nil
}

// Trim tells the server that the content of an extent is not needed any more. It
// is advice: to a server that does not take it, nothing is sent.
func (c *Client) Trim(e replication.Extent) error {
	if c.info.flags&flagTrim == 0 {
		return nil
	}
	return c.changeParts(cmdTrim, e)
}

// Sync makes durable what was written before (NBD: flush).
func (c *Client) Sync() error {
	if c.info.flags&flagFlush == 0 {
		if c.ReadOnly() {
			return nil
		}
		return &replication.Problem{Code: "nbd.no-flush", Cause: fmt.Sprintf("the NBD server of %s offers no flush", c.address), Effect: "what was written may be lost with the server's power", Action: "use a server that can make writes durable", Remedy: replication.Stop}
	}
	return c.do(c.life, &request{command: cmdFlush})
}

// changeParts sends a command without data for an extent of any length.
func (c *Client) changeParts(command uint16, e replication.Extent) error {
	// The protocol lets a server refuse more than its largest block here too, but
	// the common ones take any length that fits.
	const part = 1 << 30
	for e.Length > 0 {
		n := min(e.Length, part)
		if err := c.change(&request{command: command, offset: e.Offset, length: uint32(n)}); err != nil {
			return err
		}
		e.Offset, e.Length = e.Offset+n, e.Length-n
	}
	return nil
}

func (c *Client) change(r *request) error {
	if c.ReadOnly() {
		return &ServerError{Command: commandName(r.command), Extent: r.extent(), Number: errnoPerm, Message: "the export is read-only"}
	}
	if err := r.extent().Within(c.info.size); err != nil {
		return fmt.Errorf("%s to %s: %w", commandName(r.command), c.address, err)
	}
	if align := int64(c.info.minBlock); r.offset%align != 0 || int64(r.length)%align != 0 {
		return fmt.Errorf("%s %s to %s: the server takes multiples of %d bytes only", commandName(r.command), r.extent(), c.address, align)
	}
	return c.do(c.life, r)
}

// do sends r over the least busy connection and waits for the answer.
func (c *Client) do(ctx context.Context, r *request) error {
	conn, err := c.pick()
	if err != nil {
		return err
	}
	if err := conn.do(ctx, r); err != nil {
		return fmt.Errorf("%s: %w", c.address, err)
	}
	return nil
}

// pick takes the connections in turn, passing over those that were lost.
func (c *Client) pick() (*connection, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, fmt.Errorf("%s: %w", c.address, net.ErrClosed)
	}
	for range c.connections {
		c.turn = (c.turn + 1) % len(c.connections)
		if conn := c.connections[c.turn]; conn.alive() {
			return conn, nil
		}
	}
	return nil, c.connections[0].problem(c.address)
}

// Close ends the connections. Calls under way fail with net.ErrClosed.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	all := c.connections
	for _, m := range c.mappers {
		all = append(all, m)
	}
	c.mappers = nil
	c.mu.Unlock()
	c.end()
	for _, conn := range all {
		conn.close()
	}
	return nil
}
