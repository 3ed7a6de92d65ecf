package vault

import (
	"bytes"
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"riparo/replication"
	"riparo/replication/vfs"
)

// sealedVault has a disk with one point, and is closed.
func sealedVault(t *testing.T) (*vfs.Sim, *sender) {
	t.Helper()
	sealedOnly(t)
	disk := vfs.NewSim(1)
	v := open(t, disk, "v", Options{})
	s := newSender(t, v, "d", 300_000)
	s.write(change(0, 300_000, 1))
	s.mark()
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	return disk, s
}

// sameFiles compares all files but the lock.
func sameFiles(t *testing.T, before, after map[string][]byte) {
	t.Helper()
	for _, list := range []map[string][]byte{before, after} {
		maps.DeleteFunc(list, func(name string, _ []byte) bool { return filepath.Base(name) == lockName })
	}
	for _, name := range slices.Sorted(maps.Keys(after)) {
		if was, ok := before[name]; !ok || !bytes.Equal(was, after[name]) {
			t.Errorf("file %s was changed", name)
		}
	}
	if len(before) != len(after) {
		t.Errorf("%d files, were %d", len(after), len(before))
	}
}

func TestAVaultOpensWithItsMasterKeyOnlyAndAWrongOneChangesNothing(t *testing.T) {
	disk, s := sealedVault(t)
	before := everything(t, disk)
	for name, try := range map[string]struct {
		options Options
		code    string
		says    string
	}{
		"no key":                     {Options{}, CodeKeyMissing, "master key first"},
		"no key, to make one":        {Options{Create: true}, CodeKeyMissing, "master key first"},
		"no encryption":              {Options{Create: true, Plain: true}, CodeKeyMissing, "master key first"},
		"another key":                {Options{Keys: masterKeys{"second"}}, CodeKeyWrong, "master key first, and the one that was given is second"},
		"another key, for reading":   {Options{ReadOnly: true, Keys: masterKeys{"second"}}, CodeKeyWrong, "second"},
		"a key that only looks like": {Options{Keys: impostor{masterKeys{"first"}}}, CodeKeyDamaged, "does not open"},
	} {
		_, err := Open(t.Context(), disk, "v", try.options)
		p := replication.AsProblem(err)
		if p == nil || p.Code != try.code || p.Remedy != replication.Stop || !strings.Contains(p.Cause, try.says) || p.Effect == "" || p.Action == "" {
			t.Errorf("%s: %v, want %s with %q", name, err, try.code, try.says)
		}
	}
	sameFiles(t, before, everything(t, disk))
	s.vault = open(t, disk, "v", Options{})
	s.check()
}

// impostor has another key under the right name.
type impostor struct{ masterKeys }

func (i impostor) Unwrap(name string, wrapped, label []byte) ([]byte, error) {
	return unwrap(make([]byte, keyBytes), wrapped, label)
}

