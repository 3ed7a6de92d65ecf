package resync

import (
	"bytes"
	"slices"
	"sync"

	"riparo/replication"
)

// kept is the content of regions that differ, until it is read for being sent: then it
// need not be read from the source a second time. Whoever reads may divide a region.
type kept struct {
	release func(buffer []byte) // of a window, when it is not needed any more

	mu      sync.Mutex           // guards all below
	windows map[int64][]*content // by the number of the window that they lie in
	bytes   int
	lent    int // buffers of windows that are kept
}

// content of regions that differ.
type content struct {
	replication.Extent
	data    []byte // of the extent
	lent    bool   // data is the buffer of the window
	left    int64  // of the regions, that nobody has read, bytes
	readers int    // that copy from data just now
}

// holds is how much memory c keeps, bytes: a buffer is as long as a window can be.
func (c *content) holds() int {
	if c.lent {
		return cap(c.data)
	}
	return len(c.data)
}

// lendFrom is how much of a window has to differ for its buffer to be kept itself, bytes.
// Of less a copy is made: many windows could hold on to their memory for a few blocks.
const lendFrom = windowBytes / 4

// put keeps what differs of a window whose content is in buffer, as far as there is
// room. It reports whether the buffer itself is kept, and released later.
func (k *kept) put(w *window, buffer []byte) (lent bool) {
	differs := int64(0)
	for _, r := range w.different {
		if !r.Zero {
			differs += r.Length
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if differs >= lendFrom {
		return k.add(&content{Extent: w.Extent, data: buffer, lent: true, left: differs})
	}
	for _, r := range w.different {
		if !r.Zero {
			k.add(&content{Extent: r.Extent, data: w.slice(buffer, r.Extent), left: r.Length})
		}
	}
	return false
}

// add keeps c, or a copy of what is not lent, if there is room.
func (k *kept) add(c *content) bool {
	if k.bytes+c.holds() > keptBytes {
		return false
	}
	if c.lent {
		k.lent++
	} else {
		c.data = bytes.Clone(c.data)
	}
	k.bytes += c.holds()
	if k.windows == nil {
		k.windows = map[int64][]*content{}
	}
	n := c.Offset / windowBytes
	k.windows[n] = append(k.windows[n], c)
	return true
}

// take fills b from what is kept, and forgets what was read as a whole. It reports
// whether it could.
func (k *kept) take(b []byte, offset int64) bool {
	want := replication.Extent{Offset: offset, Length: int64(len(b))}
	c := k.find(want)
	if c == nil {
		return false
	}
	copy(b, c.data[offset-c.Offset:])
	k.done(c, want.Length)
	return true
}

// find tells where an extent is kept. Its content stays there until done.
func (k *kept) find(want replication.Extent) *content {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range k.windows[want.Offset/windowBytes] {
		if c.Offset <= want.Offset && want.End() <= c.End() {
			c.readers++
			return c
		}
	}
	return nil
}

func (k *kept) done(c *content, n int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	c.readers--
	if c.left -= n; c.left > 0 || c.readers > 0 {
		return
	}
	window := c.Offset / windowBytes
	rest := slices.DeleteFunc(k.windows[window], func(other *content) bool { return other == c })
	if len(rest) > 0 {
		k.windows[window] = rest
	} else {
		delete(k.windows, window)
	}
	k.bytes -= c.holds()
	if c.lent {
		k.lent--
		k.release(c.data)
	}
}

// holdsBuffers reports whether a buffer of a window is kept.
func (k *kept) holdsBuffers() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.lent > 0
}
