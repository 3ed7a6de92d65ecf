package web

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
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

// live keeps one browser's page fresh. There is one goroutine that writes, this
// one; what happens meanwhile waits in its mailbox at the feed, which has one slot,
// so a slow browser skips frames and holds up nobody.
func (k *Console) live(w http.ResponseWriter, r *http.Request) {
	v := k.visitOf(r)
	p, v, err := k.find(v, r.URL.Query().Get("page"))
	if err != nil {
		http.Error(w, "no such page", http.StatusNotFound)
		return
	}
	cookie := k.Identity.Sessions().Token(r.Context())
	k.open.Add(1)
	defer k.open.Done()
	if k.ctx.Err() != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	// The upgrader refuses other origins.
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return // it has answered
	}
	defer conn.Close()
	s := socket{console: k, conn: conn, page: p, visit: v, cookie: cookie, sent: map[string]uint64{}}
	// The request's context ends when this handler does; the console's ends it sooner.
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	stop := context.AfterFunc(k.ctx, cancel)
	defer stop()
	s.visit.ctx = ctx
	var reader sync.WaitGroup
	reader.Go(func() { s.read(cancel) })
	s.write(ctx)
	conn.Close() // ends the reader
	reader.Wait()
}

// socket is one browser that looks at one page.
type socket struct {
	console *Console
	conn    *websocket.Conn
	page    page
	visit   visit
	cookie  string
	shape   string
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
	due, ready := true, false
	for {
		if due && ready {
			if !s.alive() || s.frame(noticed) != nil {
				return
			}
			due, ready = false, false
			pause.Reset(frameEvery)
		}
		select {
		case <-ctx.Done():
			s.bye(websocket.CloseGoingAway, "")
			return
		case <-box.nudge:
			if n := box.take(); n.pulse || s.concerns(n.names) {
				noticed, due = n.noticed, true
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
	b, ok := s.console.rendered.watches(s.key())
	if !ok {
		return true
	}
	return slices.ContainsFunc(changes, func(c string) bool {
		return c == store.Everything || strings.HasPrefix(c, "job/") || slices.ContainsFunc(b, func(on string) bool { return strings.HasPrefix(c, on) })
	})
}

// personal are the pages that show two people of one role something else: who asked for
// a decision does not take it.
var personal = map[string]bool{"GET /policies": true}

// key tells apart what is printed differently.
func (s *socket) key() string {
	v, who := s.visit, ""
	if personal[s.page.pattern] {
		who = v.user.Name
	}
	return strings.Join([]string{v.path, string(v.user.Role), who, v.words.Lang(), v.zone}, "\x00")
}

// frame sends the parts of the page that the browser does not have yet.
func (s *socket) frame(noticed time.Time) error {
	k := s.console
	page, err := k.rendered.get(s.key(), noticed, func() (*renderedPage, error) {
		began := time.Now()
		defer func() { k.feed.printed.Add(int64(time.Since(began))) }()
		return k.renderPage(s.page, s.visit)
	})
	if err != nil {
		if s.visit.ctx.Err() == nil {
			k.Logger.Error("a live page was not printed", "path", s.visit.path, "error", err)
		}
		return err
	}
	parts := page.parts
	if s.began && s.shape != page.shape {
		parts = page.whole
	}
	parts = slices.DeleteFunc(slices.Clone(parts), func(p renderedPart) bool { return s.sent[p.id] == p.sum })
	frame, err := page.frames.of(page.asOf, parts)
	if err != nil {
		return err
	}
	s.conn.SetWriteDeadline(time.Now().Add(writeLimit))
	if err := s.conn.WritePreparedMessage(frame); err != nil {
		return err
	}
	clear(s.sent) // what is not on the page any more is not remembered
	s.began, s.shape = true, page.shape
	for _, p := range page.parts {
		s.sent[p.id] = p.sum
	}
	return nil
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
