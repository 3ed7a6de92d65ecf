package web

import (
	"bytes"
	"fmt"
	"hash/maphash"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"riparo/replication"
	"riparo/web/view"
)

// renderPage prints the parts of a page, and, when its shape changed, all of it.
func (k *Console) renderPage(p page, v visit, whole bool) (*renderedPage, error) {
	v.now = k.Now()
	b, err := p.build(k, v)
	if replication.AsProblem(err) != nil { // it has gone, or cannot be read now
		problem := replication.AsProblem(err)
		if isMissing(err) {
			problem = &replication.Problem{Cause: "there is nothing here (any more)", Action: "go back to the overview"}
		}
		b = built{shape: "problem", body: view.ProblemCard(messageOf(v.words, problem), "/")}
	}
	counts, err := k.counts(v)
	if err != nil {
		return nil, err
	}
	for _, place := range []string{"machines", "jobs"} {
		b.parts = append(b.parts, part{"count-" + place, view.Count(counts[place])})
	}
	out := &renderedPage{shape: b.shape, on: b.on, asOf: v.now.UTC().Format(time.RFC3339Nano), frames: &frames{made: map[uint64]*websocket.PreparedMessage{}}}
	ctx := view.With(v.ctx, v.words)
	for _, each := range b.parts {
		var html bytes.Buffer
		if err := each.body.Render(ctx, &html); err != nil {
			return nil, err
		}
		out.parts = append(out.parts, renderedPart{id: each.id, html: html.Bytes(), sum: maphash.Bytes(seed, html.Bytes())})
	}
	if !whole {
		return out, nil
	}
	var html bytes.Buffer
	if err := view.Main(b.body).Render(ctx, &html); err != nil {
		return nil, err
	}
	out.whole = append([]renderedPart{{id: "main", html: html.Bytes(), sum: maphash.Bytes(seed, html.Bytes())}}, out.parts[max(0, len(out.parts)-2):]...)
	return out, nil
}

var seed = maphash.MakeSeed()

// rendered keeps what was printed for one browser for the others that look at the
// same page in the same language: each change is printed once.
type rendered struct {
	mu    sync.Mutex // guards pages
	pages map[string]*renderedPage
}

// maxRendered bounds the pages that are kept; beyond it all are printed anew.
const maxRendered = 256

type renderedPage struct {
	mu    sync.Mutex // held while the page is printed
	at    time.Time  // when printing began
	parts []renderedPart
	whole []renderedPart // nil: it was not asked for
	shape string
	on    []string

	asOf   string
	frames *frames
}

type renderedPart struct {
	id   string
	html []byte
	sum  uint64
}

// get gives a page that was printed after a change was noticed.
func (r *rendered) get(key string, noticed time.Time, print func() (*renderedPage, error)) (*renderedPage, error) {
	r.mu.Lock()
	kept := r.pages[key]
	if kept == nil {
		if len(r.pages) >= maxRendered {
			clear(r.pages)
		}
		kept = &renderedPage{}
		r.pages[key] = kept
	}
	r.mu.Unlock()
	kept.mu.Lock()
	defer kept.mu.Unlock()
	if !kept.at.IsZero() && !kept.at.Before(noticed) {
		return kept.copy(), nil
	}
	at := time.Now()
	fresh, err := print()
	if err != nil {
		return nil, err
	}
	kept.at, kept.parts, kept.whole, kept.shape, kept.on = at, fresh.parts, fresh.whole, fresh.shape, fresh.on
	kept.asOf, kept.frames = fresh.asOf, fresh.frames
	return kept.copy(), nil
}

// copy is the page without its lock. What it points to does not change any more.
func (p *renderedPage) copy() *renderedPage {
	return &renderedPage{at: p.at, parts: p.parts, whole: p.whole, shape: p.shape, on: p.on, asOf: p.asOf, frames: p.frames}
}

// frames are what a printed page became for sockets. Those that have the same get the
// same, compressed once.
type frames struct {
	mu   sync.Mutex // guards made
	made map[uint64]*websocket.PreparedMessage
}

// maxFrames bounds what is kept of one printing: sockets that keep up need one frame,
// and those that begin another.
const maxFrames = 8

// of gives the frame of these parts.
func (f *frames) of(asOf string, parts []renderedPart) (*websocket.PreparedMessage, error) {
	var h maphash.Hash
	h.SetSeed(seed)
	for _, p := range parts {
		h.WriteString(p.id)
		maphash.WriteComparable(&h, p.sum)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if frame := f.made[h.Sum64()]; frame != nil {
		return frame, nil
	}
	var text bytes.Buffer
	fmt.Fprintf(&text, `<i data-as-of="%s"></i>`, asOf)
	for _, p := range parts {
		text.Write(p.html)
	}
	frame, err := websocket.NewPreparedMessage(websocket.TextMessage, text.Bytes())
	if err == nil && len(f.made) < maxFrames {
		f.made[h.Sum64()] = frame
	}
	return frame, err
}
