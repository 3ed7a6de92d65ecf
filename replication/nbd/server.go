package nbd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/semaphore"
)

// Limits of a server. Each bounds what a client can make it hold.
const (
	// defaultConnections is room for a few dozen machines with several disks. With
	// connectionShare it bounds the memory for data to 512 MiB, which takes as many
	// hostile clients; a well-behaved one uses what it has under way.
	defaultConnections = 128
	// handshakeTime is long for a slow network and short for somebody who only
	// wants to occupy a connection.
	handshakeTime = 15 * time.Second
	// stallTime is how long a client may take to accept a reply, or to send the
	// rest of a request that it began.
	stallTime = 60 * time.Second
	// shutdownGrace is how long requests under way may take to be answered when
	// their export is removed or the server ends.
	shutdownGrace = 5 * time.Second
	// acceptPause is how long the server waits when the computer is short of something,
	// as file descriptors, before it accepts again.
	acceptPause = 100 * time.Millisecond
)

// ServerOptions tell how a server behaves. The zero value serves without TLS.
type ServerOptions struct {
	// TLS, if set, is offered with STARTTLS.
	TLS *tls.Config
	// RequireTLS refuses everything before TLS.
	RequireTLS bool
	// Connections is the most connections at a time; 0 means 128.
	Connections int
	// Log gets what clients did wrong, at level Debug or Info. May be nil.
	Log *slog.Logger
}

// Server serves disks to any NBD client: fixed newstyle, structured replies,
// metadata contexts. Exports come and go while it runs, and it may serve several
// listeners at once.
//
// A client can only read and write its export. It cannot make the server hold
// more than a bounded amount of memory, nor keep others from being served by not
// reading its replies.
type Server struct {
	options ServerOptions
	buffers buffers
	room    *semaphore.Weighted // for connections

	mu      sync.Mutex // guards what follows
	exports map[string]*served
}

// served is an export with those who use it.
type served struct {
	Export
	name  string
	size  int64
	holes *holes

	users    sync.WaitGroup
	sessions map[*session]bool // guarded by the server's mutex
}

// NewServer makes a server without exports.
func NewServer(o ServerOptions) *Server {
	if o.Connections <= 0 {
		o.Connections = defaultConnections
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Server{options: o, room: semaphore.NewWeighted(int64(o.Connections)), exports: map[string]*served{}}
}

// Add makes an export known. The name "" is the one that clients get who name
// none. The server uses the export until Remove returns.
func (s *Server) Add(name string, e Export) error {
	if err := e.check(name); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.exports[name]; ok {
		return fmt.Errorf("there is an export %q already", name)
	}
	s.exports[name] = &served{Export: e, name: name, size: e.Source.Size(), holes: newHoles(e.Source), sessions: map[*session]bool{}}
	return nil
}

// Remove ends the connections to an export and forgets it. When it returns, the
// server does not use the export's source and writer any more. Removing what is
// not there is harmless.
func (s *Server) Remove(name string) {
	s.mu.Lock()
	e, ok := s.exports[name]
	delete(s.exports, name)
	if ok {
		for session := range e.sessions {
			session.end()
		}
	}
	s.mu.Unlock()
	if ok {
		e.users.Wait()
	}
}

// Exports are the names of the exports, sorted.
func (s *Server) Exports() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := make([]string, 0, len(s.exports))
	for name := range s.exports {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// find gives an export without using it.
func (s *Server) find(name string) (*served, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.exports[name]
	return e, ok
}

// use makes a session a user of an export that is still there.
func (s *Server) use(e *served, session *session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.exports[e.name] != e {
		return false
	}
	e.sessions[session] = true
	e.users.Add(1)
	return true
}

func (s *Server) leave(e *served, session *session) {
	s.mu.Lock()
	delete(e.sessions, session)
	s.mu.Unlock()
	e.users.Done()
}

// passing reports whether an error of accepting is of one connection, or of a computer that
// is short of something: the next one may be accepted. See accept(2).
func passing(err error) bool {
	for _, of := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ECONNABORTED, syscall.ENOMEM, syscall.ENOBUFS, syscall.EPROTO,
		syscall.EPERM, syscall.ENETDOWN, syscall.ENOPROTOOPT, syscall.EHOSTDOWN, syscall.EHOSTUNREACH, syscall.EOPNOTSUPP, syscall.ENETUNREACH, syscall.ETIMEDOUT} {
		if errors.Is(err, of) {
			return true
		}
	}
	return false
}

// Serve answers the clients that l accepts, until ctx ends or l fails. It closes
// l. Requests under way when ctx ends are still answered, within 5 seconds. When
// Serve returns, all connections of l have ended; after ctx ended it returns nil.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	var sessions sync.WaitGroup
	defer sessions.Wait()
	defer cancel()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	defer l.Close()
	for {
		conn, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				conn.Close()
			}
			return nil
		case passing(err):
			s.options.Log.Info("NBD server cannot accept a connection", "error", err)
			select {
			case <-time.After(acceptPause):
			case <-ctx.Done():
			}
			continue
		case err != nil:
			return fmt.Errorf("accept NBD connections on %s: %w", l.Addr(), err)
		}
		if !s.room.TryAcquire(1) {
			s.options.Log.Info("NBD server refuses a connection: there are enough", "limit", s.options.Connections)
			conn.Close()
			continue
		}
		sessions.Go(func() {
			defer s.room.Release(1)
			newSession(s, conn).run(ctx)
		})
	}
}
