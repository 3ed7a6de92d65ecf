package vault

import (
	"bytes"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"riparo/replication"
	"riparo/replication/vfs"
)

func TestANewMasterKeyTakesOverWhenItIsToldTo(t *testing.T) {
	disk, s := sealedVault(t)
	v := open(t, disk, "v", Options{Keys: masterKeys{"first", "second"}})
	if got := v.KeyState().Master; got != "first" {
		t.Errorf("master key %s before anybody asked for another, want first", got)
	}
	if err := v.RotateMasterKey(t.Context(), masterKeys{"first", "second"}); err != nil {
		t.Fatal(err)
	}
	if got := v.KeyState().Master; got != "second" {
		t.Errorf("master key %s, want second", got)
	}
	s.vault = v
	s.check()
	s.write(change(5, 1000, 7))
	if err := v.RotateVaultKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	if glance, err := Look(disk, "v"); err != nil || glance != (Glance{There: true, Encrypted: true, Master: "second"}) {
		t.Errorf("a look from outside: %+v, %v", glance, err)
	}
	if _, err := Open(t.Context(), disk, "v", Options{Keys: masterKeys{"first"}}); !hasCode(err, CodeKeyWrong) {
		t.Errorf("with the old key: %v, want %s", err, CodeKeyWrong)
	}
	s.vault = open(t, disk, "v", Options{Keys: masterKeys{"second"}})
	s.check()
}

