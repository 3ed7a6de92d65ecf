package kvmtest

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"riparo/hypervisor/kvm/fleece"
)

// Dying is the monitor of a program that is killed at the instant of a capture: the window
// is open, and no command comes through any more.
type Dying struct {
	fleece.Monitor
	// Full lets the windows have no room: the guest's first write to what was captured
	// stops it.
	Full bool
	dead bool
}

// ErrDied is what a program that was killed would hear, if it lived.
var ErrDied = errors.New("this program was killed (by the test)")

// Execute passes a command on until the instant was taken.
func (d *Dying) Execute(ctx context.Context, command string, arguments, result any) error {
	if d.dead {
		return ErrDied
	}
	if node, ok := arguments.(map[string]any); ok && d.Full && command == "blockdev-add" && strings.HasPrefix(fmt.Sprint(node["node-name"]), "riparo-window-") {
		const noSpace = 28 // ENOSPC
		node["file"] = map[string]any{"driver": "blkdebug", "image": node["file"],
			"inject-error": []map[string]any{{"event": "write_aio", "errno": noSpace}}}
	}
	err := d.Monitor.Execute(ctx, command, arguments, result)
	d.dead = command == "transaction" && strings.Contains(fmt.Sprint(arguments), "blockdev-backup")
	return err
}
