package main

import (
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
)

// refusedWith runs a verb that must not succeed and gives the code of its problem.
func refusedWith(t *testing.T, want string, args ...string) {
	t.Helper()
	status, out, _ := call(t.Context(), append(args, "--json")...)
	if status != 1 {
		t.Errorf("riparo %q: status %d, want 1", args, status)
		return
	}
	code, cause, effect, remedy := problemOf(t, out)
	if code != want || cause == "" || effect == "" || remedy == "" {
		t.Errorf("riparo %q: %s: %s; %s; %s; want %s with effect and remedy", args, code, cause, effect, remedy, want)
	}
}

// One host burns down; its vault was copied, and its keys are in escrow.
func TestADiskIsBroughtBackOnAnotherHostFromVaultAndEscrow(t *testing.T) {
	t.Setenv(envKey, "")
	here, there, dir := t.TempDir(), t.TempDir(), t.TempDir()
	for _, name := range []string{"XDG_CONFIG_HOME", "AppData", "HOME"} {
		t.Setenv(name, here)
	}
	source := sparse(t, filepath.Join(dir, "disk.raw"), 1<<20, map[int64][]byte{5000: []byte("what only this machine knew"), 900_000: {1, 2, 3}})
	vault, out := filepath.Join(dir, "vault"), filepath.Join(dir, "out.raw")
	status, _, errs := call(t.Context(), "disk", "replicate", source, "--vault", vault, "--disk", "d")
	if status != 0 || !strings.Contains(errs, "master.key") || !strings.Contains(errs, "riparo keys export --key "+here) {
		t.Fatalf("the first replication: status %d\n%s\nwant a word about the new key and its escrow", status, errs)
	}
	if status, _, errs := call(t.Context(), "disk", "replicate", source, "--vault", vault, "--disk", "d"); status != 0 || strings.Contains(errs, "new master key") {
		t.Fatalf("the second replication: status %d\n%s", status, errs)
	}
	sentence := write(t, filepath.Join(dir, "sentence"), []byte("three calm sentences are enough\n"))
	wrong := write(t, filepath.Join(dir, "wrong"), []byte("three other sentences altogether\n"))
	short := write(t, filepath.Join(dir, "short"), []byte("short\n"))
	escrow := filepath.Join(dir, "escrow")
	refusedWith(t, "vault.key.passphrase-short", "keys", "export", escrow, "--passphrase-file", short)
	exported := must[shownKeys](t, "keys", "export", escrow, "--passphrase-file", sentence)
	refusedWith(t, "vault.key.escrow", "keys", "export", escrow, "--passphrase-file", sentence)

	for _, name := range []string{"XDG_CONFIG_HOME", "AppData", "HOME"} {
		t.Setenv(name, there)
	}
	export := []string{"disk", "export", "--vault", vault, "--disk", "d", out}
	refusedWith(t, "vault.key.missing", export...)
	// What there is can be listed without a key.
	if got := must[listing](t, "disk", "points", "--vault", vault); len(got.Points) != 2 {
		t.Errorf("points without a key: %+v, want 2", got)
	}
	if got := must[shownKeys](t, "keys", "show", "--vault", vault); got.Vault == nil || got.Vault.Master != exported.Keys[0].Name {
		t.Errorf("shown without a key: %+v, want master key %s", got, exported.Keys[0].Name)
	}
	other := filepath.Join(there, "other.key")
	must[map[string]any](t, "disk", "replicate", source, "--vault", filepath.Join(dir, "another"), "--disk", "d", "--key", other)
	refusedWith(t, "vault.key.wrong", append(export, "--key", other)...)
	refusedWith(t, "vault.key.passphrase", "keys", "import", escrow, "--passphrase-file", wrong)
	refusedWith(t, "vault.key.escrow", "keys", "import", source, "--passphrase-file", sentence)
	imported := must[shownKeys](t, "keys", "import", escrow, "--passphrase-file", sentence)
	if !strings.HasPrefix(imported.File, there) || imported.Keys[0] != exported.Keys[0] {
		t.Errorf("imported %+v, want the key %+v under %s", imported, exported.Keys[0], there)
	}
	must[map[string]any](t, export...)
	sameDisk(t, "the disk from the escrow", source, out)
	joined := must[shownKeys](t, "keys", "import", escrow, "--key", other, "--passphrase-file", sentence)
	if len(joined.Keys) != 2 || joined.Keys[1].Name == exported.Keys[0].Name {
		t.Errorf("joined: %+v; want both keys, and the one that was there to wrap", joined)
	}
}

