package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"riparo/store"
)

// Pace and limits of the live socket.
const (
	// frameEvery is the least time between two frames to one browser: four a
	// second look continuous.
	frameEvery = 250 * time.Millisecond
	// pulseEvery is how often pages are built without a change: with each sample of
	// the report. It also tells the browsers that we are there.
	pulseEvery = SampleEvery
	// checkEvery is how often a socket makes sure that its session still holds.
	checkEvery = 5 * time.Second
	pingEvery  = 30 * time.Second
	pongLimit  = 75 * time.Second // two pings and a half
	writeLimit = 5 * time.Second  // a browser that takes longer is let go
	readLimit  = 512              // browsers have nothing to say

	// codeSessionEnded tells the script to load the page anew, which leads to the
	// sign-in.
	codeSessionEnded = 4401
)

var upgrader = websocket.Upgrader{EnableCompression: true, ReadBufferSize: 512, WriteBufferSize: 4 << 10}

// live keeps one browser's page fresh. There is one goroutine that writes; what happens
// meanwhile waits in its mailbox at the feed, which has one slot, so a slow browser skips
// frames and holds up nobody.
//
// That goroutine and the one that reads are all that is left of the request when this
// returns: hundreds of open browsers are hundreds of stacks that every collection of
// garbage walks, and what the server keeps of a request is most of them.
func (k *Console) live(w http.ResponseWriter, r *http.Request) {
	v := k.visitOf(r)
	p, v, err := k.find(v, r.URL.Query().Get("page"))
	if err != nil {
		http.Error(w, "no such page", http.StatusNotFound)
		return
	}
	cookie := k.Identity.Sessions().Token(r.Context())
	k.open.Add(1)
	if k.ctx.Err() != nil {
		k.open.Done()
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	// The upgrader refuses other origins.
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		k.open.Done()
		return // it has answered
	}
	s := &socket{console: k, conn: conn, page: p, visit: v, key: keyOf(p, v), cookie: cookie, sent: map[string]uint64{}}
	go s.serve()
}

// serve is the life of a socket. What it does not expect ends it, and nothing else.
func (s *socket) serve() {
	k := s.console
	defer k.open.Done()
	defer s.conn.Close()
	ctx, cancel := context.WithCancel(k.ctx)
	defer cancel()
	s.visit.ctx = ctx
	var reader sync.WaitGroup
	defer reader.Wait()
	defer s.conn.Close() // ends the reader
	reader.Go(func() { s.read(cancel) })
	defer func() {
		if p := recover(); p != nil {
			k.Logger.Error("a live page was ended", "path", s.visit.path, "panic", p, "stack", string(debug.Stack()))
		}
	}()
	s.write(ctx)
}

// socket is one browser that looks at one page.
type socket struct {
	console *Console
	conn    *websocket.Conn
	page    page
	visit   visit
	key     string // tells apart what is printed differently
	cookie  string
	shape   string
	on      []string // the changes that concern what the browser has
	began   bool
	sent    map[string]uint64 // what the browser has, part by part
}

// read waits for the browser to go, and for its pongs.
func (s *socket) read(gone func()) {
	defer gone()
	s.conn.SetReadLimit(readLimit)
	s.conn.SetReadDeadline(time.Now().Add(pongLimit))
	s.conn.SetPongHandler(func(string) error { return s.conn.SetReadDeadline(time.Now().Add(pongLimit)) })
	for {
		if _, _, err := s.conn.ReadMessage(); err != nil {
			return
		}
	}
}

// write sends what differs until the browser goes, the session ends or the console
// closes.
func (s *socket) write(ctx context.Context) {
	box, noticed, leave := s.console.feed.join()
	defer leave()
	log := &mailbox{} // its nudge is nil: nobody writes there
	if s.page.pattern == logsRoute && s.console.Log != nil {
		var leave func()
		log, _, leave = s.console.logFeed.join()
		defer leave()
	}
	check, ping := time.NewTicker(checkEvery), time.NewTicker(pingEvery)
	defer check.Stop()
	defer ping.Stop()
	pause := time.NewTimer(0)
	defer pause.Stop()
	// The page may have changed since it was printed: the first frame has it all.
	due, ready, pulse := true, false, true
	for {
		if due && ready {
			if s.frame(noticed, pulse) != nil {
				return
			}
			due, ready, pulse = false, false, false
			pause.Reset(frameEvery)
		}
		select {
		case <-ctx.Done():
			s.bye(websocket.CloseGoingAway, "")
			return
		case <-box.nudge:
			if n := box.take(); n.pulse || s.concerns(n.names) {
				noticed, due, pulse = n.noticed, true, pulse || n.pulse
			}
		case <-log.nudge:
			noticed, due = log.take().noticed, true
		case <-check.C:
			if !s.alive() {
				return
			}
		case <-ping.C:
			if s.conn.WriteControl(websocket.PingMessage, nil, time.Now().Add(writeLimit)) != nil {
				return
			}
		case <-pause.C:
			ready = true
		}
	}
}

