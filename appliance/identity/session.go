package identity

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/alexedwards/scs/v2"

	"riparo/store"
	"riparo/web/api"
)

// How long a session lives.
const (
	idleTimeout = 30 * time.Minute
	lifetime    = 12 * time.Hour
	// renewEvery is how precisely the idle time is kept: writing it with every
	// request would cost an fsync each.
	renewEvery = time.Minute
)

// CookieName has the prefix that makes browsers insist on Secure, no domain and
// the path "/".
const CookieName = "__Host-riparo"

// SessionUser is the key under which a session holds the name of its user.
const SessionUser = "user"

// sessions keeps sessions in the store, by the hash of their cookie.
type sessions struct {
	store   *store.Store
	now     func() time.Time
	manager *scs.SessionManager

	mu   sync.Mutex           // guards ends
	ends map[string]time.Time // of sessions, as they were read last: it only moves on
}

// maxEnds bounds the ends that are remembered; beyond it all are read again.
const maxEnds = 4096

func newSessions(st *store.Store, now func() time.Time) *sessions {
	s := &sessions{store: st, now: now, manager: scs.New(), ends: map[string]time.Time{}}
	s.manager.Store = s
	s.manager.Codec = sessionCodec{}
	s.manager.IdleTimeout = idleTimeout
	s.manager.Lifetime = lifetime
	s.manager.Cookie = scs.SessionCookie{Name: CookieName, HttpOnly: true, Path: "/", SameSite: http.SameSiteLaxMode, Secure: true}
	tell := s.manager.ErrorFunc
	s.manager.ErrorFunc = func(w http.ResponseWriter, r *http.Request, err error) {
		if !errors.Is(err, errEnded) { // then the answer goes out without a cookie
			tell(w, r, err)
		}
	}
	return s
}

// Sessions gives the manager of browser sessions.
func (i *Identity) Sessions() *scs.SessionManager { return i.sessions.manager }

// SessionAlive reports whether the session of a cookie still holds. Asking does
// not renew it. Every open browser asks before every frame: a session whose end was read
// before and is still to come only has to be there.
func (i *Identity) SessionAlive(cookie string) bool {
	s, id := i.sessions, cookieHash(cookie)
	s.mu.Lock()
	end := s.ends[id]
	s.mu.Unlock()
	alive := false
	err := i.store.View(func(tx *store.Tx) (err error) {
		if s.now().Before(end) {
			alive, err = tx.Sessions().Has(id)
			return err
		}
		kept, err := tx.Sessions().Get(id)
		end, alive = kept.Expires, err == nil && s.now().Before(kept.Expires)
		return err
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.ends) >= maxEnds {
		clear(s.ends)
	}
	if s.ends[id] = end; !alive {
		delete(s.ends, id)
	}
	return err == nil && alive
}

// EndSessions ends all sessions of a user but the one of the cookie except.
func (i *Identity) EndSessions(user, except string) error {
	keep := cookieHash(except)
	return i.store.Update(func(tx *store.Tx) error {
		var ended []string
		for s, err := range tx.Sessions().All() {
			if err != nil {
				return err
			}
			if s.ID == keep {
				continue
			}
			_, values, err := sessionCodec{}.Decode(s.Data)
			if name, _ := values[SessionUser].(string); err != nil || key(name) == key(user) {
				ended = append(ended, s.ID)
			}
		}
		for _, id := range ended {
			if err := tx.Sessions().Delete(id); err != nil {
				return err
			}
		}
		return nil
	})
}

// Values of a session beside the user.
const (
	SessionAddress = "address"
	SessionAgent   = "agent"
	SessionBegan   = "began" // RFC 3339
)

// SessionList are the sessions that hold, the newest first: of one user, or of all
// when user is empty. current is the cookie of whoever asks.
func (i *Identity) SessionList(user, current string) ([]api.Session, error) {
	now := i.now()
	var list []api.Session
	err := i.store.View(func(tx *store.Tx) error {
		for s, err := range tx.Sessions().All() {
			if err != nil {
				return err
			}
			deadline, values, err := sessionCodec{}.Decode(s.Data)
			if err != nil {
				return err
			}
			text := func(name string) string { v, _ := values[name].(string); return v }
			if text(SessionUser) == "" || user != "" && key(text(SessionUser)) != key(user) || !now.Before(s.Expires) {
				continue
			}
			began, err := time.Parse(time.RFC3339, text(SessionBegan))
			if err != nil {
				began = deadline.Add(-lifetime)
			}
			// The end moves with each use until it reaches the lifetime.
			used := s.Expires.Add(-idleTimeout)
			if used.Before(began) {
				used = began
			}
			list = append(list, api.Session{ID: s.ID, User: text(SessionUser), Address: text(SessionAddress), Agent: text(SessionAgent),
				Began: began, Used: used, Ends: deadline, Current: s.ID == cookieHash(current)})
		}
		return nil
	})
	slices.SortFunc(list, func(a, b api.Session) int { return b.Began.Compare(a.Began) })
	return list, err
}

// EndSession ends one session of a user, or anybody's when user is empty. It tells
// whose it was.
func (i *Identity) EndSession(id, user string) (string, error) {
	name := ""
	err := i.store.Update(func(tx *store.Tx) error {
		s, err := tx.Sessions().Get(id)
		if err != nil {
			return err
		}
		_, values, err := sessionCodec{}.Decode(s.Data)
		if err != nil {
			return err
		}
		if name, _ = values[SessionUser].(string); user != "" && key(name) != key(user) {
			return fmt.Errorf("session %s: %w", id, store.ErrNotFound) // somebody else's is none of theirs
		}
		return tx.Sessions().Delete(id)
	})
	return name, err
}

// SweepSessions removes the sessions that have expired. The console calls it with
// each sign-in.
func (i *Identity) SweepSessions() error {
	now := i.now()
	return i.store.Update(func(tx *store.Tx) error {
		var old []string
		for s, err := range tx.Sessions().All() {
			if err != nil {
				return err
			}
			if !now.Before(s.Expires) {
				old = append(old, s.ID)
			}
		}
		for _, id := range old {
			if err := tx.Sessions().Delete(id); err != nil {
				return err
			}
		}
		return nil
	})
}

func cookieHash(cookie string) string {
	if cookie == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(cookie))
	return hex.EncodeToString(sum[:])
}

