package qga

import "context"

// Freeze flushes and freezes all file systems that can be frozen, and tells how
// many. They stay frozen until Thaw, whatever becomes of the caller.
func Freeze(ctx context.Context, agent Executor) (fileSystems int, err error) {
	err = agent.Execute(ctx, "guest-fsfreeze-freeze", nil, &fileSystems)
	return fileSystems, err
}

// Thaw lets all file systems write again. Thawing what is not frozen is harmless.
func Thaw(ctx context.Context, agent Executor) error {
	return agent.Execute(ctx, "guest-fsfreeze-thaw", nil, nil)
}

// Frozen asks whether a freeze is in force. An agent of Windows answers "thawed"
// by itself after 10 s: VSS lets no writer stand still for longer.
func Frozen(ctx context.Context, agent Executor) (bool, error) {
	var status string
	err := agent.Execute(ctx, "guest-fsfreeze-status", nil, &status)
	return status == "frozen", err
}

// Shutdown asks the guest to power down. The agent does not answer this command
// when all goes well, so a nil result only says that it was handed over.
func Shutdown(ctx context.Context, agent *Conn) error {
	line := []byte(`{"execute":"guest-shutdown","arguments":{"mode":"powerdown"}}` + "\n")
	defer agent.bound(ctx)()
	_, err := agent.conn.Write(line)
	return err
}
