package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// Exit statuses. Scripts rely on them.
const (
	statusDone   = 0
	statusFailed = 1
	statusUsage  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // from now on a second signal ends the program at once
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is the program without the process around it.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	t := newTerminal(stdout, stderr)
	root := newRoot(t)
	root.SetArgs(args)
	err := profiled(func() error { return root.ExecuteContext(ctx) })
	if err == nil {
		return statusDone
	}
	t.explain(ctx, err)
	if _, wrong := errors.AsType[*usageError](err); wrong {
		return statusUsage
	}
	return statusFailed
}
