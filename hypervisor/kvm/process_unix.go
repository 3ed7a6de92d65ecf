//go:build unix

package kvm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// launch runs a QEMU that detaches itself (-daemonize): the program that is run here
// returns when the real one has opened its disks and sockets, or says why it could
// not. The real one is in a session of its own and is not touched when this process
// ends, however it ends.
func launch(ctx context.Context, emulator string, arguments []string) error {
	command := exec.CommandContext(ctx, emulator, arguments...)
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	command.Dir = "/"
	var complaint bytes.Buffer
	command.Stderr = &complaint
	// The detached process closes its copy of stderr; if it ever did not, Run would
	// wait for it forever.
	command.WaitDelay = 5 * time.Second
	if err := command.Run(); err != nil {
		if text := strings.TrimSpace(complaint.String()); text != "" {
			return errors.New(text)
		}
		return err
	}
	return nil
}

// lockRetry is how often a lock that another process holds is asked for again.
const lockRetry = 10 * time.Millisecond

// lockFile takes the lock on a file, waiting while another process has it. The lock
// goes with the process that holds it, however that ends.
func lockFile(ctx context.Context, path string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(lockRetry)
	defer tick.Stop()
	for {
		if err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
			return func() { file.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			file.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			file.Close()
			return nil, fmt.Errorf("another process works with the machine: %w", context.Cause(ctx))
		}
	}
}

// tryLock takes the lock on a file if it is free.
func tryLock(path string) (unlock func(), ok bool, err error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, false, err
	}
	err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return func() { file.Close() }, true, nil
	}
	file.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, false, nil
	}
	return nil, false, fmt.Errorf("lock %s: %w", path, err)
}

// ownFolder reports an error unless a folder is this user's and closed to others:
// somebody else may have made it first in a folder that all may write to.
func ownFolder(folder string) error {
	info, err := os.Lstat(folder)
	if err != nil {
		return err
	}
	status, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || ok && int(status.Uid) != os.Getuid() {
		return errors.New("it belongs to somebody else")
	}
	if info.Mode().Perm()&0o077 != 0 {
		return os.Chmod(folder, 0o700)
	}
	return nil
}

// processOf is the QEMU that a pid file names, if it lives. QEMU keeps its pid file
// locked: a number in an unlocked file is that of a process that has ended.
func processOf(pidFile string) (pid int, alive bool) {
	file, err := os.Open(pidFile)
	if err != nil {
		return 0, false
	}
	defer file.Close()
	var text [32]byte
	n, _ := file.Read(text[:])
	pid, err = strconv.Atoi(strings.TrimSpace(string(text[:n])))
	if err != nil || pid <= 1 {
		return 0, false
	}
	// QEMU locks with fcntl (lockf); a read lock that we could take means it is gone.
	held := unix.Flock_t{Type: unix.F_RDLCK, Whence: 0, Start: 0, Len: 1}
	if err := unix.FcntlFlock(file.Fd(), unix.F_GETLK, &held); err == nil {
		return pid, held.Type != unix.F_UNLCK
	}
	return pid, unix.Kill(pid, 0) == nil
}

// kill ends a process the hard way.
func kill(pid int) error {
	err := unix.Kill(pid, unix.SIGKILL)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}
