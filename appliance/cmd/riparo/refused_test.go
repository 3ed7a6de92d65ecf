package main

import (
	"crypto/sha256"
	"encoding/pem"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"riparo/web/api"
)

// TestWhatTheApplianceRefusesIsExplained shows what a person reads who asks an
// appliance for something wrong, or asks it wrongly; and that nothing came of it.
func TestWhatTheApplianceRefusesIsExplained(t *testing.T) {
	t.Parallel()
	d := claimed(t)
	id := string(d.protected(t, "WEB01", 1))
	twin := string(d.protected(t, "web01", 2))
	d.protected(t, "SQL01", 3)
	viewer := must[api.NewToken](t, d.at("tokens", "create", "wall", "--role", "viewer")...).Secret
	revoked := must[api.NewToken](t, d.at("tokens", "create", "old", "--role", "administrator", "--life", "1h")...).Secret
	d.do(t, "tokens", "revoke", "old")
	stranger := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(stranger.Close)
	closed := closedPort(t)
	dir := t.TempDir()
	noPEM := write(t, filepath.Join(dir, "no.pem"), []byte("nothing"))
	otherPEM := write(t, filepath.Join(dir, "other.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: stranger.Certificate().Raw}))
	short := write(t, filepath.Join(dir, "short"), []byte("short\n"))
	long := write(t, filepath.Join(dir, "long"), []byte(password))
	other := strings.Repeat("AB:", sha256.Size-1) + "AB"
	where := []string{"--url", d.URL, "--ca", d.Fingerprint}
	with := func(token string, args ...string) []string { return append(append(args, where...), "--token", token) }

	tests := []struct {
		name                        string
		args                        []string
		code, cause, effect, remedy string // all but the code are patterns
	}{
		{"no address", []string{"machines"},
			"client.url", "not said where the appliance is", "nothing was asked", "--url or RIPARO_URL"},
		{"no token", append([]string{"machines"}, where...),
			"client.token", "no API token", "nothing was asked", "RIPARO_TOKEN or --token"},
		{"not https", []string{"machines", "--url", "http://127.0.0.1:9443", "--token", "x"},
			"client.url", `"http://127.0.0.1:9443" is not the address`, "nothing was asked", "https://HOST:PORT"},
		{"nobody listens", []string{"machines", "--url", closed, "--token", "x"},
			"client.unreachable", "cannot be reached: .*refused", "nothing was asked of it", "riparo serve"},
		{"an unknown certificate", []string{"machines", "--url", d.URL, "--token", "x"},
			"client.trust", "is not trusted: .*fingerprint is " + d.Fingerprint, "nothing was sent", "compare .* --ca " + d.Fingerprint},
		{"another fingerprint", []string{"machines", "--url", d.URL, "--token", "x", "--ca", other},
			"client.trust", "shows a certificate with the SHA-256 fingerprint " + d.Fingerprint, "nothing was sent", "the daemon printed"},
		{"another authority", []string{"machines", "--url", d.URL, "--token", "x", "--ca", otherPEM},
			"client.trust", "is not trusted", "nothing was sent", "compare"},
		{"trust that is no file", []string{"machines", "--url", d.URL, "--token", "x", "--ca", filepath.Join(dir, "nosuch")},
			"client.trust", "no file that can be read", "nothing was asked", "PEM"},
		{"trust without a certificate", []string{"machines", "--url", d.URL, "--token", "x", "--ca", noPEM},
			"client.trust", "holds no certificate", "nothing was asked", "PEM"},
		{"something else listens", []string{"machines", "--url", stranger.URL, "--token", "x", "--ca", otherPEM},
			"client.answer", "answered 404", "nothing was done", "address"},
		{"a token that is none", with("nonsense", "machines"),
			"token.refused", "unknown or has expired", "nothing was done", "RIPARO_TOKEN or --token"},
		{"a revoked token", with(revoked, "machines"),
			"token.refused", "unknown or has expired", "nothing was done", "RIPARO_TOKEN or --token"},
		{"a role that may not", with(viewer, "disable", "SQL01", "--confirm", "SQL01"),
			"access.denied", "the role viewer may not", "nothing was done", "token of a role"},
		{"an unknown machine", d.at("commit", "nosuch"),
			"name.unknown", `no protected machine "nosuch"`, "nothing was done", "there are .*SQL01 "},
		{"a name of two machines", d.at("points", "Web01"),
			"name.ambiguous", `"Web01" could mean each of 2: WEB01 \(` + id + `, of milano\), web01 \(` + twin + `, of milano\)`, "nothing was done", "by its ID"},
		{"a failover that is not confirmed", d.at("failover", "SQL01", "--unplanned"),
			"confirm.missing", "SQL01 was not confirmed", "nothing was changed", "--confirm SQL01"},
		{"a failover confirmed for another", d.at("failover", "SQL01", "--unplanned", "--confirm", "WEB01"),
			"confirm.missing", "SQL01 was not confirmed", "nothing was changed", "--confirm SQL01"},
		{"a failback of what is at home", d.at("failback", "SQL01", "--confirm", "SQL01"),
			"verb.refused", "failback cannot be done on SQL01 now", "nothing was changed", "in state “protected”.*riparo machines show m-"},
		{"disabling not confirmed", d.at("disable", "SQL01"),
			"confirm.missing", "SQL01 was not confirmed", "nothing was changed", "--confirm SQL01"},
		{"an unknown point", d.at("test-failover", "SQL01", "--point", "nosuch"),
			"point.unknown", "nosuch", ".", "."},
		{"a machine that is protected", d.at("protect", "--site", "milano", "--machine", "SQL01", "--target", "torino"),
			"machine.protected", "SQL01 is protected already", "nothing was done", "."},
		{"protecting what is not there", d.at("protect", "--site", "milano", "--machine", "nosuch", "--target", "torino"),
			"name.unknown", `no machine at milano "nosuch"`, "nothing was done", "there are .*SQL01"},
		{"protecting from nowhere", d.at("protect", "--site", "nosuch", "--machine", "SQL01", "--target", "torino"),
			"name.unknown", `no site "nosuch"`, "nothing was done", "there are milano, torino"},
		{"protecting to nowhere", d.at("protect", "--site", "milano", "--machine", "ERP01", "--target", "nosuch"),
			"site.unknown", `no site "nosuch"`, "nothing was done", "."},
		{"an unknown policy to protect by", d.at("protect", "--site", "milano", "--machine", "ERP01", "--target", "torino", "--policy", "nosuch"),
			"policy.unknown", `no policy "nosuch"`, "nothing was done", "."},
		{"excluding a disk that is not there", d.at("protect", "--site", "milano", "--machine", "ERP01", "--target", "torino", "--exclude", "vdz"),
			"disk.unknown", `no disk "vdz"`, "nothing was done", "."},
		{"an unknown job", d.at("jobs", "show", "nosuch"),
			"not.found", `no job "nosuch"`, "nothing was done", "riparo jobs"},
		{"canceling an unknown job", d.at("jobs", "cancel", "nosuch"),
			"not.found", `no job "nosuch"`, "nothing was done", "riparo jobs"},
		{"a state that jobs do not have", d.at("jobs", "--state", "nosuch"),
			"request.invalid", "^state: expected value to be one of", "nothing was done", "correct that"},
		{"an unknown policy", d.at("policies", "show", "nosuch"),
			"name.unknown", `no policy "nosuch"`, "nothing was done", "default, quick"},
		{"a policy that asks too much", d.at("policies", "save", "p", "--copy-every", "1s"),
			"policy.invalid", "the shortest is 5s", "nothing was done", "."},
		{"a site of no kind", d.at("sites", "add", "genova", "--kind", "nosuch", "--address", "x"),
			"request.invalid", "^kind: expected", "nothing was done", "correct that"},
		{"a site that is there", d.at("sites", "add", "milano", "--kind", "lab"),
			"site.exists", `"milano"`, "nothing was done", "another name"},
		{"a site that is not there", d.at("sites", "add", "genova", "--kind", "kvm-qmp", "--address", filepath.Join(dir, "nosuch")),
			"", "nosuch", ".", "."},
		{"removing a site in use", d.at("sites", "remove", "milano"),
			"site.in-use", "is used by", "nothing was done", "disable"},
		{"removing a site that is not there", d.at("sites", "remove", "genova"),
			"name.unknown", `no site "genova"`, "nothing was done", "milano, torino"},
		{"a role that is none", d.at("tokens", "create", "t", "--role", "king"),
			"request.invalid", "^role: expected", "nothing was done", "correct that"},
		{"revoking what is not there", d.at("tokens", "revoke", "nosuch"),
			"name.unknown", `no token "nosuch"`, "nothing was done", "wall"},
		{"claiming again", append([]string{"claim", "--token", d.SetupToken, "--name", "eve", "--password-file", long}, where...),
			"setup.token", "setup token is not right", "nothing was done", "cannot be claimed again"},
		{"claiming with a short password", append([]string{"claim", "--token", "x", "--name", "eve", "--password-file", short}, where...),
			"request.invalid", "^password: expected length >= 12", "nothing was done", "correct that"},
		{"claiming without the file", append([]string{"claim", "--token", "x", "--name", "eve", "--password-file", filepath.Join(dir, "nosuch")}, where...),
			"password.unread", "the password file cannot be read", "not claimed", "check"},
	}
	d.machine(t, "ERP01", 9)
	before := d.do(t, "jobs", "--json")
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			status, out, errs := call(t.Context(), append(test.args, "--json")...)
			if status != statusFailed {
				t.Errorf("status %d, want 1", status)
			}
			code, cause, effect, remedy := problemOf(t, out)
			if test.code != "" && code != test.code {
				t.Errorf("code %q, want %q", code, test.code)
			}
			for _, part := range []struct{ what, got, want string }{{"cause", cause, test.cause}, {"effect", effect, test.effect}, {"remedy", remedy, test.remedy}} {
				if !regexp.MustCompile("(?s)" + part.want).MatchString(part.got) {
					t.Errorf("%s %q, want %q", part.what, part.got, part.want)
				}
			}
			if want := "riparo: " + cause + "\n  effect: " + effect + "\n  remedy: " + remedy + "\n"; errs != want {
				t.Errorf("stderr %q, want %q", errs, want)
			}
		})
	}
	if after := d.do(t, "jobs", "--json"); after != before {
		t.Errorf("refused requests left jobs:\n%s\nbefore:\n%s", after, before)
	}
	for _, m := range must[struct{ Machines []api.Machine }](t, d.at("machines")...).Machines {
		if m.State != "protected" {
			t.Errorf("%s (%s) is %q, want protected", m.Name, m.ID, m.State)
		}
	}
}

