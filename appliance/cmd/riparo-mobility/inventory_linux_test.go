package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// system makes a tree as the kernel shows it.
func system(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func typical() map[string]string {
	return map[string]string{
		"proc/sys/kernel/osrelease":      "6.1.0-56-cloud-amd64",
		"proc/sys/kernel/random/boot_id": "c0ffee00-1111-2222-3333-444455556666",
		"proc/self/mountinfo": "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n" +
			"23 22 0:5 / /proc rw - proc proc rw\n" +
			`24 22 253:0 / /srv/my\040data rw - xfs /dev/mapper/vg-data rw`,
		"sys/block/sda/size":                "41943040",
		"sys/block/sda/device/model":        "ST4000",
		"sys/block/sda/serial":              "WX12",
		"sys/block/sda/queue/iostats":       "1",
		"sys/block/cciss!c0d0/size":         "8",
		"sys/block/cciss!c0d0/device/model": "LOGICAL VOLUME",
		"sys/block/dm-0/size":               "2048",
		"sys/block/sr0/size":                "0",
		"sys/kernel/btf/vmlinux":            "",
	}
}

func TestInventoryTellsWhatTheKernelTells(t *testing.T) {
	got, err := takeInventory(system(t, typical()))
	if err != nil {
		t.Fatal(err)
	}
	wantDisks := []Disk{
		{Name: "cciss!c0d0", Path: "/dev/cciss/c0d0", Size: 4096, Model: "LOGICAL VOLUME"},
		{Name: "dm-0", Path: "/dev/dm-0", Size: 1 << 20, Virtual: true},
		{Name: "sda", Path: "/dev/sda", Size: 20 << 30, Model: "ST4000", Serial: "WX12"},
	}
	if !reflect.DeepEqual(got.Disks, wantDisks) {
		t.Errorf("disks: got %+v, want %+v", got.Disks, wantDisks)
	}
	wantMounts := []FileSystem{{"/", "ext4", "/dev/sda1"}, {"/srv/my data", "xfs", "/dev/mapper/vg-data"}}
	if !reflect.DeepEqual(got.FileSystems, wantMounts) {
		t.Errorf("file systems: got %+v, want %+v", got.FileSystems, wantMounts)
	}
	if got.BootID != "c0ffee00-1111-2222-3333-444455556666" || got.System != "linux 6.1.0-56-cloud-amd64" {
		t.Errorf("got boot id %q and system %q", got.BootID, got.System)
	}
	if e := got.Tracking[1]; !e.Usable || e.Built {
		t.Errorf("eBPF: got %+v, want usable, and not built", e)
	}
}

func TestEveryObstacleToTrackingIsNamed(t *testing.T) {
	for change, want := range map[[2]string]string{
		{"proc/sys/kernel/osrelease", "5.10.0-19-amd64"}:                     "older than 5.12",
		{"proc/sys/kernel/osrelease", "4.18-rc1"}:                            "older than 5.12",
		{"sys/kernel/btf/vmlinux", ""}:                                       "no /sys/kernel/btf/vmlinux",
		{"sys/kernel/security/lockdown", "none integrity [confidentiality]"}: "locked down",
		{"sys/block/sda/queue/iostats", "0"}:                                 "/dev/sda keeps no statistics",
	} {
		files := typical()
		if files[change[0]] = change[1]; change[1] == "" {
			delete(files, change[0])
		}
		got, err := takeInventory(system(t, files))
		if err != nil {
			t.Fatal(err)
		}
		if e := got.Tracking[1]; e.Usable || len(e.Obstacles) != 1 || !strings.Contains(e.Obstacles[0], want) {
			t.Errorf("%s = %q: got %+v, want an obstacle with %q", change[0], change[1], e, want)
		}
	}
}

func TestWithoutABootIDThereIsNoInventory(t *testing.T) {
	files := typical()
	delete(files, "proc/sys/kernel/random/boot_id")
	if got, err := takeInventory(system(t, files)); err == nil {
		t.Errorf("got %+v", got)
	}
}
