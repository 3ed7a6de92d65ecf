package nbd

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// releaseSpace punches a hole. File systems that cannot do it keep the old data,
// which nobody reads.
func releaseSpace(f *os.File, off, length int64) error {
	err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, length)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	return err
}

// readFromMedium makes what is read next come from the medium. After an fsync that failed
// the cache may show what was never written, and calls it clean: who opens the file again
// would believe it.
func readFromMedium(f *os.File) error {
	if err := f.Sync(); err != nil {
		return err
	}
	_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) // a file system in memory has no medium
	return nil
}

func makeSparse(*os.File) error { return nil } // Files are.
