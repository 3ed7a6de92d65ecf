package vault

import (
	"fmt"
	"slices"
	"time"
)

// onlookEvery: of so many times that a vault is found as a power cut left it, it is looked
// at once before it recovers.
const onlookEvery = 4

// restart lets the power come back.
func (l *life) restart() error {
	l.disk = l.disk.Restart()
	l.cuts++
	if l.cuts%onlookEvery != 0 {
		return nil
	}
	return l.onlook()
}

// onlook looks at the vault as the power cut left it, as who may only read would: it shows
// what it has to, nothing of it is damaged, and nothing changes by it.
func (l *life) onlook() error {
	o := l.options()
	o.Create, o.ReadOnly = false, true
	o.Clock = func() time.Time { return l.clock }
	names, sizes := l.disk.Files()
	v, err := Open(l.ctx, l.disk, "v", o)
	if hasCode(err, CodeMissing) && len(l.model.disks) == 0 {
		return nil // the power went before there was a vault
	}
	if err != nil {
		return fmt.Errorf("open to read only: %w", err)
	}
	defer v.Close()
	if err := v.failedOpening(); err != nil {
		return fmt.Errorf("open to read only: %w", err)
	}
	if _, err := l.shown(v); err != nil {
		return fmt.Errorf("opened to read only: %w", err)
	}
	if err := l.sound(v); err != nil {
		return fmt.Errorf("opened to read only: %w", err)
	}
	if now, large := l.disk.Files(); !slices.Equal(now, names) || !slices.Equal(large, sizes) {
		return fmt.Errorf("%w: looking changed the files: %v, %v to %v, %v", errViolation, names, sizes, now, large)
	}
	l.faults["looked at before recovery"]++
	return nil
}

// sound verifies all that the vault holds: no life damages anything.
func (l *life) sound(v *Vault) error {
	report, err := v.Verify(l.ctx, VerifyOptions{})
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	for _, d := range report.Damage {
		if !d.Harmless {
			return fmt.Errorf("%w: what is sound is called damaged: %+v", errViolation, d)
		}
	}
	return nil
}
