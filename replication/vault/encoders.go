package vault

import (
	"os"
	"runtime"
)

// encoders are the places of those who compress, for all vaults together: one more than
// there are processors, so that none stands still while a batch is handed on.
var encoders = make(chan struct{}, processors()+1)

// processors is the number of processors. The Go runtime gets two more than that. It
// counts a goroutine that waits for the disk in a system call as one that computes,
// until its monitor looks after it; reads and appends take less time than that, and with
// the exact number it took a tenth longer to fill a disk, a fifth from a source that is
// not in memory. With more than two, reads push the compression aside. Whoever sets
// GOMAXPROCS in the environment decides alone.
func processors() int {
	n := runtime.GOMAXPROCS(0)
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(n + 2)
	}
	return n
}
