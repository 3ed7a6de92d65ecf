package certificate

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"riparo/replication"
)

var noon = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

func clock() time.Time { return noon }

// brought is a certificate of another authority, as PEM with its key.
func brought(t *testing.T, change func(c *x509.Certificate)) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return signed(t, k, change)
}

func signed(t *testing.T, k crypto.Signer, change func(c *x509.Certificate)) (cert, key string) {
	t.Helper()
	c := &x509.Certificate{SerialNumber: serial(), Subject: pkix.Name{CommonName: "cs01"}, DNSNames: []string{"cs01.milano.example"}, NotBefore: noon.Add(-time.Hour), NotAfter: noon.Add(90 * 24 * time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true}
	change(c)
	der, err := x509.CreateCertificate(rand.Reader, c, c, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
}

func as(*x509.Certificate) {}

func TestWhatIsWrongWithACertificateIsTold(t *testing.T) {
	good, goodKey := brought(t, as)
	_, otherKey := brought(t, as)
	expired, expiredKey := brought(t, func(c *x509.Certificate) { c.NotAfter = noon.Add(-time.Minute) })
	early, earlyKey := brought(t, func(c *x509.Certificate) { c.NotBefore = noon.Add(time.Hour) })
	other, otherNameKey := brought(t, func(c *x509.Certificate) { c.DNSNames = []string{"mail.example"} })
	nameless, namelessKey := brought(t, func(c *x509.Certificate) { c.DNSNames = nil })
	authority, authorityKey := brought(t, func(c *x509.Certificate) { c.IsCA = true })
	client, clientKey := brought(t, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })
	weakKey, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Skip("a weak key cannot be made any more: ", err)
	}
	weak, weakPEM := signed(t, weakKey, as)
	for _, row := range []struct{ name, cert, key, want string }{
		{"a good one", good, goodKey, ""},
		{"the key of another", good, otherKey, "key is not the one of this certificate"},
		{"expired", expired, expiredKey, "has expired on 2026-11-26"},
		{"of tomorrow", early, earlyKey, "not valid before"},
		{"for another name", other, otherNameKey, "is for mail.example, and the console is reached as cs01.milano.example"},
		{"for no name", nameless, namelessKey, "is for nobody"},
		{"an authority", authority, authorityKey, "certificate of an authority"},
		{"for a client", client, clientKey, "not for a server"},
		{"weak", weak, weakPEM, "only 1024 bits"},
		{"no certificate", "hello", goodKey, "holds no certificate"},
		{"no key", good, "hello", "holds no private key"},
		{"two that were swapped", goodKey, good, "holds no certificate"},
		{"a locked key", good, "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n", "locked with a password"},
		{"a broken one", strings.Replace(good, "M", "", 3), goodKey, "certificate"},
		{"a stranger behind it", good + other, goodKey, "did not issue the one before it"},
	} {
		err := Judge(row.cert, row.key, []string{"cs01.milano.example"}, noon)
		switch p := replication.AsProblem(err); {
		case row.want == "" && err != nil:
			t.Errorf("%s: %v", row.name, err)
		case row.want != "" && (err == nil || !strings.Contains(p.Cause, row.want) || p.Action == ""):
			t.Errorf("%s: got %v, want %q and what to do", row.name, err, row.want)
		}
	}
}

// shown is the certificate that a server with this keeper shows, to a client that
// trusts roots.
func shown(t *testing.T, k *Keeper, roots string, name string) (*x509.Certificate, error) {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{GetCertificate: k.Certificate})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if c, err := l.Accept(); err == nil {
			c.(*tls.Conn).Handshake()
			c.Close()
		}
	}()
	defer func() { <-done }()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(roots))
	raw, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c := tls.Client(raw, &tls.Config{RootCAs: pool, ServerName: name, Time: clock})
	defer c.Close()
	if err := c.Handshake(); err != nil {
		return nil, err
	}
	return c.ConnectionState().PeerCertificates[0], nil
}

func TestTheConsoleShowsWhatItsAuthorityVouchesFor(t *testing.T) {
	dir := t.TempDir()
	k, err := Open(dir, []string{"cs01", "127.0.0.1"}, clock)
	if err != nil {
		t.Fatal(err)
	}
	first := k.Info()
	if leaf, err := shown(t, k, first.Authority, "cs01"); err != nil || Fingerprint(leaf.Raw) != first.Fingerprint || !first.Own {
		t.Fatalf("a client that trusts the authority: %v, %v", leaf, err)
	}
	if _, err := shown(t, k, first.Authority, "evil"); err == nil {
		t.Error("the certificate is good for another name")
	}
	again, err := Open(dir, []string{"cs01", "127.0.0.1"}, clock)
	if err != nil || again.Info().Fingerprint != first.Fingerprint {
		t.Errorf("a restart changes the certificate: %v", err)
	}
	if err := again.Renew(); err != nil {
		t.Fatal(err)
	}
	if leaf, err := shown(t, again, first.Authority, "cs01"); err != nil || Fingerprint(leaf.Raw) == first.Fingerprint {
		t.Errorf("renewed it shows %v, %v; want another that the same authority vouches for", leaf, err)
	}
	late := func() time.Time { return noon.Add(life - 30*24*time.Hour) }
	if old, err := Open(dir, []string{"cs01"}, late); err != nil || old.Info().Ends.Before(late().Add(life/2)) {
		t.Errorf("a certificate that ends soon is kept: %v", err)
	}
	for _, name := range []string{"ca.key", "console.key"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v; want it for its owner only", name, info.Mode(), err)
		}
	}
}

func TestAnInstalledCertificateIsShownAtOnceAndKept(t *testing.T) {
	dir := t.TempDir()
	k, err := Open(dir, []string{"127.0.0.1"}, clock)
	if err != nil {
		t.Fatal(err)
	}
	before := k.Info().Fingerprint
	cert, key := brought(t, as)
	if err := k.Install(cert, key, nil); err == nil {
		t.Error("a certificate for a name that nobody uses was taken")
	}
	if k.Info().Fingerprint != before {
		t.Error("what was refused is in use")
	}
	if err := k.Install(cert, key, []string{"cs01.milano.example"}); err != nil {
		t.Fatal(err)
	}
	if leaf, err := shown(t, k, cert, "cs01.milano.example"); err != nil || leaf.Subject.CommonName != "cs01" || k.Info().Own {
		t.Errorf("shown: %v, %v", leaf, err)
	}
	again, err := Open(dir, []string{"127.0.0.1"}, clock)
	if err != nil || again.Info().Subject != "CN=cs01" || again.Info().Own {
		t.Errorf("after a restart: %+v, %v", again.Info(), err)
	}
	os.WriteFile(filepath.Join(dir, "console.key"), []byte("x"), 0o600)
	if _, err := Open(dir, nil, clock); err == nil || replication.AsProblem(err).Code != "certificate.unusable" {
		t.Errorf("a damaged key: %v", err)
	}
}
