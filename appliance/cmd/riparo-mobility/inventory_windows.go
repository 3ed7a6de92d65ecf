package main

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"
)

const (
	// ioctlDiskGetLengthInfo is IOCTL_DISK_GET_LENGTH_INFO of winioctl.h.
	ioctlDiskGetLengthInfo = 0x7405c
	// physicalDrives is how many numbers are tried; they may have gaps.
	physicalDrives = 64
)

// takeInventory asks Windows; root has no meaning there.
func takeInventory(string) (Inventory, error) {
	hostname, err := os.Hostname()
	if err != nil {
		return Inventory{}, err
	}
	v := windows.RtlGetVersion()
	i := Inventory{
		Hostname: hostname,
		System:   fmt.Sprintf("windows %d.%d.%d", v.MajorVersion, v.MinorVersion, v.BuildNumber),
		BootID:   bootID(),
		Disks:    []Disk{},
		Tracking: []Tracking{{Method: "checksum", Usable: true, Cost: "Every volume is read from a shadow copy for each recovery point; only what differs is sent."}},
	}
	refused := 0
	for n := range physicalDrives {
		path := fmt.Sprintf(`\\.\PhysicalDrive%d`, n)
		size, err := diskSize(path)
		switch {
		case err == nil:
			i.Disks = append(i.Disks, Disk{Name: fmt.Sprintf("PhysicalDrive%d", n), Path: path, Size: size})
		case errors.Is(err, windows.ERROR_ACCESS_DENIED):
			refused++
		}
	}
	if refused > 0 && len(i.Disks) == 0 {
		return Inventory{}, fmt.Errorf("%d disks may not be looked at: run it as an administrator", refused)
	}
	i.FileSystems = volumes()
	return i, nil
}

// bootID is the number that Windows counts up at each start.
func bootID() string {
	k, err := registry.OpenKey(registry.LOCAL_MACHINE, `SYSTEM\CurrentControlSet\Control\Session Manager\Memory Management\PrefetchParameters`, registry.QUERY_VALUE)
	if err != nil {
		return ""
	}
	defer k.Close()
	n, _, err := k.GetIntegerValue("BootId")
	if err != nil {
		return ""
	}
	return fmt.Sprint(n)
}

func diskSize(path string) (int64, error) {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return 0, err
	}
	h, err := windows.CreateFile(name, windows.GENERIC_READ, windows.FILE_SHARE_READ|windows.FILE_SHARE_WRITE, nil, windows.OPEN_EXISTING, 0, 0)
	if err != nil {
		return 0, err
	}
	defer windows.CloseHandle(h)
	var size int64
	var returned uint32
	err = windows.DeviceIoControl(h, ioctlDiskGetLengthInfo, nil, 0, (*byte)(unsafe.Pointer(&size)), uint32(unsafe.Sizeof(size)), &returned, nil)
	return size, err
}

// volumes lists the fixed drives that have a letter.
func volumes() []FileSystem {
	found := []FileSystem{}
	mask, err := windows.GetLogicalDrives()
	if err != nil {
		return found
	}
	for n := range 26 {
		if mask&(1<<n) == 0 {
			continue
		}
		mount := string(rune('A'+n)) + `:\`
		root, err := windows.UTF16PtrFromString(mount)
		if err != nil || windows.GetDriveType(root) != windows.DRIVE_FIXED {
			continue
		}
		var kind, name [windows.MAX_PATH + 1]uint16
		if windows.GetVolumeInformation(root, nil, 0, nil, nil, nil, &kind[0], uint32(len(kind))) != nil {
			continue
		}
		_ = windows.GetVolumeNameForVolumeMountPoint(root, &name[0], uint32(len(name)))
		found = append(found, FileSystem{Mount: mount, Type: windows.UTF16ToString(kind[:]), Device: windows.UTF16ToString(name[:])})
	}
	return found
}
