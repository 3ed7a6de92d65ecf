package nbd

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// cutConn takes so many bytes more and then fails, as a link that breaks does.
type cutConn struct {
	net.Conn
	room int
}

var errCut = errors.New("the link broke")

func (c *cutConn) Write(p []byte) (int, error) {
	if len(p) <= c.room {
		c.room -= len(p)
		return c.Conn.Write(p)
	}
	n, err := c.Conn.Write(p[:c.room])
	c.room = 0
	return n, errors.Join(err, errCut)
}

// TestARequestThatWasSentInPartSpoilsTheConnection cuts the link in the header of a
// write, right behind it and in its data, while a read is under way. Whatever would be
// sent after it would be taken for the rest of the data.
func TestARequestThatWasSentInPartSpoilsTheConnection(t *testing.T) {
	for what, room := range map[string]int{"nothing": 0, "half a header": requestHeaderLength / 2, "a header": requestHeaderLength, "half the data": requestHeaderLength + 2000} {
		synctest.Test(t, func(t *testing.T) {
			c, s := dialBy(t)
			defer s.Close()
			conn := c.connections[0]
			under := make(chan error, 1)
			go func() { under <- c.Read(t.Context(), make([]byte, 10), 0) }()
			s.request(t)
			conn.conn = &cutConn{conn.conn, room}
			arrived := make(chan int64, 1)
			go func() { n, _ := io.Copy(io.Discard, s.r); arrived <- n }()

			began := time.Now()
			if _, err := c.WriteAt(make([]byte, 4096), 0); !errors.Is(err, ErrLost) || !errors.Is(err, errCut) {
				t.Errorf("%s was sent: got %v, want %v and %v", what, err, ErrLost, errCut)
			}
			if err := <-under; !errors.Is(err, ErrLost) {
				t.Errorf("%s was sent: the read under way got %v, want %v", what, err, ErrLost)
			}
			if _, err := c.WriteAt(make([]byte, 4096), 0); !errors.Is(err, ErrLost) {
				t.Errorf("%s was sent: the next write got %v, want %v", what, err, ErrLost)
			}
			if took := time.Since(began); took != 0 {
				t.Errorf("%s was sent: it was noticed after %s, want at once", what, took)
			}
			if n := <-arrived; n != int64(room) {
				t.Errorf("%s was sent: the server got %d bytes of it and behind it, want %d", what, n, room)
			}
			nothingUnderWay(t, conn, what)
			c.Close()
		})
	}
}

// TestARequestThatIsCanceledWhileItIsSentSpoilsTheConnection has a server that stops
// reading in the midst of a request.
func TestARequestThatIsCanceledWhileItIsSentSpoilsTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := dialBy(t)
		defer s.Close()
		ctx, cancel := context.WithCancel(t.Context())
		outcome := make(chan error, 1)
		go func() { outcome <- c.Read(ctx, make([]byte, 10), 0) }()
		// Past the buffer of s.r, which would take all of it.
		if _, err := io.ReadFull(s.Conn, make([]byte, requestHeaderLength/2)); err != nil {
			t.Fatal(err)
		}
		// Of a second one not a byte is sent: it waits for its turn, and is forgotten alone.
		waiting, forget := context.WithCancel(t.Context())
		second := make(chan error, 1)
		go func() { second <- c.Read(waiting, make([]byte, 10), 0) }()
		synctest.Wait()
		forget()
		if err := <-second; !errors.Is(err, context.Canceled) || errors.Is(err, ErrLost) {
			t.Errorf("the one that was not sent: got %v, want %v alone", err, context.Canceled)
		}
		if !c.connections[0].alive() {
			t.Error("a request that was not sent spoils the connection")
		}
		cancel()
		if err := <-outcome; !errors.Is(err, ErrLost) {
			t.Errorf("the one that was sent in part: got %v, want %v", err, ErrLost)
		}
		nothingUnderWay(t, c.connections[0], "half a request")
		c.Close()
	})
}

func nothingUnderWay(t *testing.T, c *connection, what string) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.waiting) != 0 || len(c.window) != 0 || len(c.sending) != 0 {
		t.Errorf("%s was sent: %d replies are waited for, %d places are taken and %d send, want none", what, len(c.waiting), len(c.window), len(c.sending))
	}
}
