package main

import (
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"riparo/replication"
	"riparo/replication/proof"
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

// kills is how often each step of the setup is killed while its form is on the way;
// RIPARO_KILLS changes it.
const kills = 2

// TestKilledAtEveryStepTheSetupGoesOn fills in the forms of the setup as a browser
// without script does. The daemon is killed at random moments while the form of a step
// is on the way, and again after its answer. Started again, the setup goes on at this
// step or, when that was done, at the next; and what was sent twice is there once.
func TestKilledAtEveryStepTheSetupGoesOn(t *testing.T) {
	t.Parallel() // it waits most of the time
	rounds := proof.Times(t, "RIPARO_KILLS", kills)
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 10))
	s := &settler{T: t, data: filepath.Join(t.TempDir(), "data")}
	s.victim = startVictim(t, s.data, "127.0.0.1:0")
	s.listen = strings.TrimPrefix(s.url, "https://")
	jar, _ := cookiejar.New(nil)
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}
	s.browser = &http.Client{Jar: jar, Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	if next := s.post("/setup", "token", s.token, "name", "admin", "password", password, "again", password, "language", "en"); next != "/setup/appliance" {
		t.Fatalf("the claim leads to %s", next)
	}
	vault := filepath.Join(t.TempDir(), "vault")
	forms := map[string][]string{
		"appliance": {"name", "Milano 1", "zone", "Europe/Rome"}, "network": {"mode", "none"}, "vault": {"folder", vault},
		"site": {"name", "milano", "kind", "lab", "address", "0"}, "target": {"name", "torino", "kind", "lab", "address", "0"},
		"policy": {"name", "default", "copy_frequency", "1m", "app_frequency", "1h", "rpo_threshold", "15m", "freeze_limit", "10s", "retention", "1h:all"},
	}
	cut, done := 0, 0 // forms without an answer; of those, steps that were done all the same
	for i, step := range api.SetupSteps {
		next := "/"
		if i+1 < len(api.SetupSteps) {
			next = "/setup/" + api.SetupSteps[i+1]
		}
		form := append([]string{"do", "next"}, forms[step]...)
		s.killAndRestart()
		s.standsAt("/setup/" + step)
		past := false
		for round := 0; round < rounds && !past; round++ {
			// Mostly soon, where the work is; sometimes when it may be over.
			wait := time.Duration(random.Int64N(int64(8 * time.Millisecond)))
			if random.IntN(2) == 0 {
				wait *= 25
			}
			process := s.Process
			killed := time.AfterFunc(wait, func() { process.Signal(syscall.SIGKILL) })
			at, err := s.try("/setup/"+step, form...)
			if err != nil {
				cut++
			} else if at != next {
				t.Fatalf("step %s leads to %q, want %s (seed %d)", step, at, next, seed)
			}
			killed.Stop()
			s.killAndRestart()
			past = s.standsAt("/setup/"+step, next) == next
			if past && err != nil {
				done++
			}
			if err == nil && !past {
				t.Fatalf("step %s was answered and is not done after the kill (seed %d)", step, seed)
			}
		}
		if !past {
			if at := s.post("/setup/"+step, form...); at != next {
				t.Fatalf("step %s leads to %q, want %s (seed %d)", step, at, next, seed)
			}
		}
	}
	if cut == 0 {
		t.Errorf("no form was cut off by a kill (seed %d)", seed)
	}
	t.Logf("%d starts; %d forms were cut off, %d of those steps were done all the same; seed %d", s.starts, cut, done, seed)
	s.Process.Signal(syscall.SIGKILL)
	s.Wait()
	s.isSettled(vault)
}

// settler sets an appliance up that somebody keeps killing.
type settler struct {
	*testing.T
	*victim
	data, listen string
	browser      *http.Client
	starts       int
}

func (s *settler) killAndRestart() {
	s.Helper()
	s.Process.Signal(syscall.SIGKILL)
	s.Wait()
	token := s.token
	s.victim = startVictim(s.T, s.data, s.listen)
	s.token = token
	s.starts++
}

// try sends a form and gives where its answer leads.
func (s *settler) try(path string, pairs ...string) (string, error) {
	form := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		form.Set(pairs[i], pairs[i+1])
	}
	r, err := s.browser.PostForm(s.url+path, form)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusSeeOther {
		text := make([]byte, 4000)
		n, _ := r.Body.Read(text)
		s.Fatalf("POST %s: %d\n%s", path, r.StatusCode, text[:n])
	}
	return r.Header.Get("Location"), nil
}

func (s *settler) post(path string, pairs ...string) string {
	s.Helper()
	at, err := s.try(path, pairs...)
	if err != nil {
		s.Fatal(err)
	}
	return at
}

// standsAt gives where the setup goes on, which must be one of those places.
func (s *settler) standsAt(places ...string) string {
	s.Helper()
	r, err := s.browser.Get(s.url + "/setup")
	if err != nil {
		s.Fatal(err)
	}
	r.Body.Close()
	at := r.Header.Get("Location")
	if !slices.Contains(places, at) {
		s.Fatalf("after the kill the setup goes on at %q, want one of %v", at, places)
	}
	return at
}

// isSettled looks at what the appliance has kept.
func (s *settler) isSettled(vault string) {
	s.Helper()
	st, err := store.Open(filepath.Join(s.data, "state.db"), store.Options{})
	if err != nil {
		s.Fatal(err)
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
			s.Errorf("kept: finished %v, %+v, vault %+v, %d sites, probe %+v", p.Finished, g, place, sites, p.Probe)
		}
		return err
	})
	if err != nil {
		s.Fatal(err)
	}
	if err := st.Check(); err != nil {
		s.Error(err)
	}
	if _, err := os.Stat(filepath.Join(vault, "vault")); err != nil {
		s.Errorf("the vault is not where it was put: %v", err)
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

	// What an answer leaves out stays, a lock above all; and what is exported has it.
	d.do(t, "policies", "save", "gold", "--lock-for", "30d", "--bandwidth", "5MiB")
	few := write(t, filepath.Join(t.TempDir(), "few.toml"), []byte("[[policy]]\nname = \"gold\"\ncopy_every = \"20s\"\n"))
	must[api.Setup](t, d.at("setup", "--answers", few)...)
	gold := must[replication.Policy](t, d.at("policies", "show", "gold")...)
	if gold.LockFor != 30*24*time.Hour || gold.BytesPerSecond != 5<<20 || gold.CopyFrequency != 20*time.Second || gold.RPOThreshold != time.Minute || gold.Retention.String() != "1h:all" {
		t.Errorf("after few answers the policy is %+v", gold)
	}
	locked := write(t, filepath.Join(t.TempDir(), "locked.toml"), []byte(d.do(t, "setup", "--export")))
	d.do(t, "policies", "save", "gold", "--lock-for", "0", "--bandwidth", "0")
	must[api.Setup](t, d.at("setup", "--answers", locked)...)
	if now := must[replication.Policy](t, d.at("policies", "show", "gold")...); !reflect.DeepEqual(now, gold) {
		t.Errorf("exported and answered the policy is %+v, want %+v", now, gold)
	}
	if status, _, errs := call(t.Context(), d.at("setup", "--export", "--answers", few)...); status != 2 {
		t.Errorf("export with answers: status %d\n%s", status, errs)
	}
	bad := write(t, filepath.Join(t.TempDir(), "bad.toml"), []byte("[appliance]\nnam = \"x\"\n"))
	if status, _, errs := call(t.Context(), d.at("setup", "--answers", bad)...); status != 1 || !strings.Contains(errs, "nam") {
		t.Errorf("a field that is not known: status %d\n%s", status, errs)
	}
}
