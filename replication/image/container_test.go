package image

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestAContainerIsNotADisk judges by what qemu-img itself writes.
func TestAContainerIsNotADisk(t *testing.T) {
	if _, err := exec.LookPath("qemu-img"); err != nil {
		t.Skip("qemu-img is not installed")
	}
	for name, arguments := range map[string][]string{
		"qcow2": {"-f", "qcow2"}, "vhdx": {"-f", "vhdx"}, "vdi": {"-f", "vdi"}, "vmdk": {"-f", "vmdk"}, "split vmdk": {"-f", "vmdk", "-o", "subformat=twoGbMaxExtentSparse"},
		"streamed vmdk": {"-f", "vmdk", "-o", "subformat=streamOptimized"}, "dynamic vhd": {"-f", "vpc"}, "fixed vhd": {"-f", "vpc", "-o", "subformat=fixed"},
	} {
		path := filepath.Join(t.TempDir(), "disk")
		if out, err := exec.Command("qemu-img", append(append([]string{"create", "-q"}, arguments...), path, "16M")...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
		f, err := OpenFile(path)
		wantProblem(t, err, "image.container")
		if err == nil {
			f.Close()
			continue
		}
		f, err = OpenFile(path, AsRaw)
		if err != nil {
			t.Errorf("%s, as a disk: %v", name, err)
			continue
		}
		f.Close()
	}
}

// TestAFileTooShortForASignatureIsADisk, however little there is of it.
func TestAFileTooShortForASignatureIsADisk(t *testing.T) {
	for _, content := range []string{"", "QF", "conecti"} {
		path := filepath.Join(t.TempDir(), "disk")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := OpenFile(path)
		if err != nil {
			t.Errorf("%q: %v", content, err)
			continue
		}
		f.Close()
	}
}
