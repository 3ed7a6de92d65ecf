package socket_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"riparo/hypervisor/kvm/socket"
)

// full is a socket that lets hardly anybody wait, with its queue full: who comes is turned
// away at once.
func full(t *testing.T) (path string, listener net.Listener) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "monitor")
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}), syscall.Listen(fd, 1), syscall.SetNonblock(fd, true)); err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), path)
	defer file.Close()
	if listener, err = net.FileListener(file); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	for range 10 {
		conn, err := net.Dial("unix", path)
		if errors.Is(err, syscall.EAGAIN) {
			return path, listener
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
	}
	t.Fatal("ten clients wait in a queue of one")
	return "", nil
}

func TestWhoFindsTheQueueFullStandsInLine(t *testing.T) {
	path, listener := full(t)
	type came struct {
		conn net.Conn
		err  error
	}
	arrived := make(chan came, 1)
	go func() {
		conn, err := socket.Dial(t.Context(), path)
		arrived <- came{conn, err}
	}()
	go func() { // those before it are served, one by one
		for {
			served, err := listener.Accept()
			if err != nil {
				return
			}
			defer served.Close()
		}
	}()
	c := <-arrived
	if c.err != nil {
		t.Fatalf("who stood in line: %v", c.err)
	}
	c.conn.Close()
}

func TestStandingInLineEndsWithTheContext(t *testing.T) {
	path, _ := full(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	_, err := socket.Dial(ctx, path)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "too many others") {
		t.Errorf("%v, want that too many others wait", err)
	}
	if _, err := socket.Dial(t.Context(), path+"-none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v, want at once that there is no such socket", err)
	}
}
