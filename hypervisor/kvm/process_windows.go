package kvm

import (
	"context"
	"errors"
)

// A site of QEMU processes needs unix sockets, file locks and detached processes as
// Linux has them. On Windows the package compiles, so that the appliance can manage
// sites that run elsewhere, and says so when asked to run one itself.
var errWindows = errors.New("machines under QEMU are not run on Windows")

func launch(context.Context, string, []string) error { return errWindows }

func lockFile(context.Context, string) (func(), error) { return nil, errWindows }

func tryLock(string) (func(), bool, error) { return nil, false, errWindows }

func ownFolder(string) error { return errWindows }

func processOf(string) (int, bool) { return 0, false }

func kill(int) error { return errWindows }
