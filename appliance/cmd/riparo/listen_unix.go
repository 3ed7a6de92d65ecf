//go:build unix

package main

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
)

// listenOn listens. A unix socket is made for this user alone; one that was left
// behind by a program that is gone is replaced.
func listenOn(ctx context.Context, network, address string) (net.Listener, error) {
	var config net.ListenConfig
	if network != "unix" {
		return config.Listen(ctx, network, address)
	}
	// The mode has to be right from the first moment on, so the mask of the
	// process is set; this program does nothing else meanwhile.
	defer syscall.Umask(syscall.Umask(0o177))
	listener, err := config.Listen(ctx, network, address)
	if !errors.Is(err, syscall.EADDRINUSE) {
		return listener, err
	}
	var dialer net.Dialer
	if c, dialErr := dialer.DialContext(ctx, network, address); dialErr == nil {
		c.Close()
		return nil, err // somebody answers there
	} else if !errors.Is(dialErr, syscall.ECONNREFUSED) {
		return nil, err
	}
	if info, statErr := os.Lstat(address); statErr != nil || info.Mode().Type() != os.ModeSocket {
		return nil, err
	}
	if err := os.Remove(address); err != nil {
		return nil, err
	}
	return config.Listen(ctx, network, address)
}
