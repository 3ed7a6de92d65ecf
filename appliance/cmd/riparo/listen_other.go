//go:build !unix

package main

import (
	"context"
	"net"
)

func listenOn(ctx context.Context, network, address string) (net.Listener, error) {
	var config net.ListenConfig
	return config.Listen(ctx, network, address)
}
