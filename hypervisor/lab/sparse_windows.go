package lab

import (
	"encoding/binary"
	"fmt"
	"os"

	"golang.org/x/sys/windows"

	"riparo/replication"
)

// makeSparse tells NTFS to leave out what was never written.
func makeSparse(file *os.File) error {
	var returned uint32
	if err := windows.DeviceIoControl(windows.Handle(file.Fd()), windows.FSCTL_SET_SPARSE, nil, 0, nil, 0, &returned, nil); err != nil {
		return fmt.Errorf("make %s sparse: %w", file.Name(), err)
	}
	return nil
}

// punch makes an extent of a file zero and gives its space back.
func punch(file *os.File, e replication.Extent) error {
	var extent [16]byte // FILE_ZERO_DATA_INFORMATION: from, and the first byte after
	binary.LittleEndian.PutUint64(extent[0:], uint64(e.Offset))
	binary.LittleEndian.PutUint64(extent[8:], uint64(e.End()))
	var returned uint32
	return windows.DeviceIoControl(windows.Handle(file.Fd()), windows.FSCTL_SET_ZERO_DATA, &extent[0], uint32(len(extent)), nil, 0, &returned, nil)
}
