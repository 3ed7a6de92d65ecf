package nbd

import (
	"context"
	"sync"

	"golang.org/x/sync/semaphore"
)

const (
	// bufferSize is the most data read from a source in one piece and sent in one
	// chunk: a read of a disk is at its full speed from here on.
	bufferSize = 1 << 20
	// headRoom is kept before the data for the header of its reply, so that both
	// go out in one write and, with TLS, in one record. A cache line.
	headRoom = 64
	// connectionShare bounds the buffers that one connection holds, also when its
	// client does not read what it asked for: four of the largest, so that some are
	// filled while others are sent. It is the connection's own; nobody else waits.
	connectionShare = 4 << 20
)

// bufferSizes are what a running guest asks for as a rule, what nbdcopy asks for,
// and the largest.
var bufferSizes = [...]int{64 << 10, 256 << 10, bufferSize}

// buffer is space for a header and for data behind it.
type buffer struct {
	b    []byte
	kind int // index of bufferSizes
}

// data is the part behind the head room, n bytes of it.
func (b *buffer) data(n int) []byte { return b.b[headRoom : headRoom+n] }

// with is header and n bytes of data in one piece.
func (b *buffer) with(header []byte, n int) []byte {
	start := headRoom - len(header)
	copy(b.b[start:], header)
	return b.b[start : headRoom+n]
}

// buffers keeps what was given back for the next one who takes; the garbage
// collector frees it when nobody does.
type buffers struct {
	pools [len(bufferSizes)]sync.Pool
}

// take waits until share has room and gives a buffer for n bytes, at most
// bufferSize.
func (b *buffers) take(ctx context.Context, share *semaphore.Weighted, n int) (*buffer, error) {
	kind := 0
	for n > bufferSizes[kind] {
		kind++
	}
	if err := share.Acquire(ctx, int64(bufferSizes[kind])); err != nil {
		return nil, err
	}
	if buf, ok := b.pools[kind].Get().(*buffer); ok {
		return buf, nil
	}
	return &buffer{b: make([]byte, headRoom+bufferSizes[kind]), kind: kind}, nil
}

func (b *buffers) give(share *semaphore.Weighted, buf *buffer) {
	b.pools[buf.kind].Put(buf)
	share.Release(int64(bufferSizes[buf.kind]))
}
