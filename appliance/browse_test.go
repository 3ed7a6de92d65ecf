//go:build unix

package appliance_test

import (
	"bufio"
	"bytes"
	"compress/flate"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// browsing is what a process of browsers is told: how many look at each page, with whose
// sessions, and how many of them never read what they are sent.
type browsing struct {
	URL     string   `json:"url"`
	Cookies []string `json:"cookies"`
	Pages   []string `json:"pages"`
	Count   int      `json:"count"`
	Stuck   int      `json:"stuck"`
}

// browsed is what they did so far.
type browsed struct {
	Frames int64         `json:"frames"`
	Bytes  int64         `json:"bytes"` // of frames, as they were sent: compressed
	CPU    time.Duration `json:"cpu"`   // of their process
	Lost   int           `json:"lost"`  // sockets that ended
}

// browse is the process of browsers. In life they are on other machines: here they share
// the processors with the daemon, so they take what is sent and look into it only when
// they wait for a text. It says "open" when each has had its first frame,
// and then does what it is told by lines: "stats"; "await TEXT", which says "there" when
// a frame with the text has come to every browser that reads; and it ends with its input.
func browse(text string) error {
	var b browsing
	if err := json.Unmarshal([]byte(text), &b); err != nil {
		return err
	}
	c := crowd{wanted: "\x00", got: make([]bool, b.Count)}
	trust := &tls.Config{InsecureSkipVerify: true, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	var first sync.WaitGroup
	for i := range b.Count {
		conn, err := dial(trust, b.URL, b.Pages[i%len(b.Pages)], b.Cookies[i/len(b.Pages)%len(b.Cookies)])
		if err != nil {
			return fmt.Errorf("browser %d: %w", i, err)
		}
		if i < b.Stuck {
			c.see(i, c.wanted) // is not waited for
			continue
		}
		first.Add(1)
		go c.look(i, conn, first.Done)
	}
	first.Wait()
	fmt.Println("open")
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		command, rest, _ := strings.Cut(in.Text(), " ")
		switch command {
		case "stats":
			var use syscall.Rusage
			if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
				return err
			}
			stats := browsed{Frames: c.frames.Load(), Bytes: c.bytes.Load(), CPU: time.Duration(use.Utime.Nano() + use.Stime.Nano()), Lost: int(c.lost.Load())}
			if err := json.NewEncoder(os.Stdout).Encode(stats); err != nil {
				return err
			}
		case "await":
			c.await(rest, b.Stuck)
			fmt.Println("waiting")
			for limit := time.Now().Add(time.Minute); c.missing() > 0; time.Sleep(5 * time.Millisecond) {
				if time.Now().After(limit) {
					return fmt.Errorf("%d browsers were not told of %q", c.missing(), rest)
				}
			}
			c.waits.Store(false)
			fmt.Println("there")
		}
	}
	return in.Err()
}

// socket is a WebSocket that is read without being looked into.
type socket struct {
	*bufio.Reader
	conn net.Conn
}

// dial opens the live socket of a page, with frames that are compressed each by itself.
func dial(trust *tls.Config, to, page, cookie string) (*socket, error) {
	conn, err := tls.Dial("tcp", strings.TrimPrefix(to, "https://"), trust)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequest(http.MethodGet, to+"/live?page="+url.QueryEscape(page), nil)
	if err != nil {
		return nil, err
	}
	for name, value := range map[string]string{"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "cXVhdHRybyBwYXNzaSAuLg==",
		"Sec-WebSocket-Extensions": "permessage-deflate; server_no_context_takeover; client_no_context_takeover", "Cookie": cookie} {
		r.Header.Set(name, value)
	}
	if err := r.Write(conn); err != nil {
		return nil, err
	}
	s := &socket{bufio.NewReader(conn), conn}
	answer, err := http.ReadResponse(s.Reader, r)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusSwitchingProtocols || answer.Header.Get("Sec-WebSocket-Extensions") == "" {
		return nil, fmt.Errorf("the socket of %s was answered with %s, compressed %q", page, answer.Status, answer.Header.Get("Sec-WebSocket-Extensions"))
	}
	return s, nil
}

// The first byte of a frame, RFC 6455, and RFC 7692 for what is compressed. Those of a
// server are not masked.
const (
	final      = 0x80 // of a message
	compressed = 0x40 // the whole message
	opcode     = 0x0f
	moreFrame  = 0x0
	textFrame  = 0x1
	pingFrame  = 0x9
)

// pong answers a ping: final, without content, masked with zeros.
var pong = []byte{0x8a, 0x80, 0, 0, 0, 0}

// next reads a frame up to its content.
func (s *socket) next() (head byte, size int, err error) {
	var start [2]byte
	if _, err := io.ReadFull(s, start[:]); err != nil {
		return 0, 0, err
	}
	length := make([]byte, map[byte]int{126: 2, 127: 8}[start[1]])
	if _, err := io.ReadFull(s, length); err != nil {
		return 0, 0, err
	}
	size = int(start[1])
	switch len(length) {
	case 2:
		size = int(binary.BigEndian.Uint16(length))
	case 8:
		size = int(binary.BigEndian.Uint64(length))
	}
	return start[0], size, nil
}

// inflate gives the text of a message.
func inflate(content []byte) (string, error) {
	// What ends the content is not sent, and a last, empty block lets the reader end.
	text, err := io.ReadAll(flate.NewReader(io.MultiReader(bytes.NewReader(content), strings.NewReader("\x00\x00\xff\xff\x01\x00\x00\xff\xff"))))
	return string(text), err
}

// crowd is the browsers of the process.
type crowd struct {
	frames, bytes, lost atomic.Int64
	waits               atomic.Bool // for a text

	mu     sync.Mutex // guards the rest
	wanted string
	got    []bool
}

// look takes what is sent to one browser until its socket ends.
func (c *crowd) look(i int, s *socket, first func()) {
	first = sync.OnceFunc(first)
	defer first()
	for {
		if err := c.take(i, s); err != nil {
			fmt.Fprintf(os.Stderr, "browser %d: %v\n", i, err)
			c.lost.Add(1)
			return
		}
		first()
	}
}

// take takes the next message, and answers the pings before it.
func (c *crowd) take(i int, s *socket) error {
	var content []byte
	packed, waits := false, false
	for {
		head, size, err := s.next()
		if err != nil {
			return err
		}
		switch head & opcode {
		case pingFrame:
			if _, err := s.conn.Write(pong); err != nil {
				return err
			}
			continue
		case textFrame:
			packed, waits = head&compressed != 0, c.waits.Load()
		case moreFrame:
		default:
			return fmt.Errorf("a frame begins with %#x", head)
		}
		c.bytes.Add(int64(size))
		if waits {
			part := make([]byte, size)
			_, err = io.ReadFull(s, part)
			content = append(content, part...)
		} else {
			_, err = s.Discard(size)
		}
		if err != nil {
			return err
		}
		if head&final != 0 {
			break
		}
	}
	c.frames.Add(1)
	if !waits {
		return nil
	}
	text := string(content)
	if packed {
		var err error
		if text, err = inflate(content); err != nil {
			return err
		}
	}
	c.see(i, text)
	return nil
}

func (c *crowd) see(i int, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got[i] = c.got[i] || strings.Contains(text, c.wanted)
}

func (c *crowd) await(text string, stuck int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wanted = text
	c.waits.Store(true)
	for i := range c.got {
		c.got[i] = i < stuck
	}
}

func (c *crowd) missing() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, got := range c.got {
		if !got {
			n++
		}
	}
	return n
}
