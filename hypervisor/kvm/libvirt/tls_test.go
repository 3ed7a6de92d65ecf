//go:build linux

package libvirt_test

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"riparo/hypervisor"
	"riparo/hypervisor/kvm/kvmtest"
	"riparo/hypervisor/kvm/libvirt"
	"riparo/replication"
)

// tlsDaemon is a libvirt daemon that also listens for TLS on this host.
type tlsDaemon struct {
	*daemon
	pki, config string
	port        int
}

// startTLS starts a daemon that shows a certificate, and lets in whom an authority
// vouches for.
func startTLS(t *testing.T, shows tls.Certificate, clients *kvmtest.Authority) *tlsDaemon {
	t.Helper()
	d := &tlsDaemon{pki: t.TempDir()}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d.port = l.Addr().(*net.TCPAddr).Port
	l.Close()
	certificate, key := kvmtest.KeepPair(t, d.pki, "server", shows)
	d.config = filepath.Join(d.pki, "libvirtd.conf")
	text := fmt.Sprintf("listen_tls = 1\nlisten_tcp = 0\nlisten_addr = \"127.0.0.1\"\ntls_port = \"%d\"\nauth_tls = \"none\"\nauth_unix_rw = \"none\"\nkey_file = %q\ncert_file = %q\nca_file = %q\n",
		d.port, key, certificate, clients.Keep(t, d.pki))
	if err := os.WriteFile(d.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	d.daemon = startDaemon(t, "--listen", "--config", d.config)
	d.await(t)
	return d
}

// await waits until the daemon listens for TLS, which it does after its own socket.
func (d *tlsDaemon) await(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", d.port))
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("libvirtd does not listen for TLS: %v", err)
		}
	}
}

func (d *tlsDaemon) address(pki string) string {
	return fmt.Sprintf("qemu+tls://127.0.0.1:%d/session?pkipath=%s", d.port, pki)
}

// discover opens a host anew and lists its machines.
func discover(t *testing.T, address, fingerprint string) ([]hypervisor.Machine, *replication.Problem) {
	t.Helper()
	h, err := libvirt.Open(t.Context(), address, libvirt.Options{Fingerprint: fingerprint})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	machines, err := h.Discover(t.Context())
	if err == nil {
		return machines, nil
	}
	return nil, replication.AsProblem(err)
}

// TestADaemonBehindTLSIsConfirmedAndItsChangeIsNoticed speaks to a real libvirt daemon.
func TestADaemonBehindTLSIsConfirmedAndItsChangeIsNoticed(t *testing.T) {
	need(t)
	authority := kvmtest.NewAuthority(t, "a data center's own")
	soon := time.Now().Add(time.Hour)
	first, second := authority.Issue(t, "kvm1", soon, "127.0.0.1"), authority.Issue(t, "kvm1", soon, "127.0.0.1")
	d := startTLS(t, first, authority)
	here := t.TempDir()
	kvmtest.KeepPair(t, here, "client", authority.Issue(t, "riparo", soon))

	_, p := discover(t, d.address(here), "")
	if p == nil || p.Code != "peer.unknown" || p.Remedy != replication.Stop || !strings.Contains(p.Cause, kvmtest.Fingerprint(first)) || !strings.Contains(p.Cause, "CN=kvm1") || !strings.Contains(p.Cause, "CN=a data center's own") {
		t.Fatalf("nobody vouches and nobody confirmed: got %+v, want peer.unknown with what is shown", p)
	}
	shown, err := libvirt.Look(t.Context(), d.address(here))
	if err != nil || shown.Fingerprint != kvmtest.Fingerprint(first) || shown.Doubt == nil {
		t.Fatalf("looked and saw %+v, %v; want %s in doubt", shown, err, kvmtest.Fingerprint(first))
	}
	if _, p := discover(t, d.address(here), shown.Fingerprint); p != nil {
		t.Fatalf("confirmed: %v", p)
	}
	if _, p := discover(t, d.address(here), strings.ToLower(strings.ReplaceAll(shown.Fingerprint, ":", ""))); p != nil {
		t.Errorf("the fingerprint without colons: %v", p)
	}
	authority.Keep(t, here)
	if _, p := discover(t, d.address(here), ""); p != nil {
		t.Errorf("its authority is known: %v", p)
	}

	d.stop(t)
	kvmtest.KeepPair(t, d.pki, "server", second)
	d.start(t)
	d.await(t)
	if _, p := discover(t, d.address(here), shown.Fingerprint); p == nil || p.Code != "peer.changed" || !strings.Contains(p.Cause, kvmtest.Fingerprint(second)) || !strings.Contains(p.Action, "confirm") {
		t.Errorf("another certificate than the confirmed one, though its authority is known: got %+v, want peer.changed", p)
	}
	if _, p := discover(t, d.address(here), kvmtest.Fingerprint(second)); p != nil {
		t.Errorf("confirmed again: %v", p)
	}
	nobody := t.TempDir()
	if _, p := discover(t, d.address(nobody), kvmtest.Fingerprint(second)); p == nil || p.Code != "libvirt.refused" || !strings.Contains(p.Cause, "clientcert.pem") {
		t.Errorf("without a client certificate: got %+v, want libvirt.refused", p)
	}
}