// TestAKeyFileThatCannotBeUsedGivesWayToTheEscrow: its problem says to import, so that must
// be possible. What was there is kept.
func TestAKeyFileThatCannotBeUsedGivesWayToTheEscrow(t *testing.T) {
	dir := t.TempDir()
	key, vault, escrow := filepath.Join(dir, "master.key"), filepath.Join(dir, "vault"), filepath.Join(dir, "escrow")
	t.Setenv(envKey, key)
	source := sparse(t, filepath.Join(dir, "disk.raw"), 1<<20, map[int64][]byte{5000: []byte("what only this machine knew")})
	must[map[string]any](t, "disk", "replicate", source, "--vault", vault, "--disk", "d")
	sentence := write(t, filepath.Join(dir, "sentence"), []byte("three calm sentences are enough\n"))
	must[shownKeys](t, "keys", "export", escrow, "--passphrase-file", sentence)
	spoilt := []byte("riparo master keys 1 dpapi\nof another computer")
	if err := os.WriteFile(key, spoilt, 0o600); err != nil {
		t.Fatal(err)
	}
	refusedWith(t, "vault.key.file", "disk", "verify", "--vault", vault)
	must[shownKeys](t, "keys", "import", escrow, "--passphrase-file", sentence)
	sameDisk(t, "after the import", source, exported(t, vault, ""))
	// What is no key file of this version stays where it is.
	for _, other := range []string{"riparo master keys 2\nof a newer version", "a letter\nto somebody"} {
		if err := os.WriteFile(key, []byte(other), 0o600); err != nil {
			t.Fatal(err)
		}
		refusedWith(t, "vault.key.file", "keys", "import", escrow, "--passphrase-file", sentence)
	}
	aside, err := filepath.Glob(key + ".unusable-*")
	if err != nil || len(aside) != 1 {
		t.Fatalf("set aside: %v, %v", aside, err)
	}
	if kept, err := os.ReadFile(aside[0]); err != nil || string(kept) != string(spoilt) {
		t.Errorf("kept %q, %v", kept, err)
	}
}

