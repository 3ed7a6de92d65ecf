package nbd

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"riparo/replication"
)

// authority is a certificate authority with one server and one client.
type authority struct {
	pool           *x509.CertPool
	server, client tls.Certificate
	folder         string // the same as files, by the names that libnbd and QEMU want
}

func newAuthority(t testing.TB) authority {
	t.Helper()
	a := authority{pool: x509.NewCertPool(), folder: t.TempDir()}
	key := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	template := func(serial int64, name string) *x509.Certificate {
		return &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true}
	}
	save := func(name, kind string, der []byte) {
		if err := os.WriteFile(filepath.Join(a.folder, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	root, rootKey := template(1, "test authority"), key()
	root.IsCA, root.KeyUsage = true, x509.KeyUsageCertSign|x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, root, root, rootKey.Public(), rootKey)
	if err != nil {
		t.Fatal(err)
	}
	parsed, _ := x509.ParseCertificate(der)
	a.pool.AddCert(parsed)
	save("ca-cert.pem", "CERTIFICATE", der)
	issue := func(serial int64, name string, usage x509.ExtKeyUsage) tls.Certificate {
		c, k := template(serial, name), key()
		c.KeyUsage, c.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{usage}
		c.DNSNames, c.IPAddresses = []string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)}
		der, err := x509.CreateCertificate(rand.Reader, c, parsed, k.Public(), rootKey)
		if err != nil {
			t.Fatal(err)
		}
		secret, _ := x509.MarshalPKCS8PrivateKey(k)
		save(name+"-cert.pem", "CERTIFICATE", der)
		save(name+"-key.pem", "PRIVATE KEY", secret)
		return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: k}
	}
	a.server = issue(2, "server", x509.ExtKeyUsageServerAuth)
	a.client = issue(3, "client", x509.ExtKeyUsageClientAuth)
	return a
}

// forServer demands a certificate of clients.
func (a authority) forServer() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{a.server}, ClientCAs: a.pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12}
}

func (a authority) forClient() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{a.client}, RootCAs: a.pool, MinVersion: tls.VersionTLS12}
}

func TestOverTLSTheDiskIsTheSame(t *testing.T) {
	a := newAuthority(t)
	disk := newMemoryDisk(8<<20+513).scatter(21, 30)
	for _, required := range []bool{true, false} {
		server, socket := serve(t, ServerOptions{TLS: a.forServer(), RequireTLS: required}, map[string]Export{"d": {Source: disk}})
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		serveOn(t, server, l)
		for _, address := range []Address{{"tcp", l.Addr().String(), "d", true}, {"unix", socket, "d", true}} {
			c := dial(t, address.String(), Options{TLS: a.forClient(), Contexts: []string{AllocationContext}, Connections: 2})
			sameContent(t, c, disk)
			sameRegions(t, joined(t, c), joined(t, disk))
			if names, err := List(t.Context(), address.String(), Options{TLS: a.forClient()}); err != nil || len(names) != 1 {
				t.Errorf("list: %q, %v", names, err)
			}
		}
		c, err := Dial(t.Context(), URI("unix", socket, "d"), Options{})
		if required {
			if p := replication.AsProblem(err); p == nil || p.Code != "nbd.tls" || p.Remedy != replication.Stop {
				t.Errorf("without TLS: got %v, want the problem nbd.tls", err)
			}
		} else if err != nil {
			t.Errorf("TLS is optional, and without it: %v", err)
		} else {
			c.Close()
		}
	}
}

func TestWhomTLSDoesNotKnowGetsNothing(t *testing.T) {
	a, stranger := newAuthority(t), newAuthority(t)
	disk := newMemoryDisk(1 << 20)
	_, secure := serve(t, ServerOptions{TLS: a.forServer(), RequireTLS: true}, map[string]Export{"d": {Source: disk}})
	_, plain := serve(t, ServerOptions{}, map[string]Export{"d": {Source: disk}})
	noClient := a.forClient()
	noClient.Certificates = nil
	wrongName := a.forClient()
	wrongName.ServerName = "elsewhere"
	for what, c := range map[string]struct {
		socket string
		config *tls.Config
	}{
		"a server of another authority":   {secure, stranger.forClient()},
		"a server of another name":        {secure, wrongName},
		"a client without a certificate":  {secure, noClient},
		"a client of the system's trust":  {secure, nil},
		"a server that has no TLS at all": {plain, a.forClient()},
	} {
		client, err := Dial(t.Context(), Address{"unix", c.socket, "d", true}.String(), Options{TLS: c.config})
		if err == nil {
			client.Close()
			t.Errorf("%s was accepted", what)
			continue
		}
		p := replication.AsProblem(err)
		if p.Code != "nbd.tls" || p.Remedy != replication.Stop || p.Action == "" {
			t.Errorf("%s: got %s (%v), want the problem nbd.tls", what, p.Code, err)
		}
	}
}

func TestForeignClientsReadOverTLS(t *testing.T) {
	need(t, "nbdinfo", "nbdcopy", "qemu-img")
	a := newAuthority(t)
	disk := newMemoryDisk(8<<20+513).scatter(22, 30)
	server := NewServer(ServerOptions{TLS: a.forServer(), RequireTLS: true})
	if err := server.Add("d", Export{Source: disk}); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, server, l)
	uri := Address{"tcp", l.Addr().String(), "d", true}.String() + "?tls-certificates=" + url.QueryEscape(a.folder)
	path := filepath.Join(t.TempDir(), "copy")
	if text := run(t, "nbdinfo", uri); !strings.Contains(text, "with TLS") {
		t.Errorf("nbdinfo says %s", text)
	}
	run(t, "nbdcopy", uri, path)
	holds(t, path, disk)
	_, port, _ := net.SplitHostPort(l.Addr().String())
	run(t, "qemu-img", "compare",
		"--object", "tls-creds-x509,id=t,endpoint=client,dir="+a.folder,
		"--image-opts", "driver=raw,file.driver=file,file.filename="+save(t, disk),
		"driver=raw,file.driver=nbd,file.server.type=inet,file.server.host=localhost,file.server.port="+port+",file.export=d,file.tls-creds=t")
}

func TestOurClientReadsForeignServersOverTLS(t *testing.T) {
	need(t, "nbdkit", "qemu-nbd")
	a := newAuthority(t)
	disk := newMemoryDisk(8<<20+512).scatter(23, 30)
	raw := save(t, disk)
	for name, server := range map[string]func(socket string){
		"nbdkit": func(socket string) {
			start(t, "nbdkit", "-f", "-r", "-U", socket, "--tls=require", "--tls-certificates="+a.folder, "--tls-verify-peer", "file", raw)
		},
		"qemu-nbd": func(socket string) {
			start(t, "qemu-nbd", "-t", "-r", "-e", "8", "-f", "raw", "-x", "d", "-k", socket, "--object", "tls-creds-x509,id=t,endpoint=server,dir="+a.folder, "--tls-creds", "t", raw)
		},
	} {
		t.Run(name, func(t *testing.T) {
			socket := filepath.Join(t.TempDir(), "s")
			server(socket)
			c := waitFor(t, Address{"unix", socket, "d", true}.String(), Options{TLS: a.forClient(), Contexts: []string{AllocationContext}, Connections: 2})
			sameContent(t, c, disk)
			_, err := Dial(t.Context(), URI("unix", socket, "d"), Options{})
			if p := replication.AsProblem(err); p == nil || p.Code != "nbd.tls" {
				t.Errorf("without TLS: got %v, want the problem nbd.tls", err)
			}
		})
	}
}
