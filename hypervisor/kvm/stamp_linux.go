package kvm

import (
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// stampOf tells which file an image is, and when it was changed last; of a device, what
// was written to it since this host was booted. A device that another host writes to shows
// nothing of that here.
func stampOf(path string) (string, error) {
	var at unix.Stat_t
	if err := unix.Stat(path, &at); err != nil {
		return "", &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	switch at.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return fmt.Sprintf("%d:%d %d %d.%09d %d.%09d", at.Dev, at.Ino, at.Size, at.Mtim.Sec, at.Mtim.Nsec, at.Ctim.Sec, at.Ctim.Nsec), nil
	case unix.S_IFBLK:
		return deviceStamp("/", unix.Major(at.Rdev), unix.Minor(at.Rdev))
	}
	return "", nil
}

// deviceStamp reads what the kernel counts of a block device: how much was written and
// discarded. Reads are left out.
func deviceStamp(root string, major, minor uint32) (string, error) {
	boot, err := os.ReadFile(root + "proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", err
	}
	counted, err := os.ReadFile(fmt.Sprintf("%ssys/dev/block/%d:%d/stat", root, major, minor))
	if err != nil {
		return "", err
	}
	// Documentation/block/stat.rst: fields 5 to 8 are of writes, 12 to 15 of discards.
	fields := strings.Fields(string(counted))
	if len(fields) < 11 {
		return "", nil
	}
	stamp := fmt.Sprintf("%d:%d %s %s %s", major, minor, strings.TrimSpace(string(boot)), fields[4], fields[6])
	if len(fields) >= 15 {
		stamp += " " + fields[11] + " " + fields[13]
	}
	return stamp, nil
}
