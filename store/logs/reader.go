package logs

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sort"
	"sync"
	"time"
)

// defaultWork is what one query may read: 256 MiB are searched in well under a
// second, and what is older is asked for by the next one.
const defaultWork = 256 << 20

// work counts what a query reads.
type work struct{ left int64 }

func (w *work) did(bytes int) { w.left -= int64(bytes) }
func (w *work) done() bool    { return w.left <= 0 }

// Reader reads the log in a folder. It may be used by several goroutines.
type Reader struct {
	dir  string
	work int64 // of one query, in bytes

	mu    sync.Mutex // guards the rest
	files map[uint64]*file
	known map[string]uint64 // of a file that was rotated, by its name without .gz
}

// NewReader gives a reader of a folder, which need not exist yet.
func NewReader(dir string) *Reader {
	return &Reader{dir: dir, work: defaultWork, files: map[uint64]*file{}, known: map[string]uint64{}}
}

// Page is a part of the log, oldest line first.
type Page struct {
	Lines []Line `json:"lines" nullable:"false"`
	// Older is where an older page begins: give it to [Reader.Before]. The zero value
	// says that there is nothing older.
	Older Position `json:"older,omitzero"`
	// Next is where what comes after this page begins: give it to [Reader.After].
	Next Position `json:"next,omitzero"`
	// Reached is set when the search ended before the page was full and before the
	// log was at its end: it is the time up to which it came.
	Reached time.Time `json:"reached,omitzero"`
	// Unread names what could not be read.
	Unread []string `json:"unread,omitempty"`
}

// Before gives the newest lines that stand before a place; the zero Position is the
// end of the log. There are limit of them at most.
func (r *Reader) Before(ctx context.Context, f Filter, at Position, limit int) (Page, error) {
	places, release, err := r.list()
	if err != nil {
		return Page{}, err
	}
	defer release()
	last, bound := len(places)-1, int64(-1)
	if !at.IsZero() {
		if last = find(places, at); last < 0 {
			return Page{}, nil // it was older than what is left
		}
		bound = at.Offset
	}
	m, w := ready(f), &work{left: r.work}
	var page Page
	var lines []Line // newest first
	for i := last; i >= 0; i-- {
		if w.done() {
			page.Older, page.Reached = Position{places[i].id, endOffset}, places[i].newest()
			break
		}
		b := back{match: m, work: w, want: limit - len(lines), bound: bound}
		if err := b.run(ctx, &places[i]); err != nil {
			return Page{}, err
		}
		lines = append(lines, b.lines...)
		bound = -1
		if page.Next.IsZero() {
			page.Next = b.end
		}
		if err := places[i].trouble(); err != "" {
			page.Unread = append(page.Unread, err)
		}
		if len(lines) == limit {
			page.Older = lines[limit-1].Position
			break
		}
		if !b.stopped.IsZero() {
			page.Older, page.Reached = b.stopped, b.reached
			break
		}
		if !f.Since.IsZero() && places[i].startsBefore(f.Since) {
			break // nothing older is wanted
		}
	}
	slices.Reverse(lines)
	page.Lines = lines
	if len(lines) > 0 && !at.IsZero() {
		page.Next = after(lines[len(lines)-1])
	}
	return page, nil
}

// endOffset stands for the end of a file of which the length is not known.
const endOffset = 1 << 62

// After gives the oldest lines that stand at a place or behind it; the zero Position
// is the beginning of the log. There are limit of them at most.
func (r *Reader) After(ctx context.Context, f Filter, at Position, limit int) (Page, error) {
	page := Page{Next: at}
	w := &work{left: r.work}
	err := r.forward(ctx, f, at, w, func(l Line) bool {
		page.Lines = append(page.Lines, l)
		return len(page.Lines) < limit
	}, &page)
	if page.Older = at; len(page.Lines) > 0 {
		page.Older = page.Lines[0].Position
	}
	return page, err
}

// Each calls visit with every line that is wanted, the oldest first, until it
// returns false. It reads as much as there is.
func (r *Reader) Each(ctx context.Context, f Filter, visit func(Line) bool) error {
	return r.forward(ctx, f, Position{}, &work{left: endOffset}, visit, &Page{})
}

