package libvirt

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"riparo/replication"
)

// tlsPort is where libvirt listens for TLS when the address names no port.
const tlsPort = "16514"

// Shown is the certificate that a daemon shows, and what this machine thinks of it.
type Shown struct {
	Host        string // HOST:PORT
	Certificate *x509.Certificate
	Fingerprint string // SHA-256 of the certificate, as in AB:CD:…
	// Doubt is why no authority that this machine knows vouches for it under this name;
	// nil: one does.
	Doubt error
}

// Look asks a daemon that is reached through TLS for its certificate. It ends the
// connection there: no certificate of ours is shown, and nothing is sent. An address
// of another transport has none to show: nil.
func Look(ctx context.Context, address string) (*Shown, error) {
	uri, err := parse(address)
	if err != nil || transport(uri) != "tls" {
		return nil, nil
	}
	roots, err := authorities(uri)
	if err != nil {
		return nil, err
	}
	var shown *Shown
	enough := errors.New("the certificate was seen")
	conn, err := secure(ctx, uri, nil, func(state tls.ConnectionState) error {
		shown = see(uri, roots, state)
		return enough
	})
	if conn != nil {
		conn.Close()
	}
	if shown == nil {
		return nil, err
	}
	return shown, nil
}

// dialTLS connects to the daemon, when it shows the certificate that was confirmed, or,
// where none was, one that an authority known here vouches for.
func (h *Host) dialTLS(ctx context.Context) (net.Conn, error) {
	roots, err := authorities(h.uri)
	if err != nil {
		return nil, err
	}
	ours, err := identity(h.uri)
	if err != nil {
		return nil, err
	}
	conn, err := secure(ctx, h.uri, ours, func(state tls.ConnectionState) error {
		return see(h.uri, roots, state).Judge(h.options.Fingerprint)
	})
	if err != nil {
		return nil, err
	}
	if err := admitted(conn, len(ours) > 0); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// secure makes a TLS connection whose certificate judge alone decides about, before
// anything of ours is sent.
func secure(ctx context.Context, uri *url.URL, ours []tls.Certificate, judge func(tls.ConnectionState) error) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	dialer := tls.Dialer{NetDialer: &net.Dialer{}, Config: &tls.Config{
		ServerName: uri.Hostname(), Certificates: ours, MinVersion: tls.VersionTLS12,
		// The chain is checked by judge, which knows what a person confirmed.
		InsecureSkipVerify: true, VerifyConnection: judge,
	}}
	return dialer.DialContext(ctx, "tcp", hostOf(uri))
}

func hostOf(uri *url.URL) string {
	return net.JoinHostPort(uri.Hostname(), cmp.Or(uri.Port(), tlsPort))
}

// see notes the certificate that a daemon shows.
func see(uri *url.URL, roots *x509.CertPool, state tls.ConnectionState) *Shown {
	leaf := state.PeerCertificates[0] // TLS lets no server in without one
	between := x509.NewCertPool()
	for _, c := range state.PeerCertificates[1:] {
		between.AddCert(c)
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, DNSName: uri.Hostname()})
	sum := sha256.Sum256(leaf.Raw)
	return &Shown{Host: hostOf(uri), Certificate: leaf, Fingerprint: strings.ReplaceAll(fmt.Sprintf("% X", sum), " ", ":"), Doubt: err}
}

// Is reports whether a fingerprint, with colons or without, is the one of this
// certificate.
func (s *Shown) Is(fingerprint string) bool {
	plain := strings.NewReplacer(":", "", " ", "").Replace
	return strings.EqualFold(plain(fingerprint), plain(s.Fingerprint))
}

// Judge compares what is shown with what a person confirmed, which takes the place of
// authorities, name and dates: the certificate is exactly that one. Nothing confirmed
// is "": then an authority has to vouch for it.
//
// Problems: peer.changed, peer.unknown.
func (s *Shown) Judge(confirmed string) error {
	p := &replication.Problem{Effect: "nothing was sent to it", Remedy: replication.Stop, Err: s.Doubt}
	switch c := s.Certificate; {
	case confirmed == "" && s.Doubt == nil || confirmed != "" && s.Is(confirmed):
		return nil
	case confirmed != "":
		p.Code, p.Cause = "peer.changed", fmt.Sprintf("%s shows another certificate (SHA-256 %s) than the one that was confirmed", s.Host, s.Fingerprint)
		p.Action = "if the host was given a new certificate, compare its SHA-256 fingerprint with what the host itself says and confirm it under Infrastructure; otherwise somebody may stand in between"
	default:
		p.Code, p.Cause = "peer.unknown", fmt.Sprintf("no authority known here vouches for the certificate of %s, and nobody has confirmed it: SHA-256 %s, subject %s, issuer %s, valid from %s until %s",
			s.Host, s.Fingerprint, c.Subject, c.Issuer, c.NotBefore.UTC().Format(time.DateOnly), c.NotAfter.UTC().Format(time.DateOnly))
		p.Action = "compare its SHA-256 fingerprint with what the host itself says and confirm it under Infrastructure, or put the host's authority into cacert.pem"
	}
	return p
}

// authorities are those that may vouch for a daemon: libvirt's own file of them where
// there is one, and otherwise those of this machine.
func authorities(uri *url.URL) (*x509.CertPool, error) {
	places := []string{"/etc/pki/CA"}
	if path := uri.Query().Get("pkipath"); path != "" {
		places = []string{path}
	} else if home, err := os.UserHomeDir(); err == nil {
		places = append([]string{filepath.Join(home, ".pki", "libvirt")}, places...)
	}
	for _, place := range places {
		file := filepath.Join(place, "cacert.pem")
		text, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read the authorities of libvirt: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("read the authorities of libvirt: %s holds no certificate", file)
		}
		return pool, nil
	}
	return nil, nil // those of the machine
}

// identity is the certificate that we show, from where libvirt's own clients keep it.
// There may be none: not every daemon asks for one.
func identity(uri *url.URL) ([]tls.Certificate, error) {
	places := [][2]string{{"/etc/pki/libvirt", "/etc/pki/libvirt/private"}}
	if path := uri.Query().Get("pkipath"); path != "" {
		places = [][2]string{{path, path}}
	} else if home, err := os.UserHomeDir(); err == nil {
		own := filepath.Join(home, ".pki", "libvirt")
		places = append([][2]string{{own, own}}, places...)
	}
	for _, place := range places {
		pair, err := tls.LoadX509KeyPair(filepath.Join(place[0], "clientcert.pem"), filepath.Join(place[1], "clientkey.pem"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read the client certificate for libvirt: %w", err)
		}
		return []tls.Certificate{pair}, nil
	}
	return nil, nil
}

// admitted waits for the byte by which a daemon says that it lets us in. It is the
// first of the connection (virNetTLSContextCheckCertificate in libvirt's source).
func admitted(conn net.Conn, shown bool) error {
	if err := conn.SetReadDeadline(time.Now().Add(dialLimit)); err != nil {
		return err
	}
	verdict := make([]byte, 1)
	if _, err := io.ReadFull(conn, verdict); err != nil || verdict[0] != 1 {
		if err == nil {
			err = errors.New("it refuses us")
		}
		if !shown {
			return fmt.Errorf("the daemon wants a client certificate, and there is no clientcert.pem with a clientkey.pem: %w", err)
		}
		return fmt.Errorf("the daemon does not accept our client certificate or address: %w", err)
	}
	return conn.SetReadDeadline(time.Time{})
}
