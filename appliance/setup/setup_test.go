package setup

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"riparo/hypervisor/kvm/kvmtest"
	"riparo/replication"
)

func code(err error) string {
	if err == nil {
		return "none"
	}
	return replication.AsProblem(err).Code
}

func TestAFolderIsMeasuredAndLeftClean(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "deep", "vault")
	p, err := ProbeFolder(t.Context(), folder)
	if err != nil {
		t.Fatal(err)
	}
	if p.WriteSpeed <= 0 || p.Sync <= 0 || p.Free <= 0 || p.Total < p.Free {
		t.Errorf("measured %+v", p)
	}
	if left, _ := os.ReadDir(folder); len(left) != 0 {
		t.Errorf("left %v", left)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, wrong := range []string{"vault", "", file, filepath.Join(file, "below")} {
		if _, err := ProbeFolder(t.Context(), wrong); code(err) != "probe.folder" {
			t.Errorf("%q: got %v, want probe.folder", wrong, err)
		}
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := ProbeFolder(canceled, folder); err == nil {
		t.Error("measured on although nobody waits")
	}
	if left, _ := os.ReadDir(folder); len(left) != 0 {
		t.Errorf("left after a cancel: %v", left)
	}
}

// timeServer answers as one whose clock is ahead.
func timeServer(t *testing.T, ahead time.Duration, change func(answer []byte)) string {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		for {
			q := make([]byte, 48)
			n, from, err := c.ReadFrom(q)
			if err != nil || n < 48 {
				return
			}
			a := make([]byte, 48)
			a[0], a[1] = 4<<3|4, 2
			copy(a[24:32], q[40:48])
			for _, at := range []int{32, 40} {
				now := time.Now().Add(ahead)
				binary.BigEndian.PutUint32(a[at:], uint32(now.Unix()+ntpEpoch))
				binary.BigEndian.PutUint32(a[at+4:], uint32(int64(now.Nanosecond())<<32/1e9))
			}
			change(a)
			c.WriteTo(a, from)
		}
	}()
	return c.LocalAddr().String()
}

func TestTheClockIsCompared(t *testing.T) {
	for _, ahead := range []time.Duration{0, 90 * time.Second, -7 * time.Second} {
		skew, round, err := Skew(t.Context(), timeServer(t, ahead, func([]byte) {}))
		if off := skew - ahead; err != nil || off > round+time.Millisecond || off < -round-time.Millisecond {
			t.Errorf("a server %s ahead: measured %s within %s, %v", ahead, skew, round, err)
		}
	}
	for name, change := range map[string]func([]byte){
		"one that does not know": func(a []byte) { a[1] = 0 },
		"one out of step":        func(a []byte) { a[0] |= 3 << 6 },
	} {
		if _, _, err := Skew(t.Context(), timeServer(t, 0, change)); code(err) != "clock.silent" {
			t.Errorf("%s: got %v, want clock.silent", name, err)
		}
	}
	begin := time.Now()
	if _, _, err := Skew(t.Context(), timeServer(t, time.Hour, func(a []byte) { a[24] ^= 1 })); code(err) != "clock.silent" || time.Since(begin) > 2*clockTime {
		t.Errorf("an answer to somebody else: got %v after %s, want clock.silent", err, time.Since(begin))
	}
}

// sshServer is a host with a key that lets nobody in.
func sshServer(t *testing.T) (address, fingerprint string) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	config := &ssh.ServerConfig{PasswordCallback: func(ssh.ConnMetadata, []byte) (*ssh.Permissions, error) { return nil, os.ErrPermission }}
	config.AddHostKey(signer)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			ssh.NewServerConn(c, config)
			c.Close()
		}
	}()
	return l.Addr().String(), ssh.FingerprintSHA256(signer.PublicKey())
}