// forward is After and Each.
func (r *Reader) forward(ctx context.Context, f Filter, at Position, w *work, visit func(Line) bool, page *Page) error {
	places, release, err := r.list()
	if err != nil {
		return err
	}
	defer release()
	start, offset := 0, int64(0)
	if i := find(places, at); i >= 0 {
		start, offset = i, at.Offset
	}
	m := ready(f)
	for i := start; i < len(places); i++ {
		a := ahead{match: m, work: w, from: offset, visit: visit}
		if err := a.run(ctx, &places[i]); err != nil {
			return err
		}
		offset = 0
		page.Next = a.next
		if err := places[i].trouble(); err != "" {
			page.Unread = append(page.Unread, err)
		}
		if a.ended {
			return nil
		}
		if w.done() && i < len(places)-1 {
			page.Reached = places[i].newest()
			return nil
		}
	}
	return nil
}

// Around gives a line with n lines on both sides of it, and its index among them,
// -1 when it is not there any more.
func (r *Reader) Around(ctx context.Context, at Position, n int) (Page, int, error) {
	older, err := r.Before(ctx, Filter{}, at, n)
	if err != nil {
		return Page{}, -1, err
	}
	newer, err := r.After(ctx, Filter{}, at, n+1)
	if err != nil {
		return Page{}, -1, err
	}
	if len(newer.Lines) == 0 || newer.Lines[0].Position != at {
		return Page{}, -1, nil
	}
	return Page{Lines: append(older.Lines, newer.Lines...), Older: older.Older, Next: newer.Next, Unread: newer.Unread}, len(older.Lines), nil
}

// End is the place behind the last line there is.
func (r *Reader) End(ctx context.Context) (Position, error) {
	page, err := r.Before(ctx, Filter{}, Position{}, 1)
	return page.Next, err
}

// Usage is what the log takes.
type Usage struct {
	Files  int       `json:"files"`
	Bytes  int64     `json:"bytes"` // on disk
	Oldest time.Time `json:"oldest,omitzero"`
}

// Usage says how much there is.
func (r *Reader) Usage() (Usage, error) {
	places, release, err := r.list()
	defer release()
	u := Usage{Files: len(places)}
	for _, p := range places {
		u.Bytes += p.size
	}
	for i := range places {
		first := make([]byte, firstMax)
		n, _ := io.ReadFull(places[i].open(), first)
		if at, ok := timeOf(first[:n]); ok {
			u.Oldest = at
			break
		}
	}
	return u, err
}

// timeOf reads the time at the beginning of a line that may be cut short.
func timeOf(first []byte) (at time.Time, ok bool) {
	fields(first, func(key, value []byte, _ bool) bool {
		if string(key) == slog.TimeKey {
			t, err := time.Parse(time.RFC3339Nano, string(value))
			at, ok = t, err == nil
		}
		return false
	})
	return at, ok
}

// Components are those that were met so far, in the order of the alphabet.
func (r *Reader) Components() []string {
	r.mu.Lock()
	files := make([]*file, 0, len(r.files))
	for _, f := range r.files {
		files = append(files, f)
	}
	r.mu.Unlock()
	met := map[string]bool{}
	for _, f := range files {
		f.mu.Lock()
		for name := range f.components {
			met[name] = true
		}
		f.mu.Unlock()
	}
	names := make([]string, 0, len(met))
	for name := range met {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

func find(places []place, at Position) int {
	return slices.IndexFunc(places, func(p place) bool { return p.id == at.File && !at.IsZero() })
}

// after is the place behind the beginning of a line: the next line is the first
// that begins there or later.
func after(l Line) Position { return Position{l.Position.File, l.Position.Offset + 1} }

func (f *file) newest() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return lastBefore(f.chunks, len(f.chunks))
}

func (f *file) startsBefore(t time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.chunks) > 0 && f.chunks[0].first.Before(t)
}

func (f *file) trouble() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.broken == nil {
		return ""
	}
	return fmt.Sprint(f.broken)
}