// TestNothingIsSentToWhoIsNotConfirmed: the handshake ends at the certificate, before
// ours is shown.
func TestNothingIsSentToWhoIsNotConfirmed(t *testing.T) {
	authority := kvmtest.NewAuthority(t, "ours")
	soon := time.Now().Add(time.Hour)
	for _, c := range []struct {
		name            string
		shows           tls.Certificate
		known           bool // the authority
		confirmed, want string
		version         uint16
	}{
		{"unknown authority", authority.Issue(t, "a", soon, "127.0.0.1"), false, "", "peer.unknown", tls.VersionTLS13},
		{"unknown authority, TLS 1.2", authority.Issue(t, "a", soon, "127.0.0.1"), false, "", "peer.unknown", tls.VersionTLS12},
		{"another name", authority.Issue(t, "b", soon, "kvm2"), true, "", "peer.unknown", tls.VersionTLS13},
		{"expired", authority.Issue(t, "c", time.Now().Add(-time.Hour), "127.0.0.1"), true, "", "peer.unknown", tls.VersionTLS13},
		{"another than the confirmed one", authority.Issue(t, "d", soon, "127.0.0.1"), true, strings.Repeat("AB:", 31) + "AB", "peer.changed", tls.VersionTLS13},
		{"another than the confirmed one, TLS 1.2", authority.Issue(t, "d", soon, "127.0.0.1"), true, strings.Repeat("AB:", 31) + "AB", "peer.changed", tls.VersionTLS12},
		{"an authority vouches", authority.Issue(t, "e", soon, "127.0.0.1"), true, "", "", tls.VersionTLS13},
	} {
		t.Run(c.name, func(t *testing.T) {
			here := t.TempDir()
			kvmtest.KeepPair(t, here, "client", authority.Issue(t, "riparo", soon))
			if c.known {
				authority.Keep(t, here)
			}
			l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{c.shows}, ClientAuth: tls.RequireAnyClientCert, MaxVersion: c.version})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			came := make(chan error, 1)
			go func() {
				conn, err := l.Accept()
				if err == nil {
					err = conn.(*tls.Conn).Handshake()
					conn.Close()
				}
				came <- err
			}()
			_, p := discover(t, "qemu+tls://"+l.Addr().String()+"/system?pkipath="+here, c.confirmed)
			err = <-came
			if c.want == "" {
				if err != nil {
					t.Errorf("the daemon did not see our certificate: %v", err)
				}
				return
			}
			if p == nil || p.Code != c.want {
				t.Errorf("got %+v, want %s", p, c.want)
			}
			if err == nil {
				t.Error("our certificate was shown to it")
			}
		})
	}
}
