package socket

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"
)

// fullQueueRetry is how soon one comes again to a socket whose queue is full. A look at
// a machine takes about as long.
const fullQueueRetry = 5 * time.Millisecond

// Dial connects to the socket at path, and stands in line for it, bounded by ctx. QEMU
// serves one client of a socket and lets hardly another wait (it listens with a backlog of
// 1); whoever comes then is turned away at once with EAGAIN (connect(2)), which says
// nothing about QEMU. Clients that died while they waited keep their places until QEMU
// comes to them.
func Dial(ctx context.Context, path string) (net.Conn, error) {
	var dialer net.Dialer
	tick := time.NewTicker(fullQueueRetry)
	defer tick.Stop()
	for full := false; ; {
		conn, err := dialer.DialContext(ctx, "unix", path)
		again := errors.Is(err, syscall.EAGAIN)
		full = full || again
		// At the deadline the dialer may be the first to know of it.
		late, _ := errors.AsType[net.Error](err)
		if full && (ctx.Err() != nil || late != nil && !again && late.Timeout()) {
			return nil, errors.Join(fmt.Errorf("socket %s: too many others wait for it: %w", path, cmp.Or(context.Cause(ctx), context.DeadlineExceeded)), closed(conn))
		}
		if !again {
			return conn, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// closed closes a connection that came too late.
func closed(conn net.Conn) error {
	if conn == nil {
		return nil
	}
	return conn.Close()
}
