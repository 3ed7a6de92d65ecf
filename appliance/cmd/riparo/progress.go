package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

const (
	// redrawEvery: often enough to look alive, seldom enough to cost nothing.
	redrawEvery = 200 * time.Millisecond
	// lineEvery is the rate of plain lines where nothing can be drawn over.
	lineEvery = 10 * time.Second
	barWidth  = 30
)

// progress shows how far something long is: a bar that is drawn over on a
// terminal, a line now and then elsewhere.
type progress struct {
	w           io.Writer
	interactive bool
	what        string
	began       time.Time

	mu    sync.Mutex // guards below
	last  time.Time
	drawn bool
}

func (t *terminal) progress(what string) *progress {
	now := time.Now()
	return &progress{w: t.err, interactive: t.interactive, what: what, began: now, last: now}
}

// at tells that done of total bytes are done. It may be called often.
func (p *progress) at(done, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	every := lineEvery
	if p.interactive {
		every = redrawEvery
	}
	if now.Sub(p.last) < every {
		return
	}
	p.last = now
	share := 1.0
	if total > 0 {
		share = float64(done) / float64(total)
	}
	rate := sizeOf(int64(float64(done)/now.Sub(p.began).Seconds())) + "/s"
	if !p.interactive {
		fmt.Fprintf(p.w, "%s: %.0f %%, %s of %s, %s\n", p.what, share*100, sizeOf(done), sizeOf(total), rate)
		return
	}
	full := min(int(share*barWidth), barWidth)
	fmt.Fprintf(p.w, "\r\x1b[K%s %s%s %3.0f %%  %s of %s  %s", p.what, strings.Repeat("█", full), strings.Repeat("░", barWidth-full), share*100, sizeOf(done), sizeOf(total), rate)
	p.drawn = true
}

// end removes the bar, so that what follows stands on a clean line.
func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.drawn {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.drawn = false
	}
}
