//go:build !windows

package lab

import (
	"os"

	"riparo/replication"
)

// writeZeroes is what punch does where a file system has no holes.
func writeZeroes(file *os.File, e replication.Extent) error {
	zeroes := make([]byte, min(e.Length, 1<<20))
	for e.Length > 0 {
		n := min(e.Length, int64(len(zeroes)))
		if _, err := file.WriteAt(zeroes[:n], e.Offset); err != nil {
			return err
		}
		e.Offset += n
		e.Length -= n
	}
	return nil
}
