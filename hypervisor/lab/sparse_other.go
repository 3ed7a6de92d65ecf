//go:build !linux && !windows

package lab

import (
	"os"

	"riparo/replication"
)

// makeSparse has nothing to do: files have holes where nothing was written, on
// file systems that have holes.
func makeSparse(*os.File) error { return nil }

// punch makes an extent of a file zero.
func punch(file *os.File, e replication.Extent) error { return writeZeroes(file, e) }
