package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"riparo/replication"
	"riparo/replication/lifecycle"
	"riparo/store"
	"riparo/web/api"
)

// points are those of a machine, newest first.
func (d *daemon) points(t *testing.T, name string) []replication.RecoveryPoint {
	t.Helper()
	return must[struct{ Points []replication.RecoveryPoint }](t, d.at("points", name)...).Points
}

// newer waits for a recovery point after one.
func (d *daemon) newer(t *testing.T, name string, than time.Time) replication.RecoveryPoint {
	t.Helper()
	for limit := time.Now().Add(60 * time.Second); time.Now().Before(limit); time.Sleep(200 * time.Millisecond) {
		if p := d.points(t, name); len(p) > 0 && p[0].Time.After(than) {
			return p[0]
		}
	}
	t.Fatalf("%s gets no recovery point after %s", name, than)
	return replication.RecoveryPoint{}
}

// An appliance burns down. What is left is a backup, a passphrase and the vault; the
// sites are where they were. Another computer, at another address, takes over.
func TestAnotherComputerTakesOver(t *testing.T) {
	t.Parallel() // it waits most of the time
	first := claimed(t)
	web := first.protected(t, "WEB01", 3)
	secret := write(t, filepath.Join(t.TempDir(), "passphrase"), []byte("a calm sentence\n"))
	folder := filepath.Join(t.TempDir(), "elsewhere")

	if status, out, _ := call(t.Context(), first.at("backup", "create", "--json")...); status != 1 {
		t.Fatalf("a backup without a passphrase: status %d", status)
	} else if code, _, _, _ := problemOf(t, out); code != "backup.no-passphrase" {
		t.Fatalf("a backup without a passphrase: %s", code)
	}
	plan := must[api.Backups](t, first.at("backup", "plan", "--folder", folder, "--every", "24h", "--keep", "2", "--passphrase-file", secret)...)
	if !plan.Sealed || plan.Plan.EverySeconds != 86400 || plan.Plan.Passphrase != "" {
		t.Fatalf("the plan is %+v", plan)
	}
	made := must[asked](t, first.at("backup", "create", "--wait")...)
	if made.State != store.Succeeded || len(made.Steps[0].Evidence) != 3 {
		t.Fatalf("the backup: %+v", made)
	}
	list := must[api.Backups](t, first.at("backup", "list")...)
	if len(list.Kept) == 0 || list.Kept[0].Problem != nil || list.Saved.IsZero() || list.Problem != nil {
		t.Fatalf("kept: %+v", list)
	}
	file := filepath.Join(t.TempDir(), "copy")
	must[map[string]any](t, first.at("backup", "fetch", list.Kept[0].Name, file)...)
	if got, want := size(t, file), list.Kept[0].Bytes; got != want {
		t.Fatalf("fetched %d bytes of %d", got, want)
	}
	write(t, file+".other", []byte("of somebody else"))
	refusedWith(t, "file.unwritten", first.at("backup", "fetch", list.Kept[0].Name, file+".other")...)
	if text, err := os.ReadFile(file + ".other"); err != nil || string(text) != "of somebody else" {
		t.Errorf("a file that was there holds %q, %v", text, err)
	}
	if names, _ := filepath.Glob(filepath.Join(filepath.Dir(file), "*")); len(names) != 2 {
		t.Errorf("fetching left %q", names)
	}

	// Life goes on after the backup: these points are in the vault only.
	last := first.newer(t, "WEB01", time.Now())
	first.stop()

	data := filepath.Join(t.TempDir(), "second")
	restore := func(args ...string) (int, string) {
		status, out, _ := call(t.Context(), append([]string{"restore", file, "--data", data, "--json"}, args...)...)
		return status, out
	}
	wrong := write(t, filepath.Join(t.TempDir(), "wrong"), []byte("another sentence"))
	if status, out := restore("--passphrase-file", wrong); status != 1 || !strings.Contains(out, "backup.passphrase") {
		t.Fatalf("a wrong passphrase: status %d\n%s", status, out)
	}
	// The vault and the sites come along to another place.
	vault := filepath.Join(t.TempDir(), "attached")
	if err := errors.Join(os.Rename(filepath.Join(first.data, "vault"), vault), os.MkdirAll(data, 0o700), os.Rename(filepath.Join(first.data, "lab"), filepath.Join(data, "lab"))); err != nil {
		t.Fatal(err)
	}
	// What would not start is not restored.
	for want, args := range map[string][]string{"restore.no-vault": nil, "restore.address": {"--vault", vault, "--address", "https://dr2.example:9443/"}} {
		if status, out := restore(append(args, "--passphrase-file", secret)...); status != 1 || !strings.Contains(out, want) {
			t.Fatalf("restored with %q: status %d, want %s\n%s", args, status, want, out)
		}
		if left, _ := filepath.Glob(filepath.Join(data, "*")); len(left) != 1 { // the lab
			t.Fatalf("refused with %s, it left %q", want, left)
		}
	}
	if status, out := restore("--passphrase-file", secret, "--vault", vault, "--address", "DR2.example"); status != 0 {
		t.Fatalf("restore: status %d\n%s", status, out)
	}
	if status, out := restore("--passphrase-file", secret, "--vault", vault); status != 1 || !strings.Contains(out, "backup.occupied") {
		t.Fatalf("restored over a state: status %d\n%s", status, out)
	}
	if status, out := restore("--passphrase-file", secret, "--vault", vault, "--replace"); status != 0 || !strings.Contains(out, `"tokens": 1`) {
		t.Fatalf("restore: status %d\n%s", status, out)
	}
	// The disk of the vault is not attached: better no start than an empty vault.
	away := vault + ".away"
	if err := os.Rename(vault, away); err != nil {
		t.Fatal(err)
	}
	if status, _, errs := call(t.Context(), "serve", "--data", data, "--listen", "127.0.0.1:0"); status != 1 || !strings.Contains(errs, "there is no vault in") || !strings.Contains(errs, "attach the disk") {
		t.Fatalf("a start without the vault: status %d\n%s", status, errs)
	}
	if err := os.Rename(away, vault); err != nil {
		t.Fatal(err)
	}

	second := startDaemon(t, data, "127.0.0.1:0")
	if second.URL == first.URL {
		t.Fatalf("the second appliance is at the address of the first, %s: the test shows nothing", second.URL)
	}
	second.token = first.token
	if second.Fingerprint != first.Fingerprint || second.SetupToken != "" {
		t.Errorf("fingerprint %s, want %s; setup token %q, want none", second.Fingerprint, first.Fingerprint, second.SetupToken)
	}
	m := must[api.Machine](t, second.at("machines", "show", "WEB01")...)
	if m.ID != web || m.State != lifecycle.Protected {
		t.Fatalf("WEB01 came back as %s, %s", m.ID, m.State)
	}
	found := false
	for _, p := range second.points(t, "WEB01") {
		found = found || p.ID == last.ID
	}
	if !found {
		t.Errorf("the point %s, taken after the backup, is not seen", last.ID)
	}
	if jobs := must[struct{ Jobs []store.Job }](t, second.at("jobs")...).Jobs; len(jobs) == 0 {
		t.Error("no job came back")
	}
	second.newer(t, "WEB01", time.Now())
	if a := must[asked](t, second.at("failover", "WEB01", "--unplanned", "--confirm", "WEB01", "--wait")...); a.State != store.Succeeded {
		t.Fatalf("the failover: %+v", a)
	}
}

func size(t *testing.T, file string) int64 {
	t.Helper()
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}
