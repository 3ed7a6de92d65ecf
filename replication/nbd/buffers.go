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
	// smallBuffer serves what a running guest reads as a rule.
	smallBuffer = 64 << 10
	// headRoom is kept before the data for the header of its reply, so that both
	// go out in one write and, with TLS, in one record. A cache line.
	headRoom = 64
	// bufferBudget bounds the buffers that all connections of a server hold.
	bufferBudget = 128 << 20
	// connectionBudget is the share that one connection can hold: a client that
	// does not read what it asked for cannot stop the others.
	connectionBudget = 8 << 20
)

// buffer is space for a header and for data behind it.
type buffer struct {
	b    []byte
	size int64
}

// data is the part behind the head room, n bytes of it.
func (b *buffer) data(n int) []byte { return b.b[headRoom : headRoom+n] }

// with is header and n bytes of data in one piece.
func (b *buffer) with(header []byte, n int) []byte {
	start := headRoom - len(header)
	copy(b.b[start:], header)
	return b.b[start : headRoom+n]
}

// buffers lends buffers within a budget and keeps a few for the next borrower.
type buffers struct {
	budget       *semaphore.Weighted
	small, large sync.Pool
}

func newBuffers() *buffers {
	b := &buffers{budget: semaphore.NewWeighted(bufferBudget)}
	b.small.New = func() any { return &buffer{b: make([]byte, headRoom+smallBuffer), size: smallBuffer} }
	b.large.New = func() any { return &buffer{b: make([]byte, headRoom+bufferSize), size: bufferSize} }
	return b
}

// take waits until a buffer for n bytes can be had, at most bufferSize.
func (b *buffers) take(ctx context.Context, share *semaphore.Weighted, n int) (*buffer, error) {
	pool, size := &b.small, int64(smallBuffer)
	if n > smallBuffer {
		pool, size = &b.large, bufferSize
	}
	if err := share.Acquire(ctx, size); err != nil {
		return nil, err
	}
	if err := b.budget.Acquire(ctx, size); err != nil {
		share.Release(size)
		return nil, err
	}
	return pool.Get().(*buffer), nil
}

func (b *buffers) give(share *semaphore.Weighted, buf *buffer) {
	size := buf.size
	if size == smallBuffer {
		b.small.Put(buf)
	} else {
		b.large.Put(buf)
	}
	b.budget.Release(size)
	share.Release(size)
}
