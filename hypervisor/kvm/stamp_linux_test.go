package kvm

import (
	"os"
	"path/filepath"
	"testing"
)

// What a block device was written to shows in what the kernel counts of it; that it was
// read does not.
func TestADeviceTellsThatItWasWritten(t *testing.T) {
	root := t.TempDir() + "/"
	put := func(path, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(root+path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(root+path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	stamp := func() string {
		t.Helper()
		text, err := deviceStamp(root, 253, 3)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	put("proc/sys/kernel/random/boot_id", "7f3c\n")
	for _, c := range []struct {
		what, counted string
		same          bool
	}{
		{"it was read", "  200 0 9000 51 40 0 320 12 0 60 63 2 0 64 1 9 3\n", true},
		{"it was written", "  200 0 9000 51 41 0 328 12 0 60 63 2 0 64 1 9 3\n", false},
		{"it was discarded", "  200 0 9000 51 40 0 320 12 0 60 63 3 0 128 1 9 3\n", false},
	} {
		put("sys/dev/block/253:3/stat", "  100 0 8000 50 40 0 320 12 0 60 62 2 0 64 1 9 3\n")
		before := stamp()
		put("sys/dev/block/253:3/stat", c.counted)
		if after := stamp(); (after == before) != c.same {
			t.Errorf("%s: the stamp is %q after %q", c.what, after, before)
		}
	}
	before := stamp()
	put("proc/sys/kernel/random/boot_id", "9a01\n")
	if after := stamp(); after == before {
		t.Errorf("after another boot the stamp is %q as before", after)
	}
}
