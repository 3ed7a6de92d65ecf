package kvm

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"riparo/hypervisor"
)

func TestDefinitionsAreCheckedAsAWhole(t *testing.T) {
	good := `{"name": "web01", "memory_mib": 512, "cpus": 1, "disks": [{"key": "vda", "path": "web01.raw", "format": "raw"}]}`
	if _, err := parseDefinition([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ from, to, says string }{
		{`"web01"`, `"../web01"`, "name"},
		{`"web01"`, `"` + strings.Repeat("w", 64) + `"`, "name"},
		{`512`, `5`, "memory_mib"},
		{`"cpus": 1`, `"cpus": 0`, "cpus"},
		{`"cpus": 1`, `"cpus": 1, "memmory": 1`, "memmory"},
		{`"cpus": 1`, `"cpus": 1, "network": "bridge a b"`, "network"},
		{`"cpus": 1`, `"cpus": 1, "network": "bridge br0,script=/bin/sh"`, "network"},
		{`"cpus": 1`, `"cpus": 1, "nics": [{"mac": "52:54"}]`, "MAC"},
		{`"cpus": 1`, `"cpus": 1, "disk_bus": "floppy"`, "disk_bus"},
		{`"vda"`, `"vd/a"`, "key"},
		{`"vda"`, `"seventeen-letters"`, "key"},
		{`"format": "raw"`, `"format": "vmdk"`, "format"},
		{`"format": "raw"`, `"format": "raw", "backing": "nbd://x/y"`, "backing"},
		{`"web01.raw"`, `""`, "path"},
		{`}]}`, `}, {"key": "vda", "path": "x", "format": "raw"}]}`, "two disks"},
	} {
		if _, err := parseDefinition([]byte(strings.Replace(good, c.from, c.to, 1))); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("with %s: %v, want a complaint about %q", c.to, err, c.says)
		}
	}
}

func TestTheCommandLineSaysWhatTheDefinitionDoes(t *testing.T) {
	s := &Site{folder: "/site"}
	d := &Definition{
		Name: "web01", MemoryMiB: 512, CPUs: 2, Network: "isolated", GuestAgent: true, Owner: "m-1/test",
		NICs: []hypervisor.NIC{{MAC: "52:54:00:00:00:01"}},
		Disks: []DiskDefinition{
			{Key: "vda", Path: "a,b.qcow2", Format: "qcow2", Backing: "nbd+unix:///web01.vda?socket=/run/x.sock"},
			{Key: "vdb", Path: "/dev/vg/web01", Format: "raw", Boot: true},
		},
	}
	a, err := s.arguments(d, "tcg")
	if err != nil {
		t.Fatal(err)
	}
	line := strings.Join(a, " ")
	for _, want := range []string{
		"-machine q35,accel=tcg -cpu max -m 512 -smp 2", "-S -no-shutdown -daemonize", "user,id=net0,restrict=on", `"mac":"52:54:00:00:00:01"`,
		"socket,id=control,path=/site/run/web01/control.qmp,server=on,wait=off", "name=org.qemu.guest_agent.0",
	} {
		if !strings.Contains(line, want) {
			t.Errorf("the command line lacks %q: %s", want, line)
		}
	}
	var objects []map[string]any
	for i, word := range a {
		if word == "-blockdev" || word == "-device" && strings.HasPrefix(a[i+1], "{") {
			var object map[string]any
			if err := json.Unmarshal([]byte(a[i+1]), &object); err != nil {
				t.Fatal(err)
			}
			objects = append(objects, object)
		}
	}
	find := func(key, value string) map[string]any {
		i := slices.IndexFunc(objects, func(o map[string]any) bool { return o[key] == value })
		if i < 0 {
			t.Fatalf("nothing has %s %s", key, value)
		}
		return objects[i]
	}
	if back := find("node-name", "back-vda"); back["driver"] != "nbd" || back["export"] != "web01.vda" || back["reconnect-delay"] != float64(reconnectDelay) || back["read-only"] != true {
		t.Errorf("below vda: %v", back)
	}
	if top := find("node-name", "disk-vda"); top["backing"] != "back-vda" || top["file"].(map[string]any)["filename"] != "/site/a,b.qcow2" {
		t.Errorf("vda: %v", top)
	}
	if device := find("id", "dev-vdb"); device["bootindex"] != float64(1) || device["serial"] != Serial("m-1/test", "vdb") {
		t.Errorf("vdb's device: %v", device)
	}
	if device := find("id", "dev-vda"); device["bootindex"] != nil {
		t.Errorf("vda boots too: %v", device)
	}
	if d.Network = ""; len(networkArguments(d)) > 0 {
		t.Errorf("a machine without a network has a card: %v", networkArguments(d))
	}
}

func TestSocketsFitTheirLimit(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", "")
	for _, folder := range []string{"/srv/machines", "/" + strings.Repeat("deep/", 30)} {
		s := &Site{folder: folder}
		seen := map[string]bool{}
		for _, name := range []string{"a", strings.Repeat("n", 63)} {
			path := s.socket(name, longestSocket)
			if len(path) > maxSocketPath || seen[path] {
				t.Errorf("the socket of %s in %s is %s (%d bytes)", name, folder, path, len(path))
			}
			seen[path] = true
		}
		if short := s.socket("a", longestSocket); folder == "/srv/machines" && short != filepath.Join(folder, "run/a", longestSocket) {
			t.Errorf("a short path was not used: %s", short)
		}
	}
}

func TestSerialsTellOwnersAndDisksApart(t *testing.T) {
	seen := map[string]bool{}
	for _, owner := range []string{"web01", "m-1/test", "m-1/failover"} {
		for _, key := range []string{"vda", "vdb"} {
			serial := Serial(owner, key)
			if len(serial) > 20 || seen[serial] || serial != Serial(owner, key) {
				t.Errorf("serial %q of %s %s", serial, owner, key)
			}
			seen[serial] = true
		}
	}
}
