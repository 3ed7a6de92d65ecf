package identity

import (
	"context"
	"crypto/sha256"
	"sync"
	"time"
)

// Limits of guessing. Five tries are enough for a typing person; each further one
// doubles the pause, so that an address has fewer than a hundred a day.
const (
	freeTries    = 5
	firstPause   = 30 * time.Second
	longestPause = 15 * time.Minute
	// forgetAfter is how long a failure is remembered after the last one.
	forgetAfter = time.Hour
	// addressTries is how many failures an address has over all accounts before it
	// pauses for every account: guessing one password for many names.
	addressTries = 20
	// maxRemembered bounds the memory of failures; beyond it the oldest are let go.
	maxRemembered = 10_000
)

// lockout remembers failed tries by key and says how long a key has to wait.
type lockout struct {
	now func() time.Time

	mu    sync.Mutex // guards tries
	tries map[tried]*failures
}

// tried is the hash of a key: a key holds a name as it was typed, which may be long, or a
// password.
type tried [sha256.Size]byte

func triedOf(key string) tried { return sha256.Sum256([]byte(key)) }

type failures struct {
	count    int
	last     time.Time
	until    time.Time     // no try before
	underWay int           // tries that were begun and have not ended
	ended    chan struct{} // closed when one of them ends
}

func newLockout(now func() time.Time) *lockout {
	return &lockout{now: now, tries: map[tried]*failures{}}
}

// wait is how long key has to wait before its next try; 0 when it may try now.
func (l *lockout) wait(key string) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.tries[triedOf(key)]
	if f == nil {
		return 0
	}
	return max(0, f.until.Sub(l.now()))
}

// failed counts a failure of key, of which free are without a pause.
func (l *lockout) failed(key string, free int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count(l.of(triedOf(key)), free)
}

// of gives what is remembered of a key, and makes room for it. l.mu is held.
func (l *lockout) of(key tried) *failures {
	f := l.tries[key]
	if f == nil {
		if len(l.tries) >= maxRemembered {
			l.forget(l.now())
		}
		f = &failures{ended: make(chan struct{})}
		l.tries[key] = f
	}
	if l.now().Sub(f.last) > forgetAfter {
		f.count = 0
	}
	return f
}

// count counts a failure. l.mu is held.
func (l *lockout) count(f *failures, free int) {
	now := l.now()
	f.count++
	f.last = now
	if over := f.count - free; over >= 0 {
		pause := longestPause
		if over < 5 { // 30 s, 1, 2, 4, 8 minutes
			pause = firstPause << over
		}
		f.until = now.Add(pause)
	}
}

// succeeded forgets the failures of key.
func (l *lockout) succeeded(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.tries, triedOf(key))
}

// attempt is a try that is under way. It ends once: the first of its ends counts.
type attempt struct {
	lockout *lockout
	key     tried
	free    int
	over    bool // guarded by lockout.mu
}

// begin begins a try of key, of which free failures are without a pause. While others are
// under way, only as many begin as could all fail without going over the limit; the rest
// waits for how those end. So what comes at once is worth no more tries than what follows
// each other, and right tries at once cost nobody a pause. A key is tried either like this
// or by wait and failed.
func (l *lockout) begin(ctx context.Context, key string, free int) (*attempt, error) {
	a := &attempt{lockout: l, key: triedOf(key), free: free}
	for {
		wait, ended := a.take()
		if wait > 0 {
			return nil, locked(wait)
		}
		if ended == nil {
			return a, nil
		}
		select {
		case <-ended:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// take begins the try, or gives how long the key is locked, or what ends before.
func (a *attempt) take() (wait time.Duration, ended <-chan struct{}) {
	l := a.lockout
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.of(a.key)
	if wait := f.until.Sub(l.now()); wait > 0 {
		return wait, nil
	}
	if f.underWay >= max(1, a.free-f.count) {
		return 0, f.ended
	}
	f.underWay++
	return 0, nil
}

// failed ends the try as a failure, and gives how long the key has to wait now.
func (a *attempt) failed() (wait time.Duration) {
	a.finish(func(f *failures) {
		a.lockout.count(f, a.free)
		wait = f.until.Sub(a.lockout.now())
	})
	return max(0, wait)
}

// succeeded ends the try and forgets the failures of its key.
func (a *attempt) succeeded() {
	a.finish(func(f *failures) { f.count, f.until = 0, time.Time{} })
}

// end ends the try as if it had not been.
func (a *attempt) end() { a.finish(func(*failures) {}) }

func (a *attempt) finish(with func(*failures)) {
	l := a.lockout
	l.mu.Lock()
	defer l.mu.Unlock()
	if a.over {
		return
	}
	a.over = true
	f := l.tries[a.key] // is there: see forget
	f.underWay--
	with(f)
	close(f.ended)
	f.ended = make(chan struct{})
	if f.underWay == 0 && f.count == 0 {
		delete(l.tries, a.key)
	}
}

// forget makes room for a tenth, so that it is rarely done: what is old goes, then
// what is not locked now, then whatever comes first. What is tried at the moment stays:
// there is no more of that than there are requests.
func (l *lockout) forget(now time.Time) {
	enough := maxRemembered * 9 / 10
	for _, gone := range []func(*failures) bool{
		func(f *failures) bool { return now.Sub(f.last) > forgetAfter },
		func(f *failures) bool { return !now.Before(f.until) },
		func(*failures) bool { return true },
	} {
		for key, f := range l.tries {
			if len(l.tries) <= enough {
				return
			}
			if f.underWay == 0 && gone(f) {
				delete(l.tries, key)
			}
		}
	}
}
