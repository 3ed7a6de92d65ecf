package vault

import (
	"context"
	"errors"
)

// Manual gives the options under which nothing happens in the background and segments
// and maps stay small: for a simulated world, where one thread decides what happens
// when, and [Vault.Maintain] is called at the moments that it chooses.
func (o Options) Manual(segmentBytes int64, memoryEntries int) Options {
	o.manual, o.segmentBytes, o.memoryEntries = true, segmentBytes, memoryEntries
	return o
}

// Maintain does for all disks, and before it returns, what the vault otherwise does in
// the background: it keeps the maps small and frees what is dead.
func (v *Vault) Maintain(ctx context.Context) error {
	if err := v.writable(); err != nil {
		return err
	}
	var errs []error
	for _, d := range v.list() {
		if d.sick == nil {
			errs = append(errs, d.maintain(ctx))
		}
	}
	return errors.Join(errs...)
}
