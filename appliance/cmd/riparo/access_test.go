package main

import (
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"riparo/hypervisor/kvm/kvmtest"
	"riparo/store"
	"riparo/web/api"
)

// TestSitesAreConfirmedByTheCommandLine: without a terminal a host is shown, and given
// back by its fingerprint.
func TestSitesAreConfirmedByTheCommandLine(t *testing.T) {
	t.Parallel()
	d := claimed(t)
	shown := kvmtest.NewAuthority(t, "a data center's own").Issue(t, "kvm1", time.Now().Add(time.Hour), "127.0.0.1")
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{shown}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() { // a host that shows its certificate and lets nobody in
		for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
			conn.(*tls.Conn).Handshake()
			conn.Close()
		}
	}()
	add := d.at("sites", "add", "bari", "--kind", "kvm-libvirt", "--address", "qemu+tls://"+l.Addr().String()+"/system?pkipath="+t.TempDir())
	status, out, _ := call(t.Context(), append(add, "--json")...)
	code, cause, _, remedy := problemOf(t, out)
	print := kvmtest.Fingerprint(shown)
	if status != 1 || code != "peer.unknown" || !strings.Contains(cause, "CN=kvm1") || !strings.Contains(cause, "CN=a data center's own") || !strings.HasSuffix(remedy, "--fingerprint "+print) {
		t.Errorf("status %d, %s: %s; %s", status, code, cause, remedy)
	}
	refusedWith(t, "peer.changed", append(add, "--fingerprint", strings.Repeat("AB:", 31)+"AB")...)
	// The right one is accepted; what is refused now is us.
	refusedWith(t, "libvirt.refused", append(add, "--fingerprint", print)...)
	refusedWith(t, "site.unknown", d.at("sites", "trust", "bari")...)
	if out := d.do(t, "sites", "trust", "milano"); !strings.Contains(out, "neither a key nor a certificate") {
		t.Errorf("a site without a peer: %s", out)
	}
	refusedWith(t, "peer.none", d.at("sites", "trust", "milano", "--fingerprint", print)...)
}

// TestSignInServicesAreSetByTheCommandLine: with a secret from a file that is never
// shown again.
func TestSignInServicesAreSetByTheCommandLine(t *testing.T) {
	t.Parallel()
	d := claimed(t)
	var s *httptest.Server
	s = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/.well-known/openid-configuration" {
			http.NotFound(w, r)
			return
		}
		json.NewEncoder(w).Encode(map[string]any{"issuer": s.URL, "authorization_endpoint": s.URL + "/a", "token_endpoint": s.URL + "/t", "jwks_uri": s.URL + "/k",
			"id_token_signing_alg_values_supported": []string{"RS256"}, "response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"}})
	}))
	defer s.Close()
	dir := t.TempDir()
	const word = "the secret of the command line"
	secret := write(t, filepath.Join(dir, "secret"), []byte(word+"\n"))
	ca := write(t, filepath.Join(dir, "ca.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))

	if out := d.do(t, "sign-in"); strings.Count(out, "not set") != 2 {
		t.Errorf("a fresh appliance shows\n%s", out)
	}
	refusedWith(t, "signon.invalid", d.at("sign-in", "test", "openid")...)
	refusedWith(t, "signon.invalid", d.at("sign-in", "set", "directory", "--server", "ldap://127.0.0.1", "--role", "a = viewer")...)
	set := []string{"sign-in", "set", "openid", "--issuer", s.URL, "--client-id", "riparo", "--address", "https://dr.example:9443", "--secret-file", secret, "--authority", ca,
		"--role", "cn=dr,dc=example = operator", "--role", "auditors=auditor", "--role", "dr = recovery-operator"}
	out := d.do(t, set...)
	if !strings.Contains(out, s.URL) || !strings.Contains(out, "cn=dr,dc=example = operator") || !strings.Contains(out, "auditors = auditor") || !strings.Contains(out, "dr = "+string(store.RecoveryOperator)) || strings.Contains(out, word) {
		t.Errorf("set, it shows\n%s", out)
	}
	// What is not given stays.
	d.do(t, "sign-in", "set", "openid", "--label", "Company")
	kept := must[api.SignIn](t, d.at("sign-in", "list")...).OpenID
	if !kept.Enabled || kept.Label != "Company" || kept.Issuer != s.URL || kept.NameClaim != "preferred_username" || len(kept.Roles) != 3 || kept.CA == "" {
		t.Errorf("kept %+v", kept)
	}
	if out := d.do(t, "sign-in", "test", "openid"); !strings.Contains(out, "answers") {
		t.Errorf("asked: %s", out)
	}
	d.do(t, "sign-in", "set", "openid", "--off")
	if out := d.do(t, "sign-in"); !strings.Contains(out, "off") {
		t.Errorf("turned off, it shows\n%s", out)
	}
	d.do(t, "sign-in", "remove", "openid")
	if kept := must[api.SignIn](t, d.at("sign-in")...).OpenID; kept.Issuer != "" || len(kept.Roles) != 0 {
		t.Errorf("removed, it is %+v", kept)
	}
	for _, wrong := range [][]string{{"sign-in", "test", "saml"}, {"sign-in", "set", "openid", "--role", "admins"}, {"sign-in", "set"}} {
		if status, _, _ := call(t.Context(), d.at(wrong...)...); status != 2 {
			t.Errorf("riparo %q: status %d, want 2", wrong, status)
		}
	}
}

// TestHealthIsQuietWhenAllIsWell and ends with 1 when it is not.
func TestHealthIsQuietWhenAllIsWell(t *testing.T) {
	t.Parallel()
	d := claimed(t)
	if out := d.do(t, "health"); !strings.Contains(out, "Nothing needs attention: 0 machines, 2 sites") {
		t.Errorf("all is well, and it says %s", out)
	}
	refusedWith(t, "clock.right", d.at("health", "confirm-clock")...)
}
