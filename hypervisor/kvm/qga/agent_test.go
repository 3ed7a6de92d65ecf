package qga_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"riparo/hypervisor/kvm/qga"
)

// channel is a guest agent's channel, with something inside that reads commands.
func channel(t *testing.T, inside func(conn net.Conn)) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "agent")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go inside(conn)
		}
	}()
	return path
}

// agent answers as qemu-ga does, after whatever was left in the channel.
func agent(left string, answers map[string]string) func(net.Conn) {
	return func(conn net.Conn) {
		defer conn.Close()
		io.WriteString(conn, left)
		reader := bufio.NewReader(conn)
		for {
			line, err := reader.ReadString('\n')
			if err != nil {
				return
			}
			var m struct {
				Execute   string
				Arguments struct{ ID int64 }
			}
			// The client's 0xff is there to make us forget half a command.
			if json.Unmarshal([]byte(line[strings.LastIndexByte(line, 0xff)+1:]), &m) != nil {
				continue
			}
			if m.Execute == "guest-sync-delimited" {
				fmt.Fprintf(conn, "\xff{\"return\": %d}\n", m.Arguments.ID)
				continue
			}
			if answer, ok := answers[m.Execute]; ok {
				io.WriteString(conn, answer+"\n")
			}
		}
	}
}

func TestAConversationBeginsCleanWhateverWasLeft(t *testing.T) {
	for _, left := range []string{"", `{"return": 7}` + "\n", `{"return": {"half": `, "\xff{\"return\": 12345}\n", "\xff\xff\xffgarbage\n", strings.Repeat("x", 100000) + "\n"} {
		path := channel(t, agent(left, map[string]string{
			"guest-fsfreeze-freeze": `{"return": 2}`, "guest-fsfreeze-status": `{"return": "frozen"}`, "guest-fsfreeze-thaw": `{"return": 2}`,
		}))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // far beyond a slow machine: it ends what hangs
		c, err := qga.Dial(ctx, path)
		if err != nil {
			t.Fatalf("after %.20q: %v", left, err)
		}
		if n, err := qga.Freeze(ctx, c); n != 2 || err != nil {
			t.Errorf("after %.20q: froze %d, %v", left, n, err)
		}
		if frozen, err := qga.Frozen(ctx, c); !frozen || err != nil {
			t.Errorf("after %.20q: frozen %t, %v", left, frozen, err)
		}
		if err := qga.Thaw(ctx, c); err != nil {
			t.Errorf("after %.20q: %v", left, err)
		}
		c.Close()
		cancel()
	}
}

func TestAnAbsentAgentIsWaitedForNoLongerThanAsked(t *testing.T) {
	path := channel(t, func(conn net.Conn) { io.Copy(io.Discard, conn) })
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if _, err := qga.Dial(ctx, path); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("an agent that does not answer: %v", err)
	}
	path = channel(t, agent("", nil))
	c, err := qga.Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel = context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if _, err := qga.Freeze(ctx, c); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a freeze without an answer: %v", err)
	}
}

func TestAnAgentsRefusalIsAnError(t *testing.T) {
	c, err := qga.Dial(t.Context(), channel(t, agent("", map[string]string{
		"guest-fsfreeze-freeze": `{"error": {"class": "GenericError", "desc": "open /sbin: no"}}`, "guest-fsfreeze-status": `{"return": 5}`,
	})))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = qga.Freeze(t.Context(), c)
	if refusal, ok := errors.AsType[*qga.Error](err); !ok || refusal.Command != "guest-fsfreeze-freeze" || !strings.Contains(err.Error(), "open /sbin") {
		t.Errorf("refused with %v", err)
	}
	if _, err := qga.Frozen(t.Context(), c); err == nil {
		t.Error("a status that is a number was understood")
	}
}

// FuzzAnAgentsAnswers: the guest is not trusted.
func FuzzAnAgentsAnswers(f *testing.F) {
	for _, answer := range []string{`{"return": 2}`, `{"error": {"class": "", "desc": ""}}`, `{"return": "frozen"}`, `{`, `null`, `[]`} {
		f.Add([]byte(answer))
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		var n int
		var s string
		_ = qga.Decode("guest-fsfreeze-freeze", answer, &n)
		_ = qga.Decode("guest-fsfreeze-status", answer, &s)
	})
}
