//go:build !linux

package fleece

import (
	"context"
	"errors"
	"os"
)

// errElsewhere: a QEMU whose scratch folder is on this host runs on Linux.
var errElsewhere = errors.New("scratch folders on this host are supported on Linux only")

func allocate(*os.File, int64) error { return errElsewhere }

// Usage is not known here.
func (f Folder) Usage(context.Context, []string) (used, free int64, err error) {
	return 0, 0, errElsewhere
}