func TestTheKeyOfAVaultIsChangedForAllItsDisks(t *testing.T) {
	disk, s := sealedVault(t)
	v := open(t, disk, "v", Options{})
	s.vault = v
	other := newSender(t, v, "e", 100_000)
	other.write(change(0, 1000, 1))
	other.mark()
	before := wrappers(t, v, "d", "e")
	for want := uint32(2); want < 5; want++ {
		if err := v.RotateVaultKey(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := v.KeyState().VaultKey; got != want || len(v.keys.file.keys) != 1 {
			t.Errorf("key %d of %d, want key %d alone", got, len(v.keys.file.keys), want)
		}
		s.check()
	}
	if after := wrappers(t, v, "d", "e"); !slices.Equal(before, []string{"1", "1"}) || !slices.Equal(after, []string{"4", "4"}) {
		t.Errorf("the disks' keys were wrapped by %v, and are by %v; want 1 1 and 4 4", before, after)
	}
	newSender(t, v, "f", 1000).write(change(0, 1000, 1)) // a disk that was not there before
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	v = open(t, disk, "v", Options{})
	s.vault, other.vault = v, v
	s.check()
	other.check()
}

// wrappers are the keys of the vault by which the keys of disks are wrapped, as the
// files say.
func wrappers(t *testing.T, v *Vault, disks ...replication.DiskID) []string {
	t.Helper()
	var list []string
	for _, id := range disks {
		f, whole, err := v.readKeys(v.diskFolder(id))
		if err != nil || !whole {
			t.Fatalf("keys of disk %s: whole %v, %v", id, whole, err)
		}
		for _, k := range f.keys {
			list = append(list, k.wrapper)
		}
	}
	return list
}

// An old data key stays while a segment has a block of it, and goes with the last one.
// It stays for this opening too: a batch under way may be sealed with it.
func TestAnOldDataKeyStaysUntilNoBlockNeedsIt(t *testing.T) {
	sealedOnly(t)
	disk := vfs.NewSim(1)
	o := Options{segmentBytes: 64 << 10, memoryEntries: 4, manual: true}
	v := open(t, disk, "v", o)
	s := newSender(t, v, "d", 400_000)
	fill := func(seed uint64) {
		t.Helper()
		for at := int64(0); at < 400_000; at += 40_000 {
			noise := make([]byte, 40_000)
			fillNoise(noise, seed<<32|uint64(at))
			s.write(replication.Change{Extent: replication.Extent{Offset: at, Length: 40_000}, Data: noise})
		}
		s.mark()
	}
	held := func() []uint32 {
		t.Helper()
		if err := v.disks["d"].maintain(t.Context()); err != nil {
			t.Fatal(err)
		}
		return v.KeyState().Disks[0].Held
	}
	fill(1)
	if err := v.RotateDataKey(t.Context(), "d"); err != nil {
		t.Fatal(err)
	}
	fill(2)
	if e := block(t, v, "d", "", 0); e.key != 2 {
		t.Errorf("a block is sealed with key %d, want 2", e.key)
	}
	if e := block(t, v, "d", "p00001", 0); e.key != 1 {
		t.Errorf("an older block is sealed with key %d, want 1", e.key)
	}
	reopen := func() {
		t.Helper()
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
		v = open(t, disk, "v", o)
		s.vault = v
		s.check()
	}
	if got := held(); !slices.Equal(got, []uint32{1, 2}) {
		t.Errorf("keys %v, want 1 and 2", got)
	}
	reopen()
	if got := held(); !slices.Equal(got, []uint32{1, 2}) {
		t.Errorf("a point needs blocks of key 1, and the keys are %v", got)
	}
	fill(3)
	s.drop(s.points[0].id, s.points[1].id) // the segment of the change has both keys
	if got := held(); !slices.Equal(got, []uint32{2}) {
		t.Errorf("no segment has a block of key 1, and the keys are %v", got)
	}
	reopen()
	if got := held(); !slices.Equal(got, []uint32{2}) {
		t.Errorf("after another opening the keys are %v", got)
	}
	if err := v.RotateDataKey(t.Context(), "d"); err != nil {
		t.Fatal(err)
	}
	if err := v.RotateDataKey(t.Context(), "d"); err != nil {
		t.Fatal(err)
	}
	if got := held(); !slices.Equal(got, []uint32{2, 3, 4}) {
		t.Errorf("keys of this opening may be in use, and the keys are %v", got)
	}
	fill(4)
	reopen()
	// Key 3 sealed nothing, and what is there of key 2 is needed.
	if got := held(); got[0] != 2 || got[len(got)-1] != 4 {
		t.Errorf("keys %v, want 2 to 4", got)
	}
	s.check()
}

// Compaction brings blocks of an old key under the new one.
func TestARotationGoesOnInTheBackground(t *testing.T) {
	sealedOnly(t)
	disk := vfs.NewSim(1)
	o := Options{segmentBytes: 64 << 10, memoryEntries: 4, manual: true, eager: true}
	v := open(t, disk, "v", o)
	s := newSender(t, v, "d", 400_000)
	for at := int64(0); at < 400_000; at += 20_000 {
		noise := make([]byte, 20_000)
		fillNoise(noise, uint64(at))
		s.write(replication.Change{Extent: replication.Extent{Offset: at, Length: 20_000}, Data: noise})
	}
	s.mark()
	if err := v.RotateDataKey(t.Context(), "d"); err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		s.write(change(int64(i)*10, 10, byte(i)))
		s.mark()
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	v = open(t, disk, "v", o)
	s.vault = v
	for range 100 {
		did, err := v.disks["d"].compact(t.Context(), unhindered)
		if err != nil {
			t.Fatal(err)
		}
		if !did || len(v.KeyState().Disks[0].Held) == 1 {
			break
		}
	}
	if got := v.KeyState().Disks[0].Held; !slices.Equal(got, []uint32{2}) {
		t.Errorf("after compaction the keys are %v, want 2 alone", got)
	}
	s.check()
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	s.vault = open(t, disk, "v", o)
	s.check()
}

// Whoever copied the segments of a disk can read them with the master key, and cannot
// any more once the disk is erased: its keys were nowhere but in the files of the
// vault. A copy of those would still open: the promise ends there, and the test shows
// that too.
func TestAnErasedDiskCannotBeReadFromACopyOfItsSegments(t *testing.T) {
	disk, s := sealedVault(t)
	copied := disk.Clone()
	folder := filepath.Join("v", disksName, "disk-d.d")
	v := open(t, disk, "v", Options{})
	w, err := v.View(t.Context(), "d", "")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	secret := slices.Clone(v.disks["d"].keys.keys[1].secret)
	wrapped := v.disks["d"].keys.file.keys[0].wrapped
	if err := v.Erase(t.Context(), "d"); err != nil {
		t.Fatal(err)
	}
	if _, err := readAll(w); err == nil {
		t.Error("an open view still reads")
	}
	for name, p := range everything(t, disk) {
		if filepath.Dir(name) == folder {
			t.Errorf("file %s is still there", name)
		}
		if bytes.Contains(p, wrapped) || bytes.Contains(p, secret) {
			t.Errorf("file %s has the key, wrapped or not", name)
		}
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	// The thief has the segments, the vault's own files, and the master key.
	keys := map[string][]byte{}
	for _, name := range []string{keysName, keysCopyName} {
		keys[name] = everything(t, copied)[filepath.Join(folder, name)]
		if err := copied.Remove(filepath.Join(folder, name)); err != nil {
			t.Fatal(err)
		}
	}
	thief := open(t, copied, "v", Options{})
	if _, err := thief.View(t.Context(), "d", ""); !hasCode(err, CodeKeyDamaged) {
		t.Errorf("the copy: %v, want %s", err, CodeKeyDamaged)
	}
	if err := thief.Close(); err != nil {
		t.Fatal(err)
	}
	for name, p := range keys {
		f, err := copied.Create(filepath.Join(folder, name))
		if err == nil {
			_, err = f.WriteAt(p, 0)
		}
		if err == nil {
			err = f.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	s.vault = open(t, copied, "v", Options{})
	s.check()
}

// A crash while a disk is erased leaves keys, or none: what it never leaves is a disk
// that could be taken for whole.
func TestErasingGoesOnAfterAPowerCut(t *testing.T) {
	sealedOnly(t)
	for cut := range 30 {
		disk, _ := sealedVault(t)
		v, err := Open(t.Context(), disk, "v", keyed(Options{manual: true}))
		if err != nil {
			t.Fatal(err)
		}
		disk.CutPower(cut)
		err = v.Erase(t.Context(), "d")
		finished := !disk.PowerIsCut()
		v.kill()
		if !finished && err == nil {
			t.Errorf("cut %d: erased without power", cut)
		}
		disk = disk.Restart()
		segments, keys := 0, 0
		names, _ := disk.Files()
		for _, name := range names {
			if strings.HasSuffix(name, segmentSuffix) {
				segments++
			}
		}
		onDisk := &Vault{fs: disk, dir: "v"}
		if _, _, err := onDisk.readKeys(onDisk.diskFolder("d")); err == nil {
			keys++
		}
		if segments == 0 && keys > 0 {
			t.Errorf("cut %d: the segments went before the keys", cut)
		}
		again := open(t, disk, "v", Options{manual: true})
		if list := again.Disks(); len(list) == 1 && list[0].Trouble != nil {
			t.Errorf("cut %d: the disk is there without being whole: %v", cut, list[0].Trouble)
		} else if len(list) == 0 {
			if f, _, err := again.readKeys(again.diskFolder("d")); err == nil {
				t.Errorf("cut %d: erased, and %d of its keys are there", cut, len(f.keys))
			}
		}
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
