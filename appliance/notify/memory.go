package notify

import (
	"fmt"
	"time"

	"riparo/store"
)

// memory is what one look at the rules remembers for the next. It is lost at a
// restart, which only makes times begin anew.
type memory struct {
	seen  map[string]time.Time // of alerts: when their reason was last seen
	jobs  map[string]movement
	sites map[string]time.Time // since when they are away
	now   time.Time            // of the look before
}

// movement is how far a job was, and since when.
type movement struct {
	at    string
	since time.Time
}

func newMemory() memory {
	return memory{seen: map[string]time.Time{}, jobs: map[string]movement{}, sites: map[string]time.Time{}}
}

// keepPace moves what is remembered with a clock that was set back: what has lasted for
// an hour has lasted for an hour.
func (m *memory) keepPace(now time.Time) {
	if back := m.now.Sub(now); back > 0 {
		for k, at := range m.seen {
			m.seen[k] = at.Add(-back)
		}
		for k, at := range m.sites {
			m.sites[k] = at.Add(-back)
		}
		for k, at := range m.jobs {
			at.since = at.since.Add(-back)
			m.jobs[k] = at
		}
	}
	m.now = now
}

// follow fills in since when jobs stand still and sites are away.
func (m *memory) follow(w *World) {
	m.keepPace(w.Now)
	jobs := map[string]movement{}
	for i := range w.Jobs {
		j := &w.Jobs[i]
		if j.State.Ended() {
			continue
		}
		now := movement{at: progress(j.Job), since: w.Now}
		waits := j.State == store.WaitingToRetry && j.Attempt == 0 // for what is no failure, as the end of a pause
		if old, known := m.jobs[j.ID]; known && old.at == now.at && !waits {
			now.since = old.since
		}
		jobs[j.ID], j.Moved = now, now.since
	}
	m.jobs = jobs
	sites := map[string]time.Time{}
	for i := range w.Sites {
		s := &w.Sites[i]
		if s.Problem == nil {
			continue
		}
		since := w.Now
		if old, known := m.sites[s.Name]; known {
			since = old
		}
		sites[s.Name], s.Away = since, since
	}
	m.sites = sites
}

// progress is how far a job is. A job that only tries again does not move.
func progress(j store.Job) string {
	for _, s := range j.Steps {
		if !s.State.Ended() {
			return fmt.Sprint(s.Name, s.Done, s.Total, len(s.Evidence))
		}
	}
	return string(j.State)
}
