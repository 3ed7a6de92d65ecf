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
	mu      sync.Mutex          // guards all below
	windows map[int64][]content // by the number of the window that they lie in
	bytes   int
}

// content of a region that differs.
type content struct {
	replication.Extent
	data []byte
	left int64 // of it, that nobody has read, bytes
}

// put keeps the content of a region of one window, if there is room.
func (k *kept) put(e replication.Extent, data []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.bytes+len(data) > keptBytes {
		return
	}
	if k.windows == nil {
		k.windows = map[int64][]content{}
	}
	n := e.Offset / windowBytes
	k.windows[n] = append(k.windows[n], content{Extent: e, data: bytes.Clone(data), left: e.Length})
	k.bytes += len(data)
}

// take fills b from what is kept, and forgets a region that was read as a whole. It
// reports whether it could.
func (k *kept) take(b []byte, offset int64) bool {
	want := replication.Extent{Offset: offset, Length: int64(len(b))}
	data := k.find(want)
	copy(b, data)
	return data != nil
}

func (k *kept) find(want replication.Extent) []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := want.Offset / windowBytes
	in := k.windows[n]
	i := slices.IndexFunc(in, func(c content) bool { return c.Offset <= want.Offset && want.End() <= c.End() })
	if i < 0 {
		return nil
	}
	c := &in[i]
	found := c.data[want.Offset-c.Offset:][:want.Length]
	if c.left -= want.Length; c.left > 0 {
		return found
	}
	k.bytes -= len(c.data)
	if in = slices.Delete(in, i, i+1); len(in) > 0 {
		k.windows[n] = in
	} else {
		delete(k.windows, n)
	}
	return found
}
