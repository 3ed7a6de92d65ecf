package lab

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	// beat is how often running machines write: short, so that writes are spread.
	beat = 20 * time.Millisecond
	// maxBurst bounds what a machine catches up on after it was held up.
	maxBurst = 250 * time.Millisecond
)

// Run lets the workloads of all running machines write at their churn until ctx
// ends, which is no error. A machine whose disk fails stops writing, as a guest
// does whose file system went read-only, and says so on its console.
func (s *Site) Run(ctx context.Context) error {
	var working sync.WaitGroup
	defer working.Wait()
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	busy := map[*machine]*pace{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		now := time.Now()
		running := map[*machine]*pace{}
		for _, m := range s.all() {
			p := busy[m]
			if p == nil {
				p = &pace{last: now, free: make(chan struct{}, 1)}
				p.free <- struct{}{}
			}
			running[m] = p
			select {
			case <-p.free:
			default:
				continue // still at it
			}
			working.Go(func() {
				m.work(ctx, p, now)
				p.free <- struct{}{}
			})
		}
		busy = running
	}
}

// pace is how a running workload keeps to its churn.
type pace struct {
	free chan struct{} // holds one token while the machine does not work
	last time.Time
	owed float64 // operations
}

// work does what is due by now.
func (m *machine) work(ctx context.Context, p *pace, now time.Time) {
	elapsed := min(now.Sub(p.last), maxBurst)
	p.last = now
	for first := true; ctx.Err() == nil; first = false {
		m.io.Lock()
		if m.branch == nil {
			m.io.Unlock()
			p.owed = 0
			return
		}
		if first {
			p.owed += elapsed.Seconds() * float64(m.record.id().Churn) / BlockSize
		}
		if p.owed < 1 {
			m.io.Unlock()
			return
		}
		ok, err := m.step()
		m.io.Unlock()
		if !ok || err != nil {
			p.owed = 0
			return
		}
		p.owed--
	}
}

// halt ends the workload of a machine whose disk failed. The machine stays on.
// The caller holds io alone.
func (m *machine) halt(cause error) {
	m.branch, m.record, m.numbers, m.frozen = nil, nil, nil, false
	err := m.change(func(d *definition) { d.Identity, d.Branch = "", 0 })
	if err != nil {
		cause = fmt.Errorf("%w; %w", cause, err)
	}
	// A console that cannot be written has nobody to tell.
	_ = m.print("riparo-lab: %v\nnot serving", cause)
}
