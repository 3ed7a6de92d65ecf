package fleece

import (
	"context"
	"errors"
)

// Settle ends what is left open of captures whose process is gone: the guest gets its own
// disks back, and goes on if QEMU stopped it after an I/O error while a window was open.
// One that somebody paused stays so; one whose own disk is full stops again at once.
// Bitmaps stay: the next capture puts them in order. It costs QEMU nothing when there are
// no scratch files.
//
// The caller knows that no capture of the machine is under way.
func Settle(ctx context.Context, m Machine) error {
	if left, err := m.Left(ctx); err != nil || !left {
		return err
	}
	monitor, disconnect, err := m.Connect(ctx)
	if errors.Is(err, ErrEnded) {
		return m.Scratch.Remove(ctx, m.scratchFiles())
	}
	if err != nil {
		return err
	}
	defer disconnect()
	return removeViews(ctx, monitor, &m, true)
}

// Left reports whether a capture may be open: its scratch files are there longer than
// anything of it in QEMU.
func (m *Machine) Left(ctx context.Context) (bool, error) {
	return m.Scratch.Left(ctx, m.scratchFiles())
}

// goOn lets a guest go on that QEMU stopped.
func (m *Machine) goOn(ctx context.Context, monitor Monitor) error {
	if m.Continue != nil {
		return m.Continue(ctx)
	}
	return monitor.Execute(ctx, "cont", nil, nil)
}
