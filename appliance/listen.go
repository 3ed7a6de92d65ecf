package appliance

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"riparo/replication"
)

// certificateLife: a console certificate is made again well before it ends. Some
// browsers refuse one that is valid for longer than 825 days.
const certificateLife = 800 * 24 * time.Hour

// listen takes the port and the certificate.
func (a *Appliance) listen() error {
	certificate, err := a.certificate()
	if err != nil {
		return err
	}
	a.Fingerprint = fingerprint(certificate.Certificate[0])
	handler, err := a.handler()
	if err != nil {
		return err
	}
	a.listener, err = net.Listen("tcp", a.config.Listen)
	if err != nil {
		return &replication.Problem{Code: "listen.refused", Cause: fmt.Sprintf("cannot listen on %s: %v", a.config.Listen, err),
			Effect: "the appliance does not start", Action: "choose another address with --listen, or end the program that uses this one", Remedy: replication.Stop, Err: err}
	}
	a.URL = "https://" + a.listener.Addr().String() + "/"
	a.server = &http.Server{
		Handler:           handler,
		TLSConfig:         &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{certificate}},
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(a.part("console").Handler(), slog.LevelDebug),
	}
	return nil
}

// Address is where it listens, HOST:PORT.
func (a *Appliance) Address() string { return a.listener.Addr().String() }

// certificateEnd is when the console's certificate ends.
func (a *Appliance) certificateEnd() time.Time {
	if a.server == nil {
		return time.Time{}
	}
	if leaf := a.server.TLSConfig.Certificates[0].Leaf; leaf != nil {
		return leaf.NotAfter
	}
	return time.Time{}
}

// certificate gives the console's own certificate, made at the first start.
func (a *Appliance) certificate() (tls.Certificate, error) {
	certFile, keyFile := filepath.Join(a.config.Data, "pki", "console.pem"), filepath.Join(a.config.Data, "pki", "console.key")
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	switch {
	case err == nil && time.Until(pair.Leaf.NotAfter) > certificateLife/10:
		return pair, nil
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return pair, &replication.Problem{Code: "certificate.unusable", Cause: fmt.Sprintf("the console's certificate cannot be read: %v", err),
			Effect: "the appliance does not start", Action: fmt.Sprintf("correct or remove %s and %s; removed, they are made again with another fingerprint", certFile, keyFile),
			Remedy: replication.Stop, Err: err}
	}
	return a.makeCertificate(certFile, keyFile)
}

func (a *Appliance) makeCertificate(certFile, keyFile string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return tls.Certificate{}, err
	}
	host, _ := os.Hostname()
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "Riparo " + host, Organization: []string{"Riparo"}},
		NotBefore:    time.Now().Add(-time.Hour), NotAfter: time.Now().Add(certificateLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		DNSNames:              []string{"localhost"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	if host != "" {
		template.DNSNames = append(template.DNSNames, host)
	}
	if name, _, err := net.SplitHostPort(a.config.Listen); err == nil {
		if ip := net.ParseIP(name); ip != nil && !ip.IsUnspecified() {
			template.IPAddresses = append(template.IPAddresses, ip)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make the console's certificate: %w", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return tls.Certificate{}, err
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	// The key first: a crash between the two leaves no certificate, and both are
	// made again.
	if err := os.WriteFile(keyFile, keyPEM, 0o600); err != nil {
		return tls.Certificate{}, fmt.Errorf("keep the console's key: %w", err)
	}
	if err := os.WriteFile(certFile, certPEM, 0o600); err != nil {
		return tls.Certificate{}, fmt.Errorf("keep the console's certificate: %w", err)
	}
	return tls.X509KeyPair(certPEM, keyPEM)
}

// fingerprint is the SHA-256 of a certificate as people compare it.
func fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	var parts []string
	for _, b := range sum {
		parts = append(parts, fmt.Sprintf("%02X", b))
	}
	return strings.Join(parts, ":")
}
