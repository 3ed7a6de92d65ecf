package image

import (
	"bytes"
	"fmt"

	"riparo/replication"
)

// containers are the signatures of files that hold a disk in a form of their own. Taken
// for the bytes of a disk such a file replicates well, verifies well, and boots nowhere.
// Sources: QEMU docs/interop/qcow2.rst; MS-VHDX 2.2.1; VMware Virtual Disks 5.0, sparse
// extents; Virtual Hard Disk Image Format Specification; VirtualBox VDICore.h.
var containers = []struct {
	name   string
	at     int64 // from the end when below 0
	sign   []byte
	driver string // as qemu-img names it
}{
	{"QCOW2", 0, []byte("QFI\xfb"), "qcow2"},
	{"VHDX", 0, []byte("vhdxfile"), "vhdx"},
	{"VMDK", 0, []byte("KDMV"), "vmdk"},
	{"VMDK", 0, []byte("COWD"), "vmdk"},
	{"VMDK", 0, []byte("# Disk DescriptorFile"), "vmdk"},
	{"VDI", 64, []byte("\x7f\x10\xda\xbe"), "vdi"},
	{"VHD", 0, []byte("conectix"), "vpc"},
	{"VHD", -vhdFooterLength, []byte("conectix"), "vpc"},
}

// refuseContainer is the problem image.container when the file is not a disk but holds one.
// What cannot be read here is told by who reads it in earnest.
func (f *File) refuseContainer() error {
	for _, c := range containers {
		at := c.at
		if at < 0 {
			at += f.size
		}
		if at < 0 || at+int64(len(c.sign)) > f.size {
			continue
		}
		head := make([]byte, len(c.sign))
		if _, err := f.f.ReadAt(head, at); err != nil || !bytes.Equal(head, c.sign) {
			continue
		}
		return &replication.Problem{
			Code: "image.container", Cause: fmt.Sprintf("%s is a %s file: it holds a disk in a form of its own, and is not the disk itself", f.path, c.name),
			Effect: "nothing was read, because what was brought back from it would not boot",
			Action: fmt.Sprintf("convert it (qemu-img convert -f %s -O raw), or name the block device of the disk", c.driver), Remedy: replication.Stop,
		}
	}
	return nil
}
