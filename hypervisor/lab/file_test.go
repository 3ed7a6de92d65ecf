package lab_test

import (
	"context"
	"iter"
	"os"

	"riparo/replication"
)

// file is a plain file as a source, all of it data.
type file struct{ *os.File }

func (f file) Size() int64 {
	info, err := f.Stat()
	if err != nil {
		return -1
	}
	return info.Size()
}

func (f file) Regions(context.Context) iter.Seq2[replication.Region, error] {
	return func(yield func(replication.Region, error) bool) {
		yield(replication.Region{Extent: replication.Extent{Length: f.Size()}}, nil)
	}
}
