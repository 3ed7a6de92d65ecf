package qmp

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"riparo/hypervisor/kvm/socket"
)

const (
	// maxMessageBytes bounds one line from QEMU. The longest reply that Riparo asks
	// for lists all block nodes; a machine with 256 disks needs about 1 MiB.
	maxMessageBytes = 16 << 20
	// eventQueue is how many events wait for a reader before new ones are dropped.
	eventQueue = 256
	// writeLimit is how long QEMU may take to accept a command. Its main loop
	// stands still while storage does not answer.
	writeLimit = 30 * time.Second
)

// ErrClosed is returned by commands on a connection that has ended: QEMU exited,
// or Close was called.
var ErrClosed = errors.New("the QMP connection has ended")

// Error is QEMU's refusal of a command.
type Error struct {
	Command string `json:"-"`
	Class   string `json:"class"` // GenericError, CommandNotFound, DeviceNotFound, …
	Desc    string `json:"desc"`
}

func (e *Error) Error() string { return fmt.Sprintf("QEMU refused %s: %s", e.Command, e.Desc) }

// Event is something that QEMU told without being asked.
type Event struct {
	Name string
	Data json.RawMessage
	Time time.Time // by the host's clock
}

// Conn is a connection to one QEMU, ready for commands.
type Conn struct {
	conn   net.Conn
	events chan Event
	done   chan struct{} // closed when the reader has ended

	writing sync.Mutex // held while a command is written

	mu      sync.Mutex // guards the fields below
	last    uint64
	waiting map[uint64]chan message
	err     error // why the reader ended
}

// message is any line that QEMU sends.
type message struct {
	Return    json.RawMessage `json:"return"`
	Error     *Error          `json:"error"`
	ID        *uint64         `json:"id"`
	Event     string          `json:"event"`
	Data      json.RawMessage `json:"data"`
	Timestamp struct {
		Seconds      int64 `json:"seconds"`
		Microseconds int64 `json:"microseconds"`
	} `json:"timestamp"`
	Greeting *struct{} `json:"QMP"`
}

// Dial connects to the socket at path and makes it ready for commands. It waits,
// bounded by ctx, while other clients hold the socket or wait for it.
func Dial(ctx context.Context, path string) (*Conn, error) {
	conn, err := socket.Dial(ctx, path)
	if err != nil {
		return nil, err
	}
	c, err := New(ctx, conn)
	if err != nil {
		return nil, fmt.Errorf("QMP socket %s: %w", path, err)
	}
	return c, nil
}

// New takes over a connection on which QEMU is about to send its greeting. The
// connection is closed if that does not come before ctx ends.
func New(ctx context.Context, conn net.Conn) (*Conn, error) {
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	reader := bufio.NewReaderSize(conn, 64<<10)
	if err := awaitGreeting(reader); err != nil {
		conn.Close()
		if ctx.Err() != nil {
			return nil, fmt.Errorf("no greeting from QEMU (does another program hold the socket?): %w", context.Cause(ctx))
		}
		return nil, err
	}
	c := &Conn{conn: conn, events: make(chan Event, eventQueue), done: make(chan struct{}), waiting: map[uint64]chan message{}}
	go c.read(reader) // ends when Close closes the connection, or QEMU does
	if err := c.Execute(ctx, "qmp_capabilities", nil, nil); err != nil {
		c.Close()
		return nil, err
	}
	if !stop() {
		c.Close()
		return nil, context.Cause(ctx)
	}
	return c, nil
}

// awaitGreeting reads up to the greeting. What QEMU says before it belongs to the
// session before: see the package comment.
func awaitGreeting(reader *bufio.Reader) error {
	for {
		m, err := readMessage(reader)
		switch {
		case err != nil:
			return err
		case m.Greeting != nil:
			return nil
		case m.Event == "" && m.ID == nil:
			return errors.New("the peer does not begin with a QMP greeting")
		}
	}
}

// Execute runs one command. arguments is encoded as a JSON object, nil for none;
// the reply is decoded into result unless that is nil. When ctx ends first, the
// command may still have its effect.
func (c *Conn) Execute(ctx context.Context, command string, arguments, result any) error {
	c.mu.Lock()
	if c.waiting == nil {
		err := c.err
		c.mu.Unlock()
		return fmt.Errorf("%s: %w", command, err)
	}
	c.last++
	id := c.last
	reply := make(chan message, 1)
	c.waiting[id] = reply
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.waiting, id)
		c.mu.Unlock()
	}()

	line, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
		ID        uint64 `json:"id"`
	}{command, arguments, id})
	if err != nil {
		return fmt.Errorf("encode the arguments of %s: %w", command, err)
	}
	if err := c.write(append(line, '\n')); err != nil {
		return fmt.Errorf("%s: %w: %w", command, ErrClosed, err)
	}
	select {
	case m := <-reply:
		return m.decode(command, result)
	case <-c.done:
		// The reply may have come with the last bytes.
		select {
		case m := <-reply:
			return m.decode(command, result)
		default:
			return fmt.Errorf("%s: %w", command, c.reason())
		}
	case <-ctx.Done():
		return fmt.Errorf("%s: no reply from QEMU: %w", command, context.Cause(ctx))
	}
}

func (c *Conn) write(line []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.conn.SetWriteDeadline(time.Now().Add(writeLimit))
	_, err := c.conn.Write(line)
	if err != nil {
		// Half a command makes everything after it unreadable.
		c.conn.Close()
	}
	return err
}

// Events gives the events as they come. It is closed when the connection ends.
func (c *Conn) Events() <-chan Event { return c.events }

// Done is closed when the connection has ended.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Close ends the connection. QEMU goes on running.
func (c *Conn) Close() error {
	err := c.conn.Close()
	<-c.done
	return err
}

func (c *Conn) reason() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// read hands out what QEMU sends until the connection ends.
func (c *Conn) read(reader *bufio.Reader) {
	var err error
	for {
		var m message
		if m, err = readMessage(reader); err != nil {
			break
		}
		switch {
		case m.Event != "":
			at := time.Unix(m.Timestamp.Seconds, m.Timestamp.Microseconds*1000)
			select {
			case c.events <- Event{m.Event, m.Data, at}:
			default:
			}
		case m.ID != nil:
			c.mu.Lock()
			if reply := c.waiting[*m.ID]; reply != nil {
				delete(c.waiting, *m.ID)
				reply <- m // has room: one reply for each id
			}
			c.mu.Unlock()
		}
	}
	c.conn.Close()
	c.mu.Lock()
	c.err = fmt.Errorf("%w: %w", ErrClosed, err)
	c.waiting = nil
	c.mu.Unlock()
	close(c.done)
	close(c.events)
}

// readMessage reads one line. QEMU ends every message with a newline and puts none
// inside.
func readMessage(reader *bufio.Reader) (message, error) {
	var m message
	var line []byte
	for {
		part, err := reader.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > maxMessageBytes {
			return m, fmt.Errorf("a QMP message of more than %d bytes", maxMessageBytes)
		}
		if err == nil {
			break
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return m, err
		}
	}
	if err := json.Unmarshal(line, &m); err != nil {
		return m, fmt.Errorf("unreadable QMP message: %w", err)
	}
	return m, nil
}

func (m *message) decode(command string, result any) error {
	if m.Error != nil {
		m.Error.Command = command
		return m.Error
	}
	if result == nil {
		return nil
	}
	if err := json.Unmarshal(m.Return, result); err != nil {
		return fmt.Errorf("decode the reply to %s: %w", command, err)
	}
	return nil
}
