package qga

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"riparo/hypervisor/kvm/socket"
)

// maxConversationBytes bounds what an agent, which is not trusted, may send in one
// conversation: 1 MiB is far above what the commands used here answer.
const maxConversationBytes = 1 << 20

// Error is the agent's refusal of a command.
type Error struct {
	Command string `json:"-"`
	Class   string `json:"class"`
	Desc    string `json:"desc"`
}

func (e *Error) Error() string {
	return fmt.Sprintf("the guest agent refused %s: %s", e.Command, e.Desc)
}

// Executor runs a guest agent command. [Conn] is one over a socket; libvirt has
// another.
type Executor interface {
	Execute(ctx context.Context, command string, arguments, result any) error
}

// Conn is a synchronized conversation with an agent. It is for one goroutine.
type Conn struct {
	conn   net.Conn
	reader *bufio.Reader
}

// Dial connects to the agent's channel at path and synchronizes. It waits while others
// hold the channel, and fails when the agent does not answer before ctx ends.
func Dial(ctx context.Context, path string) (*Conn, error) {
	conn, err := socket.Dial(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("guest agent channel: %w", err)
	}
	c := &Conn{conn: conn, reader: bufio.NewReader(io.LimitReader(conn, maxConversationBytes))}
	if err := c.synchronize(ctx); err != nil {
		conn.Close()
		return nil, fmt.Errorf("the guest agent does not answer: %w", err)
	}
	return c, nil
}

// synchronize throws away whatever an earlier conversation left in the channel.
// The agent answers guest-sync-delimited with 0xff and our number; everything
// before that is old. The leading 0xff makes the agent forget half a command.
func (c *Conn) synchronize(ctx context.Context) error {
	var random [4]byte
	rand.Read(random[:])
	id := int64(binary.LittleEndian.Uint32(random[:]))
	defer c.bound(ctx)()
	if _, err := fmt.Fprintf(c.conn, "\xff{\"execute\":\"guest-sync-delimited\",\"arguments\":{\"id\":%d}}\n", id); err != nil {
		return c.cause(ctx, err)
	}
	for {
		if err := c.skipToDelimiter(); err != nil {
			return c.cause(ctx, err)
		}
		line, err := c.reader.ReadBytes('\n')
		if err != nil {
			return c.cause(ctx, err)
		}
		var reply struct {
			Return int64 `json:"return"`
		}
		if json.Unmarshal(bytes.TrimSpace(line), &reply) == nil && reply.Return == id {
			return nil
		}
	}
}

func (c *Conn) skipToDelimiter() error {
	for {
		b, err := c.reader.ReadByte()
		if err != nil || b == 0xff {
			return err
		}
	}
}

// Execute runs one command. When ctx ends first the conversation is over: Close
// and dial again.
func (c *Conn) Execute(ctx context.Context, command string, arguments, result any) error {
	line, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
	}{command, arguments})
	if err != nil {
		return fmt.Errorf("encode the arguments of %s: %w", command, err)
	}
	defer c.bound(ctx)()
	if _, err := c.conn.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("guest agent: %s: %w", command, c.cause(ctx, err))
	}
	answer, err := c.reader.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("guest agent: %s: %w", command, c.cause(ctx, err))
	}
	return Decode(command, answer, result)
}

// Decode reads an agent's answer to a command into result, which may be nil.
func Decode(command string, answer []byte, result any) error {
	var reply struct {
		Return json.RawMessage `json:"return"`
		Error  *Error          `json:"error"`
	}
	if err := json.Unmarshal(answer, &reply); err != nil {
		return fmt.Errorf("guest agent: unreadable answer to %s: %w", command, err)
	}
	if reply.Error != nil {
		reply.Error.Command = command
		return reply.Error
	}
	if result == nil {
		return nil
	}
	if err := json.Unmarshal(reply.Return, result); err != nil {
		return fmt.Errorf("guest agent: decode the answer to %s: %w", command, err)
	}
	return nil
}

// Close ends the conversation. What was frozen stays frozen.
func (c *Conn) Close() error { return c.conn.Close() }

// bound makes reads and writes fail when ctx ends.
func (c *Conn) bound(ctx context.Context) (release func()) {
	c.conn.SetDeadline(time.Time{})
	stop := context.AfterFunc(ctx, func() { c.conn.SetDeadline(time.Unix(1, 0)) })
	return func() { stop() }
}

func (c *Conn) cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.Is(err, io.EOF) {
		return errors.New("the channel was closed")
	}
	return err
}
