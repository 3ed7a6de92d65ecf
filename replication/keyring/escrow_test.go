package keyring

import (
	"bytes"
	"path/filepath"
	"testing"
	"time"

	"riparo/replication"
	"riparo/replication/vault"
	"riparo/replication/vfs"
)

const sentence = "three calm sentences are enough"

// The host burns down. What is left is a copy of the vault's folder, and a sheet of
// paper with the escrow on it.
func TestAVaultIsReadOnAnotherHostFromItsEscrowOnly(t *testing.T) {
	here, there := t.TempDir(), t.TempDir()
	ring, made, err := LoadOrMake(filepath.Join(here, "master.key"), day)
	if err != nil || !made {
		t.Fatalf("made %v, %v", made, err)
	}
	disk := vfs.NewSim(1)
	v, err := vault.Open(t.Context(), disk, "v", vault.Options{Create: true, Keys: ring})
	if err != nil {
		t.Fatal(err)
	}
	content := []byte("what the machine had on its disk")
	if _, err := v.Prepare(t.Context(), replication.Disk{ID: "d", Size: 1000}, 1); err != nil {
		t.Fatal(err)
	}
	change := replication.Change{Extent: replication.Extent{Offset: 100, Length: int64(len(content))}, Data: content}
	if err := v.Write(t.Context(), replication.Batch{Disk: "d", Epoch: 1, Sequence: 1, Changes: []replication.Change{change}}); err != nil {
		t.Fatal(err)
	}
	if err := v.Mark(t.Context(), replication.Mark{Disk: "d", Epoch: 1, Sequence: 2, Point: "p", Time: time.Unix(1, 0), Size: 1000}); err != nil {
		t.Fatal(err)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	escrow, err := ring.Export(sentence)
	if err != nil {
		t.Fatal(err)
	}

	copied := disk.Clone()
	stranger, _, err := LoadOrMake(filepath.Join(there, "other.key"), day)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := vault.Open(t.Context(), copied, "v", vault.Options{Keys: stranger}); code(err) != vault.CodeKeyWrong {
		t.Fatalf("with a key of the other host: %v, want %s", err, vault.CodeKeyWrong)
	}
	brought, err := Import(escrow, sentence)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(there, "master.key")
	if err := brought.Save(path); err != nil {
		t.Fatal(err)
	}
	again, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	v, err = vault.Open(t.Context(), copied, "v", vault.Options{Keys: again})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	w, err := v.View(t.Context(), "d", "p")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	got := make([]byte, len(content))
	if _, err := w.ReadAt(got, 100); err != nil || !bytes.Equal(got, content) {
		t.Errorf("got %q, %v; want %q", got, err, content)
	}
}

func TestAnEscrowOpensWithItsPassphraseOnly(t *testing.T) {
	ring := with(t, newRing(t))
	if _, err := ring.Export("too short"); code(err) != "vault.key.passphrase-short" {
		t.Errorf("%v, want vault.key.passphrase-short", err)
	}
	escrow, err := ring.Export(sentence)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(escrow, []byte(ring.Master())) {
		t.Error("the escrow names its keys to everybody")
	}
	if r, err := Import(append([]byte("\n  "), escrow...), sentence); err != nil || r.Master() != ring.Master() || len(r.Keys()) != 2 {
		t.Errorf("read back with space before it: %v", err)
	}
	for _, wrong := range []string{"three calm sentences are enough ", "another sentence altogether", ""} {
		if _, err := Import(escrow, wrong); code(err) != "vault.key.passphrase" {
			t.Errorf("passphrase %q: %v, want vault.key.passphrase", wrong, err)
		}
	}
	for name, p := range map[string][]byte{
		"nothing": nil, "another file": []byte("hello"), "cut off": escrow[:len(escrow)-60],
		"changed": bytes.Replace(escrow, escrow[len(escrow)-60:len(escrow)-56], []byte("AAAA"), 1),
	} {
		if _, err := Import(p, sentence); code(err) != "vault.key.escrow" {
			t.Errorf("%s: %v, want vault.key.escrow", name, err)
		}
	}
}
