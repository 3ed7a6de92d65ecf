package main

import (
	"errors"
	"fmt"
	"os"
	"runtime/pprof"
)

// profileVariable names a file: the program writes a profile of its processor time
// there when it ends, for `go tool pprof`.
const profileVariable = "RIPARO_PROFILE"

// profiled runs work, and takes a profile of it if the environment asks for one.
func profiled(work func() error) (err error) {
	name := os.Getenv(profileVariable)
	if name == "" {
		return work()
	}
	f, err := os.Create(name)
	if err != nil {
		return fmt.Errorf("take a profile: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := pprof.StartCPUProfile(f); err != nil {
		return fmt.Errorf("take a profile: %w", err)
	}
	defer pprof.StopCPUProfile()
	return work()
}
