package libvirt

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"io"
	"net"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// TestADaemonThatAcceptsAndSaysNothingIsGivenUp: it holds up no one who only wants a seat.
func TestADaemonThatAcceptsAndSaysNothingIsGivenUp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "silent")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	h, err := Open(t.Context(), "qemu:///session?socket="+path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	h.patience = 2 * time.Second
	ended := make(chan error, 1)
	begin := time.Now()
	go func() {
		_, err := h.Discover(t.Context())
		ended <- err
	}()
	defer (<-accepted).Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, release, err := h.hold(ctx, "one")
	if err != nil || time.Since(begin) > h.patience {
		t.Fatalf("a seat while the daemon is dialed: %v after %s", err, time.Since(begin))
	}
	release()
	if err := <-ended; err == nil || time.Since(begin) < h.patience {
		t.Errorf("a daemon that says nothing: %v after %s", err, time.Since(begin))
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
}

// TestAHostThatFallsSilentEndsWhatWaitsForIt: streams through SSH know no deadlines, and TCP
// takes a quarter of an hour.
func TestAHostThatFallsSilentEndsWhatWaitsForIt(t *testing.T) {
	line := newLine(t, echoThroughSSH(t))
	there := &there{address: line.address, aliveEvery: 100 * time.Millisecond, aliveLimit: time.Second,
		config: &ssh.ClientConfig{User: "riparo", HostKeyCallback: ssh.InsecureIgnoreHostKey()}}
	defer there.close()
	conn, err := there.dial(t.Context(), "unix", "/echo")
	if err != nil {
		t.Fatal(err)
	}
	say := func() error {
		if _, err := conn.Write([]byte("a")); err != nil {
			return err
		}
		_, err := conn.Read(make([]byte, 1))
		return err
	}
	// A line that carries is not ended, however often it is asked.
	for range 15 {
		if err := say(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	// Nor is one that only answers late, while something comes.
	line.slow.Store(true)
	began := time.Now()
	if err := say(); err != nil || time.Since(began) < 2*there.aliveLimit {
		t.Fatalf("a slow line: %v after %s", err, time.Since(began))
	}
	line.slow.Store(false)
	line.cut.Store(true)
	ended := make(chan error, 1)
	go func() { ended <- say() }()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("a line that is cut carries")
		}
	case <-time.After(20 * time.Second):
		t.Fatal("a read from a host that fell silent goes on waiting")
	}
	line.cut.Store(false)
	if conn, err = there.dial(t.Context(), "unix", "/echo"); err != nil {
		t.Fatalf("when it is there again: %v", err)
	}
	if err := say(); err != nil {
		t.Error(err)
	}
}

// line carries bytes between a client and a server until it is cut: then it swallows them.
type line struct {
	address string
	cut     atomic.Bool
	slow    atomic.Bool // what comes back does so a byte at a time, a few each second
}

func newLine(t *testing.T, server string) *line {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	n := &line{address: l.Addr().String()}
	carry := func(to, from net.Conn, back bool) {
		p := make([]byte, 32<<10)
		for {
			k, err := from.Read(p)
			for rest := p[:k]; len(rest) > 0 && !n.cut.Load(); {
				step := len(rest)
				if back && n.slow.Load() {
					step = 1
					time.Sleep(80 * time.Millisecond)
				}
				to.Write(rest[:step])
				rest = rest[step:]
			}
			if err != nil {
				to.Close()
				return
			}
		}
	}
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", server)
			if err != nil {
				near.Close()
				continue
			}
			go carry(far, near, false)
			go carry(near, far, true)
		}
	}()
	return n
}

// echoThroughSSH is an SSH server each stream of which gives back what it gets.
func echoThroughSSH(t *testing.T) (address string) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	config := &ssh.ServerConfig{NoClientAuth: true}
	config.AddHostKey(signer)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, channels, requests, err := ssh.NewServerConn(conn, config)
				if err != nil {
					conn.Close()
					return
				}
				go ssh.DiscardRequests(requests)
				for open := range channels {
					if channel, requests, err := open.Accept(); err == nil {
						go ssh.DiscardRequests(requests)
						go io.Copy(channel, channel)
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}
