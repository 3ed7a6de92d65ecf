package main

import (
	"archive/zip"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"riparo/store"
	"riparo/web/api"
)

// logLines runs `riparo logs` and gives what it found.
func logLines(t *testing.T, args ...string) []api.LogLine {
	t.Helper()
	return must[struct{ Lines []api.LogLine }](t, append([]string{"logs"}, args...)...).Lines
}

// TestAJobIsFollowedAcrossPartsWithAndWithoutTheDaemon tells the log of a test
// failover twice: by the appliance, and from its folder when it does not run.
func TestAJobIsFollowedAcrossPartsWithAndWithoutTheDaemon(t *testing.T) {
	t.Parallel()
	d := claimed(t)
	d.protected(t, "WEB01", 1)
	d.do(t, "test-failover", "WEB01", "--wait")
	var job store.Job
	for _, j := range must[struct{ Jobs []store.Job }](t, d.at("jobs")...).Jobs {
		if j.Kind == "test-failover" {
			job = j
		}
	}
	told := logLines(t, d.at("--job", job.ID)...)
	steps, end := 0, false
	for _, l := range told {
		if l.Job != job.ID || l.Name != "WEB01" || l.Component == "" {
			t.Errorf("a line of another job, or that does not say who speaks: %+v", l)
		}
		if l.Message == "step done" {
			steps++
		}
		end = end || strings.Contains(l.Message, "succeeded")
	}
	if steps != len(job.Steps) || !end {
		t.Errorf("the log tells of %d steps of %d, and of the end: %v", steps, len(job.Steps), end)
	}
	if out := d.do(t, "logs", "--level", "info", "--since", "1h", "step:see it boot"); !strings.Contains(out, "machine=WEB01") || !strings.Contains(out, `step="see it boot"`) {
		t.Errorf("for people: %s", out)
	}
	d.stop()
	offline := logLines(t, "--data", d.data, "--job", job.ID)
	if len(offline) != len(told) {
		t.Errorf("%d lines without the daemon, %d with it", len(offline), len(told))
	}
	if all := logLines(t, "--data", d.data, "--limit", "1"); len(all) != 1 || all[0].Message != "the appliance has stopped" {
		t.Errorf("the newest line is %+v", all)
	}
}

func TestTheLogIsFollowedFromAFolder(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	if err := os.MkdirAll(filepath.Join(data, "logs"), 0o700); err != nil {
		t.Fatal(err)
	}
	add := func(lines ...string) {
		f, err := os.OpenFile(filepath.Join(data, "logs", "riparo.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for _, l := range lines {
			if _, err := f.WriteString(`{"time":"2026-11-26T10:00:00Z","level":"INFO","msg":"` + l + `"}` + "\n"); err != nil {
				t.Fatal(err)
			}
		}
	}
	add("one", "two")
	verb := begin(t, "logs", "--data", data, "-f")
	verb.out.hears(t, "two")
	add("three", `colored \u001b[31mred`)
	verb.out.hears(t, "three")
	verb.out.hears(t, "colored ·[31mred") // it does not steer the terminal
}

func TestALogThatCannotBeAskedForIsSaid(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"logs", "--since", "yesterday"}, {"logs", "--level", "loud"}, {"logs", "-f", "--until", "1h"}, {"logs", "--limit", "0"}, {"support-bundle", "a", "b"}} {
		if status, _, errs := call(t.Context(), args...); status != statusUsage {
			t.Errorf("riparo %q: status %d, want %d\n%s", args, status, statusUsage, errs)
		}
	}
}

func TestTheLevelOfTheLogIsChangedWhileTheDaemonRuns(t *testing.T) {
	t.Parallel()
	d := claimed(t)
	d.do(t, "logs", "--set-level", "debug")
	d.protected(t, "WEB01", 1)
	deadline := time.Now().Add(time.Minute)
	for len(logLines(t, d.at("--level", "debug", "recovery point taken")...)) == 0 {
		if time.Now().After(deadline) {
			t.Fatal("no line of level debug is written")
		}
	}
}

// TestASupportBundleIsMadeWithAndWithoutTheDaemon looks for what must never be in
// it: the secrets of this very appliance.
func TestASupportBundleIsMadeWithAndWithoutTheDaemon(t *testing.T) {
	t.Parallel()
	d := newDaemon(t)
	setup := d.SetupToken
	d.token = must[api.Claimed](t, d.claim(t)...).Token.Secret
	key, err := os.ReadFile(filepath.Join(d.data, "pki", "console.key"))
	if err != nil {
		t.Fatal(err)
	}
	secrets := []string{setup, d.token, password, strings.Split(string(key), "\n")[1], "$argon2id"}
	folder := t.TempDir()
	online, offline := filepath.Join(folder, "online.zip"), filepath.Join(folder, "offline.zip")
	if out := d.do(t, "support-bundle", "--list"); !strings.Contains(out, "logs/riparo.log") {
		t.Errorf("the list: %s", out)
	}
	d.do(t, "support-bundle", online)
	if status, _, errs := call(t.Context(), d.at("support-bundle", online)...); status != statusFailed || !strings.Contains(errs, "name another file") {
		t.Errorf("over a file that is there: status %d, %s", status, errs)
	}
	if status, _, errs := call(t.Context(), "support-bundle", filepath.Join(folder, "locked.zip"), "--data", d.data); status != 0 || !strings.Contains(errs, "the records are left out") {
		t.Errorf("while the daemon has the store: status %d, %s", status, errs)
	}
	d.stop()
	if status, _, errs := call(t.Context(), "support-bundle", offline, "--data", d.data); status != 0 {
		t.Fatalf("without the daemon: status %d, %s", status, errs)
	}
	for file, want := range map[string][]string{online: {"records/users.jsonl", "metrics.txt", "logs/riparo.log"}, offline: {"records/users.jsonl", "logs/riparo.log"}} {
		z, err := zip.OpenReader(file)
		if err != nil {
			t.Fatal(err)
		}
		defer z.Close()
		names := map[string]bool{}
		for _, f := range z.File {
			names[f.Name] = true
			in, err := f.Open()
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(in)
			if err != nil {
				t.Fatal(err)
			}
			for _, secret := range secrets {
				if strings.Contains(string(text), secret) {
					t.Errorf("%s in %s has the secret %q", f.Name, file, secret)
				}
			}
		}
		for _, name := range want {
			if !names[name] {
				t.Errorf("%s lacks %s", file, name)
			}
		}
	}
}
