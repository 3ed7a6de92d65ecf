package fleece

import (
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Scratch is the folder where QEMU keeps old content while a capture is read. It may
// lie on another host: where the QEMU is.
type Scratch interface {
	// Make makes a file with this content and allocates reserve bytes for it. It
	// replaces one that is there.
	Make(ctx context.Context, name string, content []byte, reserve int64) error
	// Path is what QEMU calls the file.
	Path(name string) string
	// Remove deletes files; that one is missing is no error.
	Remove(ctx context.Context, names []string) error
	// Left reports whether any of the files is there.
	Left(ctx context.Context, names []string) (bool, error)
	// Usage tells how many bytes the files take and how many are free.
	Usage(ctx context.Context, names []string) (used, free int64, err error)
}

// Folder is a Scratch on this host.
type Folder string

// Path is the file's path.
func (f Folder) Path(name string) string { return filepath.Join(string(f), name) }

// Make makes a file of this user alone.
func (f Folder) Make(_ context.Context, name string, content []byte, reserve int64) error {
	if err := os.MkdirAll(string(f), 0o700); err != nil {
		return err
	}
	file, err := os.OpenFile(f.Path(name), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err == nil && reserve > 0 {
		err = allocate(file, reserve)
	}
	return errors.Join(err, file.Close())
}

// Remove deletes files.
func (f Folder) Remove(_ context.Context, names []string) error {
	var failed error
	for _, name := range names {
		if err := os.Remove(f.Path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

// Left reports whether any of the files is there.
func (f Folder) Left(_ context.Context, names []string) (bool, error) {
	for _, name := range names {
		if _, err := os.Lstat(f.Path(name)); err == nil || !errors.Is(err, fs.ErrNotExist) {
			return err == nil, err
		}
	}
	return false, nil
}

// Geometry of the images that EmptyImage makes (QEMU's docs/interop/qcow2.txt).
const (
	clusterBits  = 16
	clusterBytes = 1 << clusterBits
	headerBytes  = 104
	// perTable is how much of the disk one entry of the first-level table covers: a
	// cluster of 8-byte entries, each for a cluster of data.
	perTable = clusterBytes / 8 * clusterBytes

	formatExtension = 0xe2792aca
	maxBackingName  = 1023
)

// EmptyImage is a qcow2 image of a disk of size bytes in which nothing is allocated:
// header, reference counts, and an empty first-level table. backing, if not empty,
// names what the disk shows below it, in raw format. Making it here and not by a job
// of QEMU's has a reason: QEMU 7.2 that is told to quit while such a job runs ends in
// an assertion (block/io.c, bdrv_do_drained_begin_quiesce).
func EmptyImage(size int64, backing string) []byte {
	const refcountTable, refcountBlock, firstTable = 1, 2, 3 // in clusters
	entries := max(1, (size+perTable-1)/perTable)
	clusters := firstTable + (entries*8+clusterBytes-1)/clusterBytes
	image := make([]byte, clusters*clusterBytes)
	be := binary.BigEndian
	copy(image, "QFI\xfb")
	be.PutUint32(image[4:], 3)
	be.PutUint32(image[20:], clusterBits)
	be.PutUint64(image[24:], uint64(size))
	be.PutUint32(image[36:], uint32(entries))
	be.PutUint64(image[40:], firstTable*clusterBytes)
	be.PutUint64(image[48:], refcountTable*clusterBytes)
	be.PutUint32(image[56:], 1)
	be.PutUint32(image[96:], 4) // reference counts of 2^4 bits
	be.PutUint32(image[100:], headerBytes)
	if backing != "" {
		// A header extension names the format, another ends the list.
		be.PutUint32(image[headerBytes:], formatExtension)
		be.PutUint32(image[headerBytes+4:], uint32(len("raw")))
		copy(image[headerBytes+8:], "raw")
		const name = headerBytes + 8 + 8 + 8
		be.PutUint64(image[8:], name)
		be.PutUint32(image[16:], uint32(copy(image[name:name+maxBackingName], backing)))
	}
	be.PutUint64(image[refcountTable*clusterBytes:], refcountBlock*clusterBytes)
	for i := range clusters {
		be.PutUint16(image[refcountBlock*clusterBytes+2*i:], 1)
	}
	return image
}
