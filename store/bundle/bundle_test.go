package bundle

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"riparo/replication"
	"riparo/store"
	"riparo/store/logs"
	"riparo/store/redact"
	"riparo/store/storetest"
)

// canaries are secrets as they may come to be anywhere. Each has a word that is
// nowhere else.
var canaries = []string{"canary-password-1", "MFRGGZDFMZTWQ2LKNNWG", "canary-webhook-3", "canary-vcenter-4", "canary-smtp-5", "canary-totp-6", "Y2FuYXJ5LXNlc3Npb24tNw", "canary-master-8", "canary-key-9", "canary-setup-10"}

// planted fills a store and a log with all of them.
func planted(t *testing.T) (*store.Store, *logs.Reader) {
	t.Helper()
	st := storetest.Open(t)
	now := time.Date(2026, 11, 26, 10, 0, 0, 0, time.UTC)
	err := st.Update(func(tx *store.Tx) error {
		return errors.Join(
			tx.Users().Put(store.User{Name: "anna", Role: store.Administrator, PasswordHash: "$argon2id$v=19$m=1$" + canaries[0], Created: now}),
			tx.Tokens().Put(store.Token{ID: "t1", Name: "script", Role: store.Viewer, Hash: []byte("hash"), Created: now}),
			tx.Sites().Put(store.Site{Name: "Milano", Kind: "vmware", Address: "https://dr-svc:" + canaries[3] + "@vcenter.local/sdk", Created: now}),
			tx.Sessions().Put(store.Session{ID: "s1", Data: []byte("canary-session-7"), Expires: now}),
			tx.SetSetting("notifications", map[string]any{"smtp": map[string]any{"host": "mail.local", "user": "riparo", "password": canaries[4]},
				"webhooks": []any{map[string]any{"url": "https://hooks.local/x", "secret": canaries[2]}}}),
			tx.SetSetting("totp of anna", map[string]any{"totp_secret": canaries[5]}),
			tx.SetSetting("master", canaries[7]),
			tx.AddEvent(store.Event{Severity: "info", Code: "test", Text: "mail is sent with " + canaries[4] + " from now on"}),
			tx.Machines().Put(store.Machine{ID: replication.MachineID("m-1"), Name: "WEB01", Created: now}),
		)
	})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	// Lines as another version, or something else, may have written them: our own
	// logger takes some of this out itself.
	var text strings.Builder
	for _, message := range []string{"WEB01 was replicated", "login with password=" + canaries[0], "sent Authorization: Bearer riparo_ab12_" + canaries[1],
		"hook " + canaries[2] + " refused", "vcenter said no to " + canaries[3], canaries[4], canaries[5] + " of anna", "set up with " + canaries[9],
		"-----BEGIN PRIVATE KEY-----\\n" + canaries[8] + "\\n-----END PRIVATE KEY-----"} {
		line, _ := json.Marshal(map[string]any{"time": now, "level": slog.LevelInfo, "msg": strings.ReplaceAll(message, `\n`, "\n")})
		text.Write(append(line, '\n'))
	}
	text.WriteString("-----BEGIN EC PRIVATE KEY-----\n" + canaries[8] + "\nMHcCAQEE\n-----END EC PRIVATE KEY-----\nbehind the key\n")
	if err := os.WriteFile(filepath.Join(dir, "riparo.log"), []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return st, logs.NewReader(dir)
}

// unpacked gives the files of a bundle.
func unpacked(t *testing.T, packed []byte) map[string]string {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(packed), int64(len(packed)))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, f := range z.File {
		in, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(in)
		if err != nil {
			t.Fatalf("%s: %v", f.Name, err)
		}
		files[f.Name] = string(text)
	}
	return files
}

