package vault

import (
	"os"
	"path/filepath"
	"testing"

	"riparo/replication/vfs"
)

// A process that is killed while it opens a vault leaves what was in doubt written once
// more, in a segment of its own, and the one before still without its footer. A vault
// that is only read shows both, and nothing of them is damaged.
func TestAVaultKilledWhileItWasOpenedIsVerifiedAsItIs(t *testing.T) {
	dir := t.TempDir()
	o := Options{manual: true}
	s := leftDisk(t, unsyncedFS{vfs.OS()}, dir, o, 3)
	s.vault.kill()
	folder := filepath.Join(dir, "disks", "disk-d.d")
	first := filepath.Join(folder, segmentName(1))
	killed := fileOf(t, first)
	s.vault = open(t, vfs.OS(), dir, o) // writes once more what was in doubt, and seals
	s.vault.kill()
	if r, err := openSegment(vfs.OS(), folder, 2); err != nil || r.header == nil || r.header.repeats == 0 {
		t.Fatalf("segment 2 repeats nothing: %v", err)
	} else if err := r.close(); err != nil {
		t.Fatal(err)
	}
	replace(t, first, killed)
	if err := os.Remove(filepath.Join(folder, catalogName)); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	read, err := Open(t.Context(), vfs.OS(), dir, Options{manual: true, ReadOnly: true, Keys: s.vault.options.Keys})
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	report, err := read.Verify(t.Context(), VerifyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range report.Damage {
		if !d.Harmless {
			t.Errorf("reported as damage: %+v", d)
		}
	}
	if report.Segments != 2 {
		t.Errorf("%d segments were verified, want 2", report.Segments)
	}
	s.vault = read
	s.check()
}
