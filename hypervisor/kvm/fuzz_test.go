package kvm

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// FuzzDefinition reads the definition of a machine that others wrote. One that passes
// becomes a command line: nothing in it may add an option of its own.
func FuzzDefinition(f *testing.F) {
	f.Add([]byte(`{"name": "web01", "memory_mib": 512, "cpus": 1, "disks": [{"key": "vda", "path": "web01.raw", "format": "raw"}]}`))
	f.Add([]byte(`{"name": "w", "memory_mib": 64, "cpus": 2, "network": "bridge br0", "nics": [{"mac": "52:54:00:00:00:01"}], "disks": [{"key": "a", "path": "a,b.qcow2", "format": "qcow2", "backing": "nbd+unix:///x?socket=/y"}]}`))
	s := &Site{folder: "/site"}
	f.Fuzz(func(t *testing.T, p []byte) {
		d, err := parseDefinition(p)
		if err != nil {
			return
		}
		text, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseDefinition(text); err != nil {
			t.Fatalf("written again it is refused: %v: %s", err, text)
		}
		a, err := s.arguments(d, "tcg")
		if err != nil {
			return
		}
		alone := []string{"-no-user-config", "-nodefaults", "-S", "-no-shutdown", "-daemonize"}
		with := []string{"-name", "-machine", "-cpu", "-m", "-smp", "-uuid", "-display", "-pidfile", "-chardev", "-serial", "-mon", "-kernel", "-append",
			"-initrd", "-drive", "-blockdev", "-device", "-netdev", "-object"}
		for i := 0; i < len(a); i++ {
			switch {
			case slices.Contains(with, a[i]):
				i++
			case !slices.Contains(alone, a[i]):
				t.Fatalf("the option %q comes from the definition: %s", a[i], strings.Join(a, " "))
			}
		}
	})
}
