package web

import (
	"fmt"
	"sync"
	"time"

	"riparo/store"
)

// Whoever has no account could push the work of others out of the audit log, which
// keeps a bounded number of lines: what it would take is a loop. So strangers leave a
// bounded number of lines, whatever they ask for; of the rest the number is recorded.
const (
	strangersTime = time.Hour
	// strangersLines is how many lines all of them leave within strangersTime: to fill
	// the log with them takes four months.
	strangersLines = 60
	// strangersOfOne is how many of those are for one address, so that a noisy one
	// leaves room for others.
	strangersOfOne = 20
)

// strangers counts the lines that those leave who have not signed in.
type strangers struct {
	mu     sync.Mutex // guards what follows
	since  time.Time
	lines  int
	by     map[string]int // lines by address, at most strangersLines
	untold int            // refusals that have no line and are in no sum
}

// come counts a refusal of an address. It reports whether it gets a line of its own,
// and whether it is the first one of another strangersTime.
func (s *strangers) come(now time.Time, address string) (told, first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if age := now.Sub(s.since); age < 0 || age >= strangersTime { // below 0 the clock was set back
		s.since, s.lines, s.by, first = now, 0, map[string]int{}, true
	}
	if s.lines >= strangersLines || s.by[address] >= strangersOfOne {
		s.untold++
		return false, first
	}
	s.lines++
	s.by[address]++
	return true, first
}

// take gives how many are in no sum yet.
func (s *strangers) take() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.untold
	s.untold = 0
	return n
}

func (s *strangers) giveBack(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.untold += n
}

// recordStranger writes the line of a refusal, or counts it. A stranger is not told
// that the log cannot be written: nothing was done for them.
func (k *Console) recordStranger(line store.AuditLine) {
	told, first := k.crowd.come(k.Now(), line.Address)
	if first {
		k.recordUntold()
	}
	if !told {
		return
	}
	if _, err := k.Audit.Append(line); err != nil {
		k.Logger.Error("a refusal is not in the audit log", "action", line.Action, "address", line.Address, "error", err)
	}
}

// recordUntold writes how many refusals of strangers have no line of their own. It is
// called before the line of somebody known, so that whoever signs in to read the log
// finds it there.
func (k *Console) recordUntold() {
	n := k.crowd.take()
	if n == 0 {
		return
	}
	if _, err := k.Audit.Append(store.AuditLine{Action: strangersAction, Detail: fmt.Sprintf("count=%d", n), Outcome: store.AuditRefused}); err != nil {
		k.crowd.giveBack(n)
		k.Logger.Error("the refusals of strangers are not in the audit log", "count", n, "error", err)
	}
}

// strangersAction is the action of a sum.
const strangersAction = "strangers.refused"
