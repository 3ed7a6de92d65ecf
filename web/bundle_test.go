package web_test

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"riparo/store"
)

// files unpacks a ZIP file.
func files(t *testing.T, packed string) map[string]string {
	t.Helper()
	z, err := zip.NewReader(strings.NewReader(packed), int64(len(packed)))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, f := range z.File {
		in, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		out[f.Name] = string(text)
	}
	return out
}

func TestASupportBundleSaysWhatItHasAndHasNoSecret(t *testing.T) {
	h := newHouse(t, true).claimed()
	secret, _, err := h.identity.CreateToken(user, "script", store.Viewer, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.store.Update(func(tx *store.Tx) error {
		return tx.SetSetting("mail", map[string]string{"host": "mail.local", "password": "canary-mail"})
	}); err != nil {
		t.Fatal(err)
	}
	h.log.Info("what others told: " + secret + " and canary-mail")
	b := h.signedIn("")
	page := b.get("/logs/bundle")
	for _, want := range []string{"logs/riparo.log", "records/machines.jsonl", "goroutines.txt", "KiB"} {
		if page.status != http.StatusOK || !strings.Contains(page.body, want) {
			t.Errorf("the page (%d) lacks %q", page.status, want)
		}
	}
	answer := b.get("/logs/bundle/download")
	if answer.status != http.StatusOK || answer.header.Get("Content-Type") != "application/zip" {
		t.Fatalf("got %d, %s", answer.status, answer.header.Get("Content-Type"))
	}
	unpacked := files(t, answer.body)
	for name, want := range map[string]string{"manifest.json": "0.1.0-test", "health.json": `"ready": "ready"`, "metrics.txt": "riparo_vault_stored_bytes", "goroutines.txt": "goroutine profile",
		"records/settings.jsonl": "mail.local", "logs/riparo.log": "what others told", "records/jobs.jsonl": runningJob} {
		if !strings.Contains(unpacked[name], want) {
			t.Errorf("%s lacks %q: %.600s", name, want, unpacked[name])
		}
	}
	for name, text := range unpacked {
		for _, bad := range []string{secret, strings.Split(secret, "_")[2], "canary-mail", "$argon2id"} {
			if strings.Contains(text, bad) {
				t.Errorf("%s has the secret %q", name, bad)
			}
		}
	}
	// Who had it is known.
	events := b.get("/api/v1/event-log?limit=5").body
	if !strings.Contains(events, "support.bundled") {
		t.Errorf("no event tells of it: %s", events)
	}
	if audit := b.get("/audit").body; !strings.Contains(audit, "Make a support bundle") {
		t.Error("the audit log does not tell of it")
	}
}

func TestASupportBundleIsForAdministrators(t *testing.T) {
	h := newHouse(t, true).claimed()
	for _, role := range []store.Role{store.Viewer, store.Auditor, store.RecoveryOperator} {
		b := h.signedIn(role)
		if a := b.get("/logs/bundle/download"); a.status != http.StatusForbidden {
			t.Errorf("%s: got %d, want 403", role, a.status)
		}
		if page := b.get("/logs").body; strings.Contains(page, "/logs/bundle") {
			t.Errorf("%s is offered a bundle", role)
		}
	}
}

func TestASupportBundleThroughTheAPI(t *testing.T) {
	h := newHouse(t, true).claimed()
	client := h.client(store.Administrator)
	parts, err := client.SupportParts(t.Context())
	if err != nil || len(parts) < 10 {
		t.Fatalf("%d parts, %v", len(parts), err)
	}
	var packed bytes.Buffer
	if err := client.SupportBundle(t.Context(), &packed); err != nil {
		t.Fatal(err)
	}
	var manifest struct {
		Parts []struct{ Name string }
	}
	if err := json.Unmarshal([]byte(files(t, packed.String())["manifest.json"]), &manifest); err != nil || len(manifest.Parts) != len(parts) {
		t.Errorf("the manifest has %d parts, want %d (%v)", len(manifest.Parts), len(parts), err)
	}
	if err := h.client(store.Viewer).SupportBundle(t.Context(), io.Discard); err == nil {
		t.Error("a viewer gets a bundle")
	}
}
