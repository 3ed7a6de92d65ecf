package vault

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"riparo/replication"
)

// compactBytesPerSecond is what compaction writes in the background at most: enough
// to keep up with 80 MB/s of changes, which is more than one link brings, and a
// fraction of what the slowest disk of a server writes.
const compactBytesPerSecond = 32 << 20

// nudge asks for maintenance of a disk. It never waits: the request for a disk that
// waits already is the same request.
func (v *Vault) nudge(d *disk) { v.ask(v.dueDisks, v.work, d) }

func (v *Vault) ask(set map[*disk]bool, token chan struct{}, d *disk) {
	v.due.Lock()
	set[d] = true
	v.due.Unlock()
	select {
	case token <- struct{}{}:
	default:
	}
}

// asked takes the disks that were asked for.
func (v *Vault) asked(set map[*disk]bool) []*disk {
	v.due.Lock()
	defer v.due.Unlock()
	var disks []*disk
	for d := range set {
		disks = append(disks, d)
	}
	clear(set)
	return disks
}

// background maintains and compacts disks until ctx is done. The vault owns it: Close
// ends it and waits for it. The two do not wait for each other, except for one disk.
func (v *Vault) background(ctx context.Context) {
	defer close(v.idle)
	var wait sync.WaitGroup
	wait.Go(func() {
		v.attend(ctx, v.dueDisks, v.work, func(d *disk) error {
			err := d.maintainNow(ctx)
			if errors.Is(err, errMaintained) {
				return err // the others do not wait for that
			}
			v.ask(v.wasteful, v.waste, d)
			return err
		})
	})
	wait.Go(func() {
		v.attend(ctx, v.wasteful, v.waste, func(d *disk) error {
			_, err := d.compact(ctx, v.unhurried)
			if fill := v.fillReserve(); err == nil {
				err = fill
			}
			return err
		})
	})
	wait.Go(func() { v.thinning(ctx) })
	wait.Wait()
}

// attend does something for each disk that is asked for.
func (v *Vault) attend(ctx context.Context, set map[*disk]bool, token chan struct{}, do func(*disk) error) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-token:
		}
		for _, d := range v.asked(set) {
			err := do(d)
			if ctx.Err() != nil {
				return
			}
			if errors.Is(err, errMaintained) {
				continue
			}
			d.mu.Lock()
			d.trouble = err
			d.mu.Unlock()
		}
	}
}

// unhurried waits as long as bytes may take, unless room is short.
func (v *Vault) unhurried(ctx context.Context, bytes int64) error {
	if v.short() {
		return context.Cause(ctx)
	}
	return sleep(ctx, time.Duration(bytes)*time.Second/compactBytesPerSecond)
}

// Compact gives back what room it can of a disk, now and at full speed; the vault does
// it by itself, without haste, while it is open. It can be ended at any moment, and
// goes on from there the next time.
func (v *Vault) Compact(ctx context.Context, id replication.DiskID) error {
	if err := v.writable(); err != nil {
		return err
	}
	d, err := v.findToWrite(ctx, id)
	if err != nil {
		return err
	}
	if _, err := d.compact(ctx, func(ctx context.Context, _ int64) error { return context.Cause(ctx) }); err != nil {
		return fmt.Errorf("compact disk %s: %w", id, err)
	}
	return nil
}
