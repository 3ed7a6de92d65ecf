//go:build unix

package guest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Turn waits until no other test on this machine has a turn. Guests without hardware
// virtualization take a processor each: tests of several packages that boot them at the
// same time would run into each other's limits. The turn ends with release, or with the
// process.
func Turn(ctx context.Context) (release func(), err error) {
	folder, err := cacheFolder()
	if err != nil {
		return nil, err
	}
	file, err := os.OpenFile(filepath.Join(folder, "turn"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
			return func() { file.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			file.Close()
			return nil, fmt.Errorf("wait for a turn to boot guests: %w", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			file.Close()
			return nil, fmt.Errorf("wait for a turn to boot guests: %w", context.Cause(ctx))
		}
	}
}
