package vault

import (
	"os"
	"path/filepath"
	"testing"

	"riparo/replication"
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
	report := soundReport(t, read)
	if report.Segments != 2 {
		t.Errorf("%d segments were verified, want 2", report.Segments)
	}
	s.vault = read
	s.check()
}

// soundReport verifies that nothing of a vault is damaged that is needed.
func soundReport(t *testing.T, v *Vault) VerifyReport {
	t.Helper()
	report, err := v.Verify(t.Context(), VerifyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range report.Damage {
		if !d.Harmless {
			t.Errorf("reported as damage: %+v", d)
		}
	}
	return report
}

// What a power cut left of a record that was never acknowledged is none of the log, though
// a vault that is only read leaves it where it is.
func TestWhatACutOffAppendLeftIsNotVerified(t *testing.T) {
	dir := t.TempDir()
	o := Options{manual: true}
	s := leftDisk(t, unsyncedFS{vfs.OS()}, dir, o, 3)
	end := s.vault.disks["d"].log.current.end
	s.write(change(0, 60<<10, 7)) // it does not arrive
	s.vault.kill()
	name := filepath.Join(dir, "disks", "disk-d.d", segmentName(1))
	torn := fileOf(t, name)
	clear(torn[end+recordHeaderSize : end+recordHeaderSize+20]) // in its table
	replace(t, name, torn)
	read, err := Open(t.Context(), vfs.OS(), dir, Options{manual: true, ReadOnly: true, Keys: s.vault.options.Keys})
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	soundReport(t, read)
}

// An inventory that a recovery wrote once more counts where it is now: the segment with
// the first copy goes.
func TestAnInventoryThatWasWrittenOnceMoreCountsWhereItIs(t *testing.T) {
	dir := t.TempDir()
	o := Options{manual: true, segmentBytes: 64 << 10, eager: true}
	s := newSender(t, open(t, unsyncedFS{vfs.OS()}, dir, o), "d", 64<<10)
	write := func(i uint64) { // a segment of its own
		noise := make([]byte, 64<<10)
		fillNoise(noise, i)
		s.write(replication.Change{Extent: replication.Extent{Length: int64(len(noise))}, Data: noise})
	}
	for i := range uint64(3) {
		write(i)
		s.mark()
	}
	s.drop(s.points[0].id, s.points[1].id)
	write(3)
	if err := s.vault.disks["d"].maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	numbers := segmentsOf(t, s.vault)
	last := numbers[len(numbers)-1]
	s.vault.kill()
	folder := filepath.Join(dir, "disks", "disk-d.d")
	name := filepath.Join(folder, segmentName(last))
	first := fileOf(t, name)
	r, err := openSegment(vfs.OS(), folder, last)
	if err != nil {
		t.Fatal(err)
	}
	if rec, err := r.record(segmentHeaderSize); err != nil || rec.kind != kindInventory {
		t.Fatalf("segment %d of %v begins with a record of kind %d, %v: want an inventory", last, numbers, rec.kind, err)
	}
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
	noCatalog := func() {
		if err := os.Remove(filepath.Join(folder, catalogName)); err != nil {
			t.Fatal(err)
		}
	}
	noCatalog()                                     // which would be a witness of the inventory
	s.vault = open(t, unsyncedFS{vfs.OS()}, dir, o) // writes it once more
	s.vault.kill()
	if _, err := os.Stat(name); !os.IsNotExist(err) {
		t.Fatalf("segment %d is still there (%v)", last, err)
	}
	// The power went before the removal was certain, and there is no catalog.
	if err := os.WriteFile(name, first, 0o600); err != nil {
		t.Fatal(err)
	}
	noCatalog()
	s.vault = open(t, unsyncedFS{vfs.OS()}, dir, o)
	soundReport(t, s.vault)
	if g, known := s.vault.disks["d"].segmentInfo(last); known {
		t.Errorf("the disk still needs %+v", g)
	}
}
