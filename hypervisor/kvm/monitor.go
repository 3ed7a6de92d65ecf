package kvm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"time"

	"riparo/hypervisor"
	"riparo/hypervisor/kvm/fleece"
	"riparo/hypervisor/kvm/qmp"
	"riparo/replication"
)

// monitors are the QMP sockets of a machine. QEMU serves one client on each, so what
// must not wait for another has its own: control for operations, status for looking,
// events for watching. None is held by a process that has died: the kernel closes its
// end, and QEMU takes the next client.
var monitors = []string{"control", "status", "events"}

// monitorWait is how long one waits for a socket that another client holds.
const monitorWait = 30 * time.Second

// statusWait is how long looking at a machine may take. QEMU's main loop stands
// still while it waits for storage; the machine is then reported as unknown.
const statusWait = 5 * time.Second

// dial connects to one of a machine's monitors. The error wraps fleece.ErrEnded when
// no QEMU is there, and not when only its socket is gone.
func (s *Site) dial(ctx context.Context, name, monitor string) (*qmp.Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, monitorWait, fmt.Errorf("no answer within %s", monitorWait))
	defer cancel()
	conn, err := qmp.Dial(ctx, s.socket(name, monitor+".qmp"))
	if nobodyListens(err) && s.lost(name) != nil {
		// A QEMU that begins has no sockets yet, and one that ends has none any more.
		select {
		case <-time.After(beginning):
		case <-ctx.Done():
		}
		conn, err = qmp.Dial(ctx, s.socket(name, monitor+".qmp"))
	}
	switch {
	case err == nil:
		return conn, nil
	case nobodyListens(err):
		if lost := s.lost(name); lost != nil {
			return nil, lost
		}
		return nil, fmt.Errorf("machine %s: %w", name, fleece.ErrEnded)
	}
	return nil, &replication.Problem{
		Code: "kvm.monitor", Cause: fmt.Sprintf("machine %s: QEMU does not answer on its monitor: %v", name, err), Effect: "nothing was done",
		Action: "if it stays so, check the storage that the machine's disks are on, and that no other program holds its QMP sockets", Remedy: replication.Retry, Err: err,
	}
}

// beginning is how long the pid file of a QEMU may be there without its sockets.
const beginning = 200 * time.Millisecond

func nobodyListens(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)
}

// errLost: a QEMU lives and nobody reaches it.
var errLost = errors.New("QEMU runs without its sockets")

// lost says what to do about a QEMU that lives although its sockets are gone, as when
// somebody cleared /tmp, or XDG_RUNTIME_DIR is another one now. It is not off: its guest
// runs on, and a second copy must not be started. nil when no such process lives.
func (s *Site) lost(name string) error {
	pid, alive := processOf(s.runFile(name, "pid"))
	if !alive {
		return nil
	}
	return &replication.Problem{
		Code: "kvm.lost", Cause: fmt.Sprintf("machine %s runs in QEMU process %d, and its sockets in %s are gone", name, pid, s.socketFolder(name)), Effect: "the machine cannot be seen or asked; nothing was done",
		Action: "shut its guest down from within, or end that process, then start the machine again", Remedy: replication.Retry, Err: errLost,
	}
}

// state is what a machine does, in more detail than hypervisor.Power.
type state int

const (
	ended     state = iota // no QEMU
	prelaunch              // QEMU waits for its first instruction
	running
	paused
	guestDown // the guest powered down; QEMU stays so that its last state can be kept
	unclear   // QEMU is there but does not answer, or its sockets are gone
)

func (s state) power() hypervisor.Power {
	return [...]hypervisor.Power{hypervisor.Stopped, hypervisor.Stopped, hypervisor.Running, hypervisor.Suspended, hypervisor.Stopped, hypervisor.PowerUnknown}[s]
}

// observe looks at a machine.
func (s *Site) observe(ctx context.Context, name string) state {
	state, _ := s.observeOr(ctx, name)
	return state
}

// observeOr looks at a machine, and says why it is unclear what it does.
func (s *Site) observeOr(ctx context.Context, name string) (state, error) {
	ctx, cancel := context.WithTimeout(ctx, statusWait)
	defer cancel()
	conn, err := s.dial(ctx, name, "status")
	if errors.Is(err, fleece.ErrEnded) {
		return ended, nil
	}
	if err != nil {
		return unclear, err
	}
	defer conn.Close()
	state, err := queryState(ctx, conn)
	if errors.Is(err, qmp.ErrClosed) {
		return ended, nil
	}
	return state, err
}

func queryState(ctx context.Context, monitor fleece.Monitor) (state, error) {
	var reply struct {
		Status string `json:"status"`
	}
	if err := monitor.Execute(ctx, "query-status", nil, &reply); err != nil {
		return unclear, err
	}
	switch reply.Status {
	case "running":
		return running, nil
	case "prelaunch", "inmigrate":
		return prelaunch, nil
	case "shutdown":
		return guestDown, nil
	}
	// paused, suspended, io-error, internal-error, guest-panicked, watchdog, …
	return paused, nil
}

// awaitEnd waits until a QEMU has ended, seen by its pid file and socket.
func (s *Site) awaitEnd(ctx context.Context, name, pidFile, socket string) error {
	return look(ctx, func() (bool, error) {
		if _, alive := processOf(s.runFile(name, pidFile)); alive {
			return false, nil
		}
		conn, err := qmp.Dial(ctx, s.socket(name, socket))
		if err == nil {
			conn.Close()
		}
		return err != nil && ctx.Err() == nil, nil
	})
}

// look asks again and again until the answer is yes. What is waited for comes within
// milliseconds or takes long.
func look(ctx context.Context, done func() (bool, error)) error {
	for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		if ok, err := done(); ok || err != nil {
			return err
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
	}
}

// quitLimit is how long QEMU may take to write its caches and bitmaps and end, before
// it is killed.
const quitLimit = 30 * time.Second

// quit ends a QEMU in order, and by force when that takes too long.
func (s *Site) quit(ctx context.Context, name, pidFile, socket string, monitor fleece.Monitor) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*quitLimit)
	defer cancel()
	orderly, cancel := context.WithTimeout(ctx, quitLimit)
	defer cancel()
	if monitor != nil {
		// The connection may end before the answer is out.
		if err := monitor.Execute(orderly, "quit", nil, nil); err == nil || errors.Is(err, qmp.ErrClosed) {
			if s.awaitEnd(orderly, name, pidFile, socket) == nil {
				return nil
			}
		}
	}
	if pid, alive := processOf(s.runFile(name, pidFile)); alive {
		if err := kill(pid); err != nil {
			return fmt.Errorf("machine %s: end QEMU (process %d): %w", name, pid, err)
		}
	}
	if err := s.awaitEnd(ctx, name, pidFile, socket); err != nil {
		return fmt.Errorf("machine %s: QEMU does not end: %w", name, err)
	}
	return nil
}
