package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// sectorBytes is the unit of /sys/block/*/size, whatever the sectors of the disk.
const sectorBytes = 512

// takeInventory reads what the kernel tells below root, which is / but for tests.
func takeInventory(root string) (Inventory, error) {
	hostname, err := os.Hostname()
	if err != nil {
		return Inventory{}, err
	}
	i := Inventory{
		Hostname: hostname,
		System:   "linux " + read(root, "proc/sys/kernel/osrelease"),
		BootID:   read(root, "proc/sys/kernel/random/boot_id"),
		Disks:    []Disk{},
	}
	if i.BootID == "" {
		return Inventory{}, errors.New("the kernel does not tell its boot id: is /proc mounted?")
	}
	entries, err := os.ReadDir(filepath.Join(root, "sys/block"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Inventory{}, err
	}
	for _, e := range entries {
		if d, ok := readDisk(root, e.Name()); ok {
			i.Disks = append(i.Disks, d)
		}
	}
	if i.FileSystems, err = readMounts(root); err != nil {
		return Inventory{}, err
	}
	i.Tracking = []Tracking{
		{Method: "checksum", Usable: true, Cost: "Every disk is read in full for each recovery point; only what differs is sent."},
		ebpf(root, i.Disks),
	}
	return i, nil
}

// read gives a small file's text without the blanks around it; a missing one is
// empty.
func read(root, name string) string {
	b, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// readDisk reads what the kernel tells of a block device; false for one without a
// medium.
func readDisk(root, name string) (Disk, bool) {
	dir := "sys/block/" + name + "/"
	sectors, err := strconv.ParseInt(read(root, dir+"size"), 10, 64)
	if err != nil || sectors == 0 {
		return Disk{}, false
	}
	_, err = os.Stat(filepath.Join(root, dir+"device"))
	return Disk{
		Name:      name,
		Path:      "/dev/" + strings.ReplaceAll(name, "!", "/"), // the kernel's spelling of cciss/c0d0
		Size:      sectors * sectorBytes,
		Model:     read(root, dir+"device/model"),
		Serial:    cmp.Or(read(root, dir+"serial"), read(root, dir+"device/serial")),
		ReadOnly:  read(root, dir+"ro") == "1",
		Removable: read(root, dir+"removable") == "1",
		Virtual:   err != nil, // nothing of hardware stands behind it
	}, true
}

// readMounts lists the file systems that stand on a block device.
func readMounts(root string) ([]FileSystem, error) {
	f, err := os.Open(filepath.Join(root, "proc/self/mountinfo"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	found := []FileSystem{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		// proc(5): id parent major:minor root mount options [tags] - type source options
		before, after, ok := strings.Cut(lines.Text(), " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if !ok || len(left) < 5 || len(right) < 2 || !strings.HasPrefix(right[1], "/dev/") {
			continue
		}
		m := FileSystem{Mount: unescape(left[4]), Type: right[0], Device: unescape(right[1])}
		if !slices.Contains(found, m) {
			found = append(found, m)
		}
	}
	return found, lines.Err()
}

// unescape undoes the octal escapes of mountinfo: blank, tab, newline, backslash.
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace

// ebpf judges whether two trace points of the block layer could mark what is
// written: block_bio_queue and block_rq_complete, with types from the kernel's BTF.
func ebpf(root string, disks []Disk) Tracking {
	t := Tracking{Method: "eBPF", Cost: "Only changed blocks are read; after every start of the machine its disks are compared once."}
	obstacle := func(format string, args ...any) { t.Obstacles = append(t.Obstacles, fmt.Sprintf(format, args...)) }
	// Atomic OR in BPF programs came with 5.12.
	if major, minor := kernelVersion(read(root, "proc/sys/kernel/osrelease")); major < 5 || major == 5 && minor < 12 {
		obstacle("the kernel is older than 5.12")
	}
	if _, err := os.Stat(filepath.Join(root, "sys/kernel/btf/vmlinux")); err != nil {
		obstacle("the kernel does not describe its types (no /sys/kernel/btf/vmlinux)")
	}
	if strings.Contains(read(root, "sys/kernel/security/lockdown"), "[confidentiality]") {
		obstacle("the kernel is locked down for confidentiality")
	}
	for _, d := range disks {
		if !d.Virtual && read(root, "sys/block/"+d.Name+"/queue/iostats") == "0" {
			obstacle("%s keeps no statistics (queue/iostats), so lost events could not be noticed", d.Path)
		}
	}
	t.Usable = len(t.Obstacles) == 0
	return t
}

func kernelVersion(release string) (major, minor int) {
	first, rest, _ := strings.Cut(release, ".")
	second, _, _ := strings.Cut(rest, ".")
	second = strings.TrimRight(second, "abcdefghijklmnopqrstuvwxyz+-")
	major, _ = strconv.Atoi(first)
	minor, _ = strconv.Atoi(second)
	return major, minor
}