// closedPort is an address at which nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "https://" + l.Addr().String()
}

// The settings can come from the environment, and flags come before it; a PEM file
// is as good as a fingerprint. Not parallel: the environment is everybody's.
func TestFlagsComeBeforeTheEnvironment(t *testing.T) {
	d := newDaemon(t)
	status, out, errs := call(t.Context(), d.claim(t)...)
	if status != 0 || !strings.Contains(errs, "admin is the administrator") {
		t.Fatalf("status %d\n%s", status, errs)
	}
	for line := range strings.Lines(out) {
		name, value, ok := strings.Cut(strings.TrimSpace(strings.TrimPrefix(line, "export ")), "=")
		if !ok {
			t.Fatalf("claim printed %q; want settings for a shell", line)
		}
		t.Setenv(name, strings.Trim(value, "'"))
	}
	for _, name := range []string{envURL, envCA, envToken} {
		if os.Getenv(name) == "" {
			t.Fatalf("claim did not print %s:\n%s", name, out)
		}
	}
	if status, out, errs := call(t.Context(), "machines"); status != 0 || !strings.Contains(out, "No machine is protected yet") {
		t.Errorf("status %d, %q, %q", status, out, errs)
	}
	if status, _, errs := call(t.Context(), "machines", "--token", "other"); status != statusFailed || !strings.Contains(errs, "unknown or has expired") {
		t.Errorf("another token as a flag: status %d, %q", status, errs)
	}
	if status, _, errs := call(t.Context(), "machines", "--url", closedPort(t)); status != statusFailed || !strings.Contains(errs, "cannot be reached") {
		t.Errorf("another address as a flag: status %d, %q", status, errs)
	}
	t.Setenv(envCA, "")
	file := filepath.Join(t.TempDir(), "ca.pem")
	write(t, file, certificateOf(t, d))
	if status, _, errs := call(t.Context(), "machines", "--ca", file); status != 0 {
		t.Errorf("a PEM file: status %d, %q", status, errs)
	}
}
