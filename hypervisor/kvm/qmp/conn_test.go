package qmp_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"riparo/hypervisor/kvm/qmp"
)

// peer is the other end of a connection, which plays QEMU.
type peer struct {
	t      *testing.T
	conn   net.Conn
	reader *bufio.Reader
}

const greeting = `{"QMP": {"version": {"qemu": {"major": 7}}, "capabilities": []}}`

// connect gives a client and its peer, past the greeting.
func connect(t *testing.T) (*qmp.Conn, *peer) {
	t.Helper()
	near, far := net.Pipe()
	p := &peer{t, far, bufio.NewReader(far)}
	ready := make(chan struct{})
	go func() {
		defer close(ready)
		p.say(greeting)
		p.answer("qmp_capabilities", `{}`)
	}()
	c, err := qmp.New(t.Context(), near)
	if err != nil {
		t.Fatal(err)
	}
	<-ready
	t.Cleanup(func() { c.Close(); far.Close() })
	return c, p
}

func (p *peer) say(lines ...string) {
	for _, line := range lines {
		if _, err := io.WriteString(p.conn, line+"\r\n"); err != nil {
			p.t.Error(err)
		}
	}
}

// hear reads one command.
func (p *peer) hear() (command string, id uint64) {
	line, err := p.reader.ReadBytes('\n')
	if err != nil {
		return "", 0
	}
	var m struct {
		Execute string `json:"execute"`
		ID      uint64 `json:"id"`
	}
	if err := json.Unmarshal(line, &m); err != nil {
		p.t.Errorf("unreadable command %q: %v", line, err)
	}
	return m.Execute, m.ID
}

func (p *peer) answer(want, with string) {
	command, id := p.hear()
	if command != want {
		p.t.Errorf("the command is %q, want %q", command, want)
	}
	p.say(fmt.Sprintf(`{"return": %s, "id": %d}`, with, id))
}

func TestRepliesFindTheirCommandsInAnyOrder(t *testing.T) {
	c, p := connect(t)
	var all sync.WaitGroup
	for _, name := range []string{"one", "two", "three"} {
		all.Go(func() {
			var got string
			if err := c.Execute(t.Context(), name, map[string]any{"x": 1}, &got); err != nil || got != name {
				t.Errorf("%s gave %q, %v", name, got, err)
			}
		})
	}
	type heard struct {
		command string
		id      uint64
	}
	var commands []heard
	for range 3 {
		command, id := p.hear()
		commands = append(commands, heard{command, id})
	}
	for i := range commands {
		h := commands[len(commands)-1-i]
		p.say(`{"event": "RESUME", "timestamp": {"seconds": 1, "microseconds": 2}}`, fmt.Sprintf(`{"return": %q, "id": %d}`, h.command, h.id))
	}
	all.Wait()
	if e := <-c.Events(); e.Name != "RESUME" || !e.Time.Equal(time.Unix(1, 2000)) {
		t.Errorf("event %+v", e)
	}
}

func TestARefusalIsAnError(t *testing.T) {
	c, p := connect(t)
	go func() {
		_, id := p.hear()
		p.say(fmt.Sprintf(`{"error": {"class": "GenericError", "desc": "Node 'x' not found"}, "id": %d}`, id))
	}()
	err := c.Execute(t.Context(), "blockdev-del", nil, nil)
	refusal, ok := errors.AsType[*qmp.Error](err)
	if !ok || refusal.Command != "blockdev-del" || refusal.Class != "GenericError" || !strings.Contains(err.Error(), "not found") {
		t.Errorf("refused with %v", err)
	}
}

func TestAConnectionThatEndsFailsWhoWaits(t *testing.T) {
	c, p := connect(t)
	go func() {
		p.hear()
		p.conn.Close()
	}()
	if err := c.Execute(t.Context(), "quit", nil, nil); !errors.Is(err, qmp.ErrClosed) {
		t.Errorf("a command under way: %v", err)
	}
	if err := c.Execute(t.Context(), "query-status", nil, nil); !errors.Is(err, qmp.ErrClosed) {
		t.Errorf("a later command: %v", err)
	}
	for range c.Events() {
	}
	<-c.Done()
}

func TestWaitingIsBoundByTheContext(t *testing.T) {
	c, p := connect(t)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		p.hear()
		cancel()
	}()
	if err := c.Execute(ctx, "transaction", nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("a command without an answer: %v", err)
	}
	// A late answer to it is nobody's.
	p.say(`{"return": {}, "id": 2}`)
	go p.answer("query-status", `{"status": "running"}`)
	var status struct{ Status string }
	if err := c.Execute(t.Context(), "query-status", nil, &status); err != nil || status.Status != "running" {
		t.Errorf("the next command: %+v, %v", status, err)
	}
}

func TestASocketThatAnotherHoldsGivesUpWithTheContext(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := qmp.New(ctx, near); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "another program") {
		t.Errorf("no greeting came: %v", err)
	}
}

// QEMU 7.2 was seen to tell a job's event to a client that it had not greeted yet.
func TestWhatComesBeforeTheGreetingIsOfTheSessionBefore(t *testing.T) {
	near, far := net.Pipe()
	p := &peer{t, far, bufio.NewReader(far)}
	go func() {
		p.say(`{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "JOB_STATUS_CHANGE", "data": {"status": "standby", "id": "stream"}}`,
			`{"return": {"status": "paused"}, "id": 3}`, greeting)
		p.answer("qmp_capabilities", `{}`)
		p.answer("query-status", `{"status": "running"}`)
	}()
	c, err := qmp.New(t.Context(), near)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var status struct{ Status string }
	if err := c.Execute(t.Context(), "query-status", nil, &status); err != nil || status.Status != "running" {
		t.Errorf("the first command: %+v, %v", status, err)
	}
}

func TestAStrangerIsNotQEMU(t *testing.T) {
	for _, said := range []string{"SSH-2.0-OpenSSH_9.2", `{"return": {}}`, `{`, strings.Repeat("x", 100)} {
		near, far := net.Pipe()
		go func() {
			io.WriteString(far, said+"\n")
			far.Close()
		}()
		if _, err := qmp.New(t.Context(), near); err == nil {
			t.Errorf("%q was taken for QEMU", said)
		}
	}
}

// FuzzWhatQEMUSays: whatever comes, the client neither panics nor hangs.
func FuzzWhatQEMUSays(f *testing.F) {
	f.Add([]byte(greeting + "\n" + `{"return": {}, "id": 1}` + "\n" + `{"event": "STOP", "data": {}}` + "\n"))
	f.Add([]byte(greeting + "\n" + `{"error": {}, "id": 1}` + "\n"))
	f.Add([]byte(`{"event": "STOP", "data": {}}` + "\n" + greeting + "\n" + `{"return": {}, "id": 1}` + "\n"))
	f.Add([]byte(`{"QMP": null}` + "\n\x00"))
	f.Fuzz(func(t *testing.T, said []byte) {
		near, far := net.Pipe()
		go io.Copy(io.Discard, far)
		go func() {
			far.Write(said)
			far.Close()
		}()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // far beyond a slow machine: it ends what hangs
		defer cancel()
		c, err := qmp.New(ctx, near)
		if ctx.Err() != nil {
			t.Fatal("the client waits for a peer that has gone")
		}
		if err != nil {
			return
		}
		_ = c.Execute(ctx, "query-status", nil, new(any))
		c.Close()
	})
}
