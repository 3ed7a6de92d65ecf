package identity

import (
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
	tries map[string]*failures
}

type failures struct {
	count int
	last  time.Time
	until time.Time // no try before
}

func newLockout(now func() time.Time) *lockout {
	return &lockout{now: now, tries: map[string]*failures{}}
}

// wait is how long key has to wait before its next try; 0 when it may try now.
func (l *lockout) wait(key string) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.tries[key]
	if f == nil {
		return 0
	}
	return max(0, f.until.Sub(l.now()))
}

// failed counts a failure of key, of which free are without a pause.
func (l *lockout) failed(key string, free int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	f := l.tries[key]
	if f == nil || now.Sub(f.last) > forgetAfter {
		f = &failures{}
		l.tries[key] = f
	}
	f.count++
	f.last = now
	if over := f.count - free; over >= 0 {
		pause := longestPause
		if over < 5 { // 30 s, 1, 2, 4, 8 minutes
			pause = firstPause << over
		}
		f.until = now.Add(pause)
	}
	if len(l.tries) > maxRemembered {
		l.forget(now)
	}
}

// succeeded forgets the failures of key.
func (l *lockout) succeeded(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.tries, key)
}

// forget makes room for a tenth, so that it is rarely done: what is old goes, then
// what is not locked now, then whatever comes first.
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
			if gone(f) {
				delete(l.tries, key)
			}
		}
	}
}
