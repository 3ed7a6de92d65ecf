package kvm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"riparo/hypervisor/kvm/fleece"
)

// sector is the unit in which QEMU counts: a raw file that ends within one is seen
// as ending with it.
const sector = 512

// imageSize is the size of the disk in an image.
func imageSize(path, format string) (int64, error) {
	file, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	if format == "qcow2" {
		header, err := readHeader(file)
		return header.size, err
	}
	size, err := file.Seek(0, io.SeekEnd) // also right for block devices
	return (size + sector - 1) / sector * sector, err
}

// qcow2Header is what is read of a qcow2 image here (QEMU's docs/interop/qcow2.txt).
type qcow2Header struct {
	size    int64
	backing bool // it names a file below
}

func readHeader(file io.ReaderAt) (qcow2Header, error) {
	var b [32]byte
	if _, err := file.ReadAt(b[:], 0); err != nil {
		return qcow2Header{}, fmt.Errorf("read the header: %w", err)
	}
	if string(b[:4]) != "QFI\xfb" {
		return qcow2Header{}, errors.New("it is not a qcow2 image")
	}
	return qcow2Header{int64(binary.BigEndian.Uint64(b[24:])), binary.BigEndian.Uint64(b[8:]) != 0}, nil
}

// createImage makes a qcow2 image: empty, or an overlay.
func createImage(path string, size int64, backing string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(fleece.EmptyImage(size, backing))
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("make the disk %s: %w", path, err)
	}
	return nil
}