// Find is part of [scs.Store].
func (s *sessions) Find(cookie string) ([]byte, bool, error) {
	var session store.Session
	err := s.store.View(func(tx *store.Tx) (err error) {
		session, err = tx.Sessions().Get(cookieHash(cookie))
		return err
	})
	if missing(err) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("find a session: %w", err)
	}
	return session.Data, s.now().Before(session.Expires), nil
}

// sessionKept is the ID under which a session is kept, among its values. One that was read
// from the store has it; one that begins, or gets another name, has none or the old one.
const sessionKept = "kept"

// errEnded is of a session that was ended while a request that had read it was under way.
var errEnded = errors.New("the session was ended meanwhile")

// Commit is part of [scs.Store]. What only moves the end by less than a minute is
// not written, and a session that was read and is gone is not put back.
func (s *sessions) Commit(cookie string, data []byte, expires time.Time) error {
	id := cookieHash(cookie)
	data, wasRead, err := marked(data, id)
	if err != nil {
		return err
	}
	same := false
	err = s.store.View(func(tx *store.Tx) error {
		kept, err := tx.Sessions().Get(id)
		same = err == nil && bytes.Equal(kept.Data, data) && expires.Sub(kept.Expires).Abs() < renewEvery
		if missing(err) {
			return nil
		}
		return err
	})
	if err != nil || same {
		return err
	}
	return s.store.Update(func(tx *store.Tx) error {
		if there, err := tx.Sessions().Has(id); err != nil || wasRead && !there {
			return cmp.Or(err, errEnded)
		}
		return tx.Sessions().Put(store.Session{ID: id, Data: data, Expires: expires})
	})
}

// marked gives the data of a session with the ID under which it is kept, and whether that
// stood there already.
func marked(data []byte, id string) (text []byte, wasRead bool, err error) {
	deadline, values, err := sessionCodec{}.Decode(data)
	if err != nil {
		return nil, false, err
	}
	wasRead = values[sessionKept] == id
	values[sessionKept] = id
	text, err = sessionCodec{}.Encode(deadline, values)
	return text, wasRead, err
}

// Delete is part of [scs.Store].
func (s *sessions) Delete(cookie string) error {
	return s.store.Update(func(tx *store.Tx) error {
		if err := tx.Sessions().Delete(cookieHash(cookie)); !missing(err) {
			return err
		}
		return nil
	})
}

// sessionCodec writes a session as JSON: the same session is the same bytes, and
// a person can read it in a backup. Values are strings only.
type sessionCodec struct{}

type sessionData struct {
	Deadline time.Time         `json:"deadline"`
	Values   map[string]string `json:"values"`
}

// Encode is part of [scs.Codec].
func (sessionCodec) Encode(deadline time.Time, values map[string]any) ([]byte, error) {
	d := sessionData{Deadline: deadline.UTC(), Values: map[string]string{}}
	for k, v := range values {
		text, ok := v.(string)
		if !ok {
			return nil, fmt.Errorf("session value %s is a %T: want a string", k, v)
		}
		d.Values[k] = text
	}
	return json.Marshal(d)
}

// Decode is part of [scs.Codec].
func (sessionCodec) Decode(data []byte) (time.Time, map[string]any, error) {
	var d sessionData
	if err := json.Unmarshal(data, &d); err != nil {
		return time.Time{}, nil, fmt.Errorf("read a session: %w", err)
	}
	values := map[string]any{}
	for k, v := range d.Values {
		values[k] = v
	}
	return d.Deadline, values, nil
}
