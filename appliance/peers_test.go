//go:build linux

package appliance_test

import (
	"crypto/tls"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"riparo/hypervisor/kvm/kvmtest"
	"riparo/hypervisor/kvm/libvirt"
	"riparo/replication"
	"riparo/store"
)

// tlsFront gives a real libvirt daemon a TLS address, as libvirt's own proxy does, and
// shows a certificate that can be exchanged. It returns the address.
func tlsFront(t *testing.T, shows *atomic.Pointer[tls.Certificate]) (address string) {
	t.Helper()
	program := "/usr/sbin/libvirtd"
	if _, err := os.Stat(program); err != nil && os.Getenv("CI") == "true" {
		t.Fatal("missing on this machine: libvirt-daemon-system")
	} else if err != nil {
		t.Skip("missing on this machine: libvirt-daemon-system")
	}
	folder, err := os.MkdirTemp("/tmp", "rf") // short: libvirt puts sockets deep below it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	daemon := exec.Command(program)
	daemon.Dir, daemon.Env = folder, append(os.Environ(), "HOME="+folder)
	own := func(string) {}
	if os.Getuid() == 0 { // a session daemon does not run as root
		const nobody = 65534
		daemon.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		own = func(path string) {
			if err := os.Chown(path, nobody, nobody); err != nil {
				t.Fatal(err)
			}
		}
	}
	own(folder)
	for name, sub := range map[string]string{"XDG_RUNTIME_DIR": "r", "XDG_CONFIG_HOME": "c", "XDG_CACHE_HOME": "h", "XDG_DATA_HOME": "d"} {
		path := filepath.Join(folder, sub)
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		own(path)
		daemon.Env = append(daemon.Env, name+"="+path)
	}
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		daemon.Process.Signal(syscall.SIGTERM)
		daemon.Wait()
	})
	socket := filepath.Join(folder, "r", "libvirt", "libvirt-sock")
	listens(t, socket)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return shows.Load(), nil }})
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { serveFront(conn, socket) })
		}
	})
	t.Cleanup(func() { l.Close(); serving.Wait() })
	return "qemu+tls://" + l.Addr().String() + "/session?pkipath=" + t.TempDir()
}

// serveFront lets a client in and hands what is said to and fro.
func serveFront(conn net.Conn, socket string) {
	defer conn.Close()
	if _, err := conn.Write([]byte{1}); err != nil {
		return // it did not like the certificate
	}
	daemon, err := net.Dial("unix", socket)
	if err != nil {
		return
	}
	defer daemon.Close()
	back := make(chan struct{})
	go func() { io.Copy(conn, daemon); conn.Close(); close(back) }()
	io.Copy(daemon, conn)
	daemon.Close()
	<-back
}

// TestASiteBehindTLSIsConfirmedOnceAndAgainWhenItChanges: through the verbs of the
// appliance, with a real libvirt daemon behind the address.
func TestASiteBehindTLSIsConfirmedOnceAndAgainWhenItChanges(t *testing.T) {
	authority := kvmtest.NewAuthority(t, "a data center's own")
	issue := func() *tls.Certificate {
		c := authority.Issue(t, "kvm1", time.Now().Add(time.Hour), "127.0.0.1")
		return &c
	}
	first, second := issue(), issue()
	var shows atomic.Pointer[tls.Certificate]
	shows.Store(first)
	site := store.Site{Name: "milano", Kind: libvirt.Kind, Address: tlsFront(t, &shows)}
	th := &theater{T: t, primary: "milano", secondary: "torino"}
	th.start(t.TempDir())
	ctx := t.Context()
	refused := func(err error, code string, says ...string) {
		t.Helper()
		p := replication.AsProblem(err)
		if p == nil || p.Code != code || p.Action == "" {
			t.Fatalf("got %+v, want %s", p, code)
		}
		for _, want := range says {
			if !strings.Contains(p.Cause, want) {
				t.Errorf("%s says %q, want %q in it", code, p.Cause, want)
			}
		}
	}
	kept := func() string {
		t.Helper()
		var s store.Site
		if err := th.a.Rooms().Store.View(func(tx *store.Tx) (err error) { s, err = tx.Sites().Get("milano"); return err }); err != nil {
			return ""
		}
		return s.Fingerprint
	}
	one, two := kvmtest.Fingerprint(*first), kvmtest.Fingerprint(*second)

	refused(th.a.AddSite(ctx, "anna", site), "peer.unknown", one, "CN=kvm1", "CN=a data center's own")
	site.Fingerprint = two
	refused(th.a.AddSite(ctx, "anna", site), "peer.changed", one)
	if kept() != "" || len(th.events("peer.trusted")) != 0 {
		t.Fatal("a site was kept that nobody confirmed")
	}
	site.Fingerprint = strings.ToLower(strings.ReplaceAll(one, ":", ""))
	if err := th.a.AddSite(ctx, "anna", site); err != nil {
		t.Fatal(err)
	}
	if kept() != one || len(th.events("peer.trusted")) != 1 {
		t.Errorf("kept %q, events %+v; want %s and one", kept(), th.events("peer.trusted"), one)
	}
	problem := func() *replication.Problem {
		t.Helper()
		if _, err := th.a.Discovered(ctx, true); err != nil {
			t.Fatal(err)
		}
		for _, s := range th.a.Rooms().Sites.Seen() {
			if s.Site.Name == "milano" {
				return s.Problem
			}
		}
		t.Fatal("the site is not seen")
		return nil
	}
	if p := problem(); p != nil {
		t.Fatalf("confirmed: %v", p)
	}
	if p, err := th.a.SitePeer(ctx, "milano"); err != nil || !p.Known || p.Changed {
		t.Errorf("who answers: %+v, %v; want who was confirmed", p, err)
	}

	// The host shows another certificate, and the connection there was is gone.
	shows.Store(second)
	var record store.Site
	if err := th.a.Rooms().Store.View(func(tx *store.Tx) (err error) { record, err = tx.Sites().Get("milano"); return err }); err != nil {
		t.Fatal(err)
	}
	th.a.Rooms().Sites.Reopen(record)
	if p := problem(); p == nil {
		t.Fatal("another certificate was taken without a word")
	} else {
		refused(p, "peer.changed", two)
	}
	if p, err := th.a.SitePeer(ctx, "milano"); err != nil || p.Known || !p.Changed || p.Fingerprint != two {
		t.Errorf("who answers: %+v, %v; want another one", p, err)
	}
	refused(th.a.TrustSite(ctx, "anna", "milano", one), "peer.changed", two)
	if kept() != one {
		t.Errorf("kept %s, want %s still", kept(), one)
	}
	if err := th.a.TrustSite(ctx, "anna", "milano", two); err != nil {
		t.Fatal(err)
	}
	if kept() != two || len(th.events("peer.trusted")) != 2 {
		t.Errorf("kept %s, want %s, and an event", kept(), two)
	}
	if p := problem(); p != nil {
		t.Errorf("confirmed again: %v", p)
	}
	refused(th.a.TrustSite(ctx, "anna", "nowhere", two), "site.unknown")
	refused(th.a.AddSite(ctx, "anna", store.Site{Name: "torino", Kind: "lab", Address: "0", Fingerprint: one}), "peer.none")
}