func TestAHostIsShownConfirmedAndRecognized(t *testing.T) {
	host, fingerprint := sshServer(t)
	address := "qemu+ssh://root@" + host + "/system"
	known := filepath.Join(t.TempDir(), "pki", "known_hosts")
	p, err := LookAt(t.Context(), address, "", known)
	if err != nil || p == nil || p.Fingerprint != fingerprint || p.Known || p.Changed || p.Kind != "ssh-ed25519" {
		t.Fatalf("first seen: %+v, %v; want %s, not known", p, err, fingerprint)
	}
	if got := code(p.Refusal("it waits")); got != "peer.unknown" {
		t.Errorf("before it was confirmed: got %s, want peer.unknown", got)
	}
	if err := p.Trust(known); err != nil {
		t.Fatal(err)
	}
	if p, err := LookAt(t.Context(), address, "", known); err != nil || !p.Known {
		t.Errorf("seen again: %+v, %v; want it known", p, err)
	}
	// Another host at the address that was confirmed, beside one that stays.
	other, newPrint := sshServer(t)
	text, err := os.ReadFile(known)
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(host)
	_, otherPort, _ := net.SplitHostPort(other)
	if err := os.WriteFile(known, append(text, []byte(strings.Replace(string(text), port, otherPort, 1))...), 0o600); err != nil {
		t.Fatal(err)
	}
	moved := "qemu+ssh://root@" + other + "/system"
	p, err = LookAt(t.Context(), moved, "", known)
	if err != nil || p.Known || !p.Changed || code(p.Refusal("it waits")) != "peer.changed" {
		t.Fatalf("a host with another key: got %+v, %v; want peer.changed", p, err)
	}
	if err := p.Trust(filepath.Join(t.TempDir(), "ours")); code(err) != "peer.elsewhere" {
		t.Errorf("its old key stands in a file of somebody else: got %v, want peer.elsewhere", err)
	}
	if err := p.Trust(known); err != nil {
		t.Fatal(err)
	}
	if p, err := LookAt(t.Context(), moved, "", known); err != nil || !p.Known || p.Fingerprint != newPrint {
		t.Errorf("confirmed again: %+v, %v; want it known", p, err)
	}
	if p, err := LookAt(t.Context(), address, "", known); err != nil || !p.Known {
		t.Errorf("the other host: %+v, %v; want it known still", p, err)
	}
	if _, err := LookAt(t.Context(), "qemu+ssh://root@127.0.0.1:1/system", "", known); code(err) != "peer.silent" {
		t.Errorf("nobody there: got %v, want peer.silent", err)
	}
	for _, local := range []string{"qemu:///system", "/run/milano", "http://host/system", "3"} {
		if p, err := LookAt(t.Context(), local, "", known); p != nil || err != nil {
			t.Errorf("%s: got %+v, %v; want nobody to confirm", local, p, err)
		}
	}
}

// TestACertificateIsShownWithWhatSpeaksAgainstIt looks at a TLS server with each kind of
// certificate that a person may be asked about.
func TestACertificateIsShownWithWhatSpeaksAgainstIt(t *testing.T) {
	authority := kvmtest.NewAuthority(t, "ours")
	known, unknown := t.TempDir(), t.TempDir()
	authority.Keep(t, known)
	soon := time.Now().Add(time.Hour)
	good := authority.Issue(t, "kvm1", soon, "127.0.0.1")
	for _, c := range []struct {
		name      string
		shows     tls.Certificate
		folder    string
		confirmed string
		doubt     string
		known     bool
		changed   bool
	}{
		{"an authority vouches", good, known, "", "", true, false},
		{"nobody knows the authority", good, unknown, "", DoubtAuthority, false, false},
		{"for another host", authority.Issue(t, "kvm2", soon, "kvm2"), known, "", DoubtName, false, false},
		{"expired", authority.Issue(t, "kvm1", time.Now().Add(-time.Minute), "127.0.0.1"), known, "", DoubtPeriod, false, false},
		{"confirmed", good, unknown, kvmtest.Fingerprint(good), DoubtAuthority, true, false},
		{"another than the confirmed one", good, unknown, strings.Repeat("00:", 32), DoubtAuthority, false, true},
		{"another than the confirmed one, and an authority vouches", good, known, strings.Repeat("00:", 32), "", false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{c.shows}})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
					conn.(*tls.Conn).Handshake()
					conn.Close()
				}
			}()
			p, err := LookAt(t.Context(), "qemu+tls://"+l.Addr().String()+"/system?pkipath="+c.folder, c.confirmed)
			if err != nil || p == nil {
				t.Fatalf("got %+v, %v", p, err)
			}
			leaf := c.shows.Leaf
			if p.Host != l.Addr().String() || p.Fingerprint != kvmtest.Fingerprint(c.shows) || p.Subject != leaf.Subject.String() || p.Issuer != "CN=ours" || !p.Begins.Equal(leaf.NotBefore) || !p.Ends.Equal(leaf.NotAfter) {
				t.Errorf("shown as %+v, want what the certificate says", p)
			}
			if p.Doubt != c.doubt || p.Known != c.known || p.Changed != c.changed {
				t.Errorf("doubt %q, known %v, changed %v; want %q, %v, %v", p.Doubt, p.Known, p.Changed, c.doubt, c.known, c.changed)
			}
			want := map[bool]string{true: "peer.changed", false: "peer.unknown"}[c.changed]
			if c.known {
				return
			}
			if refused := p.Refusal("it waits"); code(refused) != want || replication.AsProblem(refused).Effect != "it waits" {
				t.Errorf("refused with %v, want %s", refused, want)
			}
		})
	}
	if _, err := LookAt(t.Context(), "qemu+tls://127.0.0.1:1/system", ""); code(err) != "peer.silent" {
		t.Errorf("nobody there: got %v, want peer.silent", err)
	}
}
