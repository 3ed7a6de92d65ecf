package keyring

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"riparo/replication"
)

func code(err error) string {
	if p := replication.AsProblem(err); p != nil {
		return p.Code
	}
	return ""
}

func TestAKeyFileIsMadeOnceAndReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config", "riparo", "master.key")
	if _, err := Load(path); code(err) != "vault.key.missing" {
		t.Errorf("%v, want vault.key.missing", err)
	}
	// Whoever comes at the same time gets the same key.
	rings, makers := make([]*Ring, 8), make([]bool, 8)
	var wait sync.WaitGroup
	for i := range rings {
		wait.Go(func() {
			r, made, err := LoadOrMake(path, day)
			if err != nil {
				t.Error(err)
			}
			rings[i], makers[i] = r, made
		})
	}
	wait.Wait()
	makersTotal := 0
	for i, r := range rings {
		if r.Master() != rings[0].Master() {
			t.Fatalf("two got different keys: %s and %s", r.Master(), rings[0].Master())
		}
		if makers[i] {
			makersTotal++
		}
	}
	if makersTotal != 1 {
		t.Errorf("%d made the file, want 1", makersTotal)
	}
	if runtime.GOOS != "windows" {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
		}
		if info, err := os.Stat(filepath.Dir(path)); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("mode of the folder %v, %v; want 0700", info.Mode(), err)
		}
	}
	both, err := rings[0].With(day)
	if err != nil {
		t.Fatal(err)
	}
	if err := both.Save(path); err != nil {
		t.Fatal(err)
	}
	if r, err := Load(path); err != nil || r.Master() != both.Master() || len(r.Keys()) != 2 {
		t.Errorf("after a new key: %v", err)
	}
	if names, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*")); err != nil || len(names) != 1 {
		t.Errorf("files %v, %v; want the key file alone", names, err)
	}
}

func TestAKeyFileThatOthersMayReadIsRefused(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows shows no mode; DPAPI seals the file")
	}
	path := filepath.Join(t.TempDir(), "master.key")
	if _, _, err := LoadOrMake(path, day); err != nil {
		t.Fatal(err)
	}
	for mode, want := range map[os.FileMode]string{
		0o640: "vault.key.exposed", 0o604: "vault.key.exposed", 0o620: "vault.key.exposed", 0o666: "vault.key.exposed", 0o600: "", 0o400: "",
	} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := Load(path)
		if code(err) != want {
			t.Errorf("mode %o: %v, want %q", mode, err, want)
		}
		if p := replication.AsProblem(err); p != nil && (!strings.Contains(p.Cause, "0600") || !strings.Contains(p.Action, "chmod")) {
			t.Errorf("mode %o: %q does not say what to do", mode, p)
		}
	}
}

func TestAFileThatIsNoneSaysWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	for name, try := range map[string]struct{ content, says string }{
		"empty":           {"", "does not begin with"},
		"something else":  {"-----BEGIN CERTIFICATE-----\n", "does not begin with"},
		"no key":          {fileHeader + "\n", "no key"},
		"damaged":         {fileHeader + "\n0123456789abcdef 2026-01-01T00:00:00Z AAAA\n", "does not fit its name"},
		"of Windows":      {fileHeader + " dpapi\nAAAA\n", "Windows"},
		"of a later time": {fileHeader + " tpm\nAAAA\n", "does not know"},
	} {
		if runtime.GOOS == "windows" && name == "of Windows" {
			continue
		}
		path := filepath.Join(dir, "key")
		if err := os.WriteFile(path, []byte(try.content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Load(path)
		if p := replication.AsProblem(err); p == nil || p.Code != "vault.key.file" || !strings.Contains(p.Cause, try.says) || !strings.Contains(p.Action, "escrow") {
			t.Errorf("%s: %v, want vault.key.file with %q", name, err, try.says)
		}
	}
	if _, err := Load(dir); code(err) != "vault.key.file" {
		t.Errorf("a folder: %v, want vault.key.file", err)
	}
}
