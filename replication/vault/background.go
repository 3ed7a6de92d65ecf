package vault

import (
	"context"
)

// nudge asks for maintenance of a disk. It never waits: the request for a disk that
// waits already is the same request.
func (v *Vault) nudge(d *disk) {
	v.due.Lock()
	v.dueDisks[d] = true
	v.due.Unlock()
	select {
	case v.work <- struct{}{}:
	default:
	}
}

// background maintains disks until ctx is done. The vault owns it: Close ends it and
// waits for it.
func (v *Vault) background(ctx context.Context) {
	defer close(v.idle)
	for {
		select {
		case <-ctx.Done():
			return
		case <-v.work:
		}
		v.due.Lock()
		disks := v.dueDisks
		v.dueDisks = map[*disk]bool{}
		v.due.Unlock()
		for d := range disks {
			err := d.maintain(ctx)
			if ctx.Err() != nil {
				return
			}
			d.mu.Lock()
			d.trouble = err
			d.mu.Unlock()
		}
	}
}