// alive reports whether the session still holds and its user still has the role
// that the page was built for; otherwise it says goodbye.
func (s *socket) alive() bool {
	k := s.console
	user, err := k.Identity.User(s.visit.user.Name)
	if k.Identity.SessionAlive(s.cookie) && err == nil && !user.Disabled && user.Role == s.visit.user.Role {
		return true
	}
	s.bye(codeSessionEnded, "the session has ended")
	return false
}

func (s *socket) bye(code int, reason string) {
	s.conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, reason), time.Now().Add(writeLimit))
}

// concerns reports whether any of the changes is about this page. Figures of the
// navigation are on every page.
func (s *socket) concerns(changes []string) bool {
	return !s.began || slices.ContainsFunc(changes, func(c string) bool {
		return c == store.Everything || strings.HasPrefix(c, "job/") || slices.ContainsFunc(s.on, func(on string) bool { return strings.HasPrefix(c, on) })
	})
}

// personal are the pages that show two people of one role something else: who asked for
// a decision does not take it.
var personal = map[string]bool{"GET /policies": true}

// keyOf tells apart what is printed differently.
func keyOf(p page, v visit) string {
	who := ""
	if personal[p.pattern] {
		who = v.user.Name
	}
	return strings.Join([]string{v.path, string(v.user.Role), who, v.words.Lang(), v.zone}, "\x00")
}

// errEnded is that the session of a socket does not hold any more.
var errEnded = errors.New("the session has ended")

// frame sends the parts of the page that the browser does not have yet. When it has them
// all there is nothing to say, but at a pulse that we are there.
func (s *socket) frame(noticed time.Time, pulse bool) error {
	k := s.console
	page, err := s.print(s.key, noticed, false)
	if err == nil && s.began && s.shape != page.shape {
		page, err = s.print(s.key+"\x00whole", noticed, true)
	}
	if err != nil {
		if s.visit.ctx.Err() == nil {
			k.Logger.Error("a live page was not printed", "path", s.visit.path, "error", err)
		}
		return err
	}
	parts := page.parts
	if page.whole != nil {
		parts = page.whole
	}
	parts = slices.DeleteFunc(slices.Clone(parts), func(p renderedPart) bool { return s.sent[p.id] == p.sum })
	if len(parts) > 0 || pulse {
		if err := s.send(page, parts); err != nil {
			return err
		}
	}
	clear(s.sent) // what is not on the page any more is not remembered
	s.began, s.shape, s.on = true, page.shape, page.on
	for _, p := range page.parts {
		s.sent[p.id] = p.sum
	}
	return nil
}

// send sends parts of a page to somebody who may still see it.
func (s *socket) send(page *renderedPage, parts []renderedPart) error {
	if !s.alive() {
		return errEnded
	}
	frame, err := page.frames.of(page.asOf, parts)
	if err != nil {
		return err
	}
	s.console.feed.spent.Add(int64(frameCost))
	s.conn.SetWriteDeadline(time.Now().Add(writeLimit))
	return s.conn.WritePreparedMessage(frame)
}

// print gives the page of this socket, printed after a change was noticed: its parts, and
// all of it when the shape is another one than the browser has.
func (s *socket) print(key string, noticed time.Time, whole bool) (*renderedPage, error) {
	k := s.console
	return k.rendered.get(key, noticed, func() (*renderedPage, error) {
		began := time.Now()
		defer func() { k.feed.spent.Add(int64(time.Since(began))) }()
		v := s.visit
		v.fresh = noticed
		return k.renderPage(s.page, v, whole)
	})
}

// find gives the page behind an address, and a visit to it.
func (k *Console) find(v visit, target string) (page, visit, error) {
	u, err := url.Parse(local(target))
	if err != nil {
		return page{}, v, err
	}
	var f found
	r := (&http.Request{Method: http.MethodGet, URL: u, Host: "console", Header: http.Header{}}).WithContext(context.WithValue(v.ctx, foundKey{}, &f))
	if _, pattern := k.pages.Handler(r); pattern == "" || strings.HasPrefix(pattern, "/") {
		return page{}, v, fmt.Errorf("no page at %s", u.Path)
	}
	k.pages.ServeHTTP(discard{header: http.Header{}}, r)
	if f.request == nil || !v.may(f.page.pattern) {
		return page{}, v, fmt.Errorf("no page at %s", u.Path)
	}
	v.path, v.query, v.id = u.RequestURI(), u.Query(), f.request.PathValue("id")
	return f.page, v, nil
}
