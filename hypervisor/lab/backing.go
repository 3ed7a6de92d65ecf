package lab

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"time"

	"riparo/replication"
	"riparo/replication/nbd"
)

// backing reads a recovery point over NBD. It connects when it is first read, and
// again whenever the connection was lost: the appliance that serves it may be
// restarted while the machine runs.
type backing struct {
	uri  string
	size int64

	mu     sync.Mutex // guards client; it is also held while connecting
	client *nbd.Client
	closed bool
}

const (
	// patience is how long a machine's read waits for its backing to come back,
	// before it becomes a read error in the guest.
	patience = 10 * time.Second
	// silence is how long a connected server may owe a reply.
	silence = 5 * time.Second
	// pause is how long to wait between two attempts to connect.
	pause = 100 * time.Millisecond
)

// backingSize is the code of a backing that cannot be the right one.
const backingSize = "lab.backing-size"

func newBacking(uri string, size int64) *backing { return &backing{uri: uri, size: size} }

// connect gives the client that is connected, or connects.
func (b *backing) connect(ctx context.Context) (*nbd.Client, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.client != nil {
		return b.client, nil
	}
	if b.closed {
		return nil, fmt.Errorf("the backing %s was let go", b.uri)
	}
	client, err := nbd.Dial(ctx, b.uri, nbd.Options{Timeout: silence})
	if err != nil {
		return nil, err
	}
	if client.Size() != b.size {
		err := &replication.Problem{
			Code: backingSize, Cause: fmt.Sprintf("%s shows a disk of %d bytes", b.uri, client.Size()),
			Effect: fmt.Sprintf("a disk of %d bytes cannot be laid over it", b.size), Action: "ask for a disk of that size",
			Remedy: replication.Stop,
		}
		_ = client.Close() // it was only looked at
		return nil, err
	}
	b.client = client
	return client, nil
}

// lost lets go of a client whose connection failed.
func (b *backing) lost(client *nbd.Client) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.client == client {
		b.client = nil
		_ = client.Close() // it is broken already
	}
}

// read fills p. It connects again for as long as patience lasts.
func (b *backing) read(ctx context.Context, p []byte, offset int64) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		client, err := b.connect(ctx)
		if err == nil {
			if err = client.Read(ctx, p, offset); err == nil {
				return nil
			}
			b.lost(client)
		}
		// A server that comes back may listen before it has its exports again.
		if p := replication.AsProblem(err); p.Code == backingSize || wait(ctx, pause) != nil {
			return fmt.Errorf("read the backing %s at %d: %w", b.uri, offset, err)
		}
	}
}

// regions says which parts of the backing are zero.
func (b *backing) regions(ctx context.Context) iter.Seq2[replication.Region, error] {
	return func(yield func(replication.Region, error) bool) {
		client, err := b.connect(ctx)
		if err != nil {
			yield(replication.Region{}, fmt.Errorf("open the backing %s: %w", b.uri, err))
			return
		}
		for region, err := range client.Regions(ctx) {
			if err != nil {
				b.lost(client)
				yield(region, fmt.Errorf("map the backing %s: %w", b.uri, err))
				return
			}
			if !yield(region, nil) {
				return
			}
		}
	}
}

func (b *backing) close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	if b.client == nil {
		return nil
	}
	client := b.client
	b.client = nil
	return client.Close()
}
