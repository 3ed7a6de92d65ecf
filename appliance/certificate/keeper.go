package certificate

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"riparo/replication"
)

// Keeper holds the certificate in use. It can be exchanged while the console serves.
type Keeper struct {
	dir   string
	names []string // that the console is reached under
	now   func() time.Time

	mu        sync.Mutex // guards what follows
	authority *authority
	current   *tls.Certificate
	own       bool // issued by our authority
}

// Open reads the certificate of a folder, or makes it: an authority and a certificate
// for the names. One of ours that ends soon, or is for other names, is made again.
func Open(dir string, names []string, now func() time.Time) (*Keeper, error) {
	k := &Keeper{dir: dir, names: names, now: now}
	var err error
	if k.authority, err = openAuthority(dir, now()); err != nil {
		return nil, unusable(dir, "ca", err)
	}
	pair, err := tls.LoadX509KeyPair(k.file("console.pem"), k.file("console.key"))
	switch {
	case errors.Is(err, os.ErrNotExist):
		return k, k.renew()
	case err != nil:
		return nil, unusable(dir, "console", err)
	}
	k.current, k.own = &pair, k.isOwn(pair.Leaf)
	if k.own && k.stale(pair.Leaf) {
		return k, k.renew()
	}
	return k, nil
}

func unusable(dir, name string, err error) error {
	cert, key := filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")
	return &replication.Problem{Code: "certificate.unusable", Cause: fmt.Sprintf("the console's certificate cannot be read: %v", err),
		Effect: "the appliance does not start", Action: fmt.Sprintf("correct or remove %s and %s; removed, they are made again with another fingerprint", cert, key),
		Remedy: replication.Stop, Err: err}
}

func (k *Keeper) file(name string) string { return filepath.Join(k.dir, name) }

// isOwn reports whether a certificate is one that this package made: by the authority,
// or, in versions before there was one, by itself.
func (k *Keeper) isOwn(leaf *x509.Certificate) bool {
	if leaf.CheckSignatureFrom(k.authority.certificate) == nil {
		return true
	}
	return slices.Contains(leaf.Subject.Organization, "Riparo") && leaf.Issuer.String() == leaf.Subject.String()
}

// stale: it ends soon. Names that changed are no reason: a fingerprint that people
// compared should not change by itself.
func (k *Keeper) stale(leaf *x509.Certificate) bool { return leaf.NotAfter.Sub(k.now()) < life/10 }

// renew issues a certificate and puts it into use.
func (k *Keeper) renew() error {
	chain, key, err := k.authority.issue(k.names, k.now())
	if err != nil {
		return err
	}
	if err := keep(k.file("console.pem"), k.file("console.key"), chain, key); err != nil {
		return err
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.current, k.own = &tls.Certificate{Certificate: chain, PrivateKey: key, Leaf: leaf}, true
	return nil
}

// Renew issues a new certificate by the appliance's own authority, also in the place of
// one that a person brought.
func (k *Keeper) Renew() error { return k.renew() }

// Install takes a certificate and key that a person brings, after they were judged.
func (k *Keeper) Install(certPEM, keyPEM string, names []string) error {
	if err := Judge(certPEM, keyPEM, append(slices.Clone(names), k.names...), k.now()); err != nil {
		return err
	}
	chain, key, err := parse(certPEM, keyPEM)
	if err != nil {
		return err
	}
	var raw [][]byte
	for _, c := range chain {
		raw = append(raw, c.Raw)
	}
	if err := keep(k.file("console.pem"), k.file("console.key"), raw, key); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.current, k.own = &tls.Certificate{Certificate: raw, PrivateKey: key, Leaf: chain[0]}, k.isOwn(chain[0])
	return nil
}

// Certificate gives the one in use, for a TLS server.
func (k *Keeper) Certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.current, nil
}

// Info is what people want to know of a certificate.
type Info struct {
	Own         bool // issued by the appliance's own authority
	Subject     string
	Issuer      string
	Names       []string
	Begins      time.Time
	Ends        time.Time
	Fingerprint string // SHA-256
	// Authority is the PEM of the appliance's own authority, and its fingerprint.
	Authority            string
	AuthorityFingerprint string
}

// Info describes the certificate in use.
func (k *Keeper) Info() Info {
	k.mu.Lock()
	defer k.mu.Unlock()
	leaf := k.current.Leaf
	return Info{Own: k.own, Subject: leaf.Subject.String(), Issuer: leaf.Issuer.String(), Names: append(slices.Clone(leaf.DNSNames), addresses(leaf)...), Begins: leaf.NotBefore, Ends: leaf.NotAfter,
		Fingerprint: Fingerprint(leaf.Raw), Authority: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: k.authority.certificate.Raw})),
		AuthorityFingerprint: Fingerprint(k.authority.certificate.Raw)}
}

// Names are what the console is reached under.
func (k *Keeper) Names() []string { return k.names }

// Fingerprint is the SHA-256 of a certificate as people compare it.
func Fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return strings.ReplaceAll(strings.ToUpper(fmt.Sprintf("% x", sum)), " ", ":")
}
