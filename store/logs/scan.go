package logs

import (
	"context"
	"errors"
	"io"
	"time"
)

// back looks through a file from its end to its beginning.
type back struct {
	*match
	work  *work
	want  int   // lines at most
	bound int64 // lines begin before it; -1 is the end

	chunks  []chunk
	lines   []Line   // newest first
	end     Position // of the file
	stopped Position // set when the work was done before the beginning was reached
	reached time.Time
}

func (b *back) run(ctx context.Context, p *place) error {
	chunks, end, err := p.snapshot(ctx, b.work)
	if err != nil {
		return err
	}
	b.chunks, b.end = chunks, Position{p.id, end}
	if b.bound < 0 || b.bound > end {
		b.bound = end
	}
	if p.zipped {
		return b.zipped(ctx, p)
	}
	var buffer []byte
	for i := len(chunks) - 1; i >= 0 && len(b.lines) < b.want; i-- {
		c := &chunks[i]
		if c.from >= b.bound || !b.possible(c) {
			continue
		}
		if b.work.done() {
			b.stopped, b.reached = Position{p.id, c.to}, c.last
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		buffer = grown(buffer, c)
		if _, err := p.held.ReadAt(buffer, c.from); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		b.work.did(len(buffer))
		if !b.block(buffer) {
			continue
		}
		found := b.in(i, buffer)
		for j := len(found) - 1; j >= 0 && len(b.lines) < b.want; j-- {
			b.lines = append(b.lines, found[j].line(buffer, p, c))
		}
	}
	return nil
}

// zipped looks through a compressed file, which can be read in one direction only,
// and keeps the last ones of what it finds.
func (b *back) zipped(ctx context.Context, p *place) error {
	in := p.open()
	var found []Line // oldest first
	var buffer []byte
	at := int64(0)
	for i := range b.chunks {
		c := &b.chunks[i]
		if c.from >= b.bound {
			break
		}
		if !b.possible(c) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		buffer = grown(buffer, c)
		if err := skip(in, c.from-at); err != nil {
			return p.unread(err)
		}
		if _, err := io.ReadFull(in, buffer); err != nil {
			return p.unread(err)
		}
		b.work.did(int(c.to - at))
		at = c.to
		if !b.block(buffer) {
			continue
		}
		for _, s := range b.in(i, buffer) {
			found = append(found, s.line(buffer, p, c))
		}
		if more := len(found) - b.want; more > 0 {
			found = append(found[:0], found[more:]...)
		}
	}
	for i := len(found) - 1; i >= 0; i-- {
		b.lines = append(b.lines, found[i])
	}
	return nil
}

// in finds the wanted lines of a chunk that begin before the bound.
func (b *back) in(i int, buffer []byte) []span {
	c := &b.chunks[i]
	before := lastBefore(b.chunks, i)
	var found []span
	eachLine(buffer, func(from, to int) {
		if c.from+int64(from) >= b.bound {
			return
		}
		at, wanted := b.match.line(buffer, from, to, before)
		if wanted {
			found = append(found, span{from, to, before})
		}
		before = at
	})
	return found
}

// span is a line in a buffer, and the time of the one before it.
type span struct {
	from, to int
	before   time.Time
}

func (s span) line(buffer []byte, p *place, c *chunk) Line {
	return parse(buffer[s.from:s.to], Position{p.id, c.from + int64(s.from)}, s.before)
}

func grown(buffer []byte, c *chunk) []byte {
	n := int(c.to - c.from)
	if cap(buffer) < n {
		buffer = make([]byte, max(n, chunkSize))
	}
	return buffer[:n]
}

// ahead looks through a file from an offset to its end.
type ahead struct {
	*match
	work  *work
	from  int64
	visit func(Line) bool

	chunks []chunk
	next   Position // behind what was looked at
	ended  bool     // visit, or the work, ended it
}

func (a *ahead) run(ctx context.Context, p *place) error {
	a.next = Position{p.id, a.from}
	chunks, end, err := p.snapshot(ctx, a.work)
	if err != nil {
		return err
	}
	a.chunks = chunks
	in := p.open()
	var buffer []byte
	at := int64(0)
	for i := range chunks {
		c := &chunks[i]
		if c.to <= a.from || !a.possible(c) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if a.work.done() {
			a.next, a.ended = Position{p.id, c.from}, true
			return nil
		}
		buffer = grown(buffer, c)
		if err := skip(in, c.from-at); err != nil {
			return p.unread(err)
		}
		if _, err := io.ReadFull(in, buffer); err != nil {
			return p.unread(err)
		}
		a.work.did(len(buffer))
		at = c.to
		if a.block(buffer) && !a.lines(p, i, buffer) {
			return nil
		}
	}
	a.next = Position{p.id, max(end, a.from)}
	return nil
}

// skip passes over n bytes.
func skip(in io.Reader, n int64) (err error) {
	if s, ok := in.(io.Seeker); ok {
		_, err = s.Seek(n, io.SeekCurrent)
	} else {
		_, err = io.CopyN(io.Discard, in, n)
	}
	return err
}

// lines visits the wanted lines of a chunk; false when visit had enough.
func (a *ahead) lines(p *place, i int, buffer []byte) bool {
	c := &a.chunks[i]
	before := lastBefore(a.chunks, i)
	eachLine(buffer, func(from, to int) {
		if a.ended {
			return
		}
		at, wanted := a.match.line(buffer, from, to, before)
		if wanted && c.from+int64(from) >= a.from {
			l := parse(buffer[from:to], Position{p.id, c.from + int64(from)}, before)
			if !a.visit(l) {
				a.next, a.ended = after(l), true
			}
		}
		before = at
	})
	return !a.ended
}