// TestTheListOfRecordsIsThatOfTheBundle: the same parts, about as large, without reading
// a record.
func TestTheListOfRecordsIsThatOfTheBundle(t *testing.T) {
	st, _ := planted(t)
	if err := st.Update(func(tx *store.Tx) error {
		for i := range 50 {
			at := time.Unix(int64(i), 0)
			if err := tx.Events().Put(store.Event{ID: store.NewID(at), Time: at, Severity: "info", Code: "rpo.met", Text: strings.Repeat("the objective is met again ", 8)}); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	listed, err := RecordSizes(st)
	if err != nil {
		t.Fatal(err)
	}
	parts, err := Records(st, new(redact.Values))
	if err != nil || len(parts) != len(listed) {
		t.Fatalf("%d parts, and %d are listed (%v)", len(parts), len(listed), err)
	}
	for i, p := range parts {
		about := listed[i]
		if about.Name != p.Name || about.About != p.About {
			t.Errorf("%s is listed as %s", p.Name, about.Name)
		}
		if p.Size > 5000 && (about.Size < p.Size*9/10 || about.Size > p.Size*11/10) {
			t.Errorf("%s has %d bytes, and %d are listed", p.Name, p.Size, about.Size)
		}
		if (p.Size == 0) != (about.Size == 0) {
			t.Errorf("%s has %d bytes, and %d are listed", p.Name, p.Size, about.Size)
		}
	}
}

func TestNoSecretLeavesInABundle(t *testing.T) {
	st, r := planted(t)
	secrets := new(redact.Values)
	secrets.Add(canaries[3], canaries[9]) // one that no record has by itself, one from a file
	parts, err := Records(st, secrets)
	if err != nil {
		t.Fatal(err)
	}
	log, err := Log(r)
	if err != nil {
		t.Fatal(err)
	}
	var packed bytes.Buffer
	if err := Write(t.Context(), &packed, "1.0", time.Now(), append(parts, log...), secrets); err != nil {
		t.Fatal(err)
	}
	files := unpacked(t, packed.Bytes())
	for name, text := range files {
		for _, canary := range append(canaries, "canary-session") {
			if strings.Contains(text, canary) {
				i := strings.Index(text, canary)
				t.Errorf("%s has %q: …%s…", name, canary, text[max(0, i-40):min(len(text), i+len(canary)+20)])
			}
		}
		if strings.Contains(name, "session") {
			t.Errorf("sessions are packed: %s", name)
		}
	}
	for name, want := range map[string]string{"records/users.jsonl": "anna", "records/sites.jsonl": "vcenter.local", "records/settings.jsonl": "mail.local",
		"records/machines.jsonl": "WEB01", "logs/riparo.log": "WEB01 was replicated", "manifest.json": `"version": "1.0"`, "records/events.jsonl": "from now on"} {
		if !strings.Contains(files[name], want) {
			t.Errorf("%s lacks %q:\n%s", name, want, files[name])
		}
	}
	if !strings.Contains(files["logs/riparo.log"], "behind the key") {
		t.Error("what stands behind a key is gone with it")
	}
}

// TestTheCanariesSing: without redaction the same bundle gives them all away, so the
// test above can fail.
func TestTheCanariesSing(t *testing.T) {
	st, r := planted(t)
	var all bytes.Buffer
	files, err := r.Files()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Copy(t.Context(), files[0].Name, &all); err != nil {
		t.Fatal(err)
	}
	err = st.View(func(tx *store.Tx) error {
		for s, err := range tx.Settings().All() {
			if err != nil {
				return err
			}
			all.Write(s.Value)
		}
		for s, err := range tx.Sessions().All() {
			if err != nil {
				return err
			}
			text, _ := json.Marshal(s.Data)
			all.Write(text)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, canary := range canaries {
		if !strings.Contains(all.String(), canary) {
			t.Errorf("%q was never planted", canary)
		}
	}
}

func TestAPartThatCannotBeReadIsSaidAndTheOthersCome(t *testing.T) {
	parts := []Part{
		{Name: "a.txt", Write: func(_ context.Context, w io.Writer) error {
			io.WriteString(w, "begun")
			return errors.New("the disk is gone, password=canary")
		}},
		{Name: "b.txt", Write: func(_ context.Context, w io.Writer) error { _, err := io.WriteString(w, "whole"); return err }},
		{Name: "c.txt", Write: func(_ context.Context, w io.Writer) error {
			_, err := io.WriteString(w, strings.Repeat("x", longestLine)+"canary\nnext")
			return err
		}},
	}
	var packed bytes.Buffer
	if err := Write(t.Context(), &packed, "1.0", time.Now(), parts, new(redact.Values)); err != nil {
		t.Fatal(err)
	}
	files := unpacked(t, packed.Bytes())
	if got, want := files["a.txt"], "begun\nthe rest could not be read: the disk is gone, password=[redacted]\n"; got != want {
		t.Errorf("a.txt is %q, want %q", got, want)
	}
	if files["b.txt"] != "whole" || files["c.txt"] != "[a line of more than a mebibyte]\nnext" {
		t.Errorf("b.txt is %q, c.txt %.60q", files["b.txt"], files["c.txt"])
	}
}