func TestKeysAreRotatedAndTheOldOnesOpenNothing(t *testing.T) {
	dir := t.TempDir()
	key, old, vault := filepath.Join(dir, "master.key"), filepath.Join(dir, "old.key"), filepath.Join(dir, "vault")
	t.Setenv(envKey, key)
	source := sparse(t, filepath.Join(dir, "disk.raw"), 1<<20, map[int64][]byte{5000: []byte("what only this machine knew")})
	replicate := []string{"disk", "replicate", source, "--vault", vault, "--disk", "d"}
	must[map[string]any](t, replicate...)
	before := must[shownKeys](t, "keys", "show", "--vault", vault)
	was, err := os.ReadFile(key)
	if err == nil {
		err = os.WriteFile(old, was, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	after := must[shownKeys](t, "keys", "rotate", "--vault", vault)
	if len(after.Keys) != 2 || after.Vault.Master == before.Vault.Master || after.Vault.Master != after.Keys[1].Name || after.Vault.VaultKey != 2 || after.Vault.Disks[0].Newest != 2 {
		t.Errorf("after the rotation: %+v, want new keys everywhere", after)
	}
	refusedWith(t, "vault.key.wrong", "disk", "verify", "--vault", vault, "--key", old)
	must[map[string]any](t, replicate...)
	// Nothing is changed by what is refused, and no key goes without its name.
	refusedWith(t, "disk.unknown", "keys", "rotate", "--vault", vault, "--disk", "e")
	refusedWith(t, "vault.key.confirm", "keys", "rotate", "--vault", vault, "--forget-old")
	refusedWith(t, "vault.key.confirm", "keys", "rotate", "--vault", vault, "--forget-old", "--confirm", before.Vault.Master)
	for _, wrong := range [][]string{{"--only", "master", "--disk", "d"}, {"--only", "data", "--forget-old"}} {
		if status, _, errs := call(t.Context(), append([]string{"keys", "rotate", "--vault", vault}, wrong...)...); status != 2 {
			t.Errorf("%v: status %d, want 2\n%s", wrong, status, errs)
		}
	}
	if still := must[shownKeys](t, "keys", "show", "--vault", vault); !reflect.DeepEqual(still, after) {
		t.Errorf("after what was refused: %+v, want %+v", still, after)
	}
	only := must[shownKeys](t, "keys", "rotate", "--vault", vault, "--only", "master", "--forget-old", "--confirm", after.Vault.Master)
	if len(only.Keys) != 1 || only.Vault.VaultKey != 2 || only.Vault.Master == after.Vault.Master {
		t.Errorf("after the second rotation: %+v, want one master key, a new one, and the same key of the vault", only)
	}
	sameDisk(t, "after rotations", source, exported(t, vault, ""))
	if status, _, errs := call(t.Context(), "keys", "rotate", "--vault", vault, "--only", "everything"); status != 2 {
		t.Errorf("status %d, want 2\n%s", status, errs)
	}
}

func TestAVaultWithoutEncryptionHasToBeAskedFor(t *testing.T) {
	dir := t.TempDir()
	key, plain, sealed := filepath.Join(dir, "master.key"), filepath.Join(dir, "plain"), filepath.Join(dir, "sealed")
	t.Setenv(envKey, key)
	source := sparse(t, filepath.Join(dir, "disk.raw"), 1<<20, map[int64][]byte{5000: []byte("for everybody")})
	must[map[string]any](t, "disk", "replicate", source, "--vault", plain, "--disk", "d", "--no-encryption")
	if _, err := os.Stat(key); !os.IsNotExist(err) {
		t.Errorf("a key was made: %v", err)
	}
	must[map[string]any](t, "disk", "replicate", source, "--vault", plain, "--disk", "d")
	sameDisk(t, "without encryption", source, exported(t, plain, ""))
	refusedWith(t, "vault.key.missing", "keys", "rotate", "--vault", plain)
	must[map[string]any](t, "disk", "replicate", source, "--vault", sealed, "--disk", "d")
	refusedWith(t, "vault.key.encrypted", "disk", "replicate", source, "--vault", sealed, "--disk", "d", "--no-encryption")
	if runtime.GOOS == "windows" {
		return
	}
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	refusedWith(t, "vault.key.exposed", "disk", "verify", "--vault", sealed)
}

func TestWithoutAPlaceForTheKeyTheVerbSaysHowToGiveOne(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows always has a configuration folder")
	}
	dir := t.TempDir()
	for _, name := range []string{envKey, "XDG_CONFIG_HOME", "HOME"} {
		t.Setenv(name, "")
	}
	source := sparse(t, filepath.Join(dir, "disk.raw"), 1<<20, nil)
	args := []string{"disk", "replicate", source, "--vault", filepath.Join(dir, "vault"), "--disk", "d"}
	refusedWith(t, "vault.key.place", args...)
	must[map[string]any](t, append(args, "--key", filepath.Join(dir, "key"))...)
	if _, err := os.Stat(filepath.Join(dir, "vault")); err != nil {
		t.Error(err)
	}
}
