package recovery

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"

	"riparo/appliance/jobs"
	"riparo/hypervisor"
	"riparo/replication"
	"riparo/store"
)

const (
	// bootLimit is how long a machine may take until its console shows that it is
	// up. Emulated processors and file-system checks are slow.
	bootLimit = 10 * time.Minute
	// lookEvery is the time between two looks at a booting machine.
	lookEvery = 100 * time.Millisecond
	// consoleLimit bounds what is read of a console, consoleKept what is stored.
	consoleLimit = 64 << 10
	consoleKept  = 2 << 10
)

// observe waits until a machine was seen to run: its site says so and its console
// shows the boot sign, or anything at all when the machine has none. What was seen
// is the step's evidence.
func (r *Recovery) observe(ctx context.Context, w *jobs.Work, m store.Machine, site string, ref hypervisor.Ref) error {
	provider, err := r.sites.Provider(site)
	if err != nil {
		return err
	}
	console, err := r.sites.ConsoleReader(site)
	if err != nil {
		console = nil // power is then all there is to see
	}
	began := r.now()
	ctx, cancel := context.WithTimeout(ctx, bootLimit)
	defer cancel()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var said []byte
	first := time.Duration(0)
	for {
		seen, err := provider.Machine(ctx, ref)
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("look at %s: %w", ref, err)
		}
		if console != nil {
			if now, err := console.Console(ctx, ref, consoleLimit); err == nil {
				said = now
			}
		}
		if len(said) > 0 && first == 0 {
			first = r.now().Sub(began)
		}
		up := seen.Power == hypervisor.Running && (console == nil || len(said) > 0 && bytes.Contains(said, []byte(m.BootSign)))
		if up {
			w.Evidence("power", string(seen.Power))
			if console == nil {
				w.Evidence("console", "the site has none to read")
			} else {
				w.Evidence("console", tail(said))
				w.Evidence("first console output after", first.Round(time.Millisecond).String())
			}
			w.Evidence("up after", r.now().Sub(began).Round(time.Millisecond).String())
			return nil
		}
		if seen.Power == hypervisor.Stopped && len(said) > 0 {
			return notUp(m, fmt.Sprintf("%s ended by itself before it was up", seen.Name), said)
		}
		select {
		case <-ctx.Done():
			if cause := context.Cause(ctx); cause != context.DeadlineExceeded {
				return cause
			}
			return notUp(m, fmt.Sprintf("%s was not seen to be up within %s", ref, bootLimit), said)
		case <-tick.C:
		}
	}
}

func notUp(m store.Machine, cause string, said []byte) error {
	wanted := "anything on its serial console"
	if m.BootSign != "" {
		wanted = fmt.Sprintf("%q on its serial console", m.BootSign)
	}
	return &replication.Problem{
		Code: "boot.unseen", Cause: fmt.Sprintf("%s (waited for %s); it said: %s", cause, wanted, tail(said)),
		Effect: "the step is not counted as done", Action: "look at the console, choose another recovery point, or correct the boot sign",
		Remedy: replication.Stop,
	}
}

// tail is the end of what a console said, fit to be kept and shown.
func tail(said []byte) string {
	if len(said) > consoleKept {
		said = said[len(said)-consoleKept:]
	}
	text := strings.Map(func(c rune) rune {
		if c == '\n' || c == '\t' || c >= ' ' && c != 0x7f {
			return c
		}
		return -1
	}, strings.ToValidUTF8(string(said), "?"))
	return strings.TrimSpace(text)
}
