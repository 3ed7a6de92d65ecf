//go:build unix

package appliance_test

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gorilla/websocket"
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
	Bytes  int64         `json:"bytes"` // of text, uncompressed
	CPU    time.Duration `json:"cpu"`   // of their process
	Lost   int           `json:"lost"`  // sockets that ended
}

// browse is the process of browsers. It says "open" when each has had its first frame,
// and then does what it is told by lines: "stats"; "await TEXT", which says "there" when
// a frame with the text has come to every browser that reads; and it ends with its input.
func browse(text string) error {
	var b browsing
	if err := json.Unmarshal([]byte(text), &b); err != nil {
		return err
	}
	c := crowd{wanted: "\x00", got: make([]bool, b.Count)}
	dialer := websocket.Dialer{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ClientSessionCache: tls.NewLRUClientSessionCache(1)}, EnableCompression: true, HandshakeTimeout: time.Minute}
	var first sync.WaitGroup
	for i := range b.Count {
		page := b.Pages[i%len(b.Pages)]
		conn, _, err := dialer.Dial(strings.Replace(b.URL, "https", "wss", 1)+"/live?page="+page, http.Header{"Cookie": {b.Cookies[i/len(b.Pages)%len(b.Cookies)]}})
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
			fmt.Println("there")
		}
	}
	return in.Err()
}

// crowd is the browsers of the process.
type crowd struct {
	frames, bytes, lost atomic.Int64

	mu     sync.Mutex // guards the rest
	wanted string
	got    []bool
}

func (c *crowd) look(i int, conn *websocket.Conn, first func()) {
	first = sync.OnceFunc(first)
	defer first()
	for {
		_, text, err := conn.ReadMessage()
		if err != nil {
			c.lost.Add(1)
			return
		}
		c.frames.Add(1)
		c.bytes.Add(int64(len(text)))
		c.see(i, string(text))
		first()
	}
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