// What is not sealed can be read by anybody, and says so much of what is: who only
// wants to know what is there needs no key.
func TestWithoutKeyAVaultTellsItsPointsAndNotTheirContent(t *testing.T) {
	disk, s := sealedVault(t)
	before := everything(t, disk)
	v, err := Open(t.Context(), disk, "v", Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if points, err := v.Points("d"); err != nil || len(points) != 1 || points[0].ID != s.points[0].id {
		t.Errorf("points %v, %v", points, err)
	}
	w, err := v.View(t.Context(), "d", "")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := readAll(w); !hasCode(err, CodeKeyMissing) {
		t.Errorf("read: %v, want %s", err, CodeKeyMissing)
	}
	regions := 0
	for _, err := range w.Regions(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		regions++
	}
	if regions == 0 {
		t.Error("no region was told")
	}
	// The stored bytes can be checked, and damage to them be found.
	real := func() int {
		t.Helper()
		report, err := v.Verify(t.Context(), VerifyOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return harm(report)
	}
	if n := real(); n != 0 {
		t.Errorf("verify reports damage %d times, want none", n)
	}
	damage(t, disk, v, "d", "", 100_000)
	if n := real(); n != 1 {
		t.Errorf("verify reports damage %d times, want once", n)
	}
	if after := everything(t, disk); len(after) != len(before) {
		t.Errorf("%d files, were %d", len(after), len(before))
	}
	if state := v.KeyState(); !state.Encrypted || state.Master != "first" || len(state.Disks) != 1 {
		t.Errorf("%+v", state)
	}
}

func TestWhoMakesAVaultSaysWhetherItIsEncrypted(t *testing.T) {
	disk := vfs.NewSim(1)
	if _, err := Open(t.Context(), disk, "v", Options{Create: true}); !hasCode(err, CodeKeyMissing) {
		t.Errorf("%v, want %s", err, CodeKeyMissing)
	}
	v := open(t, disk, "v", Options{Plain: true})
	if state := v.KeyState(); state.Encrypted {
		t.Errorf("%+v, want no encryption", state)
	}
}

// Vaults of version 1 were made before there was encryption. They are opened as they
// are, and an older program can go on with them.
func TestAVaultWithoutEncryptionStaysAsItIs(t *testing.T) {
	disk := vfs.NewSim(1)
	v := open(t, disk, "v", Options{Plain: true})
	s := newSender(t, v, "d", 300_000)
	s.write(change(0, 100_000, 1))
	s.mark()
	for range 2 {
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
		if v, err := Open(t.Context(), disk, "v", Options{Create: true, Keys: masterKeys{"first"}}); err != nil {
			t.Fatal(err)
		} else {
			s.vault = v
			t.Cleanup(func() { v.Close() })
		}
		v = s.vault
		s.write(change(100_000, 100_000, 2))
		s.mark()
		s.check()
		if v.KeyState().Encrypted {
			t.Error("it is encrypted now")
		}
		if err := v.RotateVaultKey(t.Context()); !hasCode(err, CodeKeyMissing) {
			t.Errorf("rotate: %v, want %s", err, CodeKeyMissing)
		}
		if err := v.RotateDataKey(t.Context(), "d"); !hasCode(err, CodeKeyMissing) {
			t.Errorf("rotate: %v, want %s", err, CodeKeyMissing)
		}
	}
	for name, p := range everything(t, disk) {
		base := filepath.Base(name)
		if base == keysName || base == keysCopyName {
			t.Errorf("there is a file %s", name)
		}
		if (base == headerName || strings.HasSuffix(base, segmentSuffix)) && p[8] != plainVersion {
			t.Errorf("file %s has version %d, want %d", name, p[8], plainVersion)
		}
	}
}

// Older programs know one version only, and look for it in the vault file and in the
// header of each segment.
func TestAnOlderProgramSeesThatAVaultIsEncrypted(t *testing.T) {
	disk, _ := sealedVault(t)
	seen := 0
	for name, p := range everything(t, disk) {
		if base := filepath.Base(name); base == headerName || strings.HasSuffix(base, segmentSuffix) {
			seen++
			if p[8] != 2 {
				t.Errorf("file %s has version %d, want 2", name, p[8])
			}
		}
	}
	if seen < 2 {
		t.Errorf("%d files were looked at", seen)
	}
}

func TestNobodyMakesAnEncryptedVaultWriteInTheClear(t *testing.T) {
	disk, s := sealedVault(t)
	// Whoever can write to the storage puts a vault file of version 1 in the place.
	f, err := disk.Open(filepath.Join("v", headerName))
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, headerSize)
	if err := readFull(f, p, 0); err != nil {
		t.Fatal(err)
	}
	old := &Vault{}
	if err := old.parseHeader(p); err != nil {
		t.Fatal(err)
	}
	old.sealed = false
	if _, err := f.WriteAt(old.encodeHeader(), 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	s.vault = open(t, disk, "v", Options{})
	s.write(change(5, 1000, 7))
	s.check()
	if e := block(t, s.vault, "d", "", 10); e.key == 0 {
		t.Error("a block was not sealed")
	}
}

func TestKeysSurviveTheLossOfOneCopy(t *testing.T) {
	disk, s := sealedVault(t)
	folder := filepath.Join("v", disksName, "disk-d.d")
	lose := map[string]func(name string) error{
		"a flipped bit": func(name string) error { return disk.FlipBit(name, 8*40+3) },
		"no file":       func(name string) error { return disk.Remove(name) },
	}
	for what, how := range lose {
		for _, dir := range []string{"v", folder} {
			for _, name := range []string{keysName, keysCopyName} {
				if err := how(filepath.Join(dir, name)); err != nil {
					t.Fatal(err)
				}
				v := open(t, disk, "v", Options{ReadOnly: true})
				report, err := v.Verify(t.Context(), VerifyOptions{})
				if err != nil || !slices.ContainsFunc(report.Damage, func(d Damage) bool { return d.Harmless && strings.Contains(d.Reason, "file "+name+":") }) {
					t.Errorf("%s, %s: verify reports %+v, %v; want harmless damage to it", what, filepath.Join(dir, name), report.Damage, err)
				}
				if err := v.Close(); err != nil {
					t.Fatal(err)
				}
				s.vault = open(t, disk, "v", Options{})
				s.check()
				if err := s.vault.Close(); err != nil {
					t.Fatal(err)
				}
				if _, whole, err := s.vault.readKeys(dir); err != nil || !whole {
					t.Errorf("%s, %s: the copies are not equal again: %v", what, filepath.Join(dir, name), err)
				}
			}
		}
	}
}

func TestKeysThatAreLostAreToldAndTakeNothingElseAlong(t *testing.T) {
	disk, s := sealedVault(t)
	v := open(t, disk, "v", Options{})
	other := newSender(t, v, "e", 1000)
	other.write(change(0, 1000, 3))
	other.mark()
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join("v", disksName, "disk-d.d")
	for _, name := range []string{keysName, keysCopyName} {
		if err := disk.FlipBit(filepath.Join(folder, name), 8*40+3); err != nil {
			t.Fatal(err)
		}
	}
	v = open(t, disk, "v", Options{})
	if _, err := v.View(t.Context(), "d", ""); !hasCode(err, CodeKeyDamaged) {
		t.Errorf("the disk: %v, want %s", err, CodeKeyDamaged)
	}
	other.vault = v
	other.check()
	// The key of the vault may not be changed for good while a disk may still need it.
	if err := v.RotateVaultKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(v.keys.file.keys); n != 2 {
		t.Errorf("%d keys of the vault, want the old one too", n)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{keysName, keysCopyName} { // the medium was at fault
		if err := disk.FlipBit(filepath.Join(folder, name), 8*40+3); err != nil {
			t.Fatal(err)
		}
	}
	s.vault = open(t, disk, "v", Options{})
	s.check()
	if n := len(s.vault.keys.file.keys); n != 1 {
		t.Errorf("%d keys of the vault after the disk was back, want 1", n)
	}
	if err := s.vault.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{keysName, keysCopyName} {
		if err := disk.Remove(filepath.Join("v", name)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Open(t.Context(), disk, "v", keyed(Options{})); !hasCode(err, CodeKeyDamaged) || !errors.Is(err, errNoKeys) {
		t.Errorf("without the keys of the vault: %v, want %s", err, CodeKeyDamaged)
	}
}

// The vault file can be made anew: identity and session are in other files too.
func TestAnEncryptedVaultDoesWithoutItsFirstFile(t *testing.T) {
	disk, s := sealedVault(t)
	empty := vfs.NewSim(2)
	if err := open(t, empty, "v", Options{}).Close(); err != nil {
		t.Fatal(err)
	}
	for _, d := range []*vfs.Sim{disk, empty} {
		if err := d.Remove(filepath.Join("v", headerName)); err != nil {
			t.Fatal(err)
		}
	}
	s.vault = open(t, disk, "v", Options{})
	s.check()
	s.write(change(5, 1000, 7))
	s.check()
	again := newSender(t, open(t, empty, "v", Options{}), "d", 10_000)
	again.write(change(5, 1000, 7))
	again.check()
}
