package fleece

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// allocate makes sure that the first bytes of a file have room on its file system. On
// one that cannot promise that, it is done by writing.
func allocate(file *os.File, bytes int64) error {
	err := unix.Fallocate(int(file.Fd()), 0, 0, bytes)
	if !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	at, err := file.Seek(0, 2)
	if err != nil {
		return err
	}
	zeroes := make([]byte, 1<<20)
	for at < bytes {
		n, err := file.WriteAt(zeroes[:min(int64(len(zeroes)), bytes-at)], at)
		if err != nil {
			return err
		}
		at += int64(n)
	}
	return nil
}

// Usage tells how many bytes the files take and how many are free to this user.
func (f Folder) Usage(_ context.Context, names []string) (used, free int64, err error) {
	var st unix.Statfs_t
	at := string(f)
	err = unix.Statfs(at, &st)
	for errors.Is(err, unix.ENOENT) && at != filepath.Dir(at) { // it is made when it is needed
		at = filepath.Dir(at)
		err = unix.Statfs(at, &st)
	}
	if err != nil {
		return 0, 0, err
	}
	for _, name := range names {
		info, err := os.Stat(f.Path(name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, 0, err
		}
		if status, ok := info.Sys().(*syscall.Stat_t); ok {
			used += status.Blocks * 512
		}
	}
	return used, int64(st.Bavail) * st.Bsize, nil
}
