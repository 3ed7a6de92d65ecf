//go:build !windows

package keyring

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// private refuses a file that anybody but its owner may read or write.
func private(info fs.FileInfo) error {
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("its mode is %04o, want 0600", mode)
	}
	return nil
}

// restrict is done by the mode that a temporary file has.
func restrict(string) error { return nil }

// protect leaves the keys as they are: the mode of the file guards them.
func protect(p []byte) (body []byte, protection string, err error) { return p, "", nil }

func unprotect(p []byte, protection string) ([]byte, error) {
	if protection == "dpapi" {
		return nil, errors.New("it is sealed for another machine, by Windows")
	}
	if protection != "" {
		return nil, fmt.Errorf("it is sealed by %q, which this version does not know", protection)
	}
	return p, nil
}

// takeName gives a file a second name that must not be taken yet.
func takeName(from, to string) error { return os.Link(from, to) }

func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
