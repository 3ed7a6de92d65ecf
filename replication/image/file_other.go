//go:build !linux && !windows

package image

import (
	"io"
	"os"

	"riparo/replication"
)

func openForReading(path string, device, busy bool) (*os.File, error) { return os.Open(path) }

func deviceBusy(error) bool { return false }

func deviceSize(f *os.File) (int64, error) { return f.Seek(0, io.SeekEnd) }

func heldForWriting(*os.File) bool { return false }

func regionAt(_ *os.File, at, end int64) (replication.Region, error) {
	return replication.Region{Extent: replication.Extent{Offset: at, Length: end - at}}, nil
}

func makeSparse(*os.File) error { return nil }
