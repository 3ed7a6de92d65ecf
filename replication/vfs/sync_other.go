//go:build !linux

package vfs

import "os"

// syncFile is fsync, FlushFileBuffers on Windows and F_FULLFSYNC on macOS.
func syncFile(f *os.File) error { return f.Sync() }
