package image

import (
	"fmt"
	"slices"
	"strings"

	"riparo/replication"
)

// Format is a disk format that Export writes.
type Format string

const (
	// Raw is the disk as it is, sparse.
	Raw Format = "raw"
	// VHD is a fixed VHD: the disk and a footer, as Azure and Hyper-V take it.
	VHD Format = "vhd"
	// QCOW2 is QEMU's format.
	QCOW2 Format = "qcow2"
	// VHDX is a dynamic VHDX, as Hyper-V takes it.
	VHDX Format = "vhdx"
	// VMDK is a stream-optimized VMDK, as vSphere imports it.
	VMDK Format = "vmdk"
)

// Formats are all of them, the default first.
var Formats = []Format{Raw, QCOW2, VHD, VHDX, VMDK}

// ParseFormat reads the name of a format.
func ParseFormat(text string) (Format, error) {
	if f := Format(strings.ToLower(text)); slices.Contains(Formats, f) {
		return f, nil
	}
	return "", &replication.Problem{Code: "image.format", Cause: fmt.Sprintf("there is no image format %q", text), Effect: "nothing was written", Action: fmt.Sprintf("use one of %v", Formats), Remedy: replication.Stop}
}

// converted tells how qemu-img is asked for a format, or false for those that are
// written here.
func (f Format) converted() (arguments []string, ok bool) {
	switch f {
	case QCOW2:
		return []string{"-O", "qcow2"}, true
	case VHDX:
		return []string{"-O", "vhdx", "-o", "subformat=dynamic"}, true
	case VMDK:
		return []string{"-O", "vmdk", "-o", "subformat=streamOptimized"}, true
	}
	return nil, false
}
