package main

import (
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"crypto/tls"

	"riparo/store"
	"riparo/web/api"
)

// victim is the daemon in a process of its own, to be killed.
type victim struct {
	*exec.Cmd
	url, token string
}

func startVictim(t *testing.T, data, listen string) *victim {
	t.Helper()
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	v := &victim{Cmd: exec.Command(os.Args[0], "serve", "--data", data, "--listen", listen)}
	v.Env = append(os.Environ(), asProgram+"=1")
	v.Stdout, v.Stderr = out, out
	if err := v.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.Process.Kill(); v.Wait() })
	for limit := time.Now().Add(60 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		text, _ := os.ReadFile(out.Name())
		if _, rest, ready := strings.Cut(string(text), "ready "); ready && strings.Contains(rest, "\n") {
			v.url = strings.TrimSuffix(strings.Fields(rest)[0], "/")
			if _, token, found := strings.Cut(string(text), "setup token  "); found {
				v.token = strings.Fields(token)[0]
			}
			return v
		}
		if time.Now().After(limit) {
			t.Fatalf("the daemon is not ready:\n%s", text)
		}
	}
}

// TestKilledAtEveryStepTheSetupGoesOn fills in the forms of the setup as a browser
// without script does. The daemon is killed after the answer to every step, and finds
// the next one when it is started again.
func TestKilledAtEveryStepTheSetupGoesOn(t *testing.T) {
	t.Parallel() // it waits most of the time
	data := filepath.Join(t.TempDir(), "data")
	v := startVictim(t, data, "127.0.0.1:0")
	listen := strings.TrimPrefix(v.url, "https://")
	jar, _ := cookiejar.New(nil)
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}
	browser := &http.Client{Jar: jar, Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	post := func(path string, pairs ...string) string {
		t.Helper()
		form := url.Values{}
		for i := 0; i < len(pairs); i += 2 {
			form.Set(pairs[i], pairs[i+1])
		}
		r, err := browser.PostForm(v.url+path, form)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		if r.StatusCode != http.StatusSeeOther {
			text := make([]byte, 4000)
			n, _ := r.Body.Read(text)
			t.Fatalf("POST %s: %d\n%s", path, r.StatusCode, text[:n])
		}
		return r.Header.Get("Location")
	}
	if next := post("/setup", "token", v.token, "name", "admin", "password", password, "again", password, "language", "en"); next != "/setup/appliance" {
		t.Fatalf("the claim leads to %s", next)
	}
	vault := filepath.Join(t.TempDir(), "vault")
	forms := map[string][]string{
		"appliance": {"name", "Milano 1", "zone", "Europe/Rome"}, "network": {"mode", "none"}, "vault": {"folder", vault},
		"site": {"name", "milano", "kind", "lab", "address", "0"}, "target": {"name", "torino", "kind", "lab", "address", "0"},
		"policy": {"name", "default", "copy_frequency", "1m", "app_frequency", "1h", "rpo_threshold", "15m", "freeze_limit", "10s", "retention", "1h:all"},
	}
	for i, step := range api.SetupSteps {
		v.Process.Signal(syscall.SIGKILL)
		v.Wait()
		v = startVictim(t, data, listen)
		r, err := browser.Get(v.url + "/setup")
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		if at := r.Header.Get("Location"); at != "/setup/"+step {
			t.Fatalf("after the kill before step %d the setup goes on at %q, want %s", i+1, at, step)
		}
		post("/setup/"+step, append([]string{"do", "next"}, forms[step]...)...)
	}
	v.Process.Signal(syscall.SIGKILL)
	v.Wait()
	st, err := store.Open(filepath.Join(data, "state.db"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	err = st.View(func(tx *store.Tx) error {
		var p store.SetupProgress
		var g store.General
		var place store.VaultPlace
		for name, into := range map[string]any{store.SettingSetup: &p, store.SettingGeneral: &g, store.SettingVault: &place} {
			if _, err := tx.Setting(name, into); err != nil {
				return err
			}
		}
		sites, err := tx.Sites().Count()
		if p.Finished.IsZero() || g.Name != "Milano 1" || place.Path != vault || !place.Used || sites != 2 || p.Probe == nil || p.Probe.WriteSpeed <= 0 {
			t.Errorf("kept: finished %v, %+v, vault %+v, %d sites, probe %+v", p.Finished, g, place, sites, p.Probe)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(vault, "vault")); err != nil {
		t.Errorf("the vault is not where it was put: %v", err)
	}
}

func TestAnAnswerFileSetsAnApplianceUp(t *testing.T) {
	t.Parallel() // it waits most of the time
	d := newDaemon(t)
	d.token = must[api.Claimed](t, d.claim(t)...).Token.Secret
	secret := write(t, filepath.Join(t.TempDir(), "passphrase"), []byte("a calm sentence"))
	folder := t.TempDir()
	file := write(t, filepath.Join(t.TempDir(), "answers.toml"), fmt.Appendf(nil, `
[appliance]
name = "Milano 1"
zone = "Europe/Rome"
[network]
proxy = "none"
[[site]]
name = "milano"
kind = "lab"
address = "0"
[[site]]
name = "torino"
kind = "lab"
address = "0"
[[policy]]
name = "gold"
copy_every = "10s"
app_every = "0s"
rpo_threshold = "1m"
freeze_limit = "10s"
keep = "1h:all"
[backup]
folder = %q
every = "24h"
keep = 7
passphrase_file = %q
`, folder, secret))
	for range 2 { // again, it changes nothing
		s := must[api.Setup](t, d.at("setup", "--answers", file)...)
		if s.General.Name != "Milano 1" || s.Progress.Finished.IsZero() || s.Proxy.Mode != "none" || !s.Backup {
			t.Fatalf("set up as %+v", s)
		}
	}
	checks := must[struct{ Checks []store.Checked }](t, d.at("setup", "--check")...).Checks
	outcome := map[string]store.Checked{}
	for _, c := range checks {
		outcome[c.ID] = c
	}
	if outcome["data"].Outcome == store.CheckBad || outcome["sites"].Outcome != store.CheckGood || outcome["backup"].Outcome != store.CheckGood || outcome["vault"].Args["write_rate"] == "" || outcome["mail"].Outcome != store.CheckWarn {
		t.Errorf("the checks: %+v", outcome)
	}
	exported := d.do(t, "setup", "--export")
	for _, want := range []string{"Milano 1", "torino", "gold", "10s", folder} {
		if !strings.Contains(exported, want) {
			t.Errorf("the export lacks %q:\n%s", want, exported)
		}
	}
	if strings.Contains(exported, "calm") {
		t.Error("the export holds the passphrase")
	}
	again := write(t, filepath.Join(t.TempDir(), "again.toml"), []byte(exported))
	must[api.Setup](t, d.at("setup", "--answers", again)...)
	bad := write(t, filepath.Join(t.TempDir(), "bad.toml"), []byte("[appliance]\nnam = \"x\"\n"))
	if status, _, errs := call(t.Context(), d.at("setup", "--answers", bad)...); status != 1 || !strings.Contains(errs, "nam") {
		t.Errorf("a field that is not known: status %d\n%s", status, errs)
	}
}
